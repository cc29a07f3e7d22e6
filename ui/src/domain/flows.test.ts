import { describe, expect, it } from 'vitest';

import type { Flow } from '../api/types';
import { parseExpression } from './expression';
import { FLOW_FIELDS, flowLookup, flowsToCSV, partyName, shortIdentity } from './flows';

const flow = (patch: Partial<Flow>): Flow => ({
  cursor: 1, time: '2026-01-01T00:00:00Z', direction: 'outbound', source: { namespace: 'shop', pod: 'cart-1', address: '10.0.0.1' }, destination: { address: '10.0.0.9', port: 443 },
  security: 'plaintext', verdict: 'forwarded', bytes_sent: 1, bytes_received: 2, duration_ms: 3.5, ...patch,
});

describe('flowsToCSV', () => {
  it('writes a header and a row for each flow', () => {
    const [header, row, end] = flowsToCSV([flow({})]).split('\r\n');
    expect(header).toMatch(/^time,node,direction,verdict,/);
    expect(row).toBe('2026-01-01T00:00:00Z,,outbound,forwarded,,,shop/cart-1,10.0.0.1,,,10.0.0.9,10.0.0.9,443,,,plaintext,1,2,3.5,');
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
