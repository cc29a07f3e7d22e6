import type { Flow, Party } from '../api/types';

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
