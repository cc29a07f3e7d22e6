import type { ClockProblem } from '../api/types';
import { humanDuration } from './time';

/** How many nodes a line names. */
const NAMED = 3;

/** Which nodes' clocks are wrong, and by how much, in a line: "node-b is 10 min ahead, node-c is 2 min behind". */
export function clockLine(problems: ClockProblem[]): string {
  const named = problems.slice(0, NAMED).map(({ node, offset_seconds }) => `${node || 'a source without a node'} is ${humanDuration(Math.abs(offset_seconds))} ${offset_seconds > 0 ? 'ahead' : 'behind'}`);
  const more = problems.length - named.length;
  return named.join(', ') + (more > 0 ? ` and ${more} more` : '');
}
