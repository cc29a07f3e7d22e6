import type { Flow, Party } from '../api/types';
import { parseExpression, type Comparison, type Fields, type Lookup, type Predicate } from './expression';

/** "shop/cart-84b1-a1", or the address of a party without a name. */
export function partyName(party: Party): string {
  if (!party.pod) return party.address ?? 'unknown';
  return party.namespace ? `${party.namespace}/${party.pod}` : party.pod;
}

/** "spiffe://cluster.local/ns/shop/sa/cart" gives "shop/cart". */
export function shortIdentity(identity: string | undefined): string {
  const match = /\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(identity ?? '');
  return match ? `${match[1]}/${match[2]}` : (identity ?? '');
}

/** What came of a name that was asked for, in words. */
export const LOOKUP_RESULTS: Record<string, string> = {
  answered: 'Known here', empty: 'No such record', forwarded: 'Resolved', no_records: 'No records', server_failure: 'Server failure', refused: 'Refused', timeout: 'Timed out', other: 'Failed',
};

export const isLookup = (flow: Flow) => flow.protocol === 'dns';

/** What the filter of flows may compare. */
export const FLOW_FIELDS: Fields = {
  name: 'pod, either side’s',
  from: 'client: pod or namespace/pod',
  to: 'server: pod or namespace/pod',
  namespace: 'either side’s',
  ip: 'address, either side’s',
  port: 'the server’s',
  service: 'host name that was asked for',
  protocol: 'tcp: a connection; http or grpc: a request; dns: a name asked for',
  query: 'the name that was asked for',
  result: 'of a name, as no_records or server_failure',
  method: 'of a request',
  path: 'of a request, without its query',
  status: 'of a request, 0 where nobody answered',
  flags: 'Envoy’s response flags, as UF,URX',
  route: 'that a request took, as shop.catalog.0',
  request: 'its ID',
  waypoint: 'that logged a request',
  identity: 'either side’s, as shop/checkout',
  node: 'whose ztunnel reported it',
  verdict: 'forwarded, denied or failed',
  reason: 'as policy_denied',
  policy: 'that denied it, as billing/no-checkout',
  mtls: 'true or false',
  direction: 'outbound: reported by the client’s side, inbound by the server’s',
  message: 'what the ztunnel said',
  sent: 'bytes, as 10kb',
  received: 'bytes',
  duration: 'in milliseconds, or as 2s',
};

/** A flow as an expression sees it. */
export function flowLookup(flow: Flow): Lookup {
  const { source, destination } = flow;
  const both = (of: (party: Party) => string | undefined) => [of(source), of(destination)].filter((value): value is string => !!value);
  const names = (party: Party) => [party.pod ?? party.address ?? '', partyName(party)];
  return (field) => {
    switch (field) {
      case 'name': return both((party) => party.pod ?? party.address);
      case 'from': return names(source);
      case 'to': return names(destination);
      case 'namespace': return both((party) => party.namespace);
      case 'ip': return both((party) => party.address);
      case 'port': return destination.port;
      case 'service': return flow.service;
      case 'protocol': return flow.protocol;
      case 'query': return flow.query_name;
      case 'result': return flow.query_result;
      case 'method': return flow.method;
      case 'path': return flow.path;
      case 'status': return flow.status;
      case 'flags': return flow.response_flags;
      case 'route': return flow.route;
      case 'request': return flow.request_id;
      case 'waypoint': return flow.waypoint;
      case 'identity': return both((party) => shortIdentity(party.identity));
      case 'node': return flow.node;
      case 'verdict': return flow.verdict;
      case 'reason': return flow.reason;
      case 'policy': return flow.policy;
      case 'mtls': return flow.security === 'mutual_tls';
      case 'direction': return flow.direction;
      case 'message': return flow.message;
      case 'sent': return flow.bytes_sent;
      case 'received': return flow.bytes_received;
      case 'duration': return flow.duration_ms;
      default: return undefined;
    }
  };
}

/** A filter's expression, and the part of it that the server searches by; what it leaves to do here is done on what comes. */
export interface FlowFilter {
  /** Undefined where everything is picked. */
  picks: Predicate | undefined;
  params: Partial<Record<ServerParam, string>>;
  /** The comparisons that the parameters stand for, as written: "verdict=denied". */
  asked: string[];
}

type ServerParam = 'source' | 'destination' | 'namespace' | 'direction' | 'verdict' | 'reason';

const NAME = /^[a-z0-9]([a-z0-9./-]*[a-z0-9])?$/;
/** Part of a pod's name that is no part of an address. */
const NAME_PART = /^[a-z0-9/-]*[g-z/-][a-z0-9/-]*$/;
const CHOICES: Partial<Record<ServerParam, RegExp>> = { direction: /^(inbound|outbound)$/, verdict: /^(forwarded|denied|failed)$/, reason: /^[a-z_]+$/ };

/** Reads a filter; one that does not parse picks everything, and its field says where it does not. */
export function flowFilter(text: string): FlowFilter {
  const filter: FlowFilter = { picks: undefined, params: {}, asked: [] };
  try {
    filter.picks = parseExpression(text, FLOW_FIELDS);
  } catch {
    return filter;
  }
  for (const comparison of filter.picks?.must ?? []) {
    const param = serverParam(comparison);
    if (!param || filter.params[param] !== undefined) continue;
    filter.params[param] = comparison.value;
    filter.asked.push(`${comparison.field}${comparison.op}${comparison.value}`);
  }
  return filter;
}

/** The parameter that selects at least what a comparison does; undefined where there is none. */
function serverParam({ field, op, value }: Comparison): ServerParam | undefined {
  const named = (op === '=' && NAME.test(value)) || (op === '~' && NAME_PART.test(value));
  switch (field) {
    case 'from': return named ? 'source' : undefined;
    case 'to': return named ? 'destination' : undefined;
    case 'service': return op === '=' && NAME.test(value) ? 'destination' : undefined;
    case 'namespace': return op === '=' && NAME.test(value) ? 'namespace' : undefined;
    case 'direction':
    case 'verdict':
    case 'reason': return op === '=' && CHOICES[field]!.test(value) ? field : undefined;
    default: return undefined;
  }
}

/** The two records of one connection, the better-informed one first; other is undefined where only one side reported. */
export interface FlowPair {
  flow: Flow;
  other: Flow | undefined;
}

/** How far apart two nodes' clocks and closes of one connection may be. */
const PAIR_MS = 2000;

/**
 * One entry for each connection and request, in the order of the list. The two sides name different sockets (each is one end of the
 * tunnel), so they pair by client, server and bytes, the nearest in time first.
 */
export function pairFlows(flows: Flow[]): FlowPair[] {
  const alike = new Map<string, { i: number; time: number }[]>();
  for (const [i, { source, destination, bytes_sent, bytes_received, verdict, time, protocol }] of flows.entries()) {
    if (protocol !== 'tcp') continue; // one proxy tells of a request
    const key = `${source.address} ${destination.address} ${destination.port} ${bytes_sent} ${bytes_received} ${verdict === 'forwarded'}`;
    const entry = { i, time: Date.parse(time) };
    const list = alike.get(key);
    if (list) list.push(entry);
    else alike.set(key, [entry]);
  }
  const candidates: { a: number; b: number; apart: number }[] = [];
  for (const list of alike.values()) {
    list.sort((x, y) => x.time - y.time);
    for (const [n, one] of list.entries()) {
      for (let m = n + 1; m < list.length && list[m]!.time - one.time <= PAIR_MS; m++) {
        const other = list[m]!;
        if (flows[one.i]!.direction !== flows[other.i]!.direction) candidates.push({ a: one.i, b: other.i, apart: other.time - one.time });
      }
    }
  }
  const partner = new Map<number, number>();
  for (const { a, b } of candidates.sort((x, y) => x.apart - y.apart)) {
    if (partner.has(a) || partner.has(b)) continue;
    partner.set(a, b).set(b, a);
  }
  const pairs: FlowPair[] = [];
  for (const [i, flow] of flows.entries()) {
    const other = partner.get(i);
    if (other === undefined) pairs.push({ flow, other: undefined });
    else if (i < other) pairs.push(informed(flow) >= informed(flows[other]!) ? { flow, other: flows[other] } : { flow: flows[other]!, other: flow });
  }
  return pairs;
}

/** The server's side knows by which policy, and the client's often only that the tunnel was refused; of what went well the client's knows how long it took. */
function informed({ policy, reason, direction, verdict }: Flow): number {
  return (policy ? 4 : 0) + (reason && reason !== 'other' && reason !== 'connect_failed' ? 2 : 0) + ((direction === 'outbound') === (verdict === 'forwarded') ? 1 : 0);
}

const COLUMNS: [string, (flow: Flow) => string | number | undefined][] = [
  ['time', (flow) => flow.time],
  ['node', (flow) => flow.node],
  ['direction', (flow) => flow.direction],
  ['verdict', (flow) => flow.verdict],
  ['reason', (flow) => flow.reason],
  ['policy', (flow) => flow.policy],
  ['source', (flow) => partyName(flow.source)],
  ['source_address', (flow) => flow.source.address],
  ['source_port', (flow) => flow.source.port],
  ['source_identity', (flow) => flow.source.identity],
  ['destination', (flow) => partyName(flow.destination)],
  ['destination_address', (flow) => flow.destination.address],
  ['destination_port', (flow) => flow.destination.port],
  ['destination_identity', (flow) => flow.destination.identity],
  ['service', (flow) => flow.service],
  ['protocol', (flow) => flow.protocol],
  ['query_name', (flow) => flow.query_name],
  ['query_type', (flow) => flow.query_type],
  ['query_result', (flow) => flow.query_result],
  ['method', (flow) => flow.method],
  ['path', (flow) => flow.path],
  ['status', (flow) => flow.status],
  ['response_flags', (flow) => flow.response_flags],
  ['details', (flow) => flow.details],
  ['route', (flow) => flow.route],
  ['request_id', (flow) => flow.request_id],
  ['waypoint', (flow) => flow.waypoint],
  ['security', (flow) => flow.security],
  ['bytes_sent', (flow) => flow.bytes_sent],
  ['bytes_received', (flow) => flow.bytes_received],
  ['duration_ms', (flow) => flow.duration_ms],
  ['message', (flow) => flow.message],
];

/** Flows as CSV (RFC 4180). A value that a spreadsheet would take for a formula is made text: names come from pods. */
export function flowsToCSV(flows: Flow[]): string {
  const cell = (value: string | number | undefined) => {
    let text = value === undefined ? '' : String(value);
    if (typeof value === 'string' && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  return [COLUMNS.map(([name]) => name), ...flows.map((flow) => COLUMNS.map(([, of]) => of(flow)))].map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n';
}
