import { Graph, layout as dagreLayout } from '@dagrejs/dagre';
import { forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY } from 'd3-force';

import { BOX_PADDING } from './measure';

/**
 * A graph that a person can take in at once is laid out in ranks as a whole, boxes included. A larger one is placed box by
 * box, innermost first: the content of a box is laid out by itself and the box then is one node of the box around it, so
 * that the cost grows with the largest box instead of the whole graph.
 */

export interface LayoutNode {
  id: string;
  width: number;
  height: number;
  box: string | undefined;
}

export interface LayoutInput {
  nodes: LayoutNode[];
  boxes: { id: string; parent: string | undefined }[];
  edges: { source: string; destination: string }[];
  /** Where calls lead: to the right, or down on a screen that is higher than wide. */
  direction?: Direction;
}

export type Direction = 'right' | 'down';

export interface Point {
  x: number;
  y: number;
}

/** Centres by node id. */
export type Positions = Record<string, Point>;

const NODE_GAP = 26;
const RANK_GAP = 96;
/** What two ranks of a whole graph leave between them: the length of an edge's label, or its lines and the borders of two boxes. */
const LABEL_ROOM = { right: 100, down: 78 };
/**
 * Above these in one box, ranks and crossings cost more than they show, and forces place the nodes. In a large graph even
 * small boxes have to be quick.
 */
const RANKED_NODES = 120;
const RANKED_EDGES = 150;
const LARGE_EDGES = 800;
/** Up to these, the whole graph is laid out at once. */
const WHOLE_NODES = 70;
const WHOLE_EDGES = 160;
const RANKED_EDGES_OF_LARGE = 36;

interface Item {
  id: string;
  width: number;
  height: number;
}

interface How {
  rankedEdges: number;
  direction: Direction;
}

interface Arranged {
  positions: Map<string, Point>;
  width: number;
  height: number;
}

export function layout(input: LayoutInput): Positions {
  if (input.nodes.length === 0) return {};
  if (input.boxes.length > 0 && input.nodes.length <= WHOLE_NODES && input.edges.length <= WHOLE_EDGES) {
    const positions = layoutWhole(input);
    if (boxesApart(input, positions)) return positions;
  }
  return layoutByBox(input);
}

/** Width to height of what a graph is looked at on. */
const ASPECT = { right: 1.5, down: 0.75 };
const WORTHWHILE = 1.04;

/** In ranks; a rank that is longer than the screen is wide breaks into two, as often as that lets the whole be drawn larger. */
function layoutWhole(input: LayoutInput): Positions {
  const broken = new Map<string, number>();
  let best = inRanks(input, broken);
  for (let largest = zoomOf(input, best); ; ) {
    for (const id of everySecondOfLongest(input, best)) broken.set(id, (broken.get(id) ?? 0) + 1);
    const next = inRanks(input, broken);
    const zoom = zoomOf(input, next);
    if (zoom < largest * WORTHWHILE || !boxesApart(input, next)) return best;
    [best, largest] = [next, zoom];
  }
}

/** broken says how many ranks further a node stands from its callers than it could. */
function inRanks(input: LayoutInput, broken: ReadonlyMap<string, number>): Positions {
  const graph = new Graph({ compound: true });
  const right = input.direction !== 'down';
  graph.setGraph({ rankdir: right ? 'LR' : 'TB', nodesep: right ? 40 : 24, ranksep: right ? RANK_GAP * 0.6 : 36, edgesep: 16, ranker: 'network-simplex' });
  graph.setDefaultEdgeLabel(() => ({}));
  const boxes = new Map(input.boxes.map((box) => [box.id, box.parent]));
  for (const box of input.boxes) graph.setNode(box.id, {});
  for (const { id, parent } of input.boxes) if (parent !== undefined && boxes.has(parent)) graph.setParent(id, parent);
  for (const { id, width, height, box } of input.nodes) {
    graph.setNode(id, { width, height });
    if (box !== undefined && boxes.has(box)) graph.setParent(id, box);
  }
  for (const { source, destination } of dedupe(input.edges)) {
    if (!graph.hasNode(source) || !graph.hasNode(destination)) continue;
    graph.setEdge(source, destination, { width: right ? 52 : 24, height: right ? 14 : 30, labelpos: 'c', minlen: 1 + (broken.get(destination) ?? 0) });
  }
  dagreLayout(graph);
  const placed = new Map(input.nodes.map(({ id }) => [id, graph.node(id) as Point]));
  closeRanks(input.nodes, placed, right ? 'x' : 'y', right ? LABEL_ROOM.right : LABEL_ROOM.down);
  return Object.fromEntries([...placed].map(([id, { x, y }]) => [id, { x: Math.round(x), y: Math.round(y) }]));
}

/** How large a layout can be drawn on a screen of its direction's shape and of height 1. */
function zoomOf({ nodes, boxes, edges, direction = 'right' }: LayoutInput, positions: Positions): number {
  const rects = [...nodes.map((node) => rectOf(positions[node.id]!, node.width, node.height, node.box)), ...boxRects({ nodes, boxes, edges }, positions)];
  const width = Math.max(...rects.map((rect) => rect.right)) - Math.min(...rects.map((rect) => rect.left));
  const height = Math.max(...rects.map((rect) => rect.bottom)) - Math.min(...rects.map((rect) => rect.top));
  return Math.min(ASPECT[direction] / width, 1 / height);
}

function everySecondOfLongest({ nodes, direction }: LayoutInput, positions: Positions): string[] {
  const [along, across] = direction === 'down' ? (['y', 'x'] as const) : (['x', 'y'] as const);
  const size = across === 'x' ? 'width' : 'height';
  const length = (rank: LayoutNode[]) => rank.reduce((sum, node) => sum + node[size], 0);
  const longest = ranksOf(nodes, (id) => positions[id]!, along).reduce((a, b) => (length(b) > length(a) ? b : a));
  return longest.toSorted((a, b) => positions[a.id]![across] - positions[b.id]![across]).filter((_, i) => i % 2 === 1).map((node) => node.id);
}

/** The nodes of each rank, the first rank first. */
function ranksOf(nodes: LayoutNode[], at: (id: string) => Point, along: 'x' | 'y'): LayoutNode[][] {
  const ranks = new Map<number, LayoutNode[]>();
  for (const node of nodes) {
    const place = Math.round(at(node.id)[along]);
    const rank = ranks.get(place);
    if (rank) rank.push(node);
    else ranks.set(place, [node]);
  }
  return [...ranks].sort(([a], [b]) => a - b).map(([, rank]) => rank);
}

/** Moves ranks to one distance: dagre leaves room between them for every border of a box and every rank that an edge passes. */
function closeRanks(nodes: LayoutNode[], placed: Map<string, Point>, along: 'x' | 'y', gap: number): void {
  const size = along === 'x' ? 'width' : 'height';
  let edge = 0;
  for (const rank of ranksOf(nodes, (id) => placed.get(id)!, along)) {
    const extent = Math.max(...rank.map((node) => node[size]));
    for (const { id } of rank) placed.set(id, { ...placed.get(id)!, [along]: edge + extent / 2 });
    edge += extent + gap;
  }
}

/** Whether no two boxes of one parent, and no box and a node outside it, lie over each other. */
function boxesApart(input: LayoutInput, positions: Positions): boolean {
  const rects = boxRects(input, positions);
  const inside = insideOf(input);
  return rects.every((a, i) => {
    const crossed = rects.slice(i + 1).some((b) => !inside(b.box, a.box!) && !inside(a.box, b.box!) && overlap(a, b));
    return !crossed && !input.nodes.some((node) => !inside(node.box, a.box!) && overlap(a, rectOf(positions[node.id]!, node.width, node.height, node.box)));
  });
}

/** Whether a box is another one or lies in it. */
function insideOf(input: LayoutInput): (box: string | undefined, outer: string) => boolean {
  const parents = new Map(input.boxes.map((box) => [box.id, box.parent]));
  const inside = (box: string | undefined, outer: string): boolean => box !== undefined && (box === outer || inside(parents.get(box), outer));
  return inside;
}

function layoutByBox(input: LayoutInput): Positions {
  const parents = new Map(input.boxes.map((box) => [box.id, box.parent]));
  const nodeBox = new Map(input.nodes.map((node) => [node.id, node.box !== undefined && parents.has(node.box) ? node.box : undefined]));

  const groups = new Map<string | undefined, Item[]>([[undefined, []]]);
  for (const box of input.boxes) groups.set(box.id, []);
  for (const node of input.nodes) groups.get(nodeBox.get(node.id))!.push(node);

  const chain = (id: string): (string | undefined)[] => {
    const up: (string | undefined)[] = [];
    for (let box = nodeBox.get(id); box !== undefined; box = parents.get(box)) up.unshift(box);
    return [undefined, ...up];
  };
  // An edge belongs to the innermost box that holds both ends, between that box's own children.
  const inner = new Map<string | undefined, { source: string; destination: string }[]>();
  for (const { source, destination } of input.edges) {
    if (!nodeBox.has(source) || !nodeBox.has(destination)) continue;
    const a = [...chain(source), source];
    const b = [...chain(destination), destination];
    let level = 0;
    while (level + 1 < a.length && level + 1 < b.length && a[level + 1] === b[level + 1]) level++;
    const [from, to] = [a[level + 1], b[level + 1]];
    if (from === undefined || to === undefined) continue;
    const list = inner.get(a[level]) ?? [];
    list.push({ source: from, destination: to });
    inner.set(a[level], list);
  }

  const rankedEdges = input.edges.length > LARGE_EDGES ? RANKED_EDGES_OF_LARGE : RANKED_EDGES;
  const arranged = new Map<string | undefined, Arranged>();
  const arrangeGroup = (id: string | undefined): Arranged => {
    const items = [...groups.get(id)!];
    for (const box of input.boxes) {
      if (box.parent !== id) continue;
      const content = arrangeGroup(box.id);
      if (content.positions.size === 0) continue;
      items.push({
        id: box.id,
        width: content.width + 2 * BOX_PADDING.x,
        height: content.height + BOX_PADDING.top + BOX_PADDING.bottom,
      });
    }
    const result = arrange(items, inner.get(id) ?? [], { rankedEdges, direction: input.direction ?? 'right' });
    arranged.set(id, result);
    return result;
  };
  arrangeGroup(undefined);

  const positions: Positions = {};
  const put = (id: string | undefined, origin: Point) => {
    for (const [child, { x, y }] of arranged.get(id)!.positions) {
      const at = { x: origin.x + x, y: origin.y + y };
      const content = arranged.get(child);
      if (!content || !parents.has(child)) positions[child] = { x: Math.round(at.x), y: Math.round(at.y) };
      else put(child, { x: at.x - content.width / 2, y: at.y - content.height / 2 + (BOX_PADDING.top - BOX_PADDING.bottom) / 2 });
    }
  };
  put(undefined, { x: 0, y: 0 });
  return positions;
}

function arrange(items: Item[], edges: { source: string; destination: string }[], how: How): Arranged {
  const linked = new Set(edges.flatMap(({ source, destination }) => (source === destination ? [] : [source, destination])));
  const connected = items.filter((item) => linked.has(item.id));
  const alone = items.filter((item) => !linked.has(item.id));
  const main = connected.length === 0 ? undefined : arrangeConnected(connected, dedupe(edges), how);
  if (alone.length === 0) return main ?? { positions: new Map(), width: 0, height: 0 };
  const rest = shelve(alone, main ? Math.max(main.width, 420) : undefined);
  if (!main) return rest;
  const positions = new Map(main.positions);
  for (const [id, { x, y }] of rest.positions) positions.set(id, { x, y: y + main.height + NODE_GAP * 2 });
  return { positions, width: Math.max(main.width, rest.width), height: main.height + NODE_GAP * 2 + rest.height };
}

function dedupe(edges: { source: string; destination: string }[]): { source: string; destination: string }[] {
  const seen = new Map<string, { source: string; destination: string }>();
  for (const edge of edges) if (edge.source !== edge.destination) seen.set(`${edge.source}\n${edge.destination}`, edge);
  return [...seen.values()];
}

function arrangeConnected(items: Item[], edges: { source: string; destination: string }[], how: How): Arranged {
  if (items.length > RANKED_NODES || edges.length > how.rankedEdges) return byForce(items, edges, how.rankedEdges === RANKED_EDGES_OF_LARGE);
  const ranked = byRank(items, edges, how.direction);
  const aspect = ranked.width / Math.max(1, ranked.height);
  if (items.length <= 8 || (aspect < 3.2 && aspect > 0.4)) return ranked;
  // A ribbon is unreadable at any zoom: keep its order, break it into shelves.
  const order = new Map([...ranked.positions].map(([id, p]) => [id, p.x * 1e5 + p.y]));
  return shelve([...items].sort((a, b) => order.get(a.id)! - order.get(b.id)!), undefined, RANK_GAP * 0.75);
}

function byRank(items: Item[], edges: { source: string; destination: string }[], direction: Direction): Arranged {
  const graph = new Graph();
  graph.setGraph({ rankdir: direction === 'down' ? 'TB' : 'LR', nodesep: NODE_GAP, ranksep: direction === 'down' ? RANK_GAP * 0.7 : RANK_GAP, edgesep: 14, ranker: items.length > 60 ? 'longest-path' : 'network-simplex' });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const { id, width, height } of items) graph.setNode(id, { width, height });
  for (const { source, destination } of edges) graph.setEdge(source, destination);
  dagreLayout(graph);
  const placed = new Map<string, Point>();
  for (const item of items) {
    const { x, y } = graph.node(item.id) as Point;
    placed.set(item.id, { x, y });
  }
  return normalise(items, placed);
}

function byForce(items: Item[], edges: { source: string; destination: string }[], quick: boolean): Arranged {
  // Start on a spiral, so that the same graph always gets the same layout.
  const nodes = items.map((item, i) => {
    const radius = 46 * Math.sqrt(i + 1);
    return { ...item, x: radius * Math.cos(i * 2.39996), y: radius * Math.sin(i * 2.39996) };
  });
  const links = edges.map(({ source, destination }) => ({ source, target: destination }));
  // The more lines between them, the more room they need to be told apart.
  const distance = 150 * Math.max(1, Math.min(2.2, Math.sqrt(edges.length / items.length / 4)));
  const simulation = forceSimulation(nodes)
    .force('charge', forceManyBody().strength(-420).distanceMax(900).theta(1.1))
    .force('link', forceLink<(typeof nodes)[number], (typeof links)[number]>(links).id((node) => node.id).distance(distance))
    .force('collide', forceCollide<(typeof nodes)[number]>((node) => Math.max(node.height, node.width * 0.56) + 6))
    .force('x', forceX(0).strength(0.03))
    .force('y', forceY(0).strength(0.06))
    .stop();
  const ticks = Math.max(30, Math.min(quick ? 50 : 120, Math.round(40_000 / items.length)));
  simulation.alphaDecay(1 - 0.001 ** (1 / ticks));
  simulation.tick(ticks);
  return normalise(items, new Map(nodes.map((node) => [node.id, { x: node.x, y: node.y }])));
}

/** Rows of about the given width, or as wide as 1.6 times their height. */
function shelve(items: Item[], width?: number, gap = NODE_GAP): Arranged {
  const area = items.reduce((sum, item) => sum + (item.width + gap) * (item.height + gap), 0);
  const widest = Math.max(...items.map((item) => item.width));
  const limit = Math.max(widest, width ?? Math.sqrt(area * 1.7));
  const placed = new Map<string, Point>();
  let x = 0;
  let y = 0;
  let row = 0;
  for (const item of items) {
    if (x > 0 && x + item.width > limit) {
      x = 0;
      y += row + gap;
      row = 0;
    }
    placed.set(item.id, { x: x + item.width / 2, y: y + item.height / 2 });
    x += item.width + gap;
    row = Math.max(row, item.height);
  }
  return normalise(items, placed);
}

/** Moves the upper left corner to the origin. */
function normalise(items: Item[], placed: Map<string, Point>): Arranged {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { id, width, height } of items) {
    const { x, y } = placed.get(id)!;
    left = Math.min(left, x - width / 2);
    right = Math.max(right, x + width / 2);
    top = Math.min(top, y - height / 2);
    bottom = Math.max(bottom, y + height / 2);
  }
  const positions = new Map([...placed].map(([id, { x, y }]) => [id, { x: x - left, y: y - top }]));
  return { positions, width: right - left, height: bottom - top };
}

/**
 * Places only the nodes that have no position yet; the others stay exactly where they are. A new node goes where a fresh
 * layout puts it relative to its placed companions, or to the nearest free spot beside that.
 */
export function place(input: LayoutInput, known: Positions): Positions {
  const target = layout(input);
  if (!input.nodes.some((node) => known[node.id])) return target;
  const result: Positions = {};
  for (const node of input.nodes) if (known[node.id]) result[node.id] = known[node.id]!;
  const missing = input.nodes.filter((node) => !known[node.id]);
  if (missing.length === 0) return result;

  const shiftOf = (ids: string[]): Point | undefined => {
    const kept = ids.filter((id) => known[id]);
    if (kept.length === 0) return undefined;
    const sum = kept.reduce((s, id) => ({ x: s.x + known[id]!.x - target[id]!.x, y: s.y + known[id]!.y - target[id]!.y }), { x: 0, y: 0 });
    return { x: sum.x / kept.length, y: sum.y / kept.length };
  };
  const everyone = shiftOf(input.nodes.map((node) => node.id))!;
  const obstacles: Rect[] = [];
  for (const node of input.nodes) if (result[node.id]) obstacles.push(rectOf(result[node.id]!, node.width, node.height, node.box));
  const fences = boxRects(input, result);
  const inside = insideOf(input);

  for (const node of missing) {
    const companions = input.nodes.filter((other) => other.box === node.box).map((other) => other.id);
    const shift = (node.box === undefined ? undefined : shiftOf(companions)) ?? everyone;
    const wish = { x: target[node.id]!.x + shift.x, y: target[node.id]!.y + shift.y };
    const at = freeSpot(wish, node, obstacles, fences, inside);
    result[node.id] = { x: Math.round(at.x), y: Math.round(at.y) };
    obstacles.push(rectOf(at, node.width, node.height, node.box));
  }
  return result;
}

interface Rect {
  left: number;
  top: number;
  right: number;
  bottom: number;
  box: string | undefined;
}

function rectOf({ x, y }: Point, width: number, height: number, box: string | undefined): Rect {
  return { left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2, box };
}

function boxRects(input: LayoutInput, placed: Positions): Rect[] {
  const parents = new Map(input.boxes.map((box) => [box.id, box.parent]));
  const rects = new Map<string, Rect>();
  for (const node of input.nodes) {
    const at = placed[node.id];
    if (!at) continue;
    let { left, right, top, bottom } = rectOf(at, node.width, node.height, node.box);
    for (let id = node.box; id !== undefined && parents.has(id); id = parents.get(id)) {
      [left, right, top, bottom] = [left - BOX_PADDING.x, right + BOX_PADDING.x, top - BOX_PADDING.top, bottom + BOX_PADDING.bottom];
      const box = rects.get(id);
      if (!box) rects.set(id, { left, right, top, bottom, box: id });
      else Object.assign(box, { left: Math.min(box.left, left), right: Math.max(box.right, right), top: Math.min(box.top, top), bottom: Math.max(box.bottom, bottom) });
    }
  }
  return [...rects.values()];
}

function freeSpot(wish: Point, node: LayoutNode, obstacles: Rect[], fences: Rect[], inside: (box: string | undefined, outer: string) => boolean): Point {
  const stepX = node.width / 2 + NODE_GAP;
  const stepY = node.height + NODE_GAP * 0.6;
  const free = (at: Point) => {
    const own = rectOf(at, node.width + NODE_GAP * 0.8, node.height + NODE_GAP * 0.5, node.box);
    return !obstacles.some((other) => overlap(own, other)) && !fences.some((fence) => !inside(node.box, fence.box!) && overlap(own, fence));
  };
  // Rings of candidates, nearest first; below before above, so that boxes rather grow downwards.
  for (let ring = 0; ring < 40; ring++) {
    for (const [dx, dy] of ringOf(ring)) {
      const at = { x: wish.x + dx * stepX, y: wish.y + dy * stepY };
      if (free(at)) return at;
    }
  }
  const lowest = Math.max(...obstacles.map((rect) => rect.bottom));
  return { x: wish.x, y: lowest + stepY };
}

function ringOf(ring: number): [number, number][] {
  if (ring === 0) return [[0, 0]];
  const cells: [number, number][] = [];
  for (let i = -ring; i <= ring; i++) cells.push([i, ring], [i, -ring]);
  for (let i = -ring + 1; i < ring; i++) cells.push([ring, i], [-ring, i]);
  return cells.sort((a, b) => Math.hypot(...a) - Math.hypot(...b) || b[1] - a[1]);
}

function overlap(a: Rect, b: Rect): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
