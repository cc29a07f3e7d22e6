import { describe, expect, it } from 'vitest';

import type { Span, Trace } from '../api/types';
import { compareTraces, criticalPath, preciseTime, skewLines, treeOf } from './trace';

const at = (ms: number) => `2026-11-23T21:27:40.${String(Math.round(ms * 1e6)).padStart(9, '0')}Z`;

function span(id: string, parent: string, layer: Span['layer'], kind: Span['kind'], service: string, name: string, start: number, duration: number): Span {
  return { trace_id: 't', span_id: id, parent_id: parent, layer, kind, service, name, start: at(start), duration_ms: duration, status: 'unset', attributes: {} };
}

const trace: Trace = {
  trace_id: 't',
  spans: [
    span('server', 'client', 'l7', 'server', 'frontend', 'POST /checkout', 2, 45),
    span('client', '', 'l7', 'client', 'loadgen', 'POST /checkout', 0, 50),
    span('in', 'out', 'l4', 'server', 'frontend', 'inbound', 1.5, 47),
    span('out', 'client', 'l4', 'client', 'loadgen', 'outbound', 1, 48),
    span('pay', 'server', 'l7', 'client', 'frontend', 'POST /pay', 20, 25),
    span('cart', 'server', 'l7', 'client', 'frontend', 'GET /cart', 5, 10),
    span('beside', 'server', 'l7', 'client', 'frontend', 'GET /ads', 22, 5),
  ],
};

it('keeps fractions of milliseconds', () => {
  expect(preciseTime('2026-11-23T21:27:40.947189254Z') - Date.UTC(2026, 10, 23, 21, 27, 40)).toBeCloseTo(947.189254, 3);
  expect(preciseTime('2026-11-23T21:27:40Z')).toBe(Date.UTC(2026, 10, 23, 21, 27, 40));
});

describe('treeOf', () => {
  it('puts connections below the request that they carried, before what it called', () => {
    const tree = treeOf(trace);
    expect(tree.order.map((node) => `${'.'.repeat(node.depth)}${node.span.span_id}`)).toEqual(['client', '.out', '..in', '.server', '..cart', '..pay', '..beside']);
    expect(tree.duration).toBeCloseTo(50, 3);
  });

  it('takes orphans and spans in a ring for roots', () => {
    const ring: Trace = { trace_id: 't', spans: [span('a', 'b', 'l7', 'server', 's', 'a', 0, 1), span('b', 'a', 'l7', 'server', 's', 'b', 0, 1), span('c', 'gone', 'l7', 'server', 's', 'c', 0, 1), span('d', 'd', 'l7', 'server', 's', 'd', 0, 1)] };
    expect(treeOf(ring).order.map((node) => node.span.span_id).sort()).toEqual(['a', 'b', 'c', 'd']);
  });
});

describe('criticalPath', () => {
  it('covers the whole duration once, without what ran beside', () => {
    const path = criticalPath(treeOf(trace));
    expect(path.reduce((sum, { start, end }) => sum + end - start, 0)).toBeCloseTo(50, 3);
    expect(path.map(({ span: id }) => id)).toEqual(['client', 'server', 'cart', 'server', 'pay', 'server', 'client']);
    for (let i = 1; i < path.length; i++) expect(path[i]!.start).toBeCloseTo(path[i - 1]!.end, 3);
  });

  it('is empty for an empty trace', () => {
    expect(criticalPath(treeOf({ trace_id: 't', spans: [] }))).toEqual([]);
  });
});

describe('compareTraces', () => {
  it('pairs spans by what they are, and tells what only one has', () => {
    const other: Trace = { trace_id: 'u', spans: [...trace.spans.filter((one) => one.span_id !== 'beside'), span('ship', 'server', 'l7', 'client', 'frontend', 'POST /ship', 46, 1)] };
    const rows = compareTraces(trace, other);
    expect(rows.find((row) => row.name === 'GET /ads')).toMatchObject({ a: { count: 1, total: 5 }, b: undefined });
    expect(rows.find((row) => row.name === 'POST /ship')).toMatchObject({ a: undefined, b: { count: 1, total: 1 } });
    expect(rows.find((row) => row.name === 'POST /pay')).toMatchObject({ a: { total: 25 }, b: { total: 25 } });
    expect(rows[0]).toMatchObject({ service: 'loadgen', depth: 0 });
  });
});

it('says once for a service by how much its clock differs', () => {
  const skew = (service: string, skew_ms: number) => ({ span_id: `${service}${skew_ms}`, service, skew_ms });
  expect(skewLines({ ...trace, clock_skews: [skew('api', -390), skew('api', -400), skew('cart', 30)] })).toEqual([
    "the clock of api is 400 ms behind its caller's", "the clock of cart is 30 ms ahead of its caller's",
  ]);
  expect(skewLines(trace)).toEqual([]);
});
