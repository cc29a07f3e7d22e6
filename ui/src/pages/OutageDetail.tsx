import '../styles/graph.css';

import { lazy, Suspense, useMemo } from 'react';

import { outageTone } from '../api/outages';
import { useGraph } from '../api/graph';
import { shownNow, useLatest, useRange } from '../api/queries';
import type { Evidence, Graph, Outage } from '../api/types';
import { pathOf } from '../app/router';
import { HealthIcon } from '../components/HealthMark';
import { Icon } from '../components/Icon';
import { Link } from '../components/Link';
import { Meter } from '../components/Stat';
import { Failure, Loading } from '../components/State';
import { Time, useSecond } from '../components/Time';
import { TableHead } from '../components/TableHead';
import { count, percent } from '../domain/format';
import { kindLabel, sentence } from '../domain/kinds';
import { blameText, durationSeconds, localised, outageAt, subjectName, subjectPath, summaryOf } from '../domain/outages';
import { clock, formatWindow, fullTime, humanDuration, toRFC3339 } from '../domain/time';
import { StateBadge } from './OutageCard';
import { OutageChart } from './OutageChart';
import { OutageSamples } from './OutageSamples';

const BlastRadius = lazy(() => import('../graph/BlastRadius'));

/** How long before its beginning a change still may have to do with an outage. */
const BEFORE_MS = 2 * 60_000;

export default function OutageDetail({ id }: { id: string }) {
  useSecond();
  const { at } = useRange();
  const { data, error, refetch } = useLatest<Outage>(`/outages/${encodeURIComponent(id)}`, {}, { everyMs: 1500 });
  const outage = useMemo(() => (data && at !== undefined && at >= Date.parse(data.started_at) ? outageAt(data, at) : data), [data, at]);
  const started = Date.parse(outage?.started_at ?? '');
  const ended = outage?.ended_at ? Date.parse(outage.ended_at) : undefined;
  // The graph of the outage itself: from its beginning to its end, or to now while it is open.
  const range = useMemo(
    () => ({ seconds: Math.max(10, Math.round(((ended ?? shownNow()) - started) / 1000) || 10), at: ended ?? at }),
    [started, ended, at, outage?.state],
  );
  const changes = useMemo(
    () => (outage?.evidence ?? []).filter((one) => one.kind === 'change').map((one) => Date.parse(one.time)).filter((time) => Math.abs(time - started) <= BEFORE_MS),
    [outage, started],
  );
  const { data: graph } = useGraph({ group_by: 'workload' }, { range, enabled: outage !== undefined, everyMs: 3000 });
  if (error && !outage) return <Failure page error={error} retry={() => void refetch()} />;
  if (!outage) return <Loading what="the outage" />;

  const now = shownNow();
  const tone = outageTone(outage);
  const rootPath = subjectPath(outage.root, graph);
  const [policyNamespace, policyName] = (outage.policy ?? '').split('/');
  const moment = { at: toRFC3339(ended ?? now), last: formatWindow(Math.max(30, ((ended ?? now) - started) / 1000 + 10)) };
  return (
    <div className="page outage-page">
      <nav className="breadcrumb" aria-label="Breadcrumb">
        <Link to="/outages">Outages</Link> <Icon name="chevronRight" size={10} /> <span>{kindLabel(outage.kind)}</span>
      </nav>
      <header className={`outage-head card ${tone}`}>
        {outage.state === 'open' ? <HealthIcon health={tone} size={30} /> : <Icon name="check" size={24} />}
        <div>
          <h1>{summaryOf(outage, now)}</h1>
          <div className="outage-facts">
            <StateBadge outage={outage} />
            <span>{kindLabel(outage.kind)}</span>
            <span title={fullTime(started)}>
              began {clock(started, now)} (<Time at={started} />)
            </span>
            <span>detected after {humanDuration((Date.parse(outage.detected_at) - started) / 1000)}</span>
            <span>{outage.state === 'open' ? `open for ${humanDuration(durationSeconds(outage, now))}` : `lasted ${humanDuration(durationSeconds(outage, now))}`}</span>
          </div>
        </div>
        <div className="toolbar outage-actions">
          <Link to="/graph" params={{ ...moment, vs: toRFC3339(started - 1000), sel: undefined }} className="button">
            <Icon name="compare" size={14} /> Before and after
          </Link>
        </div>
      </header>

      <div className="outage-grid">
        <div className="outage-main-column">
          <section className="card" aria-labelledby="radius">
            <div className="card-head">
              <h2 id="radius">Blast radius</h2>
              <span className="spacer" />
              <Link to="/graph" params={moment}>
                Open in the graph
              </Link>
            </div>
            <div className="blast">{graph ? <Suspense fallback={<Loading what="the graph" />}><BlastRadius graph={graph} outage={outage} /></Suspense> : <Loading what="the graph" />}</div>
            <RadiusList outage={outage} graph={graph} />
          </section>
          <OutageChart outage={outage} flags={changes} />
          {(outage.edges?.length ?? 0) > 0 && <FailingEdges outage={outage} title={data?.state === 'open' ? 'What fails' : outage.state === 'open' ? 'What failed until its end' : 'What failed'} />}
          <OutageSamples outage={outage} from={started} to={ended ?? now} />
        </div>
        <div className="outage-side">
          <section className="card" aria-labelledby="root">
            <div className="card-head">
              <h2 id="root">Root cause</h2>
            </div>
            <div className="card-body">
              <p className="root-name">
                {rootPath ? <Link to={rootPath}>{subjectName(outage.root)}</Link> : subjectName(outage.root)} <span className="muted">{outage.root.type.replace('_', ' ')}</span>
              </p>
              {outage.policy && (
                <p className="root-policy">
                  <Icon name="policies" size={14} /> policy <Link to={pathOf('policies', policyNamespace ?? '', policyName ?? '')}>{outage.policy}</Link>
                </p>
              )}
              {(outage.pods?.length ?? 0) > 0 && (
                <p>
                  <span className="muted">only these pods:</span> {outage.pods!.join(', ')}
                </p>
              )}
              <Candidates outage={outage} />
            </div>
          </section>
          <Story outage={outage} />
        </div>
      </div>
    </div>
  );
}

function Candidates({ outage }: { outage: Outage }) {
  const candidates = outage.candidates ?? [];
  if (candidates.length === 0) return null;
  return (
    <>
      <h3 className="sub">Other explanations considered</h3>
      <ol className="candidates">
        {candidates.map((candidate, i) => (
          <li key={i}>
            <span className="candidate-name">
              {subjectName(candidate)} <span className="muted">{candidate.type.replace('_', ' ')}</span>
            </span>
            <Meter value={candidate.score} {...(i === 0 ? { tone: 'failing' } : {})} />
            <span className="num">{percent(candidate.score)}</span>
            {(candidate.reason || candidate.own) && (
              <span className="candidate-reason muted">{[candidate.reason, blameText(candidate.own, candidate.explained)].filter(Boolean).join(': ')}</span>
            )}
          </li>
        ))}
      </ol>
    </>
  );
}

interface Moment extends Evidence {
  is: 'change' | 'evidence' | 'outage';
}

/** What changed just before, what was observed, and what the detector made of it: one list in the order of time. */
function Story({ outage }: { outage: Outage }) {
  const started = Date.parse(outage.started_at);
  const moments = useMemo(() => {
    const list: Moment[] = [
      ...(outage.evidence ?? []).map((one): Moment => ({ ...one, is: one.kind === 'change' ? 'change' : 'evidence' })),
      ...(outage.timeline ?? []).map((one): Moment => ({ ...one, is: 'outage' })),
    ];
    return list.sort((a, b) => Date.parse(a.time) - Date.parse(b.time));
  }, [outage]);
  const changes = moments.filter((moment) => moment.is === 'change' && Math.abs(Date.parse(moment.time) - started) <= BEFORE_MS);
  const now = shownNow();
  return (
    <>
      <section className="card" aria-labelledby="changed">
        <div className="card-head">
          <h2 id="changed">What changed just before</h2>
        </div>
        {changes.length === 0 ? (
          <p className="card-body muted">Nothing in the mesh's configuration changed in the two minutes before.</p>
        ) : (
          <ul className="story">
            {changes.map((change, i) => (
              <li key={i} className="change">
                <span className="story-time">{offset(Date.parse(change.time) - started)}</span>
                <span>
                  {change.text} <span className="muted">{change.source}</span>
                </span>
              </li>
            ))}
          </ul>
        )}
      </section>
      <section className="card" aria-labelledby="evidence">
        <div className="card-head">
          <h2 id="evidence">Evidence, in order</h2>
        </div>
        <ol className="story">
          {moments.map((moment, i) => (
            <li key={i} className={moment.is}>
              <span className="story-time" title={fullTime(Date.parse(moment.time))}>
                {clock(Date.parse(moment.time), now)}
              </span>
              <span>
                {moment.is === 'outage' ? sentence(localised(moment.text, outage, now)) : moment.text} <span className="muted">{moment.is === 'outage' ? '' : moment.source}</span>
              </span>
            </li>
          ))}
        </ol>
      </section>
    </>
  );
}

function offset(ms: number): string {
  if (Math.abs(ms) < 1000) return 'at once';
  return ms < 0 ? `${humanDuration(-ms / 1000)} before` : `${humanDuration(ms / 1000)} after`;
}

function RadiusList({ outage, graph }: { outage: Outage; graph: Graph | undefined }) {
  const impact = outage.impact ?? [];
  if (impact.length === 0) return <p className="card-body muted">No other workload is known to be affected.</p>;
  return (
    <ul className="impact">
      {impact.map((one, i) => {
        const path = subjectPath({ type: 'workload', ...one }, graph);
        return (
          <li key={i}>
            {path ? <Link to={path}>{subjectName(one)}</Link> : subjectName(one)} <span className="badge">{one.how === 'calls' ? 'calls it' : one.how === 'depends_on' ? 'depends on it' : sentence(one.how)}</span>
          </li>
        );
      })}
    </ul>
  );
}

function FailingEdges({ outage, title }: { outage: Outage; title: string }) {
  return (
    <section className="card" aria-labelledby="failing">
      <div className="card-head">
        <h2 id="failing">{title}</h2>
      </div>
      <div className="table-scroll">
        <table className="table">
          <TableHead columns={['From', 'To', '#Failed', '#Of', '#Share']} />
          <tbody>
            {outage.edges!.map((edge, i) => (
              <tr key={i}>
                <td>{subjectName(edge.source)}</td>
                <td>{subjectName(edge.destination)}</td>
                <td className="num text-failing">{count(edge.failed)}</td>
                <td className="num">{count(edge.total)}</td>
                <td className="num">{edge.total > 0 ? percent(edge.failed / edge.total) : '–'}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
