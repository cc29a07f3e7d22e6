import { keepPreviousData, useQueries } from '@tanstack/react-query';
import { useEffect, useRef } from 'react';

import { stepFor, type TimeRange } from '../domain/time';
import { get, type Params } from './client';
import { useLive } from './live';
import { queryClient, rangeParams } from './queries';
import type { Series } from './types';

/** A line, or with `by` several lines, of a chart. */
export interface SeriesQuery {
  metric: string;
  params?: Params;
}

const REFRESH_MS = 5000;

/** The points of several queries over one range; follows live data. */
export function useSeries(queries: SeriesQuery[], range: TimeRange, enabled = true): { data: (Series | undefined)[]; error: Error | null; pending: boolean } {
  const live = range.at === undefined;
  const results = useQueries({
    queries: queries.map(({ metric, params }) => ({
      queryKey: ['/series', metric, params ?? {}, range.seconds, range.at ?? 'live'],
      queryFn: ({ signal }: { signal: AbortSignal }) => get<Series>('/series', { metric, step: stepFor(range.seconds), ...params, ...rangeParams(range) }, signal),
      enabled,
      placeholderData: keepPreviousData,
      staleTime: live ? 0 : 60_000,
    })),
  });
  const { version } = useLive();
  const fetched = useRef(Date.now());
  useEffect(() => {
    if (!live || !enabled) return;
    const timer = setTimeout(() => {
      fetched.current = Date.now();
      for (const { metric, params } of queries) void queryClient.invalidateQueries({ queryKey: ['/series', metric, params ?? {}, range.seconds, 'live'], exact: true });
    }, Math.max(0, fetched.current + REFRESH_MS - Date.now()));
    return () => clearTimeout(timer);
    // The queries are literals of the caller; what they ask for is in the version's rhythm.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [version, live, enabled, range.seconds]);
  return {
    data: results.map((result) => result.data),
    error: results.find((result) => result.error)?.error ?? null,
    pending: results.some((result) => result.isPending && result.fetchStatus !== 'idle'),
  };
}
