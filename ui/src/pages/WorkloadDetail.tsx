import { useMemo, type ReactNode } from 'react';

import { useRange, useRanged } from '../api/queries';
import type { Certificate, Pod, WorkloadDetail as Detail } from '../api/types';
import { pathOf } from '../app/router';
import { TimeChart, type Line } from '../charts/TimeChart';
import { HealthMark } from '../components/HealthMark';
import { Icon } from '../components/Icon';
import { Link } from '../components/Link';
import { Neighbours } from '../components/Neighbours';
import { Empty, Failure, Loading } from '../components/State';
import { Time } from '../components/Time';
import { count, plural } from '../domain/format';
import { kindLabel } from '../domain/kinds';
import { byUrgency, outageAt } from '../domain/outages';
import { OutageCard } from './OutageCard';

export default function WorkloadDetail({ namespace, name }: { namespace: string; name: string }) {
  const range = useRange();
  const { data, error, isPending, refetch } = useRanged<Detail>(pathOf('workloads', namespace, name), {}, { range, everyMs: 3000, keep: false });
  if (error && !data) return <Failure error={error} retry={() => void refetch()} />;
  if (isPending) return <Loading what="the workload" />;
  if (!data) return <Empty what="Not known" />;
  const id = data.nodes.find((node) => node.namespace === namespace && node.name === name)?.id;
  const outages = data.outages.map((outage) => (range.at === undefined ? outage : outageAt(outage, range.at))).toSorted(byUrgency);
  return (
    <div className="page detail">
      <Crumbs list="Workloads" path="/workloads" name={namespace} />
      <div className="page-head">
        <h1>{data.name}</h1>
        <HealthMark health={data.health} />
        {data.version && <span className="badge">{data.version}</span>}
        {data.kind && <span className="badge">{data.kind}</span>}
        {!data.in_mesh && (
          <span className="badge degraded">
            <Icon name="outside" size={12} /> outside the mesh
          </span>
        )}
        {data.waypoint && (
          <span className="badge accent">
            <Icon name="waypoint" size={12} /> {data.waypoint}
          </span>
        )}
        <span className="spacer" />
        {id && (
          <Link to="/graph" params={{ sel: id, focus: id }} className="button">
            <Icon name="graph" size={14} /> Graph
          </Link>
        )}
        <Link to="/flows" params={{ destination: `${namespace}/${podPrefix(data)}` }} className="button">
          <Icon name="flows" size={14} /> Flows
        </Link>
        <Link to="/traces" params={{ service: data.app || data.name }} className="button">
          <Icon name="traces" size={14} /> Traces
        </Link>
      </div>
      {outages.map((outage) => (
        <OutageCard key={outage.id} outage={outage} compact={outage.state !== 'open'} />
      ))}
      <TrafficCharts selector={{ destination: `${namespace}/${name}` }} />
      <Neighbours title="Calls to it" edges={data.inbound} nodes={data.nodes} side="source" />
      <Neighbours title="Calls from it" edges={data.outbound} nodes={data.nodes} side="destination" />
      <Pods pods={data.pods} />
      <div className="two-columns">
        <section className="card" aria-labelledby="policies">
          <div className="card-head">
            <h2 id="policies">Policies that select it</h2>
          </div>
          {data.policies.length === 0 ? (
            <p className="card-body muted">No authorization policy applies to it.</p>
          ) : (
            <table className="table compact">
              <thead>
                <tr>
                  <th scope="col">Policy</th>
                  <th scope="col">Action</th>
                  <th scope="col" className="num">
                    Denied here
                  </th>
                </tr>
              </thead>
              <tbody>
                {data.policies.map((policy) => (
                  <tr key={`${policy.namespace}/${policy.name}`}>
                    <td>
                      <Link to={pathOf('policies', policy.namespace, policy.name)}>
                        {policy.namespace}/{policy.name}
                      </Link>{' '}
                      {!policy.present && <span className="badge">gone</span>}
                    </td>
                    <td>{policy.action}</td>
                    <td className={`num ${policy.denied > 0 ? 'text-failing' : 'muted'}`}>{count(policy.denied)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </section>
        <section className="card" aria-labelledby="identity">
          <div className="card-head">
            <h2 id="identity">Identity and services</h2>
          </div>
          <div className="card-body">
            <dl className="facts">
              <dt>App</dt>
              <dd>{data.app || '–'}</dd>
              <dt>Cluster</dt>
              <dd>{data.cluster || '–'}</dd>
              <dt>Identities</dt>
              <dd>{data.identities.length === 0 ? '–' : data.identities.map((identity) => <div key={identity} className="mono">{identity}</div>)}</dd>
              <dt>Services</dt>
              <dd>
                {data.services.length === 0
                  ? '–'
                  : data.services.map((service) => (
                      <div key={service.name}>
                        <Link to={pathOf('services', service.namespace ?? namespace, service.name)}>{service.name}</Link>
                      </div>
                    ))}
              </dd>
            </dl>
          </div>
        </section>
      </div>
      <Certificates list={data.certificates} />
    </div>
  );
}

function podPrefix(data: Detail): string {
  // Flows name pods; the part that all of them share finds them.
  const names = data.pods.map((pod) => pod.name);
  let prefix = names[0] ?? data.name;
  for (const name of names) while (!name.startsWith(prefix)) prefix = prefix.slice(0, -1);
  return prefix.replace(/-$/, '') || data.name;
}

export function Crumbs({ list, path, name }: { list: string; path: string; name?: ReactNode }) {
  return (
    <nav className="breadcrumb" aria-label="Breadcrumb">
      <Link to={path}>{list}</Link>
      {name && (
        <>
          <Icon name="chevronRight" size={10} /> <span>{name}</span>
        </>
      )}
    </nav>
  );
}

/** Requests, response times and connections of what a selector picks. */
export function TrafficCharts({ selector }: { selector: Record<string, string> }) {
  const key = JSON.stringify(selector);
  const [requests, times, connections, failures] = useMemo<Line[][]>(() => {
    const params = JSON.parse(key) as Record<string, string>;
    return [
      [
        { metric: 'requests', label: 'requests', colour: 'series-1', params },
        { metric: 'errors', label: 'failed', colour: 'failing-line', dash: [5, 3], params },
      ],
      [
        { metric: 'p99', label: 'p99', colour: 'series-3', dash: [2, 3], params },
        { metric: 'p95', label: 'p95', colour: 'series-3', params },
        { metric: 'p50', label: 'p50', colour: 'series-2', params },
      ],
      [
        { metric: 'opened', label: 'opened', colour: 'series-1', params },
        { metric: 'active', label: 'open', colour: 'series-2', dash: [5, 3], params },
      ],
      [{ metric: 'failures', label: 'failed', params: { ...params, by: 'error_type' } }],
    ];
  }, [key]);
  return (
    <div className="charts">
      <div className="card">
        <TimeChart title="Requests" lines={requests!} />
      </div>
      <div className="card">
        <TimeChart title="Response time" note="of requests" lines={times!} />
      </div>
      <div className="card">
        <TimeChart title="Connections" lines={connections!} />
      </div>
      <div className="card">
        <TimeChart title="Failed connections" note="by reason" lines={failures!} name={(labels) => kindLabel(labels['error_type'] ?? 'other')} />
      </div>
    </div>
  );
}

export function Pods({ pods, title }: { pods: (Pod & { namespace?: string; workload?: { namespace?: string; name: string } })[]; title?: string }) {
  if (pods.length === 0) return null;
  const named = pods.some((pod) => pod.workload);
  return (
    <section className="card" aria-label="Pods">
      <div className="card-head">
        <h2>{title ?? plural(pods.length, 'pod')}</h2>
      </div>
      <div className="table-scroll">
        <table className="table compact">
          <thead>
            <tr>
              <th scope="col">Pod</th>
              {named && <th scope="col">Workload</th>}
              <th scope="col">Health</th>
              <th scope="col">Node</th>
              <th scope="col">Address</th>
              <th scope="col">Proxy</th>
              <th scope="col" className="num">
                Connections
              </th>
              <th scope="col" className="num">
                Failed
              </th>
              <th scope="col" className="num">
                Requests
              </th>
              <th scope="col" className="num">
                Failed
              </th>
            </tr>
          </thead>
          <tbody>
            {pods.map((pod) => (
              <tr key={`${pod.namespace ?? ''}/${pod.name}`}>
                <td>{pod.name}</td>
                {named && <td>{pod.workload && <Link to={pathOf('workloads', pod.workload.namespace ?? pod.namespace ?? '-', pod.workload.name)}>{pod.workload.name}</Link>}</td>}
                <td>
                  <HealthMark health={pod.healthy ? 'healthy' : 'failing'} />
                </td>
                <td>{pod.node ? <Link to={pathOf('nodes', pod.node)}>{pod.node}</Link> : '–'}</td>
                <td className="mono">{pod.ip || '–'}</td>
                <td>{pod.proxy_state ?? (pod.in_mesh ? '–' : 'none')}</td>
                <td className="num">{count(pod.traffic?.closed)}</td>
                <td className={`num ${pod.traffic?.failed ? 'text-failing' : 'muted'}`}>{count(pod.traffic?.failed)}</td>
                <td className="num">{count(pod.traffic?.requests)}</td>
                <td className={`num ${pod.traffic?.errors ? 'text-failing' : 'muted'}`}>{count(pod.traffic?.errors)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

const SOON_SECONDS = 2 * 3600;

export function Certificates({ list }: { list: Certificate[] }) {
  if (list.length === 0) return null;
  return (
    <section className="card" aria-label="Certificates">
      <div className="card-head">
        <h2>{plural(list.length, 'certificate')}</h2>
      </div>
      <div className="table-scroll">
        <table className="table compact">
          <thead>
            <tr>
              <th scope="col">Identity</th>
              <th scope="col">Node</th>
              <th scope="col">State</th>
              <th scope="col">Issued</th>
              <th scope="col">Expires</th>
              <th scope="col">Root expires</th>
            </tr>
          </thead>
          <tbody>
            {list.map((certificate, i) => {
              const left = certificate.expires_in_seconds;
              return (
                <tr key={i}>
                  <td className="mono">{certificate.identity}</td>
                  <td>{certificate.node}</td>
                  <td className={certificate.state === 'Available' ? '' : 'text-failing'}>{certificate.state}</td>
                  <td>
                    <Time at={certificate.not_before} />
                  </td>
                  <td className={left !== undefined && left < 0 ? 'text-failing' : left !== undefined && left < SOON_SECONDS ? 'text-degraded' : ''}>
                    {left !== undefined && left < 0 && '✕ expired '}
                    <Time at={certificate.not_after} />
                  </td>
                  <td>
                    <Time at={certificate.root_not_after} />
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}
