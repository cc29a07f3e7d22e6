import { describe, expect, it } from 'vitest';

import type { Outage } from '../api/types';
import { byUrgency, localised, outageAt, summaryOf } from './outages';
import { clock } from './time';

const outage = (patch: Partial<Outage>): Outage => ({
  id: 'a', state: 'open', kind: 'policy_denied', severity: 'critical', summary: 'checkout → payment fails since 02:51:07: a policy denies it.',
  root: { type: 'workload', namespace: 'billing', name: 'payment' }, started_at: '2026-01-01T02:51:07.5Z', detected_at: '2026-01-01T02:51:12Z', edges: [], candidates: [], impact: [], evidence: [], timeline: [], ...patch,
});
const now = Date.parse('2026-01-01T02:55:00Z');
const local = (time: string) => clock(Date.parse(time), now);

describe('the sentence of an outage', () => {
  it('has the local time', () => {
    expect(summaryOf(outage({}), now)).toBe(`checkout → payment fails since ${local('2026-01-01T02:51:07Z')}: a policy denies it.`);
  });

  it('is in the past once it is over', () => {
    const over = outage({ state: 'resolved', ended_at: '2026-01-01T02:52:11Z' });
    const when = `from ${local('2026-01-01T02:51:07Z')} to ${local('2026-01-01T02:52:11Z')}`;
    expect(summaryOf(over, now)).toBe(`checkout → payment failed ${when}: a policy denies it.`);
    expect(localised('node-b is down since 02:51:07: a → b fails.', over, now)).toBe(`node-b was down ${when}: a → b fails.`);
    expect(localised('a → b and 2 other edges are slow since 02:51:07: x.', over, now)).toBe(`a → b and 2 other edges were slow ${when}: x.`);
    expect(localised('fail-over → is fail now and then since 02:51:07, y', over, now)).toBe(`fail-over → is failed now and then ${when}, y`);
  });

  it('stays as it is where it says another time, or none', () => {
    for (const text of ['The certificate of x expires.', 'x fails since 02:51:09: y.']) expect(localised(text, outage({}), now)).toBe(text);
  });
});

it('takes an outage for open before it ended', () => {
  const over = outage({ state: 'resolved', ended_at: '2026-01-01T02:52:11Z' });
  expect(outageAt(over, now).state).toBe('resolved');
  expect(outageAt(over, Date.parse('2026-01-01T02:52:00Z'))).toEqual(outage({}));
});

it('sorts by urgency', () => {
  const [old, warning, young] = [
    outage({ id: 'old', state: 'resolved', ended_at: '2026-01-01T02:52:00Z' }), outage({ id: 'warning', severity: 'warning' }), outage({ id: 'young', started_at: '2026-01-01T02:54:00Z' }),
  ];
  expect([old, warning, young, outage({})].sort(byUrgency).map((one) => one.id)).toEqual(['young', 'a', 'warning', 'old']);
});
