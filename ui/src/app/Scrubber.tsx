import '../styles/scrubber.css';

import { useEffect, useRef, useState, type PointerEvent as ReactPointerEvent } from 'react';

import { useAllChanges } from '../api/changes';
import { dataNow, useLive } from '../api/live';
import { useAllOutages } from '../api/outages';
import { useRange } from '../api/queries';
import { Icon } from '../components/Icon';
import { useSecond } from '../components/Time';
import { changeMarks } from '../domain/changes';
import { kindLabel, sentence } from '../domain/kinds';
import { summaryOf } from '../domain/outages';
import { clock, formatWindow, fullTime, humanDuration, ticksBetween, toRFC3339 } from '../domain/time';
import { navigate, href, patchQuery, useLocation } from './router';

/** Data seconds that one real second of playing covers. */
const SPEEDS = [1, 5, 20, 60];
const FRAME_MS = 1000;

/** The stored history with the outages on it. Dragging the window travels in time; its right end at the edge is live. */
export default function Scrubber() {
  useSecond();
  const { status } = useLive();
  const range = useRange();
  const { query } = useLocation();
  const { data } = useAllOutages();
  const track = useRef<HTMLDivElement>(null);
  const [dragging, setDragging] = useState<number>();
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState(5);

  const now = dataNow();
  const stored = Date.parse(status?.history?.start ?? '');
  const outages = data?.outages ?? [];
  const span = Math.max(range.seconds * 1000 * 1.15, Math.min(Number.isFinite(stored) ? now - stored : 0, Math.max(3600_000, range.seconds * 1000 * 12)), 60_000);
  const past = range.at ?? now;
  // A moment before the usual span widens it, so that the window is always on the track.
  const start = Math.min(now - span, past - range.seconds * 1000 - span * 0.04);
  const at = (ms: number) => Math.max(0, Math.min(100, ((ms - start) / (now - start)) * 100));
  const vs = Date.parse(query.get('vs') ?? '');

  const travel = (ms: number, replace = true) => {
    const live = ms >= now - Math.max(1000, (now - start) * 0.004);
    patchQuery({ at: live ? undefined : toRFC3339(Math.round(ms / 1000) * 1000) }, { replace });
  };

  const latest = useRef({ past, travel, now });
  latest.current = { past, travel, now };
  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => {
      const { past: from, travel: go, now: end } = latest.current;
      const next = from + speed * FRAME_MS;
      go(next);
      if (next >= end) setPlaying(false);
    }, FRAME_MS);
    return () => clearInterval(timer);
  }, [playing, speed]);

  const moment = (event: ReactPointerEvent) => {
    const box = track.current!.getBoundingClientRect();
    return start + ((event.clientX - box.left) / box.width) * (now - start);
  };
  const shown = dragging ?? past;

  return (
    <footer className="scrubber" aria-label="Time travel">
      <button
        type="button"
        className="button small icon-only plain"
        aria-label={playing ? 'Pause' : 'Play from here'}
        onClick={() => {
          // From live there is nothing ahead to play: begin where the history does.
          if (!playing && range.at === undefined) travel(Math.max(start, Number.isFinite(stored) ? stored : start) + 5000, false);
          setPlaying(!playing);
        }}
      >
        <Icon name={playing ? 'pause' : 'play'} size={14} />
      </button>
      <select className="select scrub-speed" aria-label="Speed of playing" value={speed} onChange={(event) => setSpeed(Number(event.target.value))}>
        {SPEEDS.map((one) => (
          <option key={one} value={one}>
            {one}×
          </option>
        ))}
      </select>
      <span className="scrub-time" title={fullTime(start)}>
        {clock(start, now)}
      </span>
      <div
        ref={track}
        className="scrub-track"
        onPointerDown={(event) => {
          if ((event.target as HTMLElement).closest('.scrub-outage')) return;
          event.currentTarget.setPointerCapture(event.pointerId);
          setPlaying(false);
          setDragging(moment(event));
        }}
        onPointerMove={(event) => dragging !== undefined && setDragging(Math.min(now, Math.max(start, moment(event))))}
        onPointerUp={(event) => {
          if (dragging === undefined) return;
          travel(moment(event), false);
          setDragging(undefined);
        }}
        onPointerCancel={() => setDragging(undefined)}
      >
        <div className="scrub-line" />
        <Ticks start={start} end={now} />
        <ChangeTicks start={start} end={now} />
        {outages.map((outage) => {
          const from = Date.parse(outage.started_at);
          const to = outage.ended_at ? Date.parse(outage.ended_at) : now;
          if (to < start || from > now) return null;
          const label = `${kindLabel(outage.kind)}: ${summaryOf(outage, now)}`;
          return (
            <button
              key={outage.id}
              type="button"
              className={`scrub-outage ${outage.severity} ${outage.state}`}
              style={{ left: `${at(from)}%`, width: `max(6px, ${at(to) - at(from)}%)` }}
              title={`${label}\n${clock(from, now)}, ${humanDuration((to - from) / 1000)}`}
              aria-label={label}
              onClick={() => navigate(href(`/outages/${encodeURIComponent(outage.id)}`))}
            />
          );
        })}
        <div className={`scrub-window ${dragging === undefined && range.at === undefined ? 'live' : ''}`} style={{ left: `${at(shown - range.seconds * 1000)}%`, right: `${100 - at(shown)}%` }} />
        {Number.isFinite(vs) && <div className="scrub-vs" style={{ left: `${at(vs)}%` }} title={`Compared with ${fullTime(vs)}`} />}
        <div
          className="scrub-handle"
          role="slider"
          tabIndex={0}
          aria-label="Moment shown"
          aria-valuemin={Math.round(start / 1000)}
          aria-valuemax={Math.round(now / 1000)}
          aria-valuenow={Math.round(shown / 1000)}
          aria-valuetext={range.at === undefined ? 'live' : clock(shown, now)}
          style={{ left: `${at(shown)}%` }}
          onKeyDown={(event) => {
            const step = event.shiftKey ? 60_000 : 5000;
            if (event.key === 'ArrowLeft') travel(past - step);
            else if (event.key === 'ArrowRight') travel(past + step);
            else if (event.key === 'End') travel(now);
            else if (event.key === 'Home') travel(start + range.seconds * 1000);
            else return;
            event.preventDefault();
          }}
        >
          {(dragging !== undefined || range.at !== undefined) && <span className={`scrub-flag ${at(shown) > 88 ? 'leftward' : ''}`}>{clock(shown, now)}</span>}
        </div>
      </div>
      <span className="scrub-time" title={fullTime(now)}>
        {range.at === undefined ? 'now' : clock(now, now)}
      </span>
      <button
        type="button"
        className="button small plain"
        aria-pressed={Number.isFinite(vs)}
        title={Number.isFinite(vs) ? 'Stop comparing' : `Compare with ${formatWindow(range.seconds)} before`}
        onClick={() => patchQuery({ vs: Number.isFinite(vs) ? undefined : toRFC3339(Math.round((past - range.seconds * 1000) / 1000) * 1000) })}
      >
        <Icon name="compare" size={14} /> <span className="scrub-compare">Compare</span>
      </button>
      <button type="button" className="button small plain" disabled={range.at === undefined} onClick={() => patchQuery({ at: undefined })}>
        <Icon name="now" size={14} /> Live
      </button>
    </footer>
  );
}

const TOLD = 5;

/** Small marks where something changed; what it was is in the pages' lists as well. */
function ChangeTicks({ start, end }: { start: number; end: number }) {
  const { data } = useAllChanges();
  return (
    <>
      {changeMarks(data?.changes ?? [], start, end).map(({ from, changes, warning }) => (
        <span
          key={from}
          aria-hidden
          className={`scrub-change ${warning ? 'warning' : ''}`}
          style={{ left: `${((from - start) / (end - start)) * 100}%` }}
          title={[clock(from, end), ...changes.slice(0, TOLD).map((change) => sentence(change.text)), ...(changes.length > TOLD ? [`and ${changes.length - TOLD} more`] : [])].join('\n')}
        />
      ))}
    </>
  );
}

function Ticks({ start, end }: { start: number; end: number }) {
  return (
    <>
      {ticksBetween(start, end, 16).map((t) => (
        <span key={t} className="scrub-tick" style={{ left: `${((t - start) / (end - start)) * 100}%` }} />
      ))}
    </>
  );
}
