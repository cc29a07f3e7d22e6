
import { lazy, Suspense, useMemo } from 'react';

import { useWorkloadGraph } from '../api/graph';
import { useLive } from '../api/live';
import { useOutages } from '../api/outages';
import { useRange, useRanged } from '../api/queries';
import { useSeries } from '../api/series';
import type { Machine, Outage } from '../api/types';
import { navigate, href } from '../app/router';
import { HealthIcon, HealthMark } from '../components/HealthMark';
import { Icon } from '../components/Icon';
import { Link } from '../components/Link';
import { Sparkline } from '../components/Sparkline';
import { Stat } from '../components/Stat';
import { Empty, Failure, Loading, SourceTable } from '../components/State';
import { Time } from '../components/Time';
import { TableHead } from '../components/TableHead';
import { byteRate, count, millis, percent, plural, rate } from '../domain/format';
import { clockLine } from '../domain/clocks';
import { byUrgency } from '../domain/outages';
import { humanDuration } from '../domain/time';
import { overviewOf, type EdgeRow, type NamespaceRow } from '../domain/overview';
import { problemLine } from '../domain/kinds';
import type { Line } from '../charts/TimeChart';
import { OutageCard } from './OutageCard';

const TimeChart = lazy(() => import('../charts/TimeChart').then((module) => ({ default: module.TimeChart })));

const TRAFFIC: Line[] = [
  { metric: 'opened', label: 'connections', colour: 'series-5' },
  { metric: 'requests', label: 'requests', colour: 'series-1' },
];
const FAILURES: Line[] = [
  { metric: 'failures', label: 'connections', colour: 'failing-line' },
  { metric: 'errors', label: 'requests', colour: 'degraded-line', dash: [5, 3] },
];

export default function Overview() {
  const range = useRange();
  const { data: graph, error, isPending, refetch } = useWorkloadGraph();
  const { data: outages } = useOutages();
  const overview = useMemo(() => graph && overviewOf(graph), [graph]);
  if (error && !graph) return <Failure page error={error} retry={() => void refetch()} />;
  if (isPending || !overview) return <Loading what="the overview" />;

  const sorted = (outages?.outages ?? []).toSorted(byUrgency);
  const open = sorted.filter((outage) => outage.state === 'open');
  const recent = sorted.filter((outage) => outage.state !== 'open').slice(0, 3);
  return (
    <div className="page overview">
      <h1 className="visually-hidden">Overview</h1>
      <section aria-label="Outages" className="overview-outages">
        {open.length > 0 ? (
          open.map((outage) => <OutageCard key={outage.id} outage={outage} />)
        ) : (
          <div className="all-well card">
            <HealthIcon health={overview.total.edges === 0 ? 'unknown' : 'healthy'} size={26} />
            <div>
              <h2>{overview.total.edges === 0 ? 'No traffic' : range.at === undefined ? 'Nothing is broken' : 'Nothing was broken at this moment'}</h2>
              <p className="muted">
                {recent.length > 0 ? (
                  <>
                    The last outage ended <Time at={recent[0]!.ended_at ?? recent[0]!.started_at} />. Health and figures below are of {range.at === undefined ? 'the last' : 'these'} {humanDuration(range.seconds)}, so they still show it.
                  </>
                ) : (
                  'No outage in this time.'
                )}
              </p>
            </div>
          </div>
        )}
        {recent.map((outage) => (
          <OutageCard key={outage.id} outage={outage} compact />
        ))}
      </section>

      <dl className="stats card">
        <Stat label="Requests" value={rate(overview.total.requestRate)} note={overview.total.requests > 0 ? `${percent(overview.total.errors / overview.total.requests)} fail` : 'none seen'} tone={overview.total.errors > 0 ? 'degraded' : undefined} />
        <Stat label="Connections" value={rate(overview.total.connectionRate)} note={`${count(overview.total.failed)} failed`} tone={overview.total.failed > 0 ? 'degraded' : undefined} />
        <Stat label="Open connections" value={count(overview.total.active)} />
        <Stat label="Throughput" value={byteRate(overview.total.bytesPerSecond)} />
        <Stat label="Workloads" value={count(overview.total.workloads)} note={overview.total.unwell > 0 ? `${overview.total.unwell} not healthy` : overview.total.workloads > 0 ? 'none unhealthy' : 'none known'} tone={overview.total.unwell > 0 ? 'failing' : undefined} />
        <Stat label="Mutual TLS" value={percent(overview.total.mtlsShare)} note="of connections" />
      </dl>

      <div className="overview-grid">
        <div className="overview-main">
        <section className="card" aria-labelledby="namespaces">
          <div className="card-head">
            <h2 id="namespaces">Namespaces</h2>
          </div>
          {overview.namespaces.length === 0 ? <Empty what="No namespaces are known" /> : <Namespaces rows={overview.namespaces} />}
        </section>
        <Suspense fallback={null}>
          <div className="charts">
            <div className="card">
              <TimeChart title="Traffic of the mesh" lines={TRAFFIC} />
            </div>
            <div className="card">
              <TimeChart title="Failures" lines={FAILURES} />
            </div>
          </div>
        </Suspense>
        </div>
        <div className="overview-side">
          <MeshHealth open={open} />
          <EdgeList title="Failing most" rows={overview.failing} none="No connection or request failed." value={(row) => <span className="text-failing">{percent(row.metrics.failureShare)} <span className="share">({count(Math.max(row.metrics.failed, row.metrics.errors + row.metrics.denied))} failed)</span></span>} />
          <EdgeList title="Slowest, by p95" rows={overview.slowest} none="No response times were measured." value={(row) => millis(row.metrics.p95)} />
        </div>
      </div>
    </div>
  );
}

function Namespaces({ rows }: { rows: NamespaceRow[] }) {
  const range = useRange();
  const { data } = useSeries([{ metric: 'opened', params: { by: 'destination_workload_namespace' } }], range);
  const lines = useMemo(() => new Map((data[0]?.series ?? []).map((line) => [line.labels['destination_workload_namespace'] ?? '', (line.points ?? []).map(([, value]) => (value ?? null) as number | null)])), [data]);
  return (
    <div className="table-scroll">
      <table className="table">
        <TableHead columns={['Namespace', 'Health', '#Workloads', '#Traffic in', '~Connections over time', '#Failures', '#p95']} />
        <tbody>
          {rows.map((row) => (
            <tr key={row.namespace} className="link" onClick={() => navigate(href('/graph', { namespace: row.namespace }))}>
              <td>
                <Link to="/graph" params={{ namespace: row.namespace }}>
                  {row.namespace}
                </Link>
              </td>
              <td>
                <HealthMark health={row.health} reason={row.reason} />
              </td>
              <td className="num">{count(row.workloads)}</td>
              <td className="num">{rate(row.metrics.rate)}</td>
              <td>
                <Sparkline values={lines.get(row.namespace) ?? []} label={`Connections to ${row.namespace}`} />
              </td>
              <td className={`num ${row.metrics.failureShare ? 'text-failing' : 'muted'}`}>{percent(row.metrics.failureShare)}</td>
              <td className="num">{millis(row.metrics.p95)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** What the mesh itself says now; at another moment, what outages tell of it. */
function MeshHealth({ open }: { open: Outage[] }) {
  const range = useRange();
  const { status } = useLive();
  const { data } = useRanged<{ nodes: Machine[] }>('/nodes', { limit: 1000 }, { range, everyMs: 3000 });
  const then = range.at !== undefined;
  const nodes = data?.nodes ?? [];
  const sources = then ? [] : (status?.sources ?? []);
  const failing = sources.filter((source) => !source.up || source.problem);
  const clocks = then ? [] : (status?.clock_problems ?? []);
  const replay = status?.replay;
  const rootsOf = (kind: Outage['kind']) => open.filter((outage) => outage.kind === kind).map((outage) => outage.root.name);
  const [downThen, lostThen, planeThen] = [rootsOf('node_down'), rootsOf('telemetry_lost'), rootsOf('control_plane_down')];
  const down = then ? downThen : nodes.filter((node) => node.health === 'failing').map((node) => node.name);
  const expiry = nodes.map((node) => node.certificates.next_expiry).filter((time): time is string => time !== undefined).sort()[0];
  const connected = nodes.filter((node) => node.xds.state === 'connected');
  const disconnected = nodes.filter((node) => node.xds.state === 'disconnected');
  return (
    <section className="card" aria-labelledby="mesh">
      <div className="card-head">
        <h2 id="mesh">Mesh</h2>
        <span className="spacer" />
        <Link to="/nodes">Nodes</Link>
      </div>
      <ul className="mesh-list">
        <MeshLine health={nodes.length === 0 ? 'unknown' : down.length > 0 ? 'failing' : 'healthy'} label="Nodes">
          {down.length > 0 ? `${down.join(', ')} down` : nodes.length === 0 ? 'none seen' : then ? `no outage of ${nodes.length === 1 ? 'one node' : `${count(nodes.length)} nodes`}` : `${plural(nodes.length, 'ztunnel')} up`}
        </MeshLine>
        {then ? (
          <>
            <MeshLine health={planeThen.length > 0 ? 'failing' : nodes.length > 0 ? 'healthy' : 'unknown'} label="Control plane">
              {planeThen.length > 0 ? `${planeThen.join(', ')} not reached` : 'no outage'}
            </MeshLine>
            <MeshLine health={lostThen.length > 0 ? 'degraded' : nodes.length > 0 ? 'healthy' : 'unknown'} label="Telemetry">
              {lostThen.length > 0 ? `none of ${lostThen.join(', ')}` : 'no source lost'}
            </MeshLine>
          </>
        ) : (
          <>
            <MeshLine health={nodes.length === 0 ? 'unknown' : disconnected.length > 0 ? 'failing' : 'healthy'} label="Control plane">
              {disconnected.length > 0 ? `${plural(disconnected.length, 'ztunnel')} without it` : nodes.length === 0 ? 'not seen' : connected.length === nodes.length ? `${plural(nodes.length, 'ztunnel')} connected` : 'no lost connection known'}
            </MeshLine>
            <MeshLine health={failing.length > 0 ? 'degraded' : sources.length > 0 ? 'healthy' : 'unknown'} label="Telemetry">
              {failing.length > 0 ? (
                <span title={failing.flatMap((source) => source.detail ?? []).join('\n')}>
                  {failing.slice(0, 3).map(problemLine).join(', ')}
                  {failing.length > 3 ? '…' : ''}
                </span>
              ) : (
                `${plural(sources.length, 'source')} ${sources.length === 1 ? 'delivers' : 'deliver'}`
              )}
            </MeshLine>
          </>
        )}
        {clocks.length > 0 && (
          <MeshLine health="degraded" label="Clocks">
            <span title={clocks.map((clock) => clock.text).join('\n')}>{clockLine(clocks)}</span>
          </MeshLine>
        )}
        {replay?.state === 'failed' && (
          <MeshLine health="failing" label="Recording">
            failed{replay.reason && `: ${replay.reason}`}
          </MeshLine>
        )}
        <MeshLine health={expiry ? 'healthy' : 'unknown'} label="Certificates">
          {expiry ? (
            <>
              next expires <Time at={expiry} />
            </>
          ) : (
            'none known'
          )}
        </MeshLine>
      </ul>
      {!then && (
        <details className="mesh-sources">
          <summary>What each source last delivered</summary>
          <SourceTable sources={sources} />
        </details>
      )}
    </section>
  );
}

function MeshLine({ health, label, children }: { health: 'healthy' | 'degraded' | 'failing' | 'unknown'; label: string; children: React.ReactNode }) {
  return (
    <li>
      <HealthIcon health={health} size={16} />
      <span>{label}</span>
      <span className="muted">{children}</span>
    </li>
  );
}

function EdgeList({ title, rows, none, value }: { title: string; rows: EdgeRow[]; none: string; value: (row: EdgeRow) => React.ReactNode }) {
  return (
    <section className="card" aria-label={title}>
      <div className="card-head">
        <h2>{title}</h2>
      </div>
      {rows.length === 0 ? (
        <p className="card-body muted">{none}</p>
      ) : (
        <ul className="edge-list">
          {rows.map((row) => (
            <li key={row.id}>
              <Link to="/graph" params={{ sel: row.id }} className="truncate" title={`${row.source} → ${row.destination}`}>
                {row.source} <Icon name="chevronRight" size={11} /> {row.destination}
              </Link>
              <b>{value(row)}</b>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
