import { describe, expect, it } from 'vitest';

import { layout, place, type LayoutInput, type LayoutNode, type Positions } from './layout';
import { BOX_PADDING } from './measure';

const node = (id: string, box?: string): LayoutNode => ({ id, width: 120, height: 34, box });

const shop: LayoutInput = {
  nodes: [node('loadgen', 'load'), node('frontend', 'shop'), node('cart', 'shop'), node('checkout', 'shop'), node('payment', 'billing'), node('mailer')],
  boxes: [
    { id: 'load', parent: undefined },
    { id: 'shop', parent: undefined },
    { id: 'billing', parent: undefined },
  ],
  edges: [
    { source: 'loadgen', destination: 'frontend' },
    { source: 'frontend', destination: 'cart' },
    { source: 'frontend', destination: 'checkout' },
    { source: 'checkout', destination: 'payment' },
    { source: 'checkout', destination: 'cart' },
    { source: 'checkout', destination: 'mailer' },
  ],
};

function bounds(input: LayoutInput, positions: Positions, box: string) {
  const inside = input.nodes.filter((n) => n.box === box);
  return {
    left: Math.min(...inside.map((n) => positions[n.id]!.x - n.width / 2)) - BOX_PADDING.x,
    right: Math.max(...inside.map((n) => positions[n.id]!.x + n.width / 2)) + BOX_PADDING.x,
    top: Math.min(...inside.map((n) => positions[n.id]!.y - n.height / 2)) - BOX_PADDING.top,
    bottom: Math.max(...inside.map((n) => positions[n.id]!.y + n.height / 2)) + BOX_PADDING.bottom,
  };
}

function overlapping(input: LayoutInput, positions: Positions): string[] {
  const found: string[] = [];
  for (const [i, a] of input.nodes.entries()) {
    for (const b of input.nodes.slice(i + 1)) {
      const [p, q] = [positions[a.id]!, positions[b.id]!];
      if (Math.abs(p.x - q.x) < (a.width + b.width) / 2 && Math.abs(p.y - q.y) < (a.height + b.height) / 2) found.push(`${a.id}/${b.id}`);
    }
  }
  return found;
}

describe('layout', () => {
  it('places every node, callers left of what they call, and no two over each other', () => {
    const at = layout(shop);
    expect(Object.keys(at).sort()).toEqual(shop.nodes.map((n) => n.id).sort());
    expect(at['loadgen']!.x).toBeLessThan(at['frontend']!.x);
    expect(at['frontend']!.x).toBeLessThan(at['checkout']!.x);
    expect(at['checkout']!.x).toBeLessThan(at['payment']!.x);
    expect(overlapping(shop, at)).toEqual([]);
  });

  it('keeps boxes apart', () => {
    const at = layout(shop);
    const [a, b] = [bounds(shop, at, 'shop'), bounds(shop, at, 'billing')];
    expect(a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom).toBe(false);
  });

  it('gives the same picture for the same graph', () => {
    expect(layout(shop)).toEqual(layout(structuredClone(shop)));
  });

  it('lays out boxes in boxes, and cycles', () => {
    const input: LayoutInput = {
      nodes: [node('a1', 'a'), node('a2', 'a'), node('b', 'ns'), node('lonely', 'ns')],
      boxes: [
        { id: 'ns', parent: undefined },
        { id: 'a', parent: 'ns' },
      ],
      edges: [
        { source: 'b', destination: 'a1' },
        { source: 'a1', destination: 'a2' },
        { source: 'a2', destination: 'b' },
        { source: 'b', destination: 'b' },
      ],
    };
    const at = layout(input);
    expect(Object.keys(at)).toHaveLength(4);
    expect(overlapping(input, at)).toEqual([]);
  });

  it('has nothing to do for an empty graph', () => {
    expect(layout({ nodes: [], boxes: [], edges: [] })).toEqual({});
  });
});

describe('place', () => {
  it('moves no node that has a position, and finds free places for new ones', () => {
    const before = layout(shop);
    const grown: LayoutInput = {
      ...shop,
      nodes: [...shop.nodes, node('shipping', 'shop'), node('redis', 'data'), node('batch')],
      boxes: [...shop.boxes, { id: 'data', parent: undefined }],
      edges: [...shop.edges, { source: 'checkout', destination: 'shipping' }, { source: 'cart', destination: 'redis' }, { source: 'batch', destination: 'cart' }],
    };
    const after = place(grown, before);
    for (const id of Object.keys(before)) expect(after[id]).toEqual(before[id]);
    expect(Object.keys(after)).toHaveLength(9);
    expect(overlapping(grown, after)).toEqual([]);
  });

  it('leaves the others where they are when a node goes', () => {
    const before = layout(shop);
    const shrunk = { ...shop, nodes: shop.nodes.filter((n) => n.id !== 'cart') };
    const after = place(shrunk, before);
    expect(after['cart']).toBeUndefined();
    expect(after['checkout']).toEqual(before['checkout']);
  });

  it('lays out anew when nothing is known', () => {
    expect(place(shop, {})).toEqual(layout(shop));
  });
});
