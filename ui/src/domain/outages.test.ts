import { describe, expect, it } from 'vitest';

import type { Outage } from '../api/types';
import { blameText, byUrgency, localised, outageAt, summaryOf } from './outages';
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

  it('has the local times of an outage that is over', () => {
    const over = outage({ state: 'resolved', ended_at: '2026-01-01T02:52:11Z' });
    const [began, ended] = [local('2026-01-01T02:51:07Z'), local('2026-01-01T02:52:11Z')];
    expect(localised('node-b was down from 02:51:07 to 02:52:11: a → b failed.', over, now)).toBe(`node-b was down from ${began} to ${ended}: a → b failed.`);
    expect(localised('detected: node-b is down since 02:51:07: a → b fails.', over, now)).toBe(`detected: node-b is down since ${began}: a → b fails.`);
    expect(localised('a → b failed from 02:51:07 on: x. Nothing has been heard of it since.', over, now)).toBe(`a → b failed from ${began} on: x. Nothing has been heard of it since.`);
    expect(localised('a → b failed from 02:51:07: x.', over, now)).toBe(`a → b failed from ${began}: x.`);
  });

  it('has the days of what spans midnight', () => {
    const over = outage({ started_at: '2025-12-31T23:59:58Z', state: 'resolved', ended_at: '2026-01-01T00:01:00Z' });
    expect(localised('a failed from 00:00:01 to 00:01:00.', over, now)).toBe(`a failed from ${local('2026-01-01T00:00:01Z')} to ${local('2026-01-01T00:01:00Z')}.`);
  });

  it('stays as it is where it says no time', () => {
    for (const text of ['The certificate of x expires.', 'since-last-02:51:09 fails']) expect(localised(text, outage({}), now)).toBe(text);
  });
});

it('takes an outage for open before it ended', () => {
  const over = outage({ state: 'resolved', ended_at: '2026-01-01T02:52:11Z' });
  expect(outageAt(over, now).state).toBe('resolved');
  expect(outageAt(over, Date.parse('2026-01-01T02:52:00Z'))).toEqual(outage({}));
  const timeline = [{ time: '2026-01-01T02:51:12Z', text: 'detected: a → b fails since 02:51:07: denied (3 of 4). c depends on it.', source: 'outage_detector' }];
  const told = { ...over, summary: 'a → b failed from 02:51:07 to 02:52:11.', timeline };
  expect(outageAt(told, now).summary).toBe('a → b failed from 02:51:07 to 02:52:11.');
  expect(outageAt(told, Date.parse('2026-01-01T02:52:00Z')).summary).toBe('a → b fails since 02:51:07: denied. c depends on it.');
});

it('sorts by urgency', () => {
  const [old, warning, young] = [
    outage({ id: 'old', state: 'resolved', ended_at: '2026-01-01T02:52:00Z' }), outage({ id: 'warning', severity: 'warning' }), outage({ id: 'young', started_at: '2026-01-01T02:54:00Z' }),
  ];
  expect([old, warning, young, outage({})].sort(byUrgency).map((one) => one.id)).toEqual(['young', 'a', 'warning', 'old']);
});

it('says what a candidate adds', () => {
  const none = { failures: 0, seconds: 0 };
  expect(blameText({ failures: 12.2, seconds: 67.46 }, none)).toBe('12 failures and 67.5 s of its own, nothing explained');
  expect(blameText(none, { failures: 1, seconds: 0 })).toBe('nothing of its own, 1 failure explained');
  expect(blameText(undefined, undefined)).toBeUndefined();
});
