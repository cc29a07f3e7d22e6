import { useLive } from '../api/live';
import { Time } from './Time';

/** From when on the records of a kind are kept, and what of them is missing. */
export function KeptSince({ kind }: { kind: 'spans' | 'flows' | 'lines' }) {
  const { status } = useLive();
  const kept = status?.records.find((one) => one.kind === kind);
  if (!kept?.since) return null;
  const dropped = Object.values(kept.dropped ?? {}).reduce((sum, n) => sum + n, 0);
  const damaged = kept.damaged?.length ?? 0;
  return (
    <span className="page-sub kept-since">
      Kept since <Time at={kept.since} absolute />
      {dropped > 0 && `, without ${dropped.toLocaleString('en')} for which the disk was too slow or full`}
      {damaged > 0 && `, without ${damaged === 1 ? 'a damaged file' : `${damaged} damaged files`}`}
    </span>
  );
}
