import { describe, expect, it } from 'vitest';

import type { Series } from '../api/types';
import { heatOf, heatOfSpans } from './heat';
import { routesOf } from './routes';

const series = (patch: Partial<Series>): Series => ({ metric: 'heatmap', unit: 's', promql: '', start: '', end: '', step: 10, series: [], ...patch });

describe('heatOf', () => {
  it('keeps every count, in rows of equal ratio', () => {
    const heat = heatOf(series({ series: [{ labels: {}, heat: [{ time: 1, buckets: [[0.001, 0.0011, 3], [0.9, 1, 1]] }, { time: 2, buckets: [[0.03, 0.033, 5]] }] }] }))!;
    expect(heat.times).toEqual([1, 2]);
    expect(heat.counts.map((column) => column.reduce((a, b) => a + b))).toEqual([4, 5]);
    expect(heat.counts[0]![0]).toBe(3);
    expect(heat.counts[0]!.at(-1)).toBe(1);
    expect(heat.max).toBe(5);
    expect(heat.bounds[1]! / heat.bounds[0]!).toBeCloseTo(heat.bounds[9]! / heat.bounds[8]!);
  });

  it('is nothing without counts', () => {
    expect(heatOf(undefined)).toBeUndefined();
    expect(heatOf(series({ series: [{ labels: {}, heat: [{ time: 1, buckets: [] }] }] }))).toBeUndefined();
  });
});

it('heatOfSpans leaves out durations that no span had', () => {
  const counts = { start: '2026-09-01T10:00:00Z', step_seconds: 60, bounds_ms: [1, 2, 4], spans: [[0, 3, 0, 0], [0, 0, 1, 0]], errors: [] };
  const heat = heatOfSpans(counts)!;
  expect(heat.bounds).toEqual([0.001, 0.002, 0.004]);
  expect(heat.counts).toEqual([[3, 0], [0, 1]]);
  expect(heat.max).toBe(3);
  expect(heat.times[0]).toBe(Date.parse('2026-09-01T10:01:00Z') / 1000);
  expect(heatOfSpans({ ...counts, spans: [[0, 0, 0, 1]] })!.bounds).toEqual([0.004, 0.008]);
  expect(heatOfSpans({ ...counts, spans: [[0, 0, 0, 0]] })).toBeUndefined();
});

it('routesOf puts the slowest route first', () => {
  const line = (service: string, route: string, value: number) => ({ labels: { destination_service: service, http_route: route }, points: [[1, value]] as [number, number][] });
  const rows = routesOf([
    series({ series: [line('a', '/x', 4), line('b', '/y', 2), line('c', '/z', 0)] }),
    series({ series: [line('b', '/y', 1)] }),
    undefined,
    series({ series: [line('a', '/x', 0.01), line('b', '/y', 0.2)] }),
    undefined,
  ]);
  expect(rows).toEqual([
    { service: 'b', route: '/y', requests: 2, failed: 0.5, p50: undefined, p95: 200, p99: undefined },
    { service: 'a', route: '/x', requests: 4, failed: 0, p50: undefined, p95: 10, p99: undefined },
  ]);
});
