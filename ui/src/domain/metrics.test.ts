import { describe, expect, it } from 'vitest';

import type { GraphEdge } from '../api/types';
import { edgeLabel } from '../graph/labels';
import { metricsOf } from './metrics';

const none = { p50: null, p90: null, p95: null, p99: null };

const edge = (patch: Partial<GraphEdge>): GraphEdge => ({
  id: '1', source: 'a', destination: 'b', service: 'b.shop.svc.cluster.local', port: 8080, protocol: 'http', security: 'mutual_tls', waypoint: '', health: 'healthy',
  connections: { opened: 10, closed: 10, failed: 0, active: 1, rate: 1 }, failures: {}, denied_by: {}, bytes: { sent: 1000, received: 3000 },
  requests: { total: 40, errors: 0, rate: 4 }, duration_ms: { p50: 5, p90: 9, p95: 12, p99: 30 }, connection_duration_ms: none, ...patch,
});

describe('metricsOf', () => {
  it('adds the edges between one pair: L4 and L7, every port', () => {
    const m = metricsOf(
      [edge({}), edge({ port: 9000, protocol: 'tcp', security: 'plaintext', health: 'failing', connections: { opened: 5, closed: 5, failed: 5, active: 0, rate: 0.5 }, failures: { connection_refused: 5 }, requests: { total: 0, errors: 0, rate: 0 }, duration_ms: none })],
      10,
    );
    expect(m).toMatchObject({ health: 'failing', opened: 15, failed: 5, requests: 40, rate: 4, bytesPerSecond: 800, p95: 12, mtls: false, protocols: ['http', 'tcp'], ports: [8080, 9000], failures: { connection_refused: 5 } });
    expect(m.failureShare).toBeCloseTo(5 / 15);
  });

  it('says the worse of failed connections and failed requests', () => {
    expect(metricsOf([edge({ requests: { total: 40, errors: 20, rate: 4 } })], 10).failureShare).toBeCloseTo(0.5);
  });

  it('has no share, percentile or encryption where nothing was measured', () => {
    const m = metricsOf([edge({ security: 'unknown', connections: { opened: 0, closed: 0, failed: 0, active: 1, rate: 0 }, requests: { total: 0, errors: 0, rate: 0 }, duration_ms: none })], 10);
    expect(m.failureShare).toBeUndefined();
    expect(m.p95).toBeUndefined();
    expect(m.mtls).toBeUndefined();
  });
});

describe('edgeLabel', () => {
  it('says what is asked for', () => {
    expect(edgeLabel(metricsOf([edge({})], 10), ['rate', 'p95', 'bytes'])).toBe('4/s\np95 12 ms · 400 B/s');
    expect(edgeLabel(metricsOf([edge({})], 10), [])).toBe('');
  });

  it('marks failure by a sign even when nothing is asked for', () => {
    const failing = edge({ health: 'failing', connections: { opened: 8, closed: 8, failed: 8, active: 0, rate: 1 } });
    expect(edgeLabel(metricsOf([failing], 10), [])).toBe('✕ 100% fail');
  });
});
