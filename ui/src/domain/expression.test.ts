import { describe, expect, it } from 'vitest';

import { ExpressionError, GRAPH_FIELDS, parseExpression, type Lookup, type Value } from './expression';

const lookupOf =
  (fields: Record<string, Value>): Lookup =>
  (field) =>
    fields[field];

const payment = lookupOf({ name: 'payment-v1', namespace: 'billing', app: 'payment', version: 'v1', health: 'failing', mesh: true, rate: 7 });
const edge = lookupOf({
  name: ['checkout-v1', 'payment-v1'], namespace: ['shop', 'billing'], source: 'checkout-v1', destination: 'payment-v1', health: 'degraded',
  protocol: 'http', mtls: false, p95: 120, failures: 0.06, failure: ['policy_denied'], port: 8080, bytes: 3e6,
});

describe('parseExpression', () => {
  it.each<[string, boolean, boolean]>([
    // expression, matches the node payment, matches the edge
    ['health=failing and namespace=billing', true, false],
    ['failing', true, false],
    ['rate>5', true, false],
    ['p95>100', false, true],
    ['p95>100ms', false, true],
    ['p95 > 1s', false, false],
    ['name~pay', true, true],
    ['name~^check', false, true],
    ['name!~pay', false, false],
    ['mtls=false', false, true],
    ['mtls', false, false],
    ['failures>5%', false, true],
    ['failures>=0.06', false, true],
    ['bytes>2MB', false, true],
    ['bytes>4mb', false, false],
    ['failure=policy_denied', false, true],
    ['port=8080 or version=v1', true, true],
    ['not mtls=true', true, true],
    ['mtls!=true', false, true],
    ['!(name=payment-v1)', false, false],
    ['name=pay*', true, true],
    ['namespace=billing health=failing', true, false],
    ['checkout', false, true],
    ['"payment-v1"', true, true],
    ['ns=shop && dst=payment-v1 || failing', true, true],
    ['HEALTH=Failing', true, false],
    ['mesh=true', true, false],
  ])('%s', (source, onNode, onEdge) => {
    const predicate = parseExpression(source, GRAPH_FIELDS)!;
    expect(predicate(payment)).toBe(onNode);
    expect(predicate(edge)).toBe(onEdge);
  });

  it('binds and closer than or, and not closest', () => {
    const predicate = parseExpression('health=failing or health=degraded and namespace=nowhere', GRAPH_FIELDS)!;
    expect(predicate(payment)).toBe(true);
    expect(predicate(edge)).toBe(false);
    expect(parseExpression('not health=failing and name~pay', GRAPH_FIELDS)!(edge)).toBe(true);
  });

  it('gives nothing for an empty expression', () => {
    expect(parseExpression('  ', GRAPH_FIELDS)).toBeUndefined();
  });

  it.each<[string, number, RegExp]>([
    ['health=', 7, /value is missing/],
    ['(a or b', 7, /"\)" is missing/],
    ['a)', 1, /does not belong/],
    ['colour=red', 0, /no field "colour"/],
    ['rate>fast', 5, /not a number/],
    ['name~[', 5, /regular expression/],
    ['a and', 5, /missing at the end/],
    ['=x', 0, /does not belong/],
    ['(((((((((((((((((((((((((((((((((a', 32, /nested/],
    ['x'.repeat(501), 500, /longer/],
  ])('says where %s is wrong', (source, position, message) => {
    const parse = () => parseExpression(source, GRAPH_FIELDS);
    expect(parse).toThrow(ExpressionError);
    expect(parse).toThrow(message);
    try {
      parse();
    } catch (error) {
      expect((error as ExpressionError).position).toBe(position);
    }
  });
});
