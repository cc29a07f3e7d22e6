
import { useMemo } from 'react';

import { useAllOutages, useChronic } from '../api/outages';
import { shownNow, useRange } from '../api/queries';
import type { Outage } from '../api/types';
import { href, navigate, useParam } from '../app/router';
import type { PageProps } from '../app/page';
import { Link } from '../components/Link';
import { Empty, Failure, Loading } from '../components/State';
import { TableHead } from '../components/TableHead';
import { Time, useSecond } from '../components/Time';
import { count, percent, plural } from '../domain/format';
import { kindLabel } from '../domain/kinds';
import { byUrgency, durationSeconds, outageAt, subjectName, summaryOf } from '../domain/outages';
import { formatWindow, humanDuration, tickClock, ticksBetween } from '../domain/time';
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
      {state === '' && <ChronicList kind={kind} />}
    </div>
  );
}

/** What always fails for some: no outage, but worth knowing. It is of now, so a page of the past has none. */
function ChronicList({ kind }: { kind: string }) {
  const { data } = useChronic();
  const { at } = useRange();
  const shown = (data?.chronic ?? []).filter((one) => !kind || one.kind === kind);
  if (shown.length === 0 || at !== undefined) return null;
  return (
    <section className="card" aria-labelledby="chronic">
      <div className="card-head">
        <h2 id="chronic">Chronic conditions</h2>
        <span className="muted">A part of these calls always fails. That is usual here, so it is no outage; more of it would be one.</span>
      </div>
      <div className="table-scroll">
        <table className="table">
          <TableHead columns={['From', 'To', 'What fails', '#Failed', '#Of', '#Share', 'In the last', 'Known since']} />
          <tbody>
            {shown.map((one) => (
              <tr key={one.id}>
                <td>{subjectName(one.source)}</td>
                <td>{subjectName(one.destination)}</td>
                <td title={one.summary}>
                  {kindLabel(one.kind)}
                  {one.policy && (
                    <>
                      {' '}
                      by <Link to={`/policies/${one.policy.split('/').map(encodeURIComponent).join('/')}`}>{one.policy}</Link>
                    </>
                  )}
                </td>
                <td className="num">{count(one.failed)}</td>
                <td className="num">{count(one.total)}</td>
                <td className="num">{one.total > 0 ? percent(one.failed / one.total) : '–'}</td>
                <td>{formatWindow(one.window_seconds)}</td>
                <td>
                  <Time at={one.since} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {data!.total > data!.chronic.length && <p className="card-body muted">The newest {count(data!.chronic.length)} of {count(data!.total)}.</p>}
    </section>
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
