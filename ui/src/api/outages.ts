import { useLatest, useRange, useRanged } from './queries';
import type { Outage } from './types';

export interface Outages {
  outages: Outage[];
}

/** The outages of the chosen time range. */
export function useOutages() {
  const range = useRange();
  return useRanged<Outages>('/outages', {}, { range, everyMs: 1500 });
}

/** Every outage that the server remembers, newest first; for the scrubber and the list. */
export function useAllOutages() {
  return useLatest<Outages>('/outages', { limit: 500 }, { everyMs: 3000 });
}

export function outageTone(outage: Outage): 'failing' | 'degraded' | 'idle' {
  if (outage.state !== 'open') return 'idle';
  return outage.severity === 'critical' ? 'failing' : 'degraded';
}
