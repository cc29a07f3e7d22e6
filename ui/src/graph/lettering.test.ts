import { describe, expect, it } from 'vitest';

import type { Graph, GraphNode } from '../api/types';
import { layout, type Direction } from './layout';
import { letter, type Writing } from './lettering';
import { textWidth } from './measure';
import { buildView } from './model';
import { buildScene, overlap, type Scene } from './scene';
import { inputOf } from './useLayout';

const NAMES = ['load/loadgen', 'shop/frontend', 'shop/checkout', 'shop/catalog', 'shop/cart', 'shop/shipping', 'billing/payment', 'legacy/batch', 'legacy/mailer', 'data/postgres', 'data/redis'];
const CALLS = [
  ['load/loadgen', 'shop/frontend'], ['shop/frontend', 'shop/checkout'], ['shop/frontend', 'shop/catalog'], ['shop/frontend', 'shop/cart'], ['shop/checkout', 'shop/cart'],
  ['shop/checkout', 'shop/shipping'], ['shop/checkout', 'billing/payment'], ['shop/checkout', 'legacy/mailer'], ['legacy/batch', 'shop/catalog'], ['shop/catalog', 'data/postgres'], ['shop/cart', 'data/redis'],
] as const;

function sceneOf(direction: Direction): Scene {
  const failing = new Set(['shop/checkout', 'billing/payment']);
  const graph = {
    start: '2026-01-01T00:00:00Z', end: '2026-01-01T00:01:00Z',
    nodes: NAMES.map((id): GraphNode => {
      const [namespace, app] = id.split('/') as [string, string];
      return { id, type: 'workload', namespace, name: `${app}-v1`, app, version: 'v1', cluster: 'Kubernetes', in_mesh: true, health: failing.has(id) ? 'failing' : 'healthy' } as GraphNode;
    }),
    edges: CALLS.map(([source, destination]) => ({
      source, destination, service: '', port: 8080, protocol: 'http', security: 'mutual_tls', connections: { opened: 60, closed: 60, failed: 0, active: 0, rate: 1 }, failures: {}, bytes: { sent: 0, received: 0 },
      requests: { total: 60, errors: 0, rate: 1 }, duration_ms: { p50: 7, p90: 9, p95: 11.5, p99: 12 }, health: failing.has(destination) ? 'failing' : 'healthy',
    })),
  } as unknown as Graph;
  const view = buildView(graph, { boxing: 'namespace', folded: new Set(), find: undefined, hide: undefined, focus: undefined, depth: 1, outages: [] });
  return buildScene(view, layout({ ...inputOf(view), direction }), { labels: ['rate', 'p95'], width: 'none', colour: 'health', chosen: undefined });
}

const fitOf = ({ bounds }: Scene, width: number, height: number) => Math.min(width / (bounds.right - bounds.left), height / (bounds.bottom - bounds.top), 1);

function areaOf({ at, lines, size }: Writing) {
  const [x, y] = [Math.max(...lines.map((text) => textWidth(text, size, 600))) / 2, (lines.length * size) / 2];
  return { left: at.x - x, right: at.x + x, top: at.y - y, bottom: at.y + y };
}

describe('letter', () => {
  // What the page leaves for a graph beside its side panel, above it on a narrower screen, and on a phone.
  for (const [screen, direction, width, height, named] of [
    ['wide', 'right', 820, 680, NAMES.length],
    ['upright', 'down', 660, 380, NAMES.length],
    ['phone', 'down', 364, 400, NAMES.length - 2],
  ] as const) {
    const scene = sceneOf(direction);
    const scale = fitOf(scene, width, height);
    const lettering = letter(scene, scale, undefined);
    const names = [...lettering.nodes].flatMap(([node, { name }]) => (name ? [{ node, name }] : []));

    it(`writes names that can be read on a ${screen} screen`, () => {
      expect(names.length).toBeGreaterThanOrEqual(named);
      for (const { name } of names) expect(name.size * scale).toBeGreaterThan(10.99);
      for (const [, label] of lettering.labels) expect(label.size * scale).toBeGreaterThan(9.99);
    });

    it(`names what fails, whatever else finds no room, on a ${screen} screen`, () => {
      const written = names.map(({ node }) => node.label);
      expect(written).toContain('payment-v1');
      expect(written).toContain('checkout-v1');
    });

    it(`writes nothing over a name beside its node on a ${screen} screen`, () => {
      const outside = names.filter(({ name }) => name.outside).map(({ name }) => name);
      for (const [i, name] of outside.entries()) {
        for (const other of outside.slice(i + 1)) expect(overlap(areaOf(name), areaOf(other))).toBe(false);
        for (const node of scene.nodes) expect(overlap(areaOf(name), node.rect)).toBe(false);
      }
    });
  }

  it('writes no cloud of words from far away', () => {
    const lettering = letter(sceneOf('right'), 0.1, undefined);
    expect([...lettering.nodes.values()].filter(({ name }) => name)).toEqual([]);
    expect(lettering.labels.size).toBe(0);
  });

  it('labels what is chosen from any distance', () => {
    const scene = sceneOf('right');
    expect([...letter(scene, 0.2, scene.edges[0]!.view.id).labels.keys()].map((edge) => edge.view.id)).toEqual([scene.edges[0]!.view.id]);
  });
});
