import { edgeColour, type Palette } from './palette';
import { FONT, NODE_FONT_SIZE, NODE_ICON } from './measure';
import { pointAt, type Rect } from './route';
import { LABEL_LINE, LABEL_SIZE, overlap, type Scene, type SceneBox, type SceneEdge, type SceneNode } from './scene';

export interface Camera {
  /** Screen position of the layout's origin, and screen pixels per layout unit. */
  x: number;
  y: number;
  scale: number;
}

export interface PaintState {
  chosen: string | undefined;
  hot: string | undefined;
  byTone: boolean;
}

/** Below these scales text is not legible and is left out. */
const NODE_TEXT_SCALE = 0.38;
const EDGE_TEXT_SCALE = 0.62;
const DETAIL_SCALE = 0.3;
const DIMMED = 0.2;
/** Where on its edge the mark of a waypoint stands. */
export const WAYPOINT_AT = 0.12;
/** Lines per stroke: one path with all of them is as slow as a path for each. */
const CHUNK = 48;

/** Draws what of a scene lies within width × height screen pixels. */
export function paint(context: CanvasRenderingContext2D, scene: Scene, camera: Camera, width: number, height: number, palette: Palette, state: PaintState): void {
  const view: Rect = { left: -camera.x / camera.scale, top: -camera.y / camera.scale, right: (width - camera.x) / camera.scale, bottom: (height - camera.y) / camera.scale };
  context.fillStyle = palette.canvas;
  context.fillRect(0, 0, width, height);
  context.save();
  context.translate(camera.x, camera.y);
  context.scale(camera.scale, camera.scale);
  for (const box of scene.boxes) if (overlap(box.rect, view)) paintBox(context, box, camera.scale, palette, state);
  paintEdges(context, scene.edges.filter((edge) => overlap(edge.bounds, inflate(view, 12))), scene.crowded, camera.scale, palette, state);
  if (camera.scale >= DETAIL_SCALE) for (const edge of scene.edges) if (edge.view.metrics.waypoints.length > 0 && overlap(edge.bounds, view)) waypointMark(context, edge, palette);
  for (const node of scene.nodes) if (overlap(inflate(node.rect, 12), view)) paintNode(context, node, camera.scale, palette, state);
  if (camera.scale >= EDGE_TEXT_SCALE) for (const edge of scene.edges) if (edge.lines.length > 0 && overlap(edge.bounds, inflate(view, 80))) paintLabel(context, edge, palette);
  // From far away the names of boxes are what orients; they lie over everything, at a size that can be read.
  if (camera.scale < EDGE_TEXT_SCALE) for (const box of scene.boxes) if (box.view.parent === undefined && overlap(box.rect, view)) paintBoxName(context, box, camera.scale, palette);
  context.restore();
}

function inflate(rect: Rect, by: number): Rect {
  return { left: rect.left - by, top: rect.top - by, right: rect.right + by, bottom: rect.bottom + by };
}

function roundRect(context: CanvasRenderingContext2D, { left, top, right, bottom }: Rect, radius: number): void {
  context.beginPath();
  context.roundRect(left, top, right - left, bottom - top, radius);
}

function paintBox(context: CanvasRenderingContext2D, { view, label, rect }: SceneBox, scale: number, palette: Palette, state: PaintState): void {
  roundRect(context, rect, 12);
  context.fillStyle = view.kind === 'app' ? palette.boxInner : palette.box;
  context.fill();
  const tone = view.health === 'failing' ? palette.failing : view.health === 'degraded' ? palette.degraded : palette.border;
  context.strokeStyle = state.chosen === view.id ? palette.accent : tone;
  context.lineWidth = (state.chosen === view.id ? 2.5 : view.health === 'failing' || view.health === 'degraded' ? 1.5 : 1) / Math.min(1, Math.max(scale, 0.5));
  context.stroke();
  if (scale < EDGE_TEXT_SCALE) return;
  context.fillStyle = palette.muted;
  context.font = `600 11.5px ${FONT}`;
  context.textAlign = 'left';
  context.textBaseline = 'middle';
  context.fillText(label, rect.left + 14, rect.top + 15);
}

function paintBoxName(context: CanvasRenderingContext2D, { view, label, rect }: SceneBox, scale: number, palette: Palette): void {
  const size = 12 / scale;
  const name = view.health === 'failing' ? `✕ ${label}` : view.health === 'degraded' ? `▲ ${label}` : label;
  context.font = `650 ${size}px ${FONT}`;
  context.textAlign = 'center';
  context.textBaseline = 'bottom';
  context.lineJoin = 'round';
  context.lineWidth = size * 0.35;
  context.strokeStyle = palette.canvas;
  const x = (rect.left + rect.right) / 2;
  context.strokeText(name, x, rect.top - size * 0.25);
  context.fillStyle = view.health === 'failing' ? palette.failingText : view.health === 'degraded' ? palette.degradedText : palette.text;
  context.fillText(name, x, rect.top - size * 0.25);
}

/** Edges of one look in few strokes, the unwell over the well, what is chosen or hovered on top. */
function paintEdges(context: CanvasRenderingContext2D, edges: SceneEdge[], crowded: boolean, scale: number, palette: Palette, state: PaintState): void {
  const special = (edge: SceneEdge) => edge.view.id === state.chosen || edge.view.id === state.hot || edge.view.source === state.hot || edge.view.destination === state.hot;
  const looks = new Map<string, SceneEdge[]>();
  for (const edge of edges) {
    if (special(edge)) continue;
    const key = `${ORDER[edge.tone] ?? 1} ${edge.view.dimmed} ${edge.tone} ${edge.width} ${edge.view.metrics.mtls === false}`;
    const list = looks.get(key);
    if (list) list.push(edge);
    else looks.set(key, [edge]);
  }
  // Thousands of lines over each other have to let through what is below them.
  const faint = crowded ? Math.max(0.14, Math.min(0.6, 600 / edges.length)) : 1;
  for (const [, list] of [...looks].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const [first] = list;
    const unwell = first!.tone === 'failing' || first!.tone === 'degraded';
    stroke(context, list, edgeColour(palette, first!.tone, state.byTone), lineWidth(first!, scale), first!.view.dimmed ? DIMMED : unwell ? 1 : faint, scale);
  }
  for (const edge of edges) {
    if (!special(edge)) continue;
    const chosen = edge.view.id === state.chosen;
    if (chosen) stroke(context, [edge], palette.accent, lineWidth(edge, scale) + 5 / Math.max(scale, 0.4), 0.35, scale, true);
    stroke(context, [edge], edge.tone === 'failing' || edge.tone === 'degraded' || chosen ? edgeColour(palette, edge.tone, state.byTone) : palette.accent, lineWidth(edge, scale) + 0.5, 1, scale);
  }
}

const ORDER: Record<string, number> = { idle: 0, unknown: 1, healthy: 1, degraded: 2, failing: 3 };

function lineWidth(edge: SceneEdge, scale: number): number {
  return Math.max(edge.width, 0.9 / scale);
}

function stroke(context: CanvasRenderingContext2D, edges: SceneEdge[], colour: string, width: number, alpha: number, scale: number, halo = false): void {
  context.globalAlpha = alpha;
  context.strokeStyle = colour;
  context.fillStyle = colour;
  context.lineWidth = width;
  context.lineCap = halo ? 'round' : 'butt';
  const [first] = edges;
  const solid = halo || (first!.tone !== 'idle' && first!.view.metrics.mtls !== false);
  context.setLineDash(solid ? [] : first!.tone === 'idle' ? [1.5, 4] : [7, 4]);
  for (let i = 0; i < edges.length; i += CHUNK) {
    context.beginPath();
    for (const { curve, straight } of edges.slice(i, i + CHUNK)) {
      const [a, b, c, d] = curve;
      context.moveTo(a.x, a.y);
      if (straight) context.lineTo(d.x, d.y);
      else context.bezierCurveTo(b.x, b.y, c.x, c.y, d.x, d.y);
    }
    context.stroke();
  }
  context.setLineDash([]);
  if (!halo && scale >= DETAIL_SCALE) for (const edge of edges) arrow(context, edge, width);
  context.globalAlpha = 1;
}

/** A diamond on an edge that passes a waypoint. */
function waypointMark(context: CanvasRenderingContext2D, edge: SceneEdge, palette: Palette): void {
  const { x, y } = pointAt(edge.curve, WAYPOINT_AT);
  context.globalAlpha = edge.view.dimmed ? DIMMED : 1;
  context.beginPath();
  context.moveTo(x, y - 6);
  context.lineTo(x + 6, y);
  context.lineTo(x, y + 6);
  context.lineTo(x - 6, y);
  context.closePath();
  context.fillStyle = palette.node;
  context.fill();
  context.strokeStyle = palette.accent;
  context.lineWidth = 1.6;
  context.stroke();
  context.globalAlpha = 1;
}

/** The head, with a bar before it for degraded and a cross for failing. */
function arrow(context: CanvasRenderingContext2D, edge: SceneEdge, width: number): void {
  const tip = edge.points.at(-1)!;
  const before = edge.points.at(-2)!;
  const angle = edge.straight ? Math.atan2(tip.y - before.y, tip.x - before.x) : Math.atan2(tip.y - edge.curve[2].y, tip.x - edge.curve[2].x);
  const size = 6 + width;
  context.save();
  context.translate(tip.x, tip.y);
  context.rotate(angle);
  context.beginPath();
  context.moveTo(0, 0);
  context.lineTo(-size, -size * 0.48);
  context.lineTo(-size, size * 0.48);
  context.closePath();
  context.fill();
  if (edge.tone === 'degraded' || edge.tone === 'failing') {
    context.lineWidth = 1.8;
    context.beginPath();
    const x = -size - 5;
    if (edge.tone === 'degraded') {
      context.moveTo(x, -5);
      context.lineTo(x, 5);
    } else {
      context.moveTo(x - 4, -4.5);
      context.lineTo(x + 4, 4.5);
      context.moveTo(x + 4, -4.5);
      context.lineTo(x - 4, 4.5);
    }
    context.stroke();
  }
  context.restore();
}

function paintLabel(context: CanvasRenderingContext2D, { view, tone, lines, labelAt }: SceneEdge, palette: Palette): void {
  context.globalAlpha = view.dimmed ? DIMMED : 1;
  context.font = `${tone === 'failing' ? 650 : 450} ${LABEL_SIZE}px ${FONT}`;
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  context.lineJoin = 'round';
  context.lineWidth = 4;
  context.strokeStyle = palette.canvas;
  lines.forEach((text, i) => {
    const y = labelAt.y + (i - (lines.length - 1) / 2) * LABEL_LINE;
    context.strokeText(text, labelAt.x, y);
    context.fillStyle = i === 0 && tone === 'failing' ? palette.failingText : i === 0 && tone === 'degraded' ? palette.degradedText : palette.text;
    context.fillText(text, labelAt.x, y);
  });
  context.globalAlpha = 1;
}

function paintNode(context: CanvasRenderingContext2D, { view, label, rect }: SceneNode, scale: number, palette: Palette, state: PaintState): void {
  context.globalAlpha = view.dimmed ? DIMMED : 1;
  const unwell = view.health === 'failing' || view.health === 'degraded';
  const tone = view.health === 'failing' ? palette.failing : view.health === 'degraded' ? palette.degraded : palette.border;
  if (view.outages.length > 0) {
    context.globalAlpha *= 0.24;
    context.fillStyle = palette.failing;
    roundRect(context, inflate(rect, 9), 14);
    context.fill();
    context.globalAlpha = view.dimmed ? DIMMED : 1;
  }
  roundRect(context, rect, view.node?.type === 'service' ? 17 : 8);
  context.fillStyle = scale < DETAIL_SCALE && unwell ? tone : view.inMesh ? palette.node : palette.canvas;
  context.fill();
  context.strokeStyle = state.hot === view.id ? palette.accent : tone;
  context.lineWidth = (unwell ? 2.5 : 1.4) / Math.max(Math.min(1, scale), 0.45);
  if (!view.inMesh) context.setLineDash([4, 3]);
  context.stroke();
  context.setLineDash([]);
  if (view.folded) {
    roundRect(context, inflate(rect, -3.5), 5.5);
    context.lineWidth = 1;
    context.stroke();
  }
  if (state.chosen === view.id) {
    roundRect(context, inflate(rect, 5), 12);
    context.strokeStyle = palette.accent;
    context.lineWidth = 2.5;
    context.stroke();
  }
  if (scale >= NODE_TEXT_SCALE) {
    paintMark(context, view.health, rect.left + 18, (rect.top + rect.bottom) / 2, palette);
    context.fillStyle = palette.text;
    context.font = `${unwell ? 650 : 500} ${NODE_FONT_SIZE}px ${FONT}`;
    context.textAlign = 'left';
    context.textBaseline = 'middle';
    context.fillText(label, rect.left + NODE_ICON, (rect.top + rect.bottom) / 2 + 0.5);
  }
  context.globalAlpha = 1;
}

/** Health as a shape: octagon with a cross, triangle, tick in a disc, ring. */
function paintMark(context: CanvasRenderingContext2D, health: string, x: number, y: number, palette: Palette): void {
  context.save();
  context.translate(x, y);
  context.lineCap = 'round';
  context.lineJoin = 'round';
  context.lineWidth = 1.8;
  context.beginPath();
  switch (health) {
    case 'failing':
      for (const [i, [px, py]] of [[-3, -7.2], [3, -7.2], [7.2, -3], [7.2, 3], [3, 7.2], [-3, 7.2], [-7.2, 3], [-7.2, -3]].entries()) context[i === 0 ? 'moveTo' : 'lineTo'](px!, py!);
      context.fillStyle = '#d02a35';
      context.fill();
      context.beginPath();
      context.moveTo(-2.6, -2.6);
      context.lineTo(2.6, 2.6);
      context.moveTo(2.6, -2.6);
      context.lineTo(-2.6, 2.6);
      context.strokeStyle = '#ffffff';
      context.stroke();
      break;
    case 'degraded':
      context.moveTo(0, -6.8);
      context.lineTo(7.2, 5.8);
      context.lineTo(-7.2, 5.8);
      context.closePath();
      context.fillStyle = '#d98300';
      context.fill();
      context.beginPath();
      context.moveTo(0, -2.4);
      context.lineTo(0, 1.4);
      context.moveTo(0, 3.9);
      context.lineTo(0, 4);
      context.strokeStyle = '#1d1400';
      context.stroke();
      break;
    case 'healthy':
      context.arc(0, 0, 7, 0, 7);
      context.fillStyle = '#1f8a5b';
      context.fill();
      context.beginPath();
      context.moveTo(-3.2, 0.2);
      context.lineTo(-0.9, 2.5);
      context.lineTo(3.3, -2.1);
      context.strokeStyle = '#ffffff';
      context.stroke();
      break;
    default:
      context.strokeStyle = palette.idle;
      if (health === 'unknown') context.setLineDash([2.4, 1.8]);
      context.arc(0, 0, 6.2, 0, 7);
      context.stroke();
      context.setLineDash([]);
      if (health === 'idle') {
        context.beginPath();
        context.moveTo(-2.8, 0);
        context.lineTo(2.8, 0);
        context.stroke();
      } else {
        context.font = `700 9px ${FONT}`;
        context.textAlign = 'center';
        context.textBaseline = 'middle';
        context.fillStyle = palette.muted;
        context.fillText('?', 0, 0.5);
      }
  }
  context.restore();
}
