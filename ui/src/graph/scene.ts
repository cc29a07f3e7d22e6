import { edgeLabel, edgeTone, edgeWidth, type EdgeColour, type EdgeLabel, type EdgeWidth } from './labels';
import type { Point, Positions } from './layout';
import { BOX_PADDING, NODE_HEIGHT, nodeLabel, nodeWidth } from './measure';
import type { View, ViewBox, ViewEdge, ViewNode } from './model';
import { boundsOf, line, loop, pointAt, routeEdges, sample, type Curve, type Rect } from './route';

/** Where everything of a view is, in the layout's coordinates; what draws, exports and hits things reads only this. */
export interface Scene {
  boxes: SceneBox[];
  nodes: SceneNode[];
  edges: SceneEdge[];
  bounds: Rect;
  /** Too many edges for curves and for a label on each. */
  crowded: boolean;
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
  /** Of a straight line the control points are its ends. */
  curve: Curve;
  straight: boolean;
  /** The curve in pieces. */
  points: Point[];
  bounds: Rect;
  tone: string;
  width: number;
  /** What its label says, and where it would stand best. */
  lines: string[];
  labelAt: Point;
}

export interface DrawOptions {
  labels: readonly EdgeLabel[];
  width: EdgeWidth;
  colour: EdgeColour;
  chosen: string | undefined;
}

/** Above these, edges are straight and only those of what is unwell or chosen have a label. */
const CROWDED_EDGES = 600;
const DENSE_EDGES = 120;
const DENSE_PER_NODE = 6;
const PIECES = 18;

export function buildScene(view: View, positions: Positions, options: DrawOptions): Scene {
  const crowded = isCrowded(view);
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
  const routes = crowded ? undefined : routeEdges(linked, new Map(nodes.map((node) => [node.view.id, node.rect])));
  const edges = linked.map((edge): SceneEdge => {
    const [from, to] = [byID.get(edge.source)!.rect, byID.get(edge.destination)!.rect];
    const route = routes?.get(edge.id);
    const curve = edge.source === edge.destination ? loop(from) : (route ?? line(from, to));
    const straight = !route && edge.source !== edge.destination;
    const points = straight ? [curve[0], curve[3]] : sample(curve, PIECES);
    const near = options.chosen !== undefined && (options.chosen === edge.source || options.chosen === edge.destination || options.chosen === edge.id);
    const unwell = edge.metrics.health === 'failing' || edge.metrics.health === 'degraded';
    const label = crowded && !near && !(unwell && view.edges.length <= CROWDED_EDGES) ? '' : edgeLabel(edge.metrics, options.labels);
    return {
      view: edge, curve, straight, points, bounds: boundsOf(points), tone: edgeTone(edge.metrics, options.colour), width: edgeWidth(edge.metrics, options.width),
      lines: label === '' ? [] : label.split('\n'), labelAt: pointAt(curve, 0.5),
    };
  });
  return { boxes, nodes, edges, crowded, bounds: unite([...nodes.map((node) => node.rect), ...boxes.map((box) => box.rect)]) };
}

function isCrowded({ nodes, edges }: View): boolean {
  return edges.length > CROWDED_EDGES || (edges.length > DENSE_EDGES && edges.length > DENSE_PER_NODE * nodes.length);
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
