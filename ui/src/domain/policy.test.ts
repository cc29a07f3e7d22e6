import { describe, expect, it } from 'vitest';

import { policySentences, type PolicyMatch } from './policy';

const group = (...rules: PolicyMatch[][]) => ({ rules: rules.map((matches) => ({ matches })) });
const REST = 'What no allowing policy lets through to what it selects is refused.';

describe('policySentences', () => {
  for (const [what, action, rules, sentences] of [
    ['an identity', 'DENY', [group([{ principals: [{ exact: 'cluster.local/ns/shop/sa/checkout' }] }])], ['Denies connections from identity shop/checkout.']],
    ['a namespace and a port', 'DENY', [group([{ namespaces: [{ exact: 'shop' }] }], [{ destinationPorts: [8080] }])], ['Denies connections from namespace shop to port 8080.']],
    ['fields of one match', 'DENY', [group([{ namespaces: [{ exact: 'shop' }], destinationPorts: [80, 8080] }])], ['Denies connections from namespace shop to ports 80 or 8080.']],
    ['what is excluded', 'DENY', [group([{ notNamespaces: [{ exact: 'shop' }, { prefix: 'team-' }] }])], ['Denies connections not from namespaces shop nor beginning with team-.']],
    ['several matches', 'DENY', [group([{ serviceAccounts: [{ namespace: 'shop', serviceAccount: 'cart' }] }, { namespaces: [{ exact: 'data' }] }])], ['Denies connections from service account shop/cart, or from namespace data.']],
    ['several matches and another rule', 'DENY', [group([{ namespaces: [{ exact: 'shop' }] }, { namespaces: [{ exact: 'data' }] }], [{ notDestinationPorts: [443] }])], ['Denies connections from namespace shop, or from namespace data, and to any port but 443.']],
    ['several groups', 'ALLOW', [group([{ namespaces: [{ exact: 'shop' }] }]), group([{ sourceIps: [{ address: 'CgAAAA==', length: 8 }] }])], ['Allows connections from namespace shop.', 'Allows connections from address 10.0.0.0/8.', REST]],
    ['another trust domain', 'DENY', [group([{ principals: [{ exact: 'other/ns/shop/sa/cart' }] }])], ['Denies connections from identity shop/cart of other.']],
    ['any identity', 'ALLOW', [group([{ principals: [{ presence: {} }] }])], ['Allows connections from any identity.', REST]],
    ['a single address of version 6', 'DENY', [group([{ sourceIps: [{ address: '/QAAAAAAAAAAAAAAAAAAAQ==', length: 128 }] }])], ['Denies connections from address fd00::1.']],
    ['a group without rules', 'DENY', [{}], ['Denies every connection.']],
    ['a match without fields', 'DENY', [group([{}])], ['Denies nothing: one of its conditions matches nothing.']],
    ['no groups, denying', 'DENY', null, ['Denies nothing: it has no rules.']],
    ['no groups, allowing', 'ALLOW', [], ['Allows nothing: it has no rules, so every connection to what it selects is refused.']],
    ['text', 'DENY', JSON.stringify([group([{ namespaces: [{ exact: 'shop' }] }])]), ['Denies connections from namespace shop.']],
  ] as [string, string, unknown, string[]][]) {
    it(`says ${what}`, () => expect(policySentences(action, rules)).toEqual(sentences));
  }

  it('has no words for what it does not know', () => {
    expect(policySentences('DENY', [group([{ extensions: [] } as unknown as PolicyMatch])])).toBeUndefined();
    expect(policySentences('AUDIT', [])).toBeUndefined();
    expect(policySentences('DENY', 'no JSON')).toBeUndefined();
    expect(policySentences('DENY', 7)).toBeUndefined();
  });
});
