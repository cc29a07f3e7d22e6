import { dataNow, useLive } from '../api/live';
import { useRange } from '../api/queries';
import { Icon } from '../components/Icon';
import { useSecond } from '../components/Time';
import { clock, humanDuration } from '../domain/time';
import { patchQuery } from './router';

/** Silence on the stream after which what is shown counts as stale. */
const STALE_MS = 15_000;

/** Says whether what is shown is live, since when it is stale, or which past moment it is. */
export function LiveBadge() {
  useSecond();
  const live = useLive();
  const { at } = useRange();
  if (at !== undefined) {
    return (
      <button type="button" className="live-badge past" onClick={() => patchQuery({ at: undefined })} title="Back to live">
        <Icon name="clock" size={13} /> {clock(at, dataNow())} <span className="live-action">Go live</span>
      </button>
    );
  }
  const replay = live.status?.replay;
  if (replay?.state === 'failed') {
    return (
      <span className="live-badge stale" role="status" title={replay.reason ?? 'The recording cannot be played to its end'}>
        <Icon name="outage" size={13} /> <span><span className="badge-more">Recording </span>failed</span>
        {replay.reason && <span className="badge-more live-reason">{replay.reason}</span>}
      </span>
    );
  }
  if (replay?.state === 'done') {
    return (
      <span className="live-badge done" role="status" title="The recording has been played to its end">
        <Icon name="check" size={13} /> <span><span className="badge-more">Recording </span>ended</span> {clock(dataNow(), dataNow())}
      </span>
    );
  }
  const silent = live.heardAt === 0 ? Infinity : Date.now() - live.heardAt;
  if (live.stream === 'connecting') {
    return (
      <span className="live-badge connecting" role="status">
        <span className="dot" /> Connecting
      </span>
    );
  }
  if (live.stream === 'lost' || silent > STALE_MS) {
    return (
      <span className="live-badge stale" role="status" title="The event stream is interrupted; reconnecting">
        <Icon name="outage" size={13} /> {Number.isFinite(silent) ? `Stale for ${humanDuration(silent / 1000)}` : 'No connection'}
      </span>
    );
  }
  return (
    <span className="live-badge live" role="status" title={`Data time ${new Date(dataNow()).toISOString()}`}>
      <span className="dot" /> Live
    </span>
  );
}
