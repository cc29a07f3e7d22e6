import { useMemo } from 'react';

import { useLive } from '../api/live';
import { useRange, useRanged } from '../api/queries';
import type { Machine, NodeDetail, Skew } from '../api/types';
import { href, navigate, pathOf } from '../app/router';
import type { PageProps } from '../app/page';
import type { ColumnDef } from '../components/DataTable';
import { Asked } from '../components/Asked';
import { Certificates } from '../components/Certificates';
import { Changes } from '../components/Changes';
import { Crumbs } from '../components/Crumbs';
import { HealthIcon, HealthMark } from '../components/HealthMark';
import { Icon } from '../components/Icon';
import { Lines } from '../components/Lines';
import { Link } from '../components/Link';
import { ListPage } from '../components/ListPage';
import { Pods } from '../components/Pods';
import { Load, LoadCharts, Messages, Revocation } from '../components/Proxy';
import { Differences, Settings } from '../components/Settings';
import { Failure, Loading, SourceTable } from '../components/State';
import { Time } from '../components/Time';
import { count, plural } from '../domain/format';
import { HEALTH, asHealth } from '../domain/health';
import { inText, sourceLabel } from '../domain/kinds';
import { byUrgency, outageAt } from '../domain/outages';
import { OutageCard } from './OutageCard';

interface Answer {
  nodes: Machine[];
  skew: Skew;
  total: number;
  next_cursor?: string;
}

const above = (answer: Answer) => <Differences skew={answer.skew} />;

const rowsOf = (answer: Answer) => answer.nodes;

export default function Nodes({ parts }: PageProps) {
  return parts[1] !== undefined ? <Detail name={parts.at(-1)!} /> : <NodeList />;
}

function NodeList() {
  const then = useRange().at !== undefined;
  const columns = useMemo<ColumnDef<Machine, unknown>[]>(
    () => [
      { id: 'name', header: 'Node', accessorKey: 'name', cell: ({ row: { original: n } }) => <Link to={pathOf('nodes', n.name)}>{n.name}</Link> },
      { id: 'health', header: 'ztunnel', accessorFn: (n) => HEALTH[asHealth(n.health)].rank, cell: ({ row: { original: n } }) => <HealthMark health={n.health} reason={n.health_reason} /> },
      { id: 'version', header: 'Version', accessorKey: 'version', cell: ({ getValue }) => <Version text={getValue() as string} /> },
      { id: 'xds', header: then ? 'Control plane now' : 'Control plane', accessorFn: (n) => n.xds.state, cell: ({ row: { original: n } }) => <span className={n.xds.state === 'disconnected' ? 'text-failing' : ''}>{n.xds.state}</span> },
      { id: 'workloads', header: 'Workloads', meta: 'num', accessorKey: 'workloads', cell: ({ getValue }) => count(getValue() as number) },
      { id: 'pods', header: 'Pods', meta: 'num', accessorKey: 'pods', cell: ({ getValue }) => count(getValue() as number) },
      {
        id: 'certificates', header: 'Certificates', accessorFn: (n) => n.certificates.next_expiry ?? '',
        cell: ({ row: { original: n } }) => (
          <>
            {count(n.certificates.total)}
            {n.certificates.not_ready > 0 && <span className="text-failing">, {n.certificates.not_ready} not ready</span>}
            {n.certificates.next_expiry && (
              <span className="muted">
                , next expires <Time at={n.certificates.next_expiry} />
              </span>
            )}
          </>
        ),
      },
      {
        id: 'sources', header: then ? 'Telemetry now' : 'Telemetry', enableSorting: false,
        cell: ({ row: { original: n } }) => (
          <span className="source-marks">
            {n.sources.map((source) => (
              <span key={source.source} title={`${sourceLabel(source.source)}: ${source.detail ?? (source.up ? 'delivers' : 'fails')}`}>
                <HealthIcon health={source.up ? (source.problem ? 'unknown' : 'healthy') : 'failing'} size={13} /> <span className="source-name">{inText(sourceLabel(source.source))}</span>
              </span>
            ))}
          </span>
        ),
      },
    ],
    [then],
  );
  return (
    <ListPage<Machine, Answer>
      title="Nodes"
      one="node"
      path="/nodes"
      rowsOf={rowsOf}
      columns={columns}
      rowKey={(n) => n.name}
      sort="-health"
      onOpen={(n) => navigate(href(pathOf('nodes', n.name)))}
      namespaced={false}
      above={above}
    />
  );
}

/** A build from source names its whole commit; the first digits tell builds apart. */
function Version({ text }: { text: string }) {
  return <span title={text}>{text.replace(/^([0-9a-f]{10})[0-9a-f]{30}/, '$1') || '–'}</span>;
}

function Detail({ name }: { name: string }) {
  const range = useRange();
  const { status } = useLive();
  const { data, error, refetch } = useRanged<NodeDetail>(pathOf('nodes', name), {}, { range, everyMs: 3000, keep: false });
  if (error && !data) return <Failure page error={error} retry={() => void refetch()} />;
  if (!data) return <Loading what="the node" />;
  const clock = range.at === undefined ? status?.clock_problems?.find((problem) => problem.node === name) : undefined;
  const outages = data.outages.map((outage) => (range.at === undefined ? outage : outageAt(outage, range.at))).toSorted(byUrgency);
  return (
    <div className="page detail">
      <Crumbs list="Nodes" path="/nodes" />
      <div className="page-head">
        <h1>{data.name}</h1>
        <HealthMark health={data.health} reason={data.health_reason} spelled />
        {data.version && (
          <span className="badge">
            <Version text={data.version} />
          </span>
        )}
        <span className="page-sub">{plural(data.pods, 'pod')} of {plural(data.workloads, 'workload')}</span>
        <span className="spacer" />
        <Link to="/graph" params={{ find: `node=${data.name}` }} className="button">
          Show on the graph
        </Link>
      </div>
      {clock && (
        <p className="notice text-degraded">
          <Icon name="clock" size={14} /> {clock.text}
        </p>
      )}
      {outages.map((outage) => (
        <OutageCard key={outage.id} outage={outage} compact={outage.state !== 'open'} />
      ))}
      <div className="two-columns">
        <section className="card" aria-label="Telemetry">
          <div className="card-head">
            <h2>Telemetry</h2>
            {range.at !== undefined && <span className="page-sub">as it is now</span>}
          </div>
          <SourceTable sources={data.sources} />
        </section>
        <section className="card" aria-label="ztunnel">
          <div className="card-head">
            <h2>ztunnel</h2>
            {range.at !== undefined && <span className="page-sub">as it is now</span>}
          </div>
          <div className="card-body">
            <dl className="facts">
              <dt>Pod</dt>
              <dd>{data.ztunnel.name ? `${data.namespace ? `${data.namespace}/` : ''}${data.ztunnel.name}` : '–'}</dd>
              <Load load={data.ztunnel.load} />
              <dt>Control plane</dt>
              <dd>
                <span className={data.xds.state === 'disconnected' ? 'text-failing' : ''}>{data.xds.state}</span> <span className="muted mono">{data.xds.address}</span>
              </dd>
              {data.ztunnel.log_level && (
                <>
                  <dt>Log level</dt>
                  <dd className={data.ztunnel.log_level === 'warn' ? 'text-degraded' : ''}>{data.ztunnel.log_level}</dd>
                </>
              )}
              <dt>Cluster</dt>
              <dd>{data.cluster || '–'}</dd>
              <dt>Certificates</dt>
              <dd>
                {count(data.certificates.total)}
                {data.certificates.not_ready > 0 && <span className="text-failing">, {data.certificates.not_ready} not ready</span>}
              </dd>
              <Revocation revocation={data.ztunnel.revocation} />
              <dt>Next expiry</dt>
              <dd>
                <Time at={data.certificates.next_expiry} />
              </dd>
              <dt>Root expiry</dt>
              <dd>
                <Time at={data.certificates.root_expiry} />
              </dd>
            </dl>
          </div>
        </section>
      </div>
      <LoadCharts past={data.ztunnel.load_history} />
      <Settings settings={data.ztunnel.settings} node={data.name} />
      <Messages events={data.ztunnel.events} />
      <Lines node={data.name} />
      <Asked asked={data.dns} />
      <Changes name={data.name} />
      <Pods pods={data.pod_list} node={data.name} />
      <Certificates list={data.certificate_list} />
    </div>
  );
}
