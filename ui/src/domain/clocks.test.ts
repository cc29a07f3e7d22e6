import { describe, expect, it } from 'vitest';

import type { ClockProblem } from '../api/types';
import { clockLine } from './clocks';

const problem = (node: string, offset_seconds: number): ClockProblem => ({ node, kind: offset_seconds > 0 ? 'clock_ahead' : 'clock_behind', offset_seconds, text: '' });

describe('clockLine', () => {
  it.each([
    ['one ahead', [problem('node-b', 600)], 'node-b is 10 min ahead'],
    ['one behind, one of no node', [problem('', -90), problem('a', 61.4)], 'a source without a node is 1 min 30 s behind, a is 1 min 1 s ahead'],
    ['more than fit', ['a', 'b', 'c', 'd', 'e'].map((node) => problem(node, 3600)), 'a is 1 h ahead, b is 1 h ahead, c is 1 h ahead and 2 more'],
  ])('names %s', (_, problems, line) => {
    expect(clockLine(problems)).toBe(line);
  });
});
