import { useCallback, useEffect, useRef, useState } from 'react';

import { get, type Params } from '../api/client';
import { useLive } from '../api/live';
import { rangeParams, useRange } from '../api/queries';
import type { Flow, FlowList } from '../api/types';

/** The newest flows that are kept in the table, and how often it asks for more. */
export const KEPT = 20_000;
const FIRST = 1000;
const EVERY_MS = 700;

export interface Flows {
  flows: Flow[];
  error: Error | undefined;
  pending: boolean;
  /** How many arrived while paused. */
  waiting: number;
  older: (() => void) | undefined;
  /** Since when records are kept, if earlier ones are forgotten. */
  keptSince: string | undefined;
}

/** Flows newest first: those of the range, and while it is live and not paused those that arrive. */
export function useFlows(filters: Params, paused: boolean): Flows {
  const range = useRange();
  const { version } = useLive();
  const live = range.at === undefined;
  const key = JSON.stringify([filters, range]);
  const [state, setState] = useState<{ key: string; flows: Flow[]; after: string | undefined; cursor: string | undefined; waiting: Flow[]; keptSince: string | undefined }>();
  const [error, setError] = useState<Error>();
  const busy = useRef(false);
  const current = state?.key === key ? state : undefined;

  useEffect(() => {
    const controller = new AbortController();
    setError(undefined);
    get<FlowList>('/flows', { ...filters, ...(live ? { start: rangeParams(range).start } : rangeParams(range)), limit: FIRST }, controller.signal)
      .then((answer) => setState({ key, flows: answer.flows, after: answer.after, cursor: answer.next_cursor, waiting: [], keptSince: answer.kept_since }))
      .catch((failure: Error) => failure.name !== 'AbortError' && setError(failure));
    return () => controller.abort();
    // The key holds the filters and the range.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [key]);

  const after = current?.after;
  useEffect(() => {
    if (!live || after === undefined || busy.current) return;
    const timer = setTimeout(async () => {
      busy.current = true;
      try {
        const answer = await get<FlowList>('/flows', { ...filters, after, limit: 1000 });
        setError(undefined);
        setState((before) => {
          if (!before || before.key !== key || before.after !== after) return before;
          const fresh = answer.flows.toReversed();
          if (fresh.length === 0) return before.after === answer.after ? before : { ...before, after: answer.after };
          if (paused) return { ...before, after: answer.after, waiting: [...fresh, ...before.waiting].slice(0, KEPT) };
          return { ...before, after: answer.after, flows: [...fresh, ...before.flows].slice(0, KEPT) };
        });
      } catch (failure) {
        setError(failure as Error);
      } finally {
        busy.current = false;
      }
    }, EVERY_MS);
    return () => clearTimeout(timer);
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [version, key, after, live, paused]);

  // What arrived during a pause comes in when it ends.
  useEffect(() => {
    if (paused) return;
    setState((before) => (before && before.waiting.length > 0 ? { ...before, flows: [...before.waiting, ...before.flows].slice(0, KEPT), waiting: [] } : before));
  }, [paused]);

  const cursor = current?.cursor;
  const older = useCallback(() => {
    if (cursor === undefined) return;
    get<FlowList>('/flows', { ...filters, ...(live ? { start: rangeParams(range).start } : rangeParams(range)), cursor, limit: FIRST })
      .then((answer) => setState((before) => (before && before.cursor === cursor ? { ...before, flows: [...before.flows, ...answer.flows].slice(0, KEPT), cursor: answer.next_cursor } : before)))
      .catch(setError);
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [cursor, key]);

  return {
    flows: current?.flows ?? [],
    error,
    pending: current === undefined && error === undefined,
    waiting: current?.waiting.length ?? 0,
    keptSince: current?.keptSince,
    older: cursor !== undefined && (current?.flows.length ?? 0) < KEPT ? older : undefined,
  };
}
