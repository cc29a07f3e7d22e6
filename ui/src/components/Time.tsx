import { useSyncExternalStore } from 'react';

import { shownNow } from '../api/queries';
import { clock, fullTime, relative } from '../domain/time';

/** Whether times are shown as "3 min ago" or by the clock; a preference of the person, not of the page. */
const KEY = 'nephilia.times';
const listeners = new Set<() => void>();

function read(): 'relative' | 'absolute' {
  try {
    return localStorage.getItem(KEY) === 'absolute' ? 'absolute' : 'relative';
  } catch {
    return 'relative';
  }
}

let style = read();
let second = 0;

setInterval(() => {
  second++;
  for (const listener of listeners) listener();
}, 1000);

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useTimeStyle(): ['relative' | 'absolute', () => void] {
  const value = useSyncExternalStore(subscribe, () => style);
  return [
    value,
    () => {
      style = style === 'relative' ? 'absolute' : 'relative';
      try {
        localStorage.setItem(KEY, style);
      } catch {
        // The choice then lasts as long as the page.
      }
      for (const listener of listeners) listener();
    },
  ];
}

/** Renders again every second. */
export function useSecond(): number {
  return useSyncExternalStore(subscribe, () => second);
}

export function Time({ at, absolute }: { at: string | number | null | undefined; absolute?: boolean }) {
  useSecond();
  const [wanted] = useTimeStyle();
  const ms = typeof at === 'number' ? at : Date.parse(at ?? '');
  if (!Number.isFinite(ms)) return <span>–</span>;
  const now = shownNow();
  return (
    <time dateTime={new Date(ms).toISOString()} title={fullTime(ms)}>
      {absolute || wanted === 'absolute' ? clock(ms, now) : relative(ms, now)}
    </time>
  );
}
