import { useMemo } from 'react';

import { covered, secondsOf } from '../domain/metrics';
import type { Params } from './client';
import { useLive } from './live';
import { rangeParams, useRange, useRanged, type LiveOptions } from './queries';
import type { Graph } from './types';

/** The graph of a time range. Its start is where what is known begins, so that rates are those of the time that was seen. */
export function useGraph(params: Params, options: Omit<LiveOptions, 'large'>) {
  const result = useRanged<Graph>('/graph', params, { ...options, large: true });
  const known = useLive().status?.history?.start;
  const data = useMemo(() => result.data && { ...result.data, start: covered(result.data, known) }, [result.data, known]);
  return { ...result, data };
}

/** The workloads and what runs between them in the page's time range. */
export function useWorkloadGraph(options: Omit<LiveOptions, 'large' | 'range'> = {}) {
  return useGraph({ group_by: 'workload' }, { ...options, range: useRange() });
}

/** How much of the page's time range is known. */
export function useCoveredSeconds(): number {
  const range = useRange();
  const known = useLive().status?.history?.start;
  const { start, end } = rangeParams(range);
  return secondsOf({ start: covered({ start, end }, known), end });
}
