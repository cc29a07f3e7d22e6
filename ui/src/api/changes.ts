import { toRFC3339 } from '../domain/time';
import { useLatest, useRange } from './queries';
import type { ChangeList } from './types';

/** The newest changes of an object until the moment shown; of a node without a namespace. */
export function useChanges(name: string, namespace: string | undefined, limit: number) {
  const { at } = useRange();
  return useLatest<ChangeList>('/changes', { namespace, name, limit, ...(at === undefined ? {} : { end: toRFC3339(at) }) });
}

/** The newest changes of all; for the scrubber. */
export function useAllChanges() {
  return useLatest<ChangeList>('/changes', { limit: 1000 }, { everyMs: 10_000 });
}
