import type { Point } from './layout';
import { BOX_FONT_SIZE, LABEL_SIZE, MARK_RADIUS, NODE_FONT_SIZE, NODE_ICON, NODE_WEIGHT, textWidth } from './measure';
import { pointAt, type Rect } from './route';
import type { Scene, SceneBox, SceneEdge, SceneNode } from './scene';

/**
 * What is written on a scene at one zoom. Writing never gets smaller than can be read: what finds no room at that size is
 * left out, what is unwell last of all, and hovering still says all of it.
 */
export interface Lettering {
  scale: number;
  boxes: Map<SceneBox, Writing>;
  nodes: Map<SceneNode, NodeWriting>;
  labels: Map<SceneEdge, Writing>;
}

export interface Writing {
  lines: string[];
  /** Middle of the lines; of what is not centred, the left end. */
  at: Point;
  size: number;
  centred: boolean;
  /** Whether it stands on other things than its own ground. */
  outside: boolean;
}

export interface NodeWriting {
  name: Writing | undefined;
  /** Where the sign of its health stands, and how much larger it is than at its own size. */
  mark: Point & { zoom: number };
}

/** The smallest sizes on the screen, in pixels. */
const MIN_NAME = 11;
const MIN_LABEL = 10;
const MIN_BOX = 11;
const MIN_MARK_RADIUS = 4.5;
/** From this far away names beside nodes would be a cloud of words; where there is a crowd, already a little closer. */
const NAME_SCALE = 0.16;
const CROWDED_NAME_SCALE = 0.38;
const LABEL_SCALE = 0.45;
const CROWDED_LABEL_SCALE = 0.62;
/** Below this a box's name has no room within its frame. */
export const BOX_NAME_SCALE = 0.62;
export const LINE_HEIGHT = 1.18;

/** Where on its edge a label may stand, the best first. */
const PLACES = [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82];
/** The share of a label that may be covered before it is left out. */
const COVERED = 0.12;
/** How many points of each edge tell where it runs, and what one of another edge's below a label counts, as a share of the label. */
const TRAIL = 24;
const CROSSED = 0.1;
const OVER_WRITING = 4;

export function letter(scene: Scene, scale: number, chosen: string | undefined): Lettering {
  const taken = new Taken();
  for (const node of scene.nodes) taken.add(node.rect);
  const boxes = new Map(scene.boxes.map((box) => [box, boxName(box, scale, taken)]));
  const nodes = nameNodes(scene, scale, chosen, taken);
  return { scale, boxes, nodes, labels: labelEdges(scene, scale, chosen, taken) };
}

function boxName({ view, label, rect }: SceneBox, scale: number, taken: Taken): Writing {
  if (scale >= BOX_NAME_SCALE || view.parent !== undefined) {
    const size = Math.max(BOX_FONT_SIZE, MIN_BOX / scale);
    const inside: Writing = { lines: scale >= BOX_NAME_SCALE ? [label] : [], at: { x: rect.left + 12, y: rect.top + 15 }, size, centred: false, outside: false };
    if (inside.lines.length > 0) taken.add(areaOf(inside));
    return inside;
  }
  const size = MIN_BOX / scale;
  const name = view.health === 'failing' ? `✕ ${label}` : view.health === 'degraded' ? `▲ ${label}` : label;
  const places = [rect.top - size * 0.7, rect.bottom + size * 0.7].map((y): Writing => ({ lines: [name], at: { x: (rect.left + rect.right) / 2, y }, size, centred: true, outside: true }));
  const best = places.find((writing) => taken.free(areaOf(writing))) ?? places[0]!;
  taken.add(areaOf(best));
  return best;
}

function nameNodes(scene: Scene, scale: number, chosen: string | undefined, taken: Taken): Map<SceneNode, NodeWriting> {
  const size = Math.max(NODE_FONT_SIZE, MIN_NAME / scale);
  const result = new Map<SceneNode, NodeWriting>();
  const outside: SceneNode[] = [];
  for (const node of scene.nodes) {
    const { rect, label } = node;
    const middle = { x: (rect.left + rect.right) / 2, y: (rect.top + rect.bottom) / 2 };
    const [width, room] = [textWidth(label, size, NODE_WEIGHT.unwell), rect.right - rect.left];
    const zoom = Math.max(1, MIN_MARK_RADIUS / scale / MARK_RADIUS);
    const name = { lines: [label], at: middle, size, centred: true, outside: false };
    if (width <= room - NODE_ICON - 4) {
      result.set(node, { name: { ...name, at: { x: rect.left + NODE_ICON, y: middle.y }, centred: false }, mark: { x: rect.left + NODE_ICON / 2 + 2, y: middle.y, zoom: 1 } });
    } else if (width <= room - 6) {
      // The name needs all of the node, and the sign moves to its corner.
      result.set(node, { name, mark: { x: rect.left + 2, y: rect.top + 2, zoom } });
    } else {
      result.set(node, { name: undefined, mark: { ...middle, zoom: Math.min(zoom, ((rect.bottom - rect.top) / 2 - 3) / MARK_RADIUS) } });
      outside.push(node);
    }
  }
  if (outside.length === 0 || scale < (scene.crowded ? CROWDED_NAME_SCALE : NAME_SCALE)) return result;
  const first = ({ view }: SceneNode) => (view.id === chosen ? 0 : view.health === 'failing' ? 1 : view.health === 'degraded' ? 2 : 3);
  for (const node of outside.sort((a, b) => first(a) - first(b) || (a.view.id < b.view.id ? -1 : 1))) {
    const { rect, label } = node;
    const [x, away, half] = [(rect.left + rect.right) / 2, size * 0.66, textWidth(label, size, 600) / 2];
    const y = (rect.top + rect.bottom) / 2;
    const places: Point[] = [{ x, y: rect.bottom + away }, { x, y: rect.top - away }, { x: rect.right + half + 3, y }, { x: rect.left - half - 3, y }];
    const found = places.map((at): Writing => ({ lines: [label], at, size, centred: true, outside: true })).find((writing) => taken.free(areaOf(writing)));
    if (!found) continue;
    result.get(node)!.name = found;
    taken.add(areaOf(found));
  }
  return result;
}

/** Puts every label where it covers the least of other writing and of nodes. Those of what is unwell come first and show anyway, unless the graph is far away. */
function labelEdges(scene: Scene, scale: number, chosen: string | undefined, taken: Taken): Map<SceneEdge, Writing> {
  const result = new Map<SceneEdge, Writing>();
  const nearest = scene.crowded ? CROWDED_LABEL_SCALE : LABEL_SCALE;
  const size = Math.max(LABEL_SIZE, MIN_LABEL / scale);
  const trails = scene.crowded ? undefined : trailsOf(scene);
  const first = ({ tone, view }: SceneEdge) => (view.id === chosen ? 0 : tone === 'failing' ? 1 : tone === 'degraded' ? 2 : 3);
  // Then in the order of their names, so that a label keeps its place while the others keep theirs.
  for (const edge of scene.edges.filter((one) => one.lines.length > 0 && (one.view.id === chosen || scale >= nearest)).sort((a, b) => first(a) - first(b) || (a.view.id < b.view.id ? -1 : 1))) {
    const rank = first(edge);
    const must = rank < 3;
    // Where not all of it finds room, its first line may.
    for (const lines of edge.lines.length > 1 ? [edge.lines, edge.lines.slice(0, 1)] : [edge.lines]) {
      const writing = { lines, at: edge.labelAt, size, centred: true, outside: true };
      const area = areaOf(writing);
      const whole = (area.right - area.left) * (area.bottom - area.top);
      let [at, least, hidden] = [edge.labelAt, Infinity, Infinity];
      for (const t of PLACES) {
        const point = pointAt(edge.curve, t);
        const place = areaOf({ ...writing, at: point });
        const covered = taken.covered(place);
        const cost = OVER_WRITING * covered + (trails ? crossings(trails, edge, place) * CROSSED * whole : 0);
        if (cost < least) [at, least, hidden] = [point, cost, covered];
        if (least === 0) break;
      }
      const last = lines.length === 1;
      if (hidden > COVERED * whole && !(must && last)) continue;
      result.set(edge, { ...writing, at });
      taken.add(areaOf({ ...writing, at }));
      break;
    }
  }
  return result;
}

function trailsOf(scene: Scene): Map<SceneEdge, Point[]> {
  return new Map(scene.edges.map((edge) => [edge, Array.from({ length: TRAIL + 1 }, (_, i) => pointAt(edge.curve, i / TRAIL))]));
}

/** How many points of other edges lie in an area: a label there could be theirs. */
function crossings(trails: Map<SceneEdge, Point[]>, own: SceneEdge, { left, right, top, bottom }: Rect): number {
  let points = 0;
  for (const [edge, trail] of trails) {
    if (edge === own || edge.bounds.right < left || edge.bounds.left > right || edge.bounds.bottom < top || edge.bounds.top > bottom) continue;
    for (const { x, y } of trail) if (x >= left && x <= right && y >= top && y <= bottom) points++;
  }
  return points;
}

export function areaOf({ lines, at, size, centred }: Writing): Rect {
  const width = Math.max(0, ...lines.map((text) => textWidth(text, size, 600))) + size * 0.4;
  const height = lines.length * size * LINE_HEIGHT;
  const left = centred ? at.x - width / 2 : at.x;
  return { left, right: left + width, top: at.y - height / 2, bottom: at.y + height / 2 };
}

/** What is covered already, in cells, so that a question looks only at what is near. */
class Taken {
  private static readonly CELL = 160;
  private readonly cells = new Map<string, Rect[]>();

  add(rect: Rect): void {
    for (const key of this.keys(rect)) {
      const list = this.cells.get(key);
      if (list) list.push(rect);
      else this.cells.set(key, [rect]);
    }
  }

  free(rect: Rect): boolean {
    return this.covered(rect) === 0;
  }

  covered(rect: Rect): number {
    let area = 0;
    for (const other of new Set([...this.keys(rect)].flatMap((key) => this.cells.get(key) ?? []))) {
      area += Math.max(0, Math.min(rect.right, other.right) - Math.max(rect.left, other.left)) * Math.max(0, Math.min(rect.bottom, other.bottom) - Math.max(rect.top, other.top));
    }
    return area;
  }

  private *keys({ left, right, top, bottom }: Rect): Generator<string> {
    const cell = (value: number) => Math.floor(value / Taken.CELL);
    for (let x = cell(left); x <= cell(right); x++) for (let y = cell(top); y <= cell(bottom); y++) yield `${x} ${y}`;
  }
}
