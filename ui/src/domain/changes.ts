import type { Change } from '../api/types';

/** What comes and goes by itself all day: it belongs on an object's own page, not among the marks of the whole mesh. */
const ROUTINE = new Set(['created', 'deleted', 'ready', 'rolled_out', 'relieved']);

export function isRoutine({ kind, reason, severity }: Change): boolean {
  return severity === 'info' && (kind === 'Pod' || kind === 'Node') && ROUTINE.has(reason);
}

/** Changes so close together on a track that one mark stands for them. */
export interface ChangeMark {
  /** When the first of them was, in unix milliseconds. */
  from: number;
  changes: Change[];
  warning: boolean;
}

/** Marks for [start, end], in the order of time; those nearer to each other than the given share of it are one. */
export function changeMarks(changes: Change[], start: number, end: number, share = 0.008): ChangeMark[] {
  const shown = changes
    .filter((change) => !isRoutine(change))
    .map((change) => ({ change, time: Date.parse(change.time) }))
    .filter(({ time }) => time >= start && time <= end)
    .sort((a, b) => a.time - b.time);
  const marks: ChangeMark[] = [];
  for (const { change, time } of shown) {
    const last = marks.at(-1);
    if (last && time - last.from < (end - start) * share) {
      last.changes.push(change);
      last.warning ||= change.severity === 'warning';
    } else marks.push({ from: time, changes: [change], warning: change.severity === 'warning' });
  }
  return marks;
}
