import { shownNow, useLatest, useRange } from '../api/queries';
import type { FlowList, Outage, TraceSummary } from '../api/types';
import { pathOf } from '../app/router';
import { Link } from '../components/Link';
import { TableHead } from '../components/TableHead';
import { pairFlows, type FlowPair } from '../domain/flows';
import { bytes, millis } from '../domain/format';
import { kindLabel } from '../domain/kinds';
import { clock, formatWindow, toRFC3339 } from '../domain/time';

const FLOWS = 8;
const TRACES = 8;
const SIDES = { outbound: 'the client saw', inbound: 'the server said' };

/** Single connections that failed, and traces in which the caller met errors, of what fails first in an outage. */
export function OutageSamples({ outage, from, to }: { outage: Outage; from: number; to: number }) {
  const edge = outage.edges?.[0];
  const { at } = useRange();
  // An outage that is open now goes on: no end, so that the questions stay the same.
  const over = outage.state !== 'open' || at !== undefined;
  const range = { start: toRFC3339(from - 1000), ...(over ? { end: toRFC3339(to + 2000) } : {}) };
  const every = { enabled: edge !== undefined, everyMs: over ? 10_000 : 5000 };
  const { data } = useLatest<FlowList>('/flows', { protocol: 'tcp', source: edge?.source.name, destination: edge?.destination.name, ...range, limit: 100 }, every);
  const { data: found } = useLatest<{ traces: TraceSummary[] }>('/traces', { service: edge?.source.name, status: 'error', layer: 'l7', ...range, limit: TRACES }, every);
  const flows = pairFlows((data?.flows ?? []).filter((flow) => flow.verdict !== 'forwarded')).slice(0, FLOWS);
  const known = outage.trace_ids ?? [];
  const traces = (found?.traces ?? []).filter((trace) => !known.includes(trace.trace_id));
  if (flows.length === 0 && known.length === 0 && traces.length === 0) return null;
  const window = { at: toRFC3339(to + 2000), last: formatWindow((to - from) / 1000 + 5) };
  return (
    <section className="card" aria-labelledby="samples">
      <div className="card-head">
        <h2 id="samples">Samples</h2>
        <span className="spacer" />
        {edge && flows.length > 0 && (
          <Link to="/flows" params={{ source: edge.source.name, destination: edge.destination.name, verdict: flows[0]?.flow.verdict, ...window }}>
            All flows of it
          </Link>
        )}
        {edge && traces.length > 0 && (
          <Link to="/traces" params={{ service: edge.source.name, status: 'error', ...window }}>
            All traces of it
          </Link>
        )}
      </div>
      {known.length > 0 && (
        <ul className="trace-links" aria-label="Traces">
          {known.slice(0, 12).map((id) => (
            <li key={id}>
              <Link to={pathOf('traces', id)} className="mono">
                {id.slice(0, 16)}
              </Link>
            </li>
          ))}
        </ul>
      )}
      {flows.length > 0 && <Connections flows={flows} />}
      {traces.length > 0 && <Requests traces={traces} />}
    </section>
  );
}

function Connections({ flows }: { flows: FlowPair[] }) {
  return (
    <div className="table-scroll">
      <table className="table compact" aria-label="Connections that failed">
        <TableHead columns={['Closed', 'From', 'To', 'Why', '#Bytes', '#Duration']} />
        <tbody>
          {flows.map(({ flow, other }) => (
            <tr key={flow.cursor}>
              <td className="nowrap">{clock(Date.parse(flow.time), shownNow())}</td>
              <td className="nowrap">{flow.source.pod ?? flow.source.address}</td>
              <td className="nowrap">{flow.destination.pod ?? flow.destination.address}</td>
              <td>
                <span className="text-failing">{kindLabel(flow.reason ?? flow.verdict)}</span> <span className="muted small">{flow.message}</span>
                {other?.message && other.message !== flow.message && (
                  <div className="muted small">
                    {SIDES[other.direction!]}: {other.message}
                  </div>
                )}
              </td>
              <td className="num">{bytes(flow.bytes_sent + flow.bytes_received)}</td>
              <td className="num">{millis(flow.duration_ms)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Requests({ traces }: { traces: TraceSummary[] }) {
  return (
    <div className="table-scroll">
      <table className="table compact" aria-label="Traces with errors">
        <TableHead columns={['Trace', 'Began', '#Errors', '#Duration']} />
        <tbody>
          {traces.map((trace) => (
            <tr key={trace.trace_id}>
              <td>
                <Link to={pathOf('traces', trace.trace_id)}>
                  <b>{trace.root_service}</b> {trace.root_operation}
                </Link>
              </td>
              <td className="nowrap">{clock(Date.parse(trace.start), shownNow())}</td>
              <td className="num text-failing">{trace.errors}</td>
              <td className="num">{millis(trace.duration_ms)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
