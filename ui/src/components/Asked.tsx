import type { WorkloadDetail } from '../api/types';
import { count, millis, percent, plural } from '../domain/format';
import { TableHead } from './TableHead';

/** What was asked of ztunnels' DNS proxies: nothing where nothing was. */
export function Asked({ asked }: { asked: WorkloadDetail['dns'] }) {
  const shared = asked.shared && asked.shared.queries > 0 ? asked.shared : undefined;
  if (asked.queries === 0 && asked.failing_names.length === 0 && !shared) return null;
  return (
    <section className="card" aria-label="Names">
      <div className="card-head">
        <h2>Names</h2>
        <span className="page-sub">asked of ztunnel</span>
      </div>
      <div className="card-body">
        <dl className="facts">
          <dt>Queries</dt>
          <dd>{count(asked.queries)}</dd>
          <dt>Forwarded</dt>
          <dd>
            {count(asked.forwarded)} <span className="muted">{asked.queries > 0 && percent(asked.forwarded / asked.queries)}</span>
          </dd>
          <dt>Without an address</dt>
          <dd>
            {count(asked.failed)} <span className="muted">{asked.forwarded > 0 && `${percent(asked.failed / asked.forwarded)} of those forwarded; search domains make most fail`}</span>
          </dd>
          {asked.latency_ms.p50 !== undefined && (
            <>
              <dt>Resolver took</dt>
              <dd>
                {millis(asked.latency_ms.p50)} <span className="muted">median, {millis(asked.latency_ms.p99)} p99</span>
              </dd>
            </>
          )}
        </dl>
        {shared && (
          <p className="muted">
            {plural(shared.queries, 'more query', 'more queries')}, {count(shared.failed)} without an address, are not told apart from those of{' '}
            {shared.with.map((name) => `${name.namespace}/${name.name}`).join(', ')}, which has the same name on the same node.
          </p>
        )}
      </div>
      {asked.failing_names.length > 0 && (
        <div className="table-scroll">
          <table className="table compact">
            <TableHead columns={['Name not resolved', 'Why', '#Times']} />
            <tbody>
              {asked.failing_names.map((name) => (
                <tr key={`${name.name} ${name.result}`}>
                  <td className="mono">{name.name}</td>
                  <td>{name.result.replaceAll('_', ' ')}</td>
                  <td className="num">{count(name.count)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
