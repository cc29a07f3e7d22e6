import '../styles/endpoints.css';
import '../styles/flows.css';
import '../styles/graph.css';

import { useMemo } from 'react';

import { shownNow, useRange, useRanged } from '../api/queries';
import type { APIEndpoint, EndpointList } from '../api/types';
import { patchQuery, pathOf, useParam } from '../app/router';
import { CodeBar, Codes } from '../components/CodeBar';
import { DataTable, type ColumnDef } from '../components/DataTable';
import { Icon } from '../components/Icon';
import { Link } from '../components/Link';
import { SearchField } from '../components/ListPage';
import { SideFrame } from '../components/SideFrame';
import { Sparkline } from '../components/Sparkline';
import { Empty, Failure, Loading } from '../components/State';
import { TableHead } from '../components/TableHead';
import { Time } from '../components/Time';
import { callerName, endpointKey, matrixOf, requestSource, searchEndpoints, serviceName, sortEndpoints, type Order } from '../domain/endpoints';
import { count, millis, percent, plural, rate } from '../domain/format';

const POINTS = 30;
const MOST = 2000;
const ROWS = 200;
const CALLERS = 30;

const ORDERS: Record<Order, string> = { errors: 'Most errors', latency: 'Slowest', rate: 'Most requests', path: 'By path' };

/** The endpoints of services: which methods and paths they are asked for, by whom, and how that goes. */
export default function Endpoints() {
  const range = useRange();
  const [namespace] = useParam('namespace', '');
  const [service, setService] = useParam('service', '');
  const [q, setQ] = useParam('q', '', { replace: true });
  const [view, setView] = useParam('view', 'table');
  const [order, setOrder] = useParam('order', 'errors');
  const [silent, setSilent] = useParam('silent', '');
  const [selected, select] = useParam('sel', '');
  const { data, error, isPending, refetch } = useRanged<EndpointList>('/endpoints', { points: POINTS, limit: MOST, silent: silent ? true : undefined }, { range, everyMs: 3000 });
  const all = useMemo(() => data?.endpoints ?? [], [data]);
  const namespaces = useMemo(() => [...new Set([...(namespace ? [namespace] : []), ...all.map((one) => one.namespace).filter(Boolean)])].sort(), [all, namespace]);
  const services = useMemo(
    () => [...new Set([...(service ? [service] : []), ...all.filter((one) => !namespace || one.namespace === namespace).map((one) => one.service)])].sort(),
    [all, namespace, service],
  );
  const shown = useMemo(
    () => searchEndpoints(all.filter((one) => (!namespace || one.namespace === namespace) && (!service || one.service === service)), q),
    [all, namespace, service, q],
  );
  const open = selected ? all.find((one) => endpointKey(one) === selected) : undefined;
  const choose = (endpoint: APIEndpoint) => select(endpointKey(endpoint) === selected ? '' : endpointKey(endpoint));
  const filtered = q !== '' || namespace !== '' || service !== '';
  return (
    <div className="endpoints-page">
      <div className="flows-head">
        <h1>API endpoints</h1>
        {data && (
          <span className="page-sub">
            {plural(shown.length, 'endpoint')} of {plural(new Set(shown.map(serviceName)).size, 'service')}
            {data.total > all.length && `, the first ${count(all.length)} of ${count(data.total)} searched`}
          </span>
        )}
        <span className="spacer" />
        <span className="button-group" role="group" aria-label="View">
          <button type="button" className="button" aria-pressed={view !== 'matrix'} onClick={() => setView('table')}>
            Table
          </button>
          <button type="button" className="button" aria-pressed={view === 'matrix'} onClick={() => setView('matrix')}>
            Callers
          </button>
        </span>
      </div>
      <div className="flows-filters toolbar" role="search" aria-label="Filter endpoints">
        <Select label="Namespace" value={namespace} set={(value) => patchQuery({ namespace: value || undefined, service: undefined })} any="All namespaces" options={namespaces} />
        <Select label="Service" value={service} set={setService} any="Every service" options={services} />
        <SearchField value={q} set={setQ} label="Search endpoints" placeholder="Method, path or caller" />
        {view === 'matrix' && (
          <select className="select" aria-label="Order" value={order in ORDERS ? order : 'errors'} onChange={(event) => setOrder(event.target.value)}>
            {Object.entries(ORDERS).map(([name, label]) => (
              <option key={name} value={name}>
                {label}
              </option>
            ))}
          </select>
        )}
        <label className="field">
          <input type="checkbox" checked={silent !== ''} onChange={(event) => setSilent(event.target.checked ? '1' : '')} /> Also silent ones
        </label>
      </div>
      {error && !data ? (
        <Failure error={error} retry={() => void refetch()} />
      ) : isPending ? (
        <Loading what="endpoints" />
      ) : shown.length === 0 ? (
        <Empty what={filtered ? 'No endpoint matches' : 'No request was seen'}>
          {filtered ? 'Try fewer filters, or a longer time.' : "Requests come from waypoints' and gateways' access logs and from applications' spans. ztunnels alone see connections only."}
        </Empty>
      ) : (
        <div className="endpoints-body">
          <div className="endpoints-main" tabIndex={0} role="region" aria-label={view === 'matrix' ? 'Callers and endpoints' : 'Endpoints'}>
            {view === 'matrix' ? <MatrixView endpoints={sortEndpoints(shown, order in ORDERS ? (order as Order) : 'errors')} choose={choose} /> : <TableView endpoints={shown} choose={choose} />}
            {data.kept_since && (
              <p className="muted small endpoints-note">
                All requests are counted since <Time at={data.kept_since} absolute />; earlier counts made room for newer ones.
              </p>
            )}
          </div>
          {open && <EndpointPanel endpoint={open} close={() => select('')} />}
        </div>
      )}
    </div>
  );
}

function Select({ label, value, set, any, options }: { label: string; value: string; set: (value: string) => void; any: string; options: string[] }) {
  return (
    <select className="select" aria-label={label} value={value} onChange={(event) => set(event.target.value)}>
      <option value="">{any}</option>
      {options.map((option) => (
        <option key={option}>{option}</option>
      ))}
    </select>
  );
}

function share(endpoint: { requests: { total: number; errors: number } }): number {
  return endpoint.requests.total === 0 ? 0 : endpoint.requests.errors / endpoint.requests.total;
}

/** What came after the shown moment has a clock time: nothing is going to happen there. */
function LastSeen({ at }: { at: string }) {
  return <Time at={at} absolute={Date.parse(at) > shownNow()} />;
}

function TableView({ endpoints, choose }: { endpoints: APIEndpoint[]; choose: (endpoint: APIEndpoint) => void }) {
  const columns = useMemo<ColumnDef<APIEndpoint, unknown>[]>(
    () => [
      {
        id: 'path', header: 'Endpoint', accessorFn: (e) => `${e.path} ${e.method}`,
        cell: ({ row: { original: e } }) => (
          <button type="button" className="text-button endpoint-path" onClick={() => choose(e)}>
            <span className="endpoint-method">{e.method}</span> {e.path} {e.new && <span className="badge accent">new</span>}
            {e.requests.total === 0 && <span className="badge">silent</span>}
          </button>
        ),
      },
      { id: 'service', header: 'Service', accessorFn: serviceName },
      {
        id: 'rate', header: 'Requests', meta: 'num', accessorFn: (e) => e.requests.total,
        cell: ({ row: { original: e } }) => (
          <span className="endpoint-rate">
            <Sparkline values={e.series?.requests ?? []} width={72} height={20} label={`${e.method} ${e.path}: requests`} /> {rate(e.requests.rate)}
          </span>
        ),
      },
      { id: 'errors', header: 'Errors', meta: 'num', accessorFn: share, cell: ({ row: { original: e } }) => <span className={e.requests.errors > 0 ? 'text-failing' : 'muted'}>{percent(share(e))}</span> },
      { id: 'codes', header: 'Status', enableSorting: false, cell: ({ row: { original: e } }) => <CodeBar byCode={e.requests.by_code} /> },
      { id: 'p50', header: 'p50', meta: 'num', accessorFn: (e) => e.duration_ms['p50'] ?? -1, cell: ({ row: { original: e } }) => millis(e.duration_ms['p50']) },
      { id: 'p95', header: 'p95', meta: 'num', accessorFn: (e) => e.duration_ms['p95'] ?? -1, cell: ({ row: { original: e } }) => millis(e.duration_ms['p95']) },
      { id: 'callers', header: 'Callers', meta: 'num', accessorKey: 'caller_count' },
      { id: 'last_seen', header: 'Last asked for', accessorKey: 'last_seen', cell: ({ row: { original: e } }) => <LastSeen at={e.last_seen} /> },
    ],
    [choose],
  );
  return <DataTable rows={endpoints} columns={columns} label="Endpoints" rowKey={endpointKey} sort="-errors" onOpen={choose} />;
}

/** How a caller's requests go, for a cell's colour; like the health of edges. */
function toneOf(requests: number, errors: number): string {
  const failed = errors / requests;
  return failed >= 0.2 ? 'failing' : failed >= 0.01 ? 'degraded' : '';
}

function MatrixView({ endpoints, choose }: { endpoints: APIEndpoint[]; choose: (endpoint: APIEndpoint) => void }) {
  const matrix = useMemo(() => matrixOf(endpoints, ROWS, CALLERS), [endpoints]);
  if (matrix.rows.length === 0) return <Empty what="No endpoint was asked for in this time" />;
  const more = [matrix.moreCallers > 0 && plural(matrix.moreCallers, 'caller'), matrix.moreRows > 0 && plural(matrix.moreRows, 'endpoint')].filter(Boolean).join(' and ');
  return (
    <>
      <table className="matrix" aria-label="Callers and endpoints">
        <thead>
          <tr>
            <th scope="col">Endpoint</th>
            {matrix.callers.map((caller) => (
              <th key={caller.key} scope="col" title={caller.key}>
                {caller.namespace && <span className="muted">{caller.namespace}/</span>}
                {caller.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {matrix.rows.map(({ endpoint, cells }) => (
            <tr key={endpointKey(endpoint)}>
              <th scope="row" title={`${endpoint.method} ${endpoint.path} of ${serviceName(endpoint)}`}>
                <button type="button" className="text-button endpoint-path" onClick={() => choose(endpoint)}>
                  <span className="endpoint-method">{endpoint.method}</span> {endpoint.path}
                </button>
                <div className="muted small truncate">{serviceName(endpoint)}</div>
              </th>
              {cells.map((cell, i) => (
                <td key={matrix.callers[i]!.key}>
                  {cell && (
                    <button
                      type="button"
                      className={`cell ${toneOf(cell.requests, cell.errors)}`}
                      title={`${callerName(cell)}: ${plural(cell.requests, 'request')}, ${plural(cell.errors, 'error')}`}
                      onClick={() => choose(endpoint)}
                    >
                      <Sparkline values={cell.series?.requests ?? []} width={90} height={18} label={`${callerName(cell)} to ${endpoint.method} ${endpoint.path}`} />
                      <span className="cell-counts">
                        <span>{count(cell.requests)}</span>
                        {cell.errors > 0 && <span className="text-failing">{count(cell.errors)} ✕</span>}
                      </span>
                    </button>
                  )}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {more && <p className="muted small endpoints-note">{more} more; filter to see them.</p>}
    </>
  );
}

function EndpointPanel({ endpoint: e, close }: { endpoint: APIEndpoint; close: () => void }) {
  const name = e.namespace ? pathOf('services', e.namespace, e.service) : undefined;
  return (
    <SideFrame label="Endpoint" title={<span className="endpoint-path">{`${e.method} ${e.path}`}</span>} sub={name ? <Link to={name}>{serviceName(e)}</Link> : e.service} close={close}>
      <div className="side-row">
        <Link to="/flows" params={{ protocol: 'http', path: e.path.replace(/\/\*$/, ''), method: e.method, destination: e.namespace ? `${e.service}.${e.namespace}.svc.cluster.local` : e.service }} className="button small">
          <Icon name="flows" size={13} /> Requests
        </Link>
        <Link to="/traces" params={{ service: e.service, operation: e.path }} className="button small">
          <Icon name="traces" size={13} /> Traces
        </Link>
      </div>
      <section>
        <h3>Requests</h3>
        <Sparkline values={e.series?.requests ?? []} width={310} height={44} label="Requests" />
        <dl className="facts">
          <dt>In this time</dt>
          <dd>
            {count(e.requests.total)}, {rate(e.requests.rate)}
          </dd>
          <dt>Errors</dt>
          <dd className={e.requests.errors > 0 ? 'text-failing' : undefined}>
            {count(e.requests.errors)} ({percent(share(e))})
          </dd>
          <dt>First seen</dt>
          <dd>
            <Time at={e.first_seen} absolute />
          </dd>
          <dt>Last seen</dt>
          <dd>
            <LastSeen at={e.last_seen} />
          </dd>
          <dt>Counted from</dt>
          <dd>{requestSource(e.source)}</dd>
        </dl>
      </section>
      <section>
        <h3>Status</h3>
        <Codes byCode={e.requests.by_code} />
      </section>
      <section>
        <h3>Response time</h3>
        <dl className="facts">
          {['p50', 'p90', 'p95', 'p99'].map((quantile) => (
            <Quantile key={quantile} name={quantile} value={e.duration_ms[quantile]} />
          ))}
        </dl>
      </section>
      <section>
        <h3>
          Callers <span className="muted">{e.caller_count}</span>
        </h3>
        <table className="table compact side-table callers" aria-label="Callers">
          <TableHead columns={['Caller', '#Requests', '#Errors']} />
          <tbody>
            {e.callers.map((caller) => (
              <tr key={callerName(caller)}>
                <td className="truncate" title={callerName(caller)}>
                  {caller.namespace ? <Link to={pathOf('workloads', caller.namespace, caller.name)}>{caller.name}</Link> : caller.name}
                </td>
                <td className="num">{count(caller.requests)}</td>
                <td className={`num ${caller.errors > 0 ? 'text-failing' : 'muted'}`}>{count(caller.errors)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </SideFrame>
  );
}

function Quantile({ name, value }: { name: string; value: number | undefined }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{millis(value)}</dd>
    </>
  );
}
