import { describe, expect, it } from 'vitest';

import type { APIEndpoint } from '../api/types';
import { answersOf, codeParts, endpointKey, matrixOf, searchEndpoints, sortEndpoints } from './endpoints';

const endpoint = (path: string, patch: Partial<APIEndpoint> = {}): APIEndpoint => ({
  namespace: 'shop', service: 'catalog', method: 'GET', path, requests: { total: 1, errors: 0, rate: 1, by_code: { 200: 1 } }, duration_ms: {}, callers: [], caller_count: 0,
  first_seen: '2026-01-01T00:00:00Z', last_seen: '2026-01-01T00:00:00Z', new: false, source: 'waypoint_log', ...patch,
});

const caller = (name: string, requests: number) => ({ namespace: 'shop', name, requests, errors: 0 });

describe('codeParts', () => {
  it('adds up each class and names its codes', () => {
    expect(codeParts({ 503: 2, 200: 1000, 0: 3, 201: 1, 404: 5 })).toEqual([
      { of: 'ok', count: 1001, text: '200 × 1,000, 201 × 1' },
      { of: 'client', count: 5, text: '404 × 5' },
      { of: 'server', count: 2, text: '503 × 2' },
      { of: 'none', count: 3, text: 'no answer × 3' },
    ]);
  });
});

describe('the list', () => {
  const list = [
    endpoint('/a', { requests: { total: 5, errors: 0, rate: 1, by_code: {} }, duration_ms: { p95: 9 } }),
    endpoint('/b', { requests: { total: 3, errors: 2, rate: 1, by_code: {} }, callers: [caller('cart', 3)] }),
  ];

  it('is searched by words', () => {
    expect(searchEndpoints(list, 'get cart')).toEqual([list[1]]);
    expect(searchEndpoints(list, ' ')).toEqual(list);
    expect(searchEndpoints(list, 'post')).toEqual([]);
  });

  it('is ordered', () => {
    expect(sortEndpoints(list, 'errors').map((one) => one.path)).toEqual(['/b', '/a']);
    expect(sortEndpoints(list, 'latency').map((one) => one.path)).toEqual(['/a', '/b']);
    expect(endpointKey(list[0]!)).toBe('GET shop/catalog/a');
  });
});

describe('matrixOf', () => {
  it('has the callers with the most requests', () => {
    const matrix = matrixOf(
      [
        endpoint('/a', { callers: [caller('web', 1), caller('cart', 2)] }),
        endpoint('/b', { callers: [caller('job', 9)] }),
        endpoint('/silent', { requests: { total: 0, errors: 0, rate: 0, by_code: {} } }),
        endpoint('/c'),
      ],
      2,
      2,
    );
    expect(matrix.callers.map((one) => one.key)).toEqual(['shop/job', 'shop/cart']);
    expect(matrix.rows.map(({ cells }) => cells.map((cell) => cell?.requests))).toEqual([[undefined, 2], [9, undefined]]);
    expect([matrix.moreCallers, matrix.moreRows]).toEqual([1, 1]);
  });
});

describe('answersOf', () => {
  it('adds up edges', () => {
    const requests = { total: 3, errors: 1, rate: 1 };
    expect(answersOf([{ requests: { ...requests, by_code: { 200: 2, 503: 1 }, by_flag: { UF: 1, URX: 1 }, source: 'waypoint_log' } }, { requests: { ...requests, by_code: { 200: 3 }, by_flag: { URX: 2 } } }, { requests }])).toEqual({
      codes: { 200: 5, 503: 1 }, flags: [['URX', 3], ['UF', 1]], sources: ['waypoint_log'],
    });
  });
});
