import { useMemo } from 'react';

import { useRange, useRanged } from '../api/queries';
import type { Service, ServiceDetail } from '../api/types';
import { href, navigate, pathOf } from '../app/router';
import type { PageProps } from '../app/page';
import { TrafficCharts } from '../charts/TrafficCharts';
import { Crumbs } from '../components/Crumbs';
import type { ColumnDef } from '../components/DataTable';
import { HealthMark } from '../components/HealthMark';
import { Icon } from '../components/Icon';
import { Link } from '../components/Link';
import { ListPage } from '../components/ListPage';
import { Neighbours } from '../components/Neighbours';
import { Pods } from '../components/Pods';
import { Failure, Loading } from '../components/State';
import { plural } from '../domain/format';
import { HEALTH, asHealth } from '../domain/health';

interface Answer {
  services: Service[];
  total: number;
  next_cursor?: string;
}

const rowsOf = (answer: Answer) => answer.services;

export default function Services({ parts }: PageProps) {
  const [, namespace, name] = parts;
  return namespace !== undefined && name !== undefined ? <Detail namespace={namespace} name={name} /> : <ServiceList />;
}

function ServiceList() {
  const columns = useMemo<ColumnDef<Service, unknown>[]>(
    () => [
      { id: 'name', header: 'Service', accessorKey: 'name', cell: ({ row: { original: s } }) => <Link to={pathOf('services', s.namespace, s.name)}>{s.name}</Link> },
      { id: 'namespace', header: 'Namespace', accessorKey: 'namespace' },
      { id: 'health', header: 'Health', accessorFn: (s) => HEALTH[asHealth(s.health)].rank, cell: ({ row: { original: s } }) => <HealthMark health={s.health} reason={s.health_reason} /> },
      {
        id: 'endpoints', header: 'Endpoints', meta: 'num', accessorKey: 'healthy_endpoints',
        cell: ({ row: { original: s } }) => <span className={s.healthy_endpoints < s.endpoints ? 'text-failing' : ''}>{`${s.healthy_endpoints}/${s.endpoints}`}</span>,
      },
      { id: 'ports', header: 'Ports', enableSorting: false, cell: ({ row: { original: s } }) => s.ports.map((port) => `${port.service_port}${port.app_protocol ? `\u00a0${port.app_protocol}` : ''}`).join(', ') },
      { id: 'workloads', header: 'Workloads', enableSorting: false, cell: ({ row: { original: s } }) => s.workloads.map((workload) => workload.name).join(', ') || <span className="muted">none</span> },
      { id: 'waypoint', header: 'Waypoint', accessorKey: 'waypoint', cell: ({ row: { original: s } }) => s.waypoint || <span className="muted">none</span> },
    ],
    [],
  );
  return (
    <ListPage<Service, Answer>
      title="Services"
      one="service"
      path="/services"
      rowsOf={rowsOf}
      columns={columns}
      rowKey={(s) => `${s.namespace}/${s.hostname}`}
      sort="-health"
      onOpen={(s) => navigate(href(pathOf('services', s.namespace, s.name)))}
    />
  );
}

function Detail({ namespace, name }: { namespace: string; name: string }) {
  const range = useRange();
  const { data, error, refetch } = useRanged<ServiceDetail>(pathOf('services', namespace, name), {}, { range, everyMs: 3000, keep: false });
  if (error && !data) return <Failure page error={error} retry={() => void refetch()} />;
  if (!data) return <Loading what="the service" />;
  return (
    <div className="page detail">
      <Crumbs list="Services" path="/services" name={namespace} />
      <div className="page-head">
        <h1>{data.name}</h1>
        <HealthMark health={data.health} reason={data.health_reason} spelled />
        <span className="page-sub">{data.hostname}</span>
        {data.waypoint && (
          <span className="badge accent">
            <Icon name="waypoint" size={12} /> {data.waypoint}
          </span>
        )}
        <span className="spacer" />
        <Link to="/endpoints" params={{ namespace: data.namespace, service: data.name }} className="button">
          <Icon name="endpoints" size={14} /> API endpoints
        </Link>
        <Link to="/response-times" params={{ service: data.hostname }} className="button">
          <Icon name="response" size={14} /> Response times
        </Link>
        <Link to="/graph" params={{ group: 'service', find: `name=${data.name}` }} className="button">
          <Icon name="graph" size={14} /> Graph
        </Link>
      </div>
      <TrafficCharts selector={{ service: data.hostname }} />
      <Neighbours title="Calls to it" edges={data.inbound} nodes={data.nodes} side="source" />
      <Pods pods={data.endpoint_pods} title={`${plural(data.healthy_endpoints, 'healthy endpoint')} of ${data.endpoints}`} />
      <section className="card" aria-label="Ports and addresses">
        <div className="card-head">
          <h2>Ports and addresses</h2>
        </div>
        <div className="card-body">
          <dl className="facts">
            <dt>Addresses</dt>
            <dd className="mono">{data.addresses.join(', ') || 'none (headless)'}</dd>
            {data.ports.map((port) => (
              <Port key={port.service_port} port={port} />
            ))}
          </dl>
        </div>
      </section>
    </div>
  );
}

function Port({ port }: { port: Service['ports'][number] }) {
  return (
    <>
      <dt>Port {port.service_port}</dt>
      <dd>
        {port.target_port && port.target_port !== port.service_port ? `to ${port.target_port} ` : ''}
        {port.app_protocol || 'no protocol stated'}
      </dd>
    </>
  );
}
