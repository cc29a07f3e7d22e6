import { edgeColour, type Palette } from './palette';
import { areaOf, BOX_NAME_SCALE, LINE_HEIGHT, type Lettering, type NodeWriting, type Writing } from './lettering';
import { FONT, NODE_WEIGHT } from './measure';
import { pointAt, type Rect } from './route';
import { overlap, type Scene, type SceneBox, type SceneEdge, type SceneNode } from './scene';

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

/** Below this scale the marks on edges are too small to be told apart. */
const DETAIL_SCALE = 0.3;
const DIMMED = 0.2;
/** How much the plate below a label hides of the lines that it stands on. */
export const PLATE = 0.88;
/** Where on its edge the mark of a waypoint stands. */
export const WAYPOINT_AT = 0.12;
/** Lines per stroke: one path with all of them is as slow as a path for each. */
const CHUNK = 48;

/** Draws what of a scene and its lettering lies within width × height screen pixels. */
export function paint(context: CanvasRenderingContext2D, scene: Scene, lettering: Lettering, camera: Camera, width: number, height: number, palette: Palette, state: PaintState): void {
  const view: Rect = { left: -camera.x / camera.scale, top: -camera.y / camera.scale, right: (width - camera.x) / camera.scale, bottom: (height - camera.y) / camera.scale };
  context.fillStyle = palette.canvas;
  context.fillRect(0, 0, width, height);
  context.save();
  context.translate(camera.x, camera.y);
  context.scale(camera.scale, camera.scale);
  for (const box of scene.boxes) if (overlap(box.rect, view)) paintBox(context, box, lettering.boxes.get(box)!, camera.scale, palette, state);
  paintEdges(context, scene.edges.filter((edge) => overlap(edge.bounds, inflate(view, 12))), scene.crowded, camera.scale, palette, state);
  if (camera.scale >= DETAIL_SCALE) for (const edge of scene.edges) if (edge.view.metrics.waypoints.length > 0 && overlap(edge.bounds, view)) waypointMark(context, edge, palette);
  for (const node of scene.nodes) if (overlap(inflate(node.rect, 12), view)) paintNode(context, node, lettering.nodes.get(node)!, camera.scale, palette, state);
  for (const [edge, label] of lettering.labels) if (overlap(edge.bounds, inflate(view, 80))) paintLabel(context, edge, label, palette);
  for (const [node, { name }] of lettering.nodes) if (name?.outside && overlap(inflate(node.rect, 160), view)) paintName(context, node, name, palette);
  // From far away the names of boxes are what orients; they lie over everything, at a size that can be read.
  for (const [box, name] of lettering.boxes) if (name.outside && overlap(box.rect, view)) paintBoxName(context, box, name, palette);
  context.restore();
}

function inflate(rect: Rect, by: number): Rect {
  return { left: rect.left - by, top: rect.top - by, right: rect.right + by, bottom: rect.bottom + by };
}

function roundRect(context: CanvasRenderingContext2D, { left, top, right, bottom }: Rect, radius: number): void {
  context.beginPath();
  context.roundRect(left, top, right - left, bottom - top, radius);
}

function paintBox(context: CanvasRenderingContext2D, { view, rect }: SceneBox, name: Writing, scale: number, palette: Palette, state: PaintState): void {
  roundRect(context, rect, 12);
  context.fillStyle = view.kind === 'app' ? palette.boxInner : palette.box;
  context.fill();
  const tone = view.health === 'failing' ? palette.failing : view.health === 'degraded' ? palette.degraded : palette.border;
  context.strokeStyle = state.chosen === view.id ? palette.accent : tone;
  context.lineWidth = (state.chosen === view.id ? 2.5 : view.health === 'failing' || view.health === 'degraded' ? 1.5 : 1) / Math.min(1, Math.max(scale, 0.5));
  context.stroke();
  if (name.outside || scale < BOX_NAME_SCALE) return;
  context.fillStyle = palette.muted;
  context.font = `600 ${name.size}px ${FONT}`;
  context.textAlign = 'left';
  context.textBaseline = 'middle';
  for (const line of name.lines) context.fillText(line, name.at.x, name.at.y);
}

function paintBoxName(context: CanvasRenderingContext2D, { view }: SceneBox, name: Writing, palette: Palette): void {
  const colour = view.health === 'failing' ? palette.failingText : view.health === 'degraded' ? palette.degradedText : palette.text;
  write(context, name, 650, palette.canvas, () => colour);
}

/** Lines around their middle, with a halo that parts them from what they stand on. */
function write(context: CanvasRenderingContext2D, { lines, at, size }: Writing, weight: number, halo: string, colour: (line: number) => string): void {
  context.font = `${weight} ${size}px ${FONT}`;
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  context.lineJoin = 'round';
  context.lineWidth = size * 0.35;
  context.strokeStyle = halo;
  const top = at.y - ((lines.length - 1) / 2) * size * LINE_HEIGHT;
  lines.forEach((text, i) => context.strokeText(text, at.x, top + i * size * LINE_HEIGHT));
  lines.forEach((text, i) => {
    context.fillStyle = colour(i);
    context.fillText(text, at.x, top + i * size * LINE_HEIGHT);
  });
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

function paintLabel(context: CanvasRenderingContext2D, { view, tone }: SceneEdge, label: Writing, palette: Palette): void {
  context.globalAlpha = view.dimmed ? 0 : PLATE;
  context.fillStyle = palette.canvas;
  roundRect(context, areaOf(label), label.size * 0.4);
  context.fill();
  context.globalAlpha = view.dimmed ? DIMMED : 1;
  write(context, label, tone === 'failing' ? 650 : 450, palette.canvas, (line) => (line > 0 ? palette.text : tone === 'failing' ? palette.failingText : tone === 'degraded' ? palette.degradedText : palette.text));
  context.globalAlpha = 1;
}

function paintName(context: CanvasRenderingContext2D, { view }: SceneNode, name: Writing, palette: Palette): void {
  context.globalAlpha = view.dimmed ? DIMMED : 1;
  write(context, name, view.health === 'failing' || view.health === 'degraded' ? 650 : 550, palette.canvas, () => palette.text);
  context.globalAlpha = 1;
}

function paintNode(context: CanvasRenderingContext2D, { view, rect }: SceneNode, { name, mark }: NodeWriting, scale: number, palette: Palette, state: PaintState): void {
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
  if (name && !name.outside) {
    context.fillStyle = palette.text;
    context.font = `${unwell ? NODE_WEIGHT.unwell : NODE_WEIGHT.well} ${name.size}px ${FONT}`;
    context.textAlign = name.centred ? 'center' : 'left';
    context.textBaseline = 'middle';
    for (const line of name.lines) context.fillText(line, name.at.x, name.at.y + 0.5);
  }
  if (scale >= DETAIL_SCALE) paintMark(context, view.health, mark.x, mark.y, mark.zoom, palette);
  context.globalAlpha = 1;
}

/** Health as a shape: octagon with a cross, triangle, tick in a disc, ring. */
function paintMark(context: CanvasRenderingContext2D, health: string, x: number, y: number, zoom: number, palette: Palette): void {
  context.save();
  context.translate(x, y);
  context.scale(zoom, zoom);
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
