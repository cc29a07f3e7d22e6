import { useMemo } from 'react';

import { useRange, useRanged } from '../api/queries';
import type { PolicyDetail, PolicyList as Answer } from '../api/types';
import { href, navigate, pathOf } from '../app/router';
import type { PageProps } from '../app/page';
import { TimeChart, type Line } from '../charts/TimeChart';
import type { ColumnDef } from '../components/DataTable';
import { Crumbs } from '../components/Crumbs';
import { Changes } from '../components/Changes';
import { Link } from '../components/Link';
import { ListPage } from '../components/ListPage';
import { Failure, Loading } from '../components/State';
import { TableHead } from '../components/TableHead';
import { count, percent } from '../domain/format';
import { sentence } from '../domain/kinds';
import { share } from '../domain/metrics';
import { subjectName } from '../domain/outages';
import { policySentences } from '../domain/policy';

type Row = Answer['policies'][number];

const rowsOf = (answer: Answer) => answer.policies;

export default function Policies({ parts }: PageProps) {
  const [, namespace, name] = parts;
  return namespace !== undefined && name !== undefined ? <Detail namespace={namespace} name={name} /> : <PolicyList />;
}

function PolicyList() {
  const columns = useMemo<ColumnDef<Row, unknown>[]>(
    () => [
      {
        id: 'name', header: 'Policy', accessorKey: 'name',
        cell: ({ row: { original: p } }) => (
          <>
            <Link to={pathOf('policies', p.namespace, p.name)}>{p.name}</Link> {!p.present && <span className="badge">gone</span>} {p.at_waypoint && <span className="badge">at a waypoint</span>} {p.dry_run && <span className="badge accent">dry run</span>}
          </>
        ),
      },
      { id: 'namespace', header: 'Namespace', accessorKey: 'namespace' },
      { id: 'action', header: 'Action', accessorKey: 'action' },
      { id: 'scope', header: 'Scope', accessorKey: 'scope', cell: ({ getValue }) => scope(getValue() as string) },
      { id: 'selects', header: 'Selects', meta: 'num', accessorKey: 'selects', cell: ({ getValue }) => count(getValue() as number) },
      { id: 'denied', header: 'Denied', meta: 'num', accessorKey: 'denied', cell: ({ getValue }) => <span className={(getValue() as number) > 0 ? 'text-failing' : 'muted'}>{count(getValue() as number)}</span> },
    ],
    [],
  );
  return (
    <ListPage<Row, Answer>
      title="Policies"
      one="policy"
      many="policies"
      none="istiod has sent no AuthorizationPolicy, and none denied anything in this time."
      path="/policies"
      rowsOf={rowsOf}
      columns={columns}
      rowKey={(p) => `${p.namespace}/${p.name}`}
      sort="-denied"
      onOpen={(p) => navigate(href(pathOf('policies', p.namespace, p.name)))}
    />
  );
}

function scope(name: string): string {
  return { GLOBAL: 'Whole mesh', NAMESPACE: 'Namespace', WORKLOAD_SELECTOR: 'Selected workloads' }[name] ?? sentence(name.toLowerCase());
}

function Detail({ namespace, name }: { namespace: string; name: string }) {
  const range = useRange();
  const { data, error, refetch } = useRanged<PolicyDetail>(pathOf('policies', namespace, name), {}, { range, everyMs: 3000, keep: false });
  const lines = useMemo<Line[]>(() => {
    const params = { policy: `${namespace}/${name}` };
    return [
      { metric: 'failures', label: 'connections', colour: 'failing-line', params },
      { metric: 'denied_requests', label: 'requests', colour: 'degraded-line', params },
    ];
  }, [namespace, name]);
  if (error && !data) return <Failure page error={error} retry={() => void refetch()} />;
  if (!data) return <Loading what="the policy" />;
  return (
    <div className="page detail">
      <Crumbs list="Policies" path="/policies" name={namespace} />
      <div className="page-head">
        <h1>{data.name}</h1>
        {data.action !== 'UNKNOWN' && <span className={`badge ${data.action === 'DENY' ? 'degraded' : ''}`}>{data.action}</span>}
        {data.scope !== 'UNKNOWN' && <span className="badge">{scope(data.scope)}</span>}
        {data.dry_run && <span className="badge accent">dry run</span>}
        {data.at_waypoint && <span className="badge">at a waypoint</span>}
        {!data.present && <span className="badge failing">{range.at === undefined ? 'gone from the mesh' : 'gone by now'}</span>}
      </div>
      <section className="card" aria-label="Rules">
        <div className="card-head">
          <h2>Rules</h2>
        </div>
        <RulesInWords action={data.action} rules={data.rules} atWaypoint={data.at_waypoint ?? false} />
      </section>
      <div className="two-columns">
        <div className="card chart-card">
          <TimeChart title="Denied" lines={lines} />
        </div>
        <section className="card" aria-label="Selected workloads">
          <div className="card-head">
            <h2>Applies to</h2>
          </div>
          {data.workloads.length === 0 ? (
            <p className="card-body muted">{data.at_waypoint ? 'The services of a waypoint. ztunnels are not told of it, so what it says is not known here.' : data.present ? 'It selects no workload.' : 'Nothing any more: the policy is gone from the mesh by now.'}</p>
          ) : (
            <ul className="impact">
              {data.workloads.map((workload) => (
                <li key={subjectName(workload)}>
                  <Link to={pathOf('workloads', workload.namespace ?? namespace, workload.name)}>{subjectName(workload)}</Link>
                </li>
              ))}
            </ul>
          )}
        </section>
      </div>
      <section className="card" aria-label="What it denied">
        <div className="card-head">
          <h2>What it denied</h2>
          <span className="muted">{count(data.denied)} in this time</span>
        </div>
        {data.denied_on.length === 0 ? (
          <p className="card-body muted">Nothing in this time.</p>
        ) : (
          <div className="table-scroll">
            <table className="table compact">
              <TableHead columns={['From', 'To', 'Service and port', '#Denied', '#Of', '#Share']} />
              <tbody>
                {data.denied_on.map((edge, i) => (
                  <tr key={i}>
                    <td>{subjectName(edge.source)}</td>
                    <td>{subjectName(edge.destination)}</td>
                    <td>
                      <span className="muted">{edge.service}</span> {edge.port}
                    </td>
                    <td className="num text-failing">{count(edge.denied)}</td>
                    <td className="num">{count(edge.closed)}</td>
                    <td className="num">{percent(share(edge.denied, edge.closed))}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
      <Changes namespace={namespace} name={name} />
    </div>
  );
}

/** Sentences, the raw form folded below; the raw form alone where this build has no words for it. */
function RulesInWords({ action, rules, atWaypoint }: { action: string; rules: unknown; atWaypoint: boolean }) {
  const sentences = policySentences(action, rules);
  const raw = (
    <pre className="rules" tabIndex={0}>
      {rulesText(rules)}
    </pre>
  );
  if (!sentences) return action === 'UNKNOWN' ? <p className="card-body muted">{atWaypoint ? 'It is a waypoint’s: ztunnels are not told what it says.' : 'The policy was gone before this collector could read it.'}</p> : raw;
  return (
    <>
      <ul className="rule-sentences">
        {sentences.map((text, i) => (
          <li key={i}>{text}</li>
        ))}
      </ul>
      <details className="rules-raw">
        <summary>As istiod sent them</summary>
        {raw}
      </details>
    </>
  );
}

function rulesText(rules: unknown): string {
  if (rules === undefined || rules === null || rules === '') return 'none';
  if (typeof rules !== 'string') return JSON.stringify(rules, null, 2);
  try {
    return JSON.stringify(JSON.parse(rules), null, 2);
  } catch {
    return rules;
  }
}
