import { keepPreviousData, QueryClient, useQuery, useQueryClient, type UseQueryResult } from '@tanstack/react-query';
import { useEffect, useMemo, useRef } from 'react';

import { useLocation } from '../app/router';
import { DEFAULT_WINDOW, parseInstant, parseWindow, toRFC3339, type TimeRange } from '../domain/time';
import { APIError, get, type Params } from './client';
import { dataNow, useLive } from './live';

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 30_000,
      gcTime: 5 * 60_000,
      refetchOnWindowFocus: false,
      retry: (failures, error) => failures < 2 && (!(error instanceof APIError) || error.status === 0 || error.status === 429 || error.status >= 500),
      retryDelay: (attempt) => 500 * 2 ** attempt,
    },
  },
});

/** The time range that the URL holds. */
export function useRange(): TimeRange {
  const { query } = useLocation();
  const last = query.get('last');
  const at = query.get('at');
  return useMemo(() => ({ seconds: parseWindow(last) ?? DEFAULT_WINDOW, at: parseInstant(at) }), [last, at]);
}

/** The moment that the pages show: the one travelled to, else the data's now. What is "ago" is so from there. */
export function shownNow(): number {
  return parseInstant(new URLSearchParams(window.location.search).get('at')) ?? dataNow();
}

/** start and end of a range as parameters; a live range ends now. */
export function rangeParams(range: TimeRange): { start: string; end: string } {
  const end = range.at ?? dataNow();
  return { start: toRFC3339(end - range.seconds * 1000), end: toRFC3339(end) };
}

export interface LiveOptions {
  range: TimeRange;
  enabled?: boolean;
  /** Not oftener than this while live. */
  everyMs?: number;
  /** Keep showing the former answer while a new range loads. */
  keep?: boolean;
  /** Skip the deep comparison with the former answer; for large ones. */
  large?: boolean;
}

/**
 * A GET whose answer is for a time range. While the range is live it is fetched again whenever the event stream says that
 * something changed, at most every everyMs and never while the former fetch is under way.
 */
export function useRanged<T>(path: string, params: Params, options: LiveOptions): UseQueryResult<T, Error> {
  const { range, enabled = true, everyMs = 1000, keep = true, large = false } = options;
  const key = [path, params, range.seconds, range.at ?? 'live'];
  const result = useQuery<T, Error>({
    queryKey: key,
    queryFn: ({ signal }) => get<T>(path, { ...params, ...rangeParams(range) }, signal),
    enabled,
    ...(keep ? { placeholderData: keepPreviousData } : {}),
    structuralSharing: !large,
    staleTime: range.at === undefined ? 0 : 60_000,
  });
  useFollow(key, enabled && range.at === undefined, everyMs);
  return result;
}

/** A GET that has no time range of its own and follows the live data. */
export function useLatest<T>(path: string, params: Params = {}, options: { enabled?: boolean; everyMs?: number } = {}): UseQueryResult<T, Error> {
  const { enabled = true, everyMs = 5000 } = options;
  const key = [path, params];
  const result = useQuery<T, Error>({
    queryKey: key,
    queryFn: ({ signal }) => get<T>(path, params, signal),
    enabled,
    placeholderData: keepPreviousData,
  });
  useFollow(key, enabled, everyMs);
  return result;
}

function useFollow(key: unknown[], follow: boolean, everyMs: number): void {
  const client = useQueryClient();
  const { version } = useLive();
  const fetchedAt = useRef(0);
  const keyText = JSON.stringify(key);
  const seen = useRef({ key: keyText, version });
  useEffect(() => {
    if (!follow) return;
    if (seen.current.key !== keyText) {
      // The query itself fetches a new key.
      seen.current = { key: keyText, version };
      fetchedAt.current = Date.now();
      return;
    }
    if (seen.current.version === version) return;
    let timer: ReturnType<typeof setTimeout>;
    const refresh = () => {
      const queryKey = JSON.parse(keyText) as unknown[];
      if (client.isFetching({ queryKey, exact: true }) > 0) {
        timer = setTimeout(refresh, everyMs);
        return;
      }
      seen.current = { key: keyText, version };
      fetchedAt.current = Date.now();
      void client.invalidateQueries({ queryKey, exact: true });
    };
    timer = setTimeout(refresh, Math.max(0, fetchedAt.current + everyMs - Date.now()));
    return () => clearTimeout(timer);
  }, [client, keyText, follow, version, everyMs]);
}
