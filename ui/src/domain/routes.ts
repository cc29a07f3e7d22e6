import type { Series } from '../api/types';

export interface RouteRow {
  service: string;
  route: string;
  requests: number | undefined;
  /** A fraction of the requests. */
  failed: number | undefined;
  /** Milliseconds. */
  p50: number | undefined;
  p95: number | undefined;
  p99: number | undefined;
}

/** The newest point of requests, errors, p50, p95 and p99 by destination_service and http_route, the slowest route first. */
export function routesOf([requests, errors, p50, p95, p99]: (Series | undefined)[]): RouteRow[] {
  const newest = (series: Series | undefined) => {
    const values = new Map<string, number>();
    for (const line of series?.series ?? []) {
      const value = line.points?.findLast((point) => point[1] !== null)?.[1];
      if (typeof value === 'number') values.set(`${line.labels['destination_service'] ?? ''}\n${line.labels['http_route'] ?? ''}`, value);
    }
    return values;
  };
  const [rates, failures, q50, q95, q99] = [newest(requests), newest(errors), newest(p50), newest(p95), newest(p99)];
  const milliseconds = (seconds: number | undefined) => (seconds === undefined ? undefined : seconds * 1000);
  return [...rates]
    .filter(([, rate]) => rate > 0)
    .map(([key, rate]): RouteRow => {
      const [service = '', route = ''] = key.split('\n');
      return { service, route, requests: rate, failed: (failures.get(key) ?? 0) / rate, p50: milliseconds(q50.get(key)), p95: milliseconds(q95.get(key)), p99: milliseconds(q99.get(key)) };
    })
    .sort((a, b) => (b.p95 ?? 0) - (a.p95 ?? 0));
}
