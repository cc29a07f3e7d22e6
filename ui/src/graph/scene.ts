import { edgeLabel, edgeTone, edgeWidth, type EdgeColour, type EdgeLabel, type EdgeWidth } from './labels';
import type { Point, Positions } from './layout';
import { BOX_PADDING, NODE_HEIGHT, nodeLabel, nodeWidth, textWidth } from './measure';
import type { View, ViewBox, ViewEdge, ViewNode } from './model';

/** Where everything of a view is, in the layout's coordinates; what draws, exports and hits things reads only this. */
export interface Scene {
  boxes: SceneBox[];
  nodes: SceneNode[];
  edges: SceneEdge[];
  bounds: Rect;
  /** Too many edges for curves and for a label on each. */
  crowded: boolean;
}

export interface Rect {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export interface SceneBox {
  view: ViewBox;
  label: string;
  rect: Rect;
}

export interface SceneNode {
  view: ViewNode;
  label: string;
  rect: Rect;
}

export interface SceneEdge {
  view: ViewEdge;
  /** Begin, two control points and end of a cubic curve; of a straight line the control points are its ends. */
  curve: [Point, Point, Point, Point];
  straight: boolean;
  /** The curve in pieces. */
  points: Point[];
  bounds: Rect;
  tone: string;
  width: number;
  lines: string[];
  /** Middle of the label. */
  labelAt: Point;
}

export interface DrawOptions {
  labels: readonly EdgeLabel[];
  width: EdgeWidth;
  colour: EdgeColour;
  chosen: string | undefined;
}

/** Above these, edges are straight and only those around what is chosen have a label. */
const CROWDED_EDGES = 600;
const PIECES = 18;
export const LABEL_SIZE = 10.5;
export const LABEL_LINE = 12.5;

export function buildScene(view: View, positions: Positions, options: DrawOptions): Scene {
  const crowded = view.edges.length > CROWDED_EDGES;
  const nodes: SceneNode[] = [];
  const byID = new Map<string, SceneNode>();
  for (const node of view.nodes) {
    const at = positions[node.id];
    if (!at) continue;
    const label = nodeLabel(node.label, node.folded?.members.length);
    const half = nodeWidth(label) / 2;
    const placed = { view: node, label, rect: { left: at.x - half, right: at.x + half, top: at.y - NODE_HEIGHT / 2, bottom: at.y + NODE_HEIGHT / 2 } };
    nodes.push(placed);
    byID.set(node.id, placed);
  }
  const boxes = placeBoxes(view, nodes);
  const linked = view.edges.filter((edge) => byID.has(edge.source) && byID.has(edge.destination));
  const anchors = crowded ? undefined : anchorsOf(linked, byID);
  const edges = linked.map((edge): SceneEdge => {
    const [from, to] = [byID.get(edge.source)!.rect, byID.get(edge.destination)!.rect];
    const own = anchors?.get(edge.id);
    const curve = edge.source === edge.destination ? loop(from) : own ? bend(own[0], own[1]) : line(from, to);
    const straight = !own && edge.source !== edge.destination;
    const points = straight ? [curve[0], curve[3]] : sample(curve);
    const near = options.chosen !== undefined && (options.chosen === edge.source || options.chosen === edge.destination || options.chosen === edge.id);
    const label = crowded && !near ? '' : edgeLabel(edge.metrics, options.labels);
    return {
      view: edge, curve, straight, points, bounds: boundsOf(points), tone: edgeTone(edge.metrics, options.colour), width: edgeWidth(edge.metrics, options.width),
      lines: label === '' ? [] : label.split('\n'), labelAt: pointAt(curve, 0.5),
    };
  });
  placeLabels(edges, nodes);
  return { boxes, nodes, edges, crowded, bounds: unite([...nodes.map((node) => node.rect), ...boxes.map((box) => box.rect)]) };
}

function placeBoxes(view: View, nodes: SceneNode[]): SceneBox[] {
  const rects = new Map<string, Rect>();
  const parents = new Map(view.boxes.map((box) => [box.id, box.parent]));
  for (const node of nodes) {
    let { left, right, top, bottom } = node.rect;
    for (let id = node.view.box; id !== undefined && parents.has(id); id = parents.get(id)) {
      left -= BOX_PADDING.x;
      right += BOX_PADDING.x;
      top -= BOX_PADDING.top;
      bottom += BOX_PADDING.bottom;
      const rect = rects.get(id);
      if (rect) Object.assign(rect, unite([rect, { left, right, top, bottom }]));
      else rects.set(id, { left, right, top, bottom });
    }
  }
  const boxes = view.boxes.flatMap((box) => {
    const rect = rects.get(box.id);
    return rect ? [{ view: box, label: `${box.label}  ${box.members.length}`, rect }] : [];
  });
  // The outer ones first, so that the inner ones lie on them.
  return boxes.sort((a, b) => Number(a.view.parent !== undefined) - Number(b.view.parent !== undefined));
}

type Side = 'left' | 'right' | 'top' | 'bottom';
interface Anchor {
  at: Point;
  side: Side;
}

const NORMALS: Record<Side, Point> = { left: { x: -1, y: 0 }, right: { x: 1, y: 0 }, top: { x: 0, y: -1 }, bottom: { x: 0, y: 1 } };

/** Both ends of every edge: on the sides that face each other, spread out in the order of where they lead. */
function anchorsOf(edges: ViewEdge[], nodes: Map<string, SceneNode>): Map<string, [Anchor, Anchor]> {
  interface End {
    edge: ViewEdge;
    index: 0 | 1;
    towards: number;
  }
  const sides = new Map<string, End[]>();
  const chosen = new Map<string, [Side, Side]>();
  for (const edge of edges) {
    if (edge.source === edge.destination) continue;
    const [a, b] = [nodes.get(edge.source)!.rect, nodes.get(edge.destination)!.rect];
    const pair = facing(a, b);
    chosen.set(edge.id, pair);
    const along = (side: Side, rect: Rect) => (side === 'left' || side === 'right' ? (rect.top + rect.bottom) / 2 : (rect.left + rect.right) / 2);
    for (const [id, side, other, index] of [[edge.source, pair[0], b, 0], [edge.destination, pair[1], a, 1]] as const) {
      const key = `${id}\n${side}`;
      const list = sides.get(key);
      const end = { edge, index, towards: along(side, other) };
      if (list) list.push(end);
      else sides.set(key, [end]);
    }
  }
  const result = new Map<string, [Anchor, Anchor]>();
  for (const [key, ends] of sides) {
    const [id, side] = key.split('\n') as [string, Side];
    const rect = nodes.get(id)!.rect;
    const vertical = side === 'left' || side === 'right';
    const room = (vertical ? rect.bottom - rect.top : rect.right - rect.left) - 14;
    const gap = ends.length > 1 ? Math.min(8, room / (ends.length - 1)) : 0;
    ends.sort((a, b) => a.towards - b.towards || (a.edge.id < b.edge.id ? -1 : 1));
    ends.forEach(({ edge, index }, i) => {
      const offset = (i - (ends.length - 1) / 2) * gap;
      const at = vertical
        ? { x: side === 'left' ? rect.left : rect.right, y: (rect.top + rect.bottom) / 2 + offset }
        : { x: (rect.left + rect.right) / 2 + offset, y: side === 'top' ? rect.top : rect.bottom };
      const pair = result.get(edge.id) ?? ([undefined, undefined] as unknown as [Anchor, Anchor]);
      pair[index] = { at, side };
      result.set(edge.id, pair);
    });
  }
  return result;
}

/** The sides on which an edge leaves one node and enters another: left and right, unless there is more room above and below. */
function facing(a: Rect, b: Rect): [Side, Side] {
  const [beside, above] = [Math.max(b.left - a.right, a.left - b.right), Math.max(b.top - a.bottom, a.top - b.bottom)];
  if (beside > 24 && beside >= above * 0.9) return b.left > a.right ? ['right', 'left'] : ['left', 'right'];
  return (a.top + a.bottom) / 2 < (b.top + b.bottom) / 2 ? ['bottom', 'top'] : ['top', 'bottom'];
}

function bend(from: Anchor, to: Anchor): SceneEdge['curve'] {
  const [dx, dy] = [Math.abs(to.at.x - from.at.x), Math.abs(to.at.y - from.at.y)];
  const horizontal = from.side === 'left' || from.side === 'right';
  const reach = Math.min(140, Math.max(16, (horizontal ? dx : dy) * 0.5));
  const out = (anchor: Anchor) => ({ x: anchor.at.x + NORMALS[anchor.side].x * reach, y: anchor.at.y + NORMALS[anchor.side].y * reach });
  return [from.at, out(from), out(to), to.at];
}

function loop(rect: Rect): SceneEdge['curve'] {
  const x = rect.right - 26;
  return [{ x, y: rect.top }, { x: x - 4, y: rect.top - 38 }, { x: rect.right + 34, y: rect.top - 30 }, { x: rect.right, y: rect.top + 12 }];
}

function line(from: Rect, to: Rect): SceneEdge['curve'] {
  const [a, b] = [centre(from), centre(to)];
  const [start, end] = [leave(from, a, b), leave(to, b, a)];
  return [start, start, end, end];
}

function centre({ left, right, top, bottom }: Rect): Point {
  return { x: (left + right) / 2, y: (top + bottom) / 2 };
}

/** Where the line from a rectangle's centre to another point leaves the rectangle. */
function leave(rect: Rect, from: Point, to: Point): Point {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const scale = Math.min((rect.right - rect.left) / 2 / Math.max(Math.abs(dx), 1e-6), (rect.bottom - rect.top) / 2 / Math.max(Math.abs(dy), 1e-6), 1);
  return { x: from.x + dx * scale, y: from.y + dy * scale };
}

export function pointAt([a, b, c, d]: SceneEdge['curve'], t: number): Point {
  const s = 1 - t;
  const [i, j, k, l] = [s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t];
  return { x: i * a.x + j * b.x + k * c.x + l * d.x, y: i * a.y + j * b.y + k * c.y + l * d.y };
}

function sample(curve: SceneEdge['curve']): Point[] {
  return Array.from({ length: PIECES + 1 }, (_, i) => pointAt(curve, i / PIECES));
}

function boundsOf(points: Point[]): Rect {
  const rect = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const { x, y } of points) {
    rect.left = Math.min(rect.left, x);
    rect.right = Math.max(rect.right, x);
    rect.top = Math.min(rect.top, y);
    rect.bottom = Math.max(rect.bottom, y);
  }
  return rect;
}

function unite(rects: Rect[]): Rect {
  const all = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const rect of rects) {
    all.left = Math.min(all.left, rect.left);
    all.right = Math.max(all.right, rect.right);
    all.top = Math.min(all.top, rect.top);
    all.bottom = Math.max(all.bottom, rect.bottom);
  }
  return rects.length > 0 ? all : { left: 0, top: 0, right: 0, bottom: 0 };
}

/** Tried in this order until a label lies on no other and on no node. */
const PLACES = [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82];

function placeLabels(edges: SceneEdge[], nodes: SceneNode[]): void {
  const taken: Rect[] = nodes.map((node) => node.rect);
  // In the order of their names, so that a label keeps its place while the others keep theirs.
  for (const edge of edges.filter((one) => one.lines.length > 0).sort((a, b) => (a.view.id < b.view.id ? -1 : 1))) {
    const [halfWidth, halfHeight] = [Math.max(...edge.lines.map((text) => textWidth(text, LABEL_SIZE, 500))) / 2 + 3, (edge.lines.length * LABEL_LINE) / 2 + 1];
    const rectAt = ({ x, y }: Point) => ({ left: x - halfWidth, right: x + halfWidth, top: y - halfHeight, bottom: y + halfHeight });
    const place = PLACES.find((t) => !taken.some((rect) => overlap(rect, rectAt(pointAt(edge.curve, t))))) ?? 0.5;
    edge.labelAt = pointAt(edge.curve, place);
    taken.push(rectAt(edge.labelAt));
  }
}

export function overlap(a: Rect, b: Rect): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/** What lies at a point: a node, else an edge at most `reach` away, else the frame of a box. */
export function hit(scene: Scene, at: Point, reach: number): string | undefined {
  for (let i = scene.nodes.length - 1; i >= 0; i--) if (contains(scene.nodes[i]!.rect, at, 2)) return scene.nodes[i]!.view.id;
  let [best, nearest] = [reach, undefined as string | undefined];
  for (const edge of scene.edges) {
    if (!contains(edge.bounds, at, best)) continue;
    const away = distance(edge.points, at);
    if (away < best) [best, nearest] = [away, edge.view.id];
  }
  if (nearest !== undefined) return nearest;
  return scene.boxes.findLast((box) => contains(box.rect, at, 0))?.view.id;
}

function contains(rect: Rect, { x, y }: Point, margin: number): boolean {
  return x >= rect.left - margin && x <= rect.right + margin && y >= rect.top - margin && y <= rect.bottom + margin;
}

function distance(points: Point[], { x, y }: Point): number {
  let best = Infinity;
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1]!, points[i]!];
    const [dx, dy] = [b.x - a.x, b.y - a.y];
    const t = Math.max(0, Math.min(1, ((x - a.x) * dx + (y - a.y) * dy) / (dx * dx + dy * dy || 1)));
    best = Math.min(best, Math.hypot(x - a.x - t * dx, y - a.y - t * dy));
  }
  return best;
}
