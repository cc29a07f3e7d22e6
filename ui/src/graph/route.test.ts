import { describe, expect, it } from 'vitest';

import type { GraphEdge } from '../api/types';
import { metricsOf } from '../domain/metrics';
import type { ViewEdge } from './model';
import { routeEdges, sample, type Rect } from './route';

const edge = (source: string, destination: string): ViewEdge => ({ id: `${source}→${destination}`, source, destination, parts: [], metrics: metricsOf([] as GraphEdge[], 1), dimmed: false });
const rect = (x: number, y: number): Rect => ({ left: x - 50, right: x + 50, top: y - 17, bottom: y + 17 });

function crosses(edges: ViewEdge[], rects: Record<string, Rect>): string[] {
  const curves = routeEdges(edges, new Map(Object.entries(rects)));
  return edges.flatMap(({ id, source, destination }) =>
    Object.entries(rects)
      .filter(([name, r]) => name !== source && name !== destination && sample(curves.get(id)!, 60).some(({ x, y }) => x > r.left && x < r.right && y > r.top && y < r.bottom))
      .map(([name]) => `${id} crosses ${name}`),
  );
}

describe('routeEdges', () => {
  it('leaves and enters on the sides that face each other', () => {
    const [curve] = [...routeEdges([edge('a', 'b')], new Map(Object.entries({ a: rect(0, 0), b: rect(400, 0) }))).values()];
    expect(curve![0]).toEqual({ x: 50, y: 0 });
    expect(curve![3]).toEqual({ x: 350, y: 0 });
  });

  it('goes around what lies between', () => {
    expect(crosses([edge('a', 'b')], { a: rect(0, 0), between: rect(200, 0), b: rect(400, 0) })).toEqual([]);
    expect(crosses([edge('a', 'b'), edge('b', 'a')], { a: rect(0, 0), between: rect(0, 90), b: rect(0, 180) })).toEqual([]);
  });

  it('spreads edges that meet on one side in the order of where they lead', () => {
    const curves = routeEdges([edge('a', 'low'), edge('a', 'high')], new Map(Object.entries({ a: rect(0, 0), low: rect(400, 100), high: rect(400, -100) })));
    expect(curves.get('a→high')![0].y).toBeLessThan(curves.get('a→low')![0].y);
  });

  it('leaves loops to others', () => {
    expect(routeEdges([edge('a', 'a')], new Map([['a', rect(0, 0)]])).size).toBe(0);
  });
});
