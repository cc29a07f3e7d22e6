import type { APICaller, APIEndpoint, GraphEdge } from '../api/types';

export type CodeClass = 'ok' | 'redirect' | 'client' | 'server' | 'none';

/** The classes of HTTP statuses in the order in which a bar shows them. */
export const CODE_CLASSES: Record<CodeClass, string> = { ok: '2xx', redirect: '3xx', client: '4xx', server: '5xx', none: 'no answer' };

export function codeClass(code: string): CodeClass {
  switch (code[0]) {
    case '5': return 'server';
    case '4': return 'client';
    case '3': return 'redirect';
    case '0': return 'none';
    default: return 'ok';
  }
}

/** Requests by class, and the codes of each: [["ok", 247, "200 × 247"], …], those without any left out. */
export function codeParts(byCode: Record<string, number>): { of: CodeClass; count: number; text: string }[] {
  const parts = (Object.keys(CODE_CLASSES) as CodeClass[]).map((of) => ({ of, count: 0, text: [] as string[] }));
  for (const [code, count] of Object.entries(byCode).sort(([a], [b]) => Number(a) - Number(b))) {
    const part = parts.find((one) => one.of === codeClass(code))!;
    part.count += count;
    part.text.push(`${code === '0' ? 'no answer' : code} × ${count.toLocaleString('en-US')}`);
  }
  return parts.filter((part) => part.count > 0).map((part) => ({ ...part, text: part.text.join(', ') }));
}

export function endpointKey(endpoint: APIEndpoint): string {
  return `${endpoint.method} ${endpoint.namespace}/${endpoint.service}${endpoint.path}`;
}

export function serviceName({ namespace, service }: APIEndpoint): string {
  return namespace ? `${namespace}/${service}` : service;
}

export function callerName({ namespace, name }: { namespace: string; name: string }): string {
  return namespace ? `${namespace}/${name}` : name;
}

/** What a search field picks: every word in method, path, service or a caller's name. */
export function searchEndpoints(endpoints: APIEndpoint[], text: string): APIEndpoint[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return endpoints;
  return endpoints.filter((endpoint) => {
    const whole = `${endpoint.method} ${serviceName(endpoint)} ${endpoint.path} ${endpoint.callers.map(callerName).join(' ')}`.toLowerCase();
    return words.every((word) => whole.includes(word));
  });
}

export type Order = 'errors' | 'latency' | 'rate' | 'path';

/** The columns that sort the matrix as well as the table. */
export function sortEndpoints(endpoints: APIEndpoint[], order: Order): APIEndpoint[] {
  const value: Record<Order, (endpoint: APIEndpoint) => number> = {
    errors: (endpoint) => endpoint.requests.errors,
    latency: (endpoint) => endpoint.duration_ms['p95'] ?? 0,
    rate: (endpoint) => endpoint.requests.total,
    path: () => 0,
  };
  const of = value[order];
  return endpoints.toSorted((a, b) => of(b) - of(a) || serviceName(a).localeCompare(serviceName(b)) || a.path.localeCompare(b.path) || a.method.localeCompare(b.method));
}

export interface Matrix {
  /** Names of callers, those with the most requests first. */
  callers: { key: string; name: string; namespace: string }[];
  rows: { endpoint: APIEndpoint; cells: (APICaller | undefined)[] }[];
  /** How many callers and endpoints found no room. */
  moreCallers: number;
  moreRows: number;
}

/** Who calls what: a row for each endpoint, in the order given, a column for each caller. */
export function matrixOf(endpoints: APIEndpoint[], mostRows: number, mostCallers: number): Matrix {
  const rows = endpoints.filter((endpoint) => endpoint.requests.total > 0);
  const totals = new Map<string, { caller: APICaller; requests: number }>();
  for (const { callers } of rows) {
    for (const caller of callers) {
      const key = callerName(caller);
      const total = totals.get(key);
      if (total) total.requests += caller.requests;
      else totals.set(key, { caller, requests: caller.requests });
    }
  }
  const all = [...totals].sort(([a, x], [b, y]) => y.requests - x.requests || a.localeCompare(b));
  const callers = all.slice(0, mostCallers).map(([key, { caller }]) => ({ key, name: caller.name, namespace: caller.namespace }));
  return {
    callers,
    rows: rows.slice(0, mostRows).map((endpoint) => {
      const by = new Map(endpoint.callers.map((caller) => [callerName(caller), caller]));
      return { endpoint, cells: callers.map(({ key }) => by.get(key)) };
    }),
    moreCallers: Math.max(0, all.length - mostCallers),
    moreRows: Math.max(0, rows.length - mostRows),
  };
}

/** How the requests of some edges were answered, and who tells. */
export interface Answers {
  codes: Record<string, number>;
  /** Envoy's response flags, the most frequent first. */
  flags: [string, number][];
  sources: string[];
}

export function answersOf(edges: Pick<GraphEdge, 'requests'>[]): Answers {
  const codes: Record<string, number> = {};
  const flags: Record<string, number> = {};
  const add = (to: Record<string, number>, from: Record<string, number> = {}) => {
    for (const [name, n] of Object.entries(from)) to[name] = (to[name] ?? 0) + n;
  };
  for (const { requests } of edges) {
    add(codes, requests.by_code);
    add(flags, requests.by_flag);
  }
  return {
    codes,
    flags: Object.entries(flags).sort(([a, x], [b, y]) => y - x || a.localeCompare(b)),
    sources: [...new Set(edges.map(({ requests }) => requests.source ?? '').filter(Boolean))],
  };
}

const SOURCES: Record<string, string> = {
  waypoint_log: 'a waypoint’s log', gateway_log: 'a gateway’s log', waypoint_metrics: 'a waypoint’s metrics', waypoint_spans: 'a waypoint’s spans', spans: 'the applications’ spans',
};

export function requestSource(source: string): string {
  return SOURCES[source] ?? source;
}

/** Envoy's response flags in words (its documentation of access logs). */
const FLAGS: Record<string, string> = {
  DC: 'the client left', DF: 'the name could not be resolved', DI: 'delayed by fault injection', DO: 'overload: not accepted', DPE: 'the client broke the protocol', DR: 'the client reset it',
  DT: 'took longer than allowed', FI: 'aborted by fault injection', IH: 'a header that is not allowed', LH: 'failed health check', LR: 'reset by the proxy', NC: 'no such cluster', NR: 'no route',
  OM: 'overload manager', RL: 'rate limited', RLSE: 'the rate limiter failed', SI: 'idle for too long', UAEX: 'denied by the authorization service', UC: 'the server cut the connection',
  UF: 'the connection to the server failed', UH: 'no healthy server', UMSDR: 'stream took too long', UO: 'circuit breaker open', UPE: 'the server broke the protocol', UR: 'the server reset it',
  URX: 'all retries failed', UT: 'the server did not answer in time',
};

export function flagText(flag: string): string {
  return FLAGS[flag] ?? '';
}
