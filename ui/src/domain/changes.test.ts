import { describe, expect, it } from 'vitest';

import type { Change } from '../api/types';
import { changeMarks } from './changes';

const change = (second: number, patch: Partial<Change> = {}): Change => ({
  time: new Date(second * 1000).toISOString(), observed_at: new Date(second * 1000).toISOString(), source: 'kubernetes', severity: 'info', reason: 'rollout', text: '', kind: 'Deployment', name: 'catalog-v1', ...patch,
});

describe('changeMarks', () => {
  it('makes one mark of what lies close together', () => {
    const marks = changeMarks([change(51, { severity: 'warning' }), change(50), change(10)], 0, 100_000, 0.05);
    expect(marks.map(({ from, changes, warning }) => [from, changes.length, warning])).toEqual([[10_000, 1, false], [50_000, 2, true]]);
  });

  it('leaves out what is outside, and what comes and goes by itself', () => {
    const routine = change(50, { kind: 'Pod', reason: 'created' });
    const unwell = change(60, { kind: 'Pod', reason: 'not_ready', severity: 'warning' });
    expect(changeMarks([change(-1), change(101), routine, unwell], 0, 100_000).map(({ from }) => from)).toEqual([60_000]);
  });
});
