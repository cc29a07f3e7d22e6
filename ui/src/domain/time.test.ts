import { describe, expect, it } from 'vitest';

import { formatWindow, humanDuration, parseInstant, parseWindow, relative, stepFor, ticksBetween } from './time';

describe('windows', () => {
  it.each<[string | null, number | undefined]>([
    ['5m', 300], ['90s', 90], ['1h30m', 5400], ['7d', 604800], ['0s', undefined], ['5', undefined], ['', undefined], [null, undefined], ['5x', undefined], ['999999d', undefined],
  ])('%s is %s seconds', (text, seconds) => expect(parseWindow(text)).toBe(seconds));

  it('are written as they are read', () => {
    for (const seconds of [1, 59, 60, 90, 300, 3599, 5400, 86400, 90061]) expect(parseWindow(formatWindow(seconds))).toBe(seconds);
  });
});

it('reads RFC 3339 and unix seconds', () => {
  expect(parseInstant('2026-11-23T21:26:20Z')).toBe(Date.UTC(2026, 10, 23, 21, 26, 20));
  expect(parseInstant('1795469180')).toBe(1795469180000);
  expect(parseInstant('1795469180.5')).toBe(1795469180500);
  for (const text of ['', 'yesterday', null, undefined]) expect(parseInstant(text)).toBeUndefined();
});

it.each<[number, string]>([
  [0, '0 s'], [42, '42 s'], [185, '3 min 5 s'], [600, '10 min'], [3725, '1 h 2 min'], [86400 * 3, '3 d'], [86400 * 800, '2 y 70 d'],
])('%i seconds are %s', (seconds, text) => expect(humanDuration(seconds)).toBe(text));

it('says how long ago, and how long until', () => {
  const now = Date.UTC(2026, 0, 1);
  expect(relative(now, now)).toBe('now');
  expect(relative(now - 5000, now)).toBe('5 s ago');
  expect(relative(now + 7_200_000, now)).toBe('in 2 h');
});

it('steps so that a chart has at most 75 points, and none finer than a scrape', () => {
  for (const seconds of [60, 300, 900, 3600, 21600, 86400, 604800]) {
    expect(seconds / stepFor(seconds)).toBeLessThanOrEqual(75);
    expect(stepFor(seconds)).toBeGreaterThanOrEqual(5);
  }
});

describe('ticks', () => {
  const start = Date.parse('2026-01-01T10:00:07Z');
  it.each([
    [60, 7, 10, 6],
    [300, 7, 60, 5],
    [3600, 7, 600, 6],
    [3600 * 24 * 40, 7, 7 * 86400, 5],
  ])('of %i seconds, at most %i, are %i seconds apart', (seconds, most, step, count) => {
    const ticks = ticksBetween(start, start + seconds * 1000, most);
    expect(ticks).toHaveLength(count);
    expect(ticks[1]! - ticks[0]!).toBe(step * 1000);
    expect(ticks[0]).toBeGreaterThanOrEqual(start);
    expect(ticks.at(-1)).toBeLessThanOrEqual(start + seconds * 1000);
  });

  it('of nothing are at most one', () => {
    expect(ticksBetween(start, start, 5).length).toBeLessThanOrEqual(1);
  });
});
