import type { GraphEdge, Health } from '../api/types';
import { worst } from './health';

/** What one drawn edge says: the sum of the API's edges between the same two nodes. */
export interface EdgeMetrics {
  health: Health;
  /** Connections. */
  opened: number;
  closed: number;
  failed: number;
  active: number;
  connectionRate: number;
  /** Requests; total is 0 where only connections are seen. */
  requests: number;
  errors: number;
  /** Requests that a policy did not let pass; they are no errors. */
  denied: number;
  requestRate: number;
  /** Requests or connections a second, whichever is more: denied connections carry no request, pooled ones carry many. */
  rate: number;
  /** The worse of failed connections and requests that failed or were denied, as a fraction; undefined without either. */
  failureShare: number | undefined;
  failures: Record<string, number>;
  sent: number;
  received: number;
  bytesPerSecond: number;
  p50: number | undefined;
  p90: number | undefined;
  p95: number | undefined;
  p99: number | undefined;
  /** True when all of it is mutual TLS, false when some is plaintext, undefined when nothing says. */
  mtls: boolean | undefined;
  protocols: string[];
  services: string[];
  ports: number[];
  waypoints: string[];
}

/** The length of what a graph counts. */
export function secondsOf(graph: { start: string; end: string }): number {
  return Math.max(1, (Date.parse(graph.end) - Date.parse(graph.start)) / 1000);
}

/** A range's start, or where what is known begins if that is later. */
export function covered({ start, end }: { start: string; end: string }, known: string | null | undefined): string {
  const began = Date.parse(known ?? '');
  return began > Date.parse(start) && began < Date.parse(end) ? known! : start;
}

/** Rates are of what is counted, over the given time. */
export function metricsOf(edges: GraphEdge[], seconds: number): EdgeMetrics {
  const m: EdgeMetrics = {
    health: worst(edges.map((edge) => edge.health)),
    opened: 0, closed: 0, failed: 0, active: 0, connectionRate: 0, requests: 0, errors: 0, denied: 0, requestRate: 0, rate: 0, failureShare: undefined,
    failures: {}, sent: 0, received: 0, bytesPerSecond: 0, p50: undefined, p90: undefined, p95: undefined, p99: undefined,
    mtls: mutualTLS(edges),
    protocols: distinct(edges.map((edge) => edge.protocol)),
    services: distinct(edges.map((edge) => edge.service)),
    ports: distinct(edges.map((edge) => edge.port)),
    waypoints: distinct(edges.map((edge) => edge.waypoint)),
  };
  for (const { connections, requests, failures, bytes, duration_ms: duration } of edges) {
    m.opened += connections.opened;
    m.closed += connections.closed;
    m.failed += connections.failed;
    m.active += connections.active;
    m.requests += requests?.total ?? 0;
    m.errors += requests?.errors ?? 0;
    m.denied += requests?.denied ?? 0;
    m.sent += bytes.sent;
    m.received += bytes.received;
    for (const [type, n] of Object.entries(failures ?? {})) if (n > 0) m.failures[type] = (m.failures[type] ?? 0) + n;
    // Percentiles of several edges cannot be added: the slowest stands.
    for (const q of ['p50', 'p90', 'p95', 'p99'] as const) {
      const value = duration?.[q];
      if (typeof value === 'number' && value > 0) m[q] = Math.max(m[q] ?? 0, value);
    }
  }
  m.connectionRate = m.opened / Math.max(seconds, 1);
  m.requestRate = m.requests / Math.max(seconds, 1);
  m.rate = Math.max(m.requestRate, m.connectionRate);
  m.bytesPerSecond = (m.sent + m.received) / Math.max(seconds, 1);
  m.failureShare = worse(share(m.failed, Math.max(m.opened, m.closed)), share(m.errors + m.denied, m.requests));
  return m;
}

function mutualTLS(edges: GraphEdge[]): boolean | undefined {
  if (edges.some((edge) => edge.security === 'plaintext')) return false;
  return edges.some((edge) => edge.security === 'mutual_tls') ? true : undefined;
}

/** Connections and requests that did not go well. */
export function lost(m: EdgeMetrics): number {
  return m.failed + m.errors + m.denied;
}

export function share(part: number, total: number): number | undefined {
  return total > 0 ? Math.min(1, part / total) : undefined;
}

function worse(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined ? b : b === undefined ? a : Math.max(a, b);
}

function distinct<T>(values: (T | undefined)[]): T[] {
  return [...new Set(values.filter((value): value is T => value !== undefined && value !== '' && value !== 0))];
}
