import { useRange, useRanged } from '../api/queries';
import type { WorkloadDetail as Detail } from '../api/types';
import { pathOf } from '../app/router';
import { TrafficCharts } from '../charts/TrafficCharts';
import { Asked } from '../components/Asked';
import { Certificates } from '../components/Certificates';
import { Changes } from '../components/Changes';
import { Crumbs } from '../components/Crumbs';
import { Findings } from '../components/Findings';
import { HealthMark } from '../components/HealthMark';
import { Icon } from '../components/Icon';
import { Link } from '../components/Link';
import { Neighbours } from '../components/Neighbours';
import { Pods } from '../components/Pods';
import { Empty, Failure, Loading } from '../components/State';
import { TableHead } from '../components/TableHead';
import { count } from '../domain/format';
import { byUrgency, outageAt } from '../domain/outages';
import { OutageCard } from './OutageCard';

export default function WorkloadDetail({ namespace, name }: { namespace: string; name: string }) {
  const range = useRange();
  const { data, error, isPending, refetch } = useRanged<Detail>(pathOf('workloads', namespace, name), {}, { range, everyMs: 3000, keep: false });
  if (error && !data) return <Failure page error={error} retry={() => void refetch()} />;
  if (isPending) return <Loading what="the workload" />;
  if (!data) return <Empty what="Not known" />;
  const id = data.nodes.find((node) => node.namespace === namespace && node.name === name)?.id;
  const outages = data.outages.map((outage) => (range.at === undefined ? outage : outageAt(outage, range.at))).toSorted(byUrgency);
  return (
    <div className="page detail">
      <Crumbs list="Workloads" path="/workloads" name={namespace} />
      <div className="page-head">
        <h1>{data.name}</h1>
        <HealthMark health={data.health} reason={data.health_reason} spelled />
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
      <Findings list={data.findings} />
      <TrafficCharts selector={{ destination: `${namespace}/${name}` }} />
      <Neighbours title="Calls to it" edges={data.inbound} nodes={data.nodes} side="source" />
      <Neighbours title="Calls from it" edges={data.outbound} nodes={data.nodes} side="destination" />
      <Pods pods={data.pods} />
      <Asked asked={data.dns} />
      <Changes namespace={namespace} name={name} />
      <div className="two-columns">
        <section className="card" aria-labelledby="policies">
          <div className="card-head">
            <h2 id="policies">Policies that select it</h2>
          </div>
          {data.policies.length === 0 ? (
            <p className="card-body muted">No authorization policy applies to it.</p>
          ) : (
            <table className="table compact">
              <TableHead columns={['Policy', 'Action', '#Denied here']} />
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
