import type { Flow, Party } from '../api/types';
import type { Fields, Lookup } from './expression';

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

/** What the filter of flows may compare. */
export const FLOW_FIELDS: Fields = {
  name: 'pod, either side’s',
  from: 'client: pod or namespace/pod',
  to: 'server: pod or namespace/pod',
  namespace: 'either side’s',
  ip: 'address, either side’s',
  port: 'the server’s',
  service: 'host name that was asked for',
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
