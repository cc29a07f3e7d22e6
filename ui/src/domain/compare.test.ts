import { describe, expect, it } from 'vitest';

import type { Graph, GraphEdge } from '../api/types';
import { compareGraphs } from './compare';

const times = (p95: number | null) => ({ p50: null, p90: null, p95, p99: null });

const edge = (source: string, destination: string, patch: Partial<GraphEdge> = {}): GraphEdge => ({
  id: `${source} ${destination}`, source, destination, service: '', port: 8080, waypoint: '', failures: {}, denied_by: {}, connection_duration_ms: times(null), protocol: 'http', security: 'mutual_tls', health: 'healthy',
  connections: { opened: 10, closed: 10, failed: 0, active: 0, rate: 1 },
  bytes: { sent: 1, received: 1 }, requests: { total: 10, errors: 0, rate: 1 }, duration_ms: times(30), ...patch,
});

const graph = (names: string[], edges: GraphEdge[]): Graph => ({
  start: '2026-01-01T00:00:00Z', end: '2026-01-01T00:00:10Z', data_time: '2026-01-01T00:00:10Z', from: 'live', edges,
  nodes: names.map((name) => ({ id: name, type: 'workload', namespace: 'shop', name, app: name, version: 'v1', cluster: 'one', in_mesh: true, health: 'healthy', pods: [] })),
});

describe('compareGraphs', () => {
  it('finds nothing between a graph and itself', () => {
    const one = graph(['a', 'b'], [edge('a', 'b')]);
    expect(compareGraphs(one, structuredClone(one))).toEqual([]);
  });

  it('tells what appeared, vanished, got worse and better', () => {
    const before = graph(['a', 'b', 'old'], [
      edge('a', 'b'), edge('a', 'old'), edge('b', 'a', { health: 'failing', connections: { opened: 4, closed: 4, failed: 4, active: 0, rate: 1 } }), edge('b', 'b', { duration_ms: times(20) }),
    ]);
    const after = graph(['a', 'b', 'new'], [
      edge('a', 'b', { health: 'failing', connections: { opened: 4, closed: 4, failed: 4, active: 0, rate: 1 } }), edge('a', 'new'), edge('b', 'a'), edge('b', 'b', { duration_ms: times(90) }),
    ]);
    expect(compareGraphs(before, after).map(({ kind, id }) => `${kind} ${id}`)).toEqual([
      'worse a→b', 'worse b→b', 'vanished a→old', 'vanished old', 'appeared a→new', 'appeared new', 'better b→a',
    ]);
  });

  it('counts an edge without traffic as gone', () => {
    const quiet = edge('a', 'b', { health: 'idle', connections: { opened: 0, closed: 0, failed: 0, active: 0, rate: 0 }, bytes: { sent: 0, received: 0 }, requests: { total: 0, errors: 0, rate: 0 } });
    expect(compareGraphs(graph(['a', 'b'], [edge('a', 'b')]), graph(['a', 'b'], [quiet]))).toMatchObject([{ kind: 'vanished', id: 'a→b' }]);
  });
});
