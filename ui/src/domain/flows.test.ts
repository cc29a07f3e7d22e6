import { describe, expect, it } from 'vitest';

import type { Flow } from '../api/types';
import { parseExpression } from './expression';
import { FLOW_FIELDS, flowFilter, flowLookup, flowsToCSV, pairFlows, partyName, shortIdentity } from './flows';

const flow = (patch: Partial<Flow>): Flow => ({
  cursor: 1, time: '2026-01-01T00:00:00Z', direction: 'outbound', protocol: 'tcp', source: { namespace: 'shop', pod: 'cart-1', address: '10.0.0.1' }, destination: { address: '10.0.0.9', port: 443 },
  security: 'plaintext', verdict: 'forwarded', bytes_sent: 1, bytes_received: 2, duration_ms: 3.5, ...patch,
});

describe('flowsToCSV', () => {
  it('writes a header and a row for each flow', () => {
    const [header, row, end] = flowsToCSV([flow({})]).split('\r\n');
    expect(header).toMatch(/^time,node,direction,verdict,/);
    expect(row).toBe('2026-01-01T00:00:00Z,,outbound,forwarded,,,shop/cart-1,10.0.0.1,,,10.0.0.9,10.0.0.9,443,,,tcp,,,,,,,,,,,,plaintext,1,2,3.5,');
    expect(end).toBe('');
  });

  it('quotes, and defuses formulas', () => {
    const csv = flowsToCSV([flow({ message: 'said "no", twice', service: '=HYPERLINK("http://x")' })]);
    expect(csv).toContain('"said ""no"", twice"');
    expect(csv).toContain(`"'=HYPERLINK(""http://x"")"`);
  });
});

it('names parties', () => {
  expect(partyName({ namespace: 'shop', pod: 'cart-1' })).toBe('shop/cart-1');
  expect(partyName({ address: '10.0.0.1' })).toBe('10.0.0.1');
  expect(partyName({})).toBe('unknown');
  expect(shortIdentity('spiffe://cluster.local/ns/shop/sa/cart')).toBe('shop/cart');
  expect(shortIdentity(undefined)).toBe('');
});

describe('the filter of flows', () => {
  const denied = flow({
    node: 'node-a', verdict: 'denied', reason: 'policy_denied', policy: 'billing/no-checkout', service: 'payment.billing.svc.cluster.local', security: 'mutual_tls', bytes_received: 20_000, duration_ms: 1500,
    source: { namespace: 'shop', pod: 'checkout-1', address: '10.0.0.1', identity: 'spiffe://cluster.local/ns/shop/sa/checkout' }, destination: { namespace: 'billing', pod: 'payment-1', address: '10.0.0.9', port: 8080 },
  });

  it.each([
    'checkout', 'from=shop/checkout-1', 'to~^payment', 'namespace=billing and not namespace=data', 'ip=10.0.0.9', 'port=8080', 'port>8000', 'service~payment', 'identity=shop/checkout', 'node=node-a', 'verdict=denied',
    'reason=policy_denied', 'policy=billing/*', 'mtls', 'mtls=true', 'direction=outbound', 'received>10kb', 'duration>1s', 'not (verdict=forwarded or port=443)',
  ])('%s matches', (text) => {
    expect(parseExpression(text, FLOW_FIELDS)!(flowLookup(denied))).toBe(true);
  });

  it.each(['cart', 'from~payment', 'verdict=forwarded', 'port!=8080', 'sent>1kb', 'duration<1s', 'mtls=false', 'message~x'])('%s does not', (text) => {
    expect(parseExpression(text, FLOW_FIELDS)!(flowLookup(denied))).toBe(false);
  });

  it('does not know the fields of the graph', () => {
    expect(() => parseExpression('p95>1', FLOW_FIELDS)).toThrow('there is no field "p95"');
  });
});

describe('what of a filter the server searches by', () => {
  it.each([
    ['verdict=denied and port=8080', { verdict: 'denied' }, ['verdict=denied']],
    ['from=shop/checkout-1 to~payment', { source: 'shop/checkout-1', destination: 'payment' }, ['from=shop/checkout-1', 'to~payment']],
    ['(namespace=billing and reason=policy_denied) and bytes', { namespace: 'billing', reason: 'policy_denied' }, ['namespace=billing', 'reason=policy_denied']],
    ['service=payment.billing.svc.cluster.local', { destination: 'payment.billing.svc.cluster.local' }, ['service=payment.billing.svc.cluster.local']],
    ['namespace=shop and namespace=billing', { namespace: 'shop' }, ['namespace=shop']],
    ['direction=inbound', { direction: 'inbound' }, ['direction=inbound']],
  ])('%s', (text, params, asked) => expect(flowFilter(text)).toMatchObject({ params, asked }));

  it.each([
    'verdict=denied or port=8080', 'not verdict=denied', 'verdict!=denied', 'verdict=wrong', 'from~"^checkout"', 'from=CHECKOUT', 'from=check*', 'from~10.0', 'from~fd00', 'checkout', 'port=8080', 'helth=x', '',
  ])('nothing of %s', (text) => expect(flowFilter(text)).toMatchObject({ params: {}, asked: [] }));

  it('leaves all of it to be looked at here as well', () => {
    const { picks } = flowFilter('verdict=denied and port=8080');
    expect(picks!(flowLookup(flow({ verdict: 'denied' })))).toBe(false);
    expect(flowFilter('verdict=').picks).toBeUndefined();
  });
});

describe('pairFlows', () => {
  const denied = (cursor: number, direction: 'inbound' | 'outbound', ms: number, patch: Partial<Flow> = {}) =>
    flow({ cursor, direction, verdict: 'denied', reason: 'policy_denied', time: new Date(1_790_000_000_000 + ms).toISOString(), ...(direction === 'inbound' ? { policy: 'billing/no-checkout' } : {}), ...patch });
  const cursors = (flows: Flow[]) => pairFlows(flows).map(({ flow: one, other }) => [one.cursor, other?.cursor]);

  it('puts both sides of a connection together, the better-informed first', () => {
    expect(cursors([denied(4, 'outbound', 20), denied(3, 'inbound', 19), denied(2, 'outbound', 1), denied(1, 'inbound', 0)])).toEqual([[3, 4], [1, 2]]);
  });

  it('pairs the nearest where several could be it', () => {
    expect(cursors([denied(1, 'inbound', 0), denied(2, 'inbound', 50), denied(3, 'outbound', 51), denied(4, 'outbound', 1)])).toEqual([[1, 4], [2, 3]]);
  });

  it.each([
    ['of another server', { destination: { address: '10.0.0.8', port: 443 } }],
    ['of another port', { destination: { address: '10.0.0.9', port: 80 } }],
    ['with other bytes', { bytes_sent: 9 }],
    ['that went well', { verdict: 'forwarded' as const }],
    ['much later', { time: new Date(1_790_000_005_000).toISOString() }],
    ['of the same side', { direction: 'inbound' as const }],
  ])('leaves alone one %s', (_, patch) => expect(cursors([denied(1, 'inbound', 0), denied(2, 'outbound', 1, patch)])).toEqual([[1, undefined], [2, undefined]]));

  it('takes the client’s record of what went well', () => {
    const well = (cursor: number, direction: 'inbound' | 'outbound', ms: number) => denied(cursor, direction, ms, { verdict: 'forwarded', reason: undefined, policy: undefined });
    expect(cursors([well(2, 'inbound', 1), well(1, 'outbound', 0)])).toEqual([[1, 2]]);
  });

  it('takes a named reason before a refused tunnel', () => {
    expect(cursors([denied(1, 'inbound', 0, { policy: undefined, reason: 'other' }), denied(2, 'outbound', 1, { reason: 'connection_timeout' })])).toEqual([[2, 1]]);
  });
});
