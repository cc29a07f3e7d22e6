import { useMemo } from 'react';

import { outageAt } from '../domain/outages';
import { useLatest, useRange, useRanged } from './queries';
import type { Chronic, Outage } from './types';

export interface Outages {
  outages: Outage[];
}

/** The outages of the chosen time range, as they stood at its end. */
export function useOutages() {
  const range = useRange();
  const result = useRanged<Outages>('/outages', {}, { range, everyMs: 1500 });
  const { at } = range;
  const data = useMemo(() => (result.data && at !== undefined ? { outages: result.data.outages.map((outage) => outageAt(outage, at)) } : result.data), [result.data, at]);
  return { ...result, data };
}

/** Every outage that the server remembers, newest first; for the scrubber and the list. */
export function useAllOutages() {
  return useLatest<Outages>('/outages', { limit: 500 }, { everyMs: 3000 });
}

/** What always fails for some, which is no outage. */
export function useChronic() {
  return useLatest<{ chronic: Chronic[]; total: number }>('/chronic', {}, { everyMs: 10_000 });
}

export function outageTone(outage: Outage): 'failing' | 'degraded' | 'idle' {
  if (outage.state !== 'open') return 'idle';
  return outage.severity === 'critical' ? 'failing' : 'degraded';
}
