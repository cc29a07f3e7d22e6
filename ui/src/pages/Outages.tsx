
import { useMemo } from 'react';

import { useAllOutages } from '../api/outages';
import { shownNow, useRange } from '../api/queries';
import type { Outage } from '../api/types';
import { href, navigate, useParam } from '../app/router';
import type { PageProps } from '../app/page';
import { Empty, Failure, Loading } from '../components/State';
import { useSecond } from '../components/Time';
import { plural } from '../domain/format';
import { kindLabel } from '../domain/kinds';
import { byUrgency, durationSeconds, outageAt, subjectName, summaryOf } from '../domain/outages';
import { humanDuration, tickClock, ticksBetween } from '../domain/time';
import { OutageCard } from './OutageCard';
import OutageDetail from './OutageDetail';

export default function Outages({ parts }: PageProps) {
  return parts[1] === undefined ? <OutageList /> : <OutageDetail id={parts[1]} />;
}

function OutageList() {
  const { data, error, isPending, refetch } = useAllOutages();
  const range = useRange();
  const [state, setState] = useParam('state', '');
  const [kind, setKind] = useParam('kind', '');
  const all = useMemo(() => (data?.outages ?? []).toSorted(byUrgency), [data]);
  if (error && !data) return <Failure error={error} retry={() => void refetch()} />;
  if (isPending) return <Loading what="outages" />;
  // While travelling, what had not begun yet did not exist.
  const existing = range.at === undefined ? all : all.filter((outage) => Date.parse(outage.started_at) <= range.at!).map((outage) => outageAt(outage, range.at!));
  const shown = existing.filter((outage) => (!state || outage.state === state) && (!kind || outage.kind === kind));
  const kinds = [...new Set(all.map((outage) => outage.kind))].sort();
  return (
    <div className="page">
      <div className="page-head">
        <h1>Outages</h1>
        <span className="page-sub">{plural(shown.length, 'outage')}</span>
        <span className="spacer" />
        <div className="button-group" role="group" aria-label="State">
          {['', 'open', 'resolved', 'stale'].map((one) => (
            <button key={one} type="button" className="button" aria-pressed={state === one} onClick={() => setState(one)}>
              {one === '' ? 'All' : one.charAt(0).toUpperCase() + one.slice(1)}
            </button>
          ))}
        </div>
        <select className="select" aria-label="Kind" value={kind} onChange={(event) => setKind(event.target.value)}>
          <option value="">Every kind</option>
          {kinds.map((one) => (
            <option key={one} value={one}>
              {kindLabel(one)}
            </option>
          ))}
        </select>
      </div>
      {shown.length === 0 ? (
        <Empty what={all.length === 0 ? 'No outage has been seen' : 'No outage matches'}>{all.length === 0 ? undefined : 'Choose another state or kind.'}</Empty>
      ) : (
        <>
          <Timeline outages={shown} />
          <div className="overview-outages">
            {shown.slice(0, 200).map((outage) => (
              <OutageCard key={outage.id} outage={outage} compact={outage.state !== 'open'} />
            ))}
          </div>
        </>
      )}
    </div>
  );
}

const LANES = 12;

/** A lane for each root that was at fault, its outages as bars. */
function Timeline({ outages }: { outages: Outage[] }) {
  useSecond();
  const now = shownNow();
  const first = Math.min(...outages.map((outage) => Date.parse(outage.started_at)));
  const span = Math.max(60_000, now - first) * 1.06;
  const start = now - span;
  const lanes = new Map<string, Outage[]>();
  for (const outage of outages) {
    const name = subjectName(outage.root);
    lanes.set(name, [...(lanes.get(name) ?? []), outage]);
  }
  const at = (ms: number) => ((ms - start) / span) * 100;
  // The end of the axis says so itself.
  const ticks = ticksBetween(start, now - span * 0.08, 7);
  return (
    <section className="card timeline" aria-label="Timeline of outages">
      {[...lanes].slice(0, LANES).map(([name, list]) => (
        <div key={name} className="lane">
          <span className="lane-name truncate" title={name}>
            {name}
          </span>
          <div className="lane-track">
            {list.map((outage) => {
              const from = Date.parse(outage.started_at);
              const to = outage.ended_at ? Date.parse(outage.ended_at) : now;
              const label = `${kindLabel(outage.kind)}, ${humanDuration(durationSeconds(outage, now))}`;
              return (
                <button
                  key={outage.id}
                  type="button"
                  className={`lane-bar ${outage.severity} ${outage.state}`}
                  style={{ left: `${at(from)}%`, width: `max(8px, ${at(to) - at(from)}%)` }}
                  title={`${summaryOf(outage, now)}\n${label}`}
                  onClick={() => navigate(href(`/outages/${encodeURIComponent(outage.id)}`))}
                >
                  <span className="truncate">{label}</span>
                </button>
              );
            })}
          </div>
        </div>
      ))}
      <div className="lane axis" aria-hidden="true">
        <span className="lane-name muted">{lanes.size > LANES ? `${lanes.size - LANES} more roots` : ''}</span>
        <div className="lane-track">
          {ticks.map((tick) => (
            <span key={tick} style={{ left: `${at(tick)}%` }}>
              {tickClock(tick, now)}
            </span>
          ))}
          <span className="last" style={{ left: '100%' }}>
            now
          </span>
        </div>
      </div>
    </section>
  );
}
