import { useMemo } from 'react';

import { useCoveredSeconds, useWorkloadGraph } from '../api/graph';
import { useRange, useRanged } from '../api/queries';
import { useSeries } from '../api/series';
import type { Service } from '../api/types';
import { patchQuery, useParam } from '../app/router';
import { HeatMap } from '../charts/HeatMap';
import { TimeChart, type Line } from '../charts/TimeChart';
import { Icon } from '../components/Icon';
import { Link } from '../components/Link';
import { Empty } from '../components/State';
import { TableHead } from '../components/TableHead';
import { millis, percent, rate } from '../domain/format';
import { overviewOf } from '../domain/overview';
import { routesOf } from '../domain/routes';

/** How long requests take (L7), and apart from it how long connections live (L4). */
export default function ResponseTimes() {
  const range = useRange();
  const [service] = useParam('service', '');
  const [route, setRoute] = useParam('route', '');
  const { data: list } = useRanged<{ services: Service[] }>('/services', { limit: 1000 }, { range, everyMs: 30_000 });
  const { data: graph } = useWorkloadGraph({ everyMs: 5000 });
  const params = useMemo(() => ({ ...(service ? { service } : {}), ...(route ? { route } : {}) }), [service, route]);
  const percentiles = useMemo<Line[]>(
    () => [
      { metric: 'p99', label: 'p99', colour: 'series-4', dash: [2, 3], params },
      { metric: 'p95', label: 'p95', colour: 'series-3', params },
      { metric: 'p90', label: 'p90', colour: 'series-5', dash: [6, 3], params },
      { metric: 'p50', label: 'p50', colour: 'series-2', params },
    ],
    [params],
  );
  const requests = useMemo<Line[]>(
    () => [
      { metric: 'requests', label: 'requests', colour: 'series-1', params },
      { metric: 'errors', label: 'failed', colour: 'failing-line', dash: [5, 3], params },
    ],
    [params],
  );
  const lives = useMemo<Line[]>(() => {
    const only = service ? { service } : {};
    return [
      { metric: 'connection_p95', label: 'p95', colour: 'series-3', params: only },
      { metric: 'connection_p50', label: 'p50', colour: 'series-2', params: only },
    ];
  }, [service]);
  const slowest = useMemo(() => (graph ? overviewOf({ ...graph, edges: service ? graph.edges.filter((edge) => edge.service === service) : graph.edges }).slowest : []), [graph, service]);

  return (
    <div className="page detail">
      <div className="page-head">
        <h1>Response times</h1>
        <span className="page-sub">of requests, as waypoints and applications saw them</span>
        <span className="spacer" />
        <select className="select" aria-label="Service" value={service} onChange={(event) => patchQuery({ service: event.target.value, route: undefined })}>
          <option value="">Every service</option>
          {[...new Set([...(service ? [service] : []), ...(list?.services ?? []).map((one) => one.hostname)])].sort().map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        {route && (
          <button type="button" className="button" onClick={() => setRoute('')}>
            {route} <Icon name="close" size={11} />
          </button>
        )}
      </div>
      <div className="charts">
        <div className="card">
          <TimeChart title="Percentiles" lines={percentiles} height={190} />
        </div>
        <div className="card">
          <HeatMap title="Distribution" metric="heatmap" one="request" params={params} height={190} />
        </div>
      </div>
      <Routes service={service} setRoute={(host, name) => (host === service ? setRoute(name) : patchQuery({ service: host, route: name }))} />
      <div className="charts">
        <div className="card">
          <TimeChart title="Requests" lines={requests} />
        </div>
        <section className="card slowest" aria-label="Slowest edges">
          <h2 className="chart-title">Slowest edges, by p95</h2>
          {slowest.length === 0 ? (
            <p className="chart-empty">No response times were measured.</p>
          ) : (
            <ul className="edge-list">
              {slowest.map((row) => (
                <li key={row.id}>
                  <Link to="/graph" params={{ sel: row.id, colour: 'p95' }} className="truncate">
                    {row.source} <Icon name="chevronRight" size={11} /> {row.destination}
                  </Link>
                  <b>{millis(row.metrics.p95)}</b>
                </li>
              ))}
            </ul>
          )}
        </section>
      </div>
      <h2 className="section-title">
        How long connections live <span className="muted">which is no response time: a connection may carry many requests, or wait for none</span>
      </h2>
      <div className="charts">
        <div className="card">
          <TimeChart title="Connection durations" note="L4" lines={lives} />
        </div>
        <div className="card">
          <HeatMap title="Distribution" metric="connection_heatmap" one="connection" params={service ? { service } : {}} />
        </div>
      </div>
    </div>
  );
}

/** The finest step of the history, in seconds. */
const STEP = 5;

/** Every route, the slowest first. */
function Routes({ service: only, setRoute: choose }: { service: string; setRoute: (service: string, route: string) => void }) {
  const range = useRange();
  // One step as long as what is known of the range makes one point of it.
  const step = Math.ceil(useCoveredSeconds() / STEP) * STEP;
  const queries = useMemo(() => {
    const by = { by: 'destination_service,http_route', step, ...(only ? { service: only } : {}) };
    return ['requests', 'errors', 'p50', 'p95', 'p99'].map((metric) => ({ metric, params: by }));
  }, [only, step]);
  const { data, pending } = useSeries(queries, range);
  const rows = routesOf(data);
  if (!pending && rows.length === 0) return <Empty what="No requests were measured">Response times come from waypoints and from applications' spans. Without either, only connections are seen; see below.</Empty>;
  return (
    <div className="card table-scroll">
      <table className="table compact" aria-label="Services and routes">
        <TableHead columns={['Service', 'Route', '#Requests', '#Failed', '#p50', '#p95', '#p99']} />
        <tbody>
          {rows.slice(0, 50).map((row) => (
            <tr key={`${row.service} ${row.route}`} className="link" onClick={() => choose(row.service, row.route)}>
              <td>{row.service}</td>
              <td>
                <button type="button" className="text-button" onClick={() => choose(row.service, row.route)}>
                  {row.route || 'any'}
                </button>
              </td>
              <td className="num">{rate(row.requests)}</td>
              <td className={`num ${row.failed ? 'text-failing' : 'muted'}`}>{percent(row.failed)}</td>
              <td className="num">{millis(row.p50)}</td>
              <td className="num">{millis(row.p95)}</td>
              <td className="num">{millis(row.p99)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
