import type { Point } from './layout';
import type { ViewEdge } from './model';

export interface Rect {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** Begin, two control points and end of a cubic curve. */
export type Curve = [Point, Point, Point, Point];

type Side = 'left' | 'right' | 'top' | 'bottom';
interface Anchor {
  at: Point;
  side: Side;
}

const SIDES: Side[] = ['left', 'right', 'top', 'bottom'];
const NORMALS: Record<Side, Point> = { left: { x: -1, y: 0 }, right: { x: 1, y: 0 }, top: { x: 0, y: -1 }, bottom: { x: 0, y: 1 } };
/** How finely a curve is looked at for what it crosses, and how far from a node it should stay. */
const STEPS = 14;
const CLEARANCE = 5;
/** How much longer, in pixels, a way may be that crosses one node less. */
const CROSSING = 420;

/** The curve of every edge between two nodes: from side to side, around other nodes where that is possible, spread out where several meet. */
export function routeEdges(edges: ViewEdge[], rects: Map<string, Rect>): Map<string, Curve> {
  interface End {
    edge: ViewEdge;
    index: 0 | 1;
    towards: number;
  }
  const obstacles = [...rects.values()];
  const ends = new Map<string, End[]>();
  for (const edge of edges) {
    if (edge.source === edge.destination) continue;
    const [a, b] = [rects.get(edge.source)!, rects.get(edge.destination)!];
    const [from, to] = sidesOf(a, b, obstacles);
    for (const [id, side, other, index] of [[edge.source, from, b, 0], [edge.destination, to, a, 1]] as const) {
      const key = `${id}\n${side}`;
      const end = { edge, index, towards: isVertical(side) ? (other.top + other.bottom) / 2 : (other.left + other.right) / 2 };
      const list = ends.get(key);
      if (list) list.push(end);
      else ends.set(key, [end]);
    }
  }
  const anchors = new Map<string, [Anchor, Anchor]>();
  for (const [key, list] of ends) {
    const [id, side] = key.split('\n') as [string, Side];
    const rect = rects.get(id)!;
    const room = (isVertical(side) ? rect.bottom - rect.top : rect.right - rect.left) - 14;
    const gap = list.length > 1 ? Math.min(8, room / (list.length - 1)) : 0;
    list.sort((a, b) => a.towards - b.towards || (a.edge.id < b.edge.id ? -1 : 1));
    list.forEach(({ edge, index }, i) => {
      const pair = anchors.get(edge.id) ?? ([undefined, undefined] as unknown as [Anchor, Anchor]);
      pair[index] = { at: onSide(rect, side, (i - (list.length - 1) / 2) * gap), side };
      anchors.set(edge.id, pair);
    });
  }
  return new Map([...anchors].map(([id, [from, to]]) => [id, bend(from, to)]));
}

/** On which sides an edge leaves and enters: those that face each other, unless another pair crosses fewer nodes at little more length. */
function sidesOf(a: Rect, b: Rect, obstacles: Rect[]): [Side, Side] {
  const straight = facing(a, b);
  let best = straight;
  let cost = costOf(a, b, straight, obstacles);
  if (cost < CROSSING) return straight;
  for (const from of SIDES) {
    for (const to of SIDES) {
      const other = costOf(a, b, [from, to], obstacles);
      if (other < cost) [best, cost] = [[from, to], other];
    }
  }
  return best;
}

/** The crossings and the length of a way, its length only in parts so that the straight way is taken where it is free. */
function costOf(a: Rect, b: Rect, [from, to]: [Side, Side], obstacles: Rect[]): number {
  const points = sample(bend({ at: onSide(a, from, 0), side: from }, { at: onSide(b, to, 0), side: to }), STEPS);
  const bounds = boundsOf(points);
  let crossings = 0;
  for (const rect of obstacles) {
    if (rect.left > bounds.right || rect.right < bounds.left || rect.top > bounds.bottom || rect.bottom < bounds.top) continue;
    // Within its own ends a curve only may not run through the middle.
    const own = rect === a || rect === b;
    const margin = own ? -6 : CLEARANCE;
    if (points.some(({ x, y }) => x > rect.left - margin && x < rect.right + margin && y > rect.top - margin && y < rect.bottom + margin)) crossings++;
  }
  let length = 0;
  for (let i = 1; i < points.length; i++) length += Math.hypot(points[i]!.x - points[i - 1]!.x, points[i]!.y - points[i - 1]!.y);
  return crossings * CROSSING + Math.min(length, 10 * CROSSING) * 0.5 * (crossings > 0 ? 1 : 0.1);
}

/** The sides on which an edge leaves one node and enters another: left and right, unless there is more room above and below. */
function facing(a: Rect, b: Rect): [Side, Side] {
  const [beside, above] = [Math.max(b.left - a.right, a.left - b.right), Math.max(b.top - a.bottom, a.top - b.bottom)];
  if (beside > 24 && beside >= above * 0.9) return b.left > a.right ? ['right', 'left'] : ['left', 'right'];
  return (a.top + a.bottom) / 2 < (b.top + b.bottom) / 2 ? ['bottom', 'top'] : ['top', 'bottom'];
}

function isVertical(side: Side): boolean {
  return side === 'left' || side === 'right';
}

function onSide(rect: Rect, side: Side, offset: number): Point {
  return isVertical(side)
    ? { x: side === 'left' ? rect.left : rect.right, y: (rect.top + rect.bottom) / 2 + offset }
    : { x: (rect.left + rect.right) / 2 + offset, y: side === 'top' ? rect.top : rect.bottom };
}

function bend(from: Anchor, to: Anchor): Curve {
  const [dx, dy] = [Math.abs(to.at.x - from.at.x), Math.abs(to.at.y - from.at.y)];
  const opposite = NORMALS[from.side].x + NORMALS[to.side].x === 0 && NORMALS[from.side].y + NORMALS[to.side].y === 0;
  const reach = (side: Side) => {
    const [along, across] = isVertical(side) ? [dx, dy] : [dy, dx];
    // A way that leaves and enters on one side, or turns a corner, has to swing out.
    return opposite ? Math.min(140, Math.max(16, along * 0.5)) : Math.min(160, Math.max(30, along * 0.5, from.side === to.side ? across * 0.3 : 0));
  };
  const out = (anchor: Anchor) => ({ x: anchor.at.x + NORMALS[anchor.side].x * reach(anchor.side), y: anchor.at.y + NORMALS[anchor.side].y * reach(anchor.side) });
  return [from.at, out(from), out(to), to.at];
}

/** The curve of an edge from a node to itself. */
export function loop(rect: Rect): Curve {
  const x = rect.right - 26;
  return [{ x, y: rect.top }, { x: x - 4, y: rect.top - 38 }, { x: rect.right + 34, y: rect.top - 30 }, { x: rect.right, y: rect.top + 12 }];
}

/** The straight way from border to border. */
export function line(from: Rect, to: Rect): Curve {
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

export function pointAt([a, b, c, d]: Curve, t: number): Point {
  const s = 1 - t;
  const [i, j, k, l] = [s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t];
  return { x: i * a.x + j * b.x + k * c.x + l * d.x, y: i * a.y + j * b.y + k * c.y + l * d.y };
}

export function sample(curve: Curve, pieces: number): Point[] {
  return Array.from({ length: pieces + 1 }, (_, i) => pointAt(curve, i / pieces));
}

export function boundsOf(points: Point[]): Rect {
  const rect = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const { x, y } of points) {
    rect.left = Math.min(rect.left, x);
    rect.right = Math.max(rect.right, x);
    rect.top = Math.min(rect.top, y);
    rect.bottom = Math.max(rect.bottom, y);
  }
  return rect;
}
