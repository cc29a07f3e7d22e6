import { useCoveredSeconds } from '../api/graph';
import type { GraphEdge, GraphNode } from '../api/types';
import { pathOf } from '../app/router';
import { bytes, count, millis, percent, rate } from '../domain/format';
import { kindLabel } from '../domain/kinds';
import { share } from '../domain/metrics';
import { HealthIcon } from './HealthMark';
import { Icon } from './Icon';
import { Link } from './Link';
import { TableHead } from './TableHead';

/** The edges of one side of a workload or service, L4 and L7 beside each other. */
export function Neighbours({ title, edges, nodes, side }: { title: string; edges: GraphEdge[]; nodes: GraphNode[]; side: 'source' | 'destination' }) {
  const seconds = useCoveredSeconds();
  const byID = new Map(nodes.map((node) => [node.id, node]));
  const sorted = edges.toSorted((a, b) => b.connections.failed + b.requests.errors - a.connections.failed - a.requests.errors || b.connections.rate - a.connections.rate);
  return (
    <section className="card" aria-label={title}>
      <div className="card-head">
        <h2>{title}</h2>
      </div>
      {edges.length === 0 ? (
        <p className="card-body muted">None in this time.</p>
      ) : (
        <div className="table-scroll">
          <table className="table compact">
            <TableHead columns={[side === 'source' ? 'From' : 'To', 'Service and port', '#Requests', '#Failed', '#p50', '#p95', '#Connections', '#Failed', '#Bytes', '~Encryption']} />
            <tbody>
              {sorted.map((edge) => (
                <Row key={edge.id} edge={edge} party={byID.get(edge[side])} id={edge[side]} seconds={seconds} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Row({ edge, party, id, seconds }: { edge: GraphEdge; party: GraphNode | undefined; id: string; seconds: number }) {
  const { connections, requests, duration_ms: duration } = edge;
  const reasons = Object.entries(edge.failures).map(([type, n]) => `${kindLabel(type)}: ${n}`).join(', ');
  const l7 = requests.total > 0;
  return (
    <tr>
      <td className="nowrap">
        <HealthIcon health={edge.health} />{' '}
        {party && party.type === 'workload' ? <Link to={pathOf('workloads', party.namespace, party.name)}>{party.name}</Link> : (party?.name ?? id)} <span className="muted small">{party?.namespace}</span>
      </td>
      <td>
        <span className="muted">{edge.service || 'by address'}</span> {edge.port > 0 && edge.port} <span className="badge">{edge.protocol}</span>
      </td>
      <td className="num">{l7 ? rate(requests.total / seconds) : '–'}</td>
      <td className={`num ${requests.errors > 0 ? 'text-failing' : 'muted'}`}>{percent(share(requests.errors, requests.total))}</td>
      <td className="num">{millis(duration.p50)}</td>
      <td className="num">{millis(duration.p95)}</td>
      <td className="num">{rate(connections.opened / seconds)}</td>
      <td className={`num ${connections.failed > 0 ? 'text-failing' : 'muted'}`} title={reasons}>
        {count(connections.failed)}
      </td>
      <td className="num">{bytes(edge.bytes.sent + edge.bytes.received)}</td>
      <td>{edge.security === 'mutual_tls' ? <Icon name="lock" size={13} label="mutual TLS" /> : edge.security === 'plaintext' ? <Icon name="unlock" size={13} label="plaintext" /> : null}</td>
    </tr>
  );
}
