import type { Pod } from '../api/types';
import { pathOf } from '../app/router';
import { count, plural } from '../domain/format';
import { HealthMark } from './HealthMark';
import { Link } from './Link';
import { TableHead } from './TableHead';

/** Whether a pod's traffic is carried by its node's ztunnel, in words. */
const CAPTURE: Record<Pod['capture'], { text: string; badge?: string }> = {
  captured: { text: 'captured' },
  pending: { text: 'pending', badge: 'badge failing' },
  not_captured: { text: 'not captured', badge: 'muted' },
  unknown: { text: '–' },
};

/** Pods with their state and, where it is known, what happened at each; columns that say the same in every row are left out. */
export function Pods({ pods, title, node }: { pods: (Pod & { namespace?: string; workload?: { namespace?: string; name: string } })[]; title?: string; node?: string }) {
  if (pods.length === 0) return null;
  const named = pods.some((pod) => pod.workload);
  const measured = pods.some((pod) => pod.traffic);
  return (
    <section className="card" aria-label="Pods">
      <div className="card-head">
        <h2>{title ?? plural(pods.length, 'pod')}</h2>
      </div>
      <div className="table-scroll">
        <table className="table compact">
          <TableHead columns={['Pod', named && 'Workload', 'Health', node === undefined && 'Node', 'Address', 'ztunnel now', ...(measured ? ['#Connections', '#Failed', '#Requests', '#Failed'] : [])]} />
          <tbody>
            {pods.map((pod) => (
              <tr key={`${pod.namespace ?? ''}/${pod.name}`}>
                <td>{pod.name}</td>
                {named && <td>{pod.workload && <Link to={pathOf('workloads', pod.workload.namespace ?? pod.namespace ?? '-', pod.workload.name)}>{pod.workload.name}</Link>}</td>}
                <td>
                  <HealthMark health={pod.healthy ? 'healthy' : 'failing'} />
                </td>
                {node === undefined && <td>{pod.node ? <Link to={pathOf('nodes', pod.node)}>{pod.node}</Link> : '–'}</td>}
                <td className="mono">{pod.ip || '–'}</td>
                <td>
                  <span className={CAPTURE[pod.capture].badge} title={pod.detail}>
                    {CAPTURE[pod.capture].text}
                  </span>
                </td>
                {measured && (
                  <>
                    <td className="num">{count(pod.traffic?.closed)}</td>
                    <td className={`num ${pod.traffic?.failed ? 'text-failing' : 'muted'}`}>{count(pod.traffic?.failed)}</td>
                    <td className="num">{count(pod.traffic?.requests)}</td>
                    <td className={`num ${pod.traffic?.errors ? 'text-failing' : 'muted'}`}>{count(pod.traffic?.errors)}</td>
                  </>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
