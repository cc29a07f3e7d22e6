import '../styles/traces.css';

import { useEffect, useMemo, useRef, useState } from 'react';

import type { Params } from '../api/client';
import { useLatest, useRange, useRanged } from '../api/queries';
import type { SpanCounts, TraceSummary } from '../api/types';
import { href, navigate, patchQuery, pathOf, useParam } from '../app/router';
import type { PageProps } from '../app/page';
import { Icon } from '../components/Icon';
import { KeptSince } from '../components/KeptSince';
import { Link } from '../components/Link';
import { SearchField } from '../components/ListPage';
import { Empty, Failure, Loading } from '../components/State';
import { Time } from '../components/Time';
import { millis, plural } from '../domain/format';
import { HeatGrid } from '../charts/HeatMap';
import { Scatter } from '../charts/Scatter';
import { heatOfSpans } from '../domain/heat';
import { formatWindow, toRFC3339 } from '../domain/time';
import { CompareTraces } from './CompareTraces';
import TraceDetail from './TraceDetail';

export default function Traces({ parts }: PageProps) {
  if (parts[1] === undefined) return <Search />;
  return parts[1] === 'compare' ? <CompareTraces /> : <TraceDetail id={parts[1]} />;
}

function Search() {
  const range = useRange();
  const [service, setService] = useParam('service', '');
  const [operation, setOperation] = useParam('operation', '');
  const [attributes, setAttributes] = useParam('attributes', '', { replace: true });
  const [min, setMin] = useParam('min', '', { replace: true });
  const [max, setMax] = useParam('max', '', { replace: true });
  const [status, setStatus] = useParam('status', '');
  const [layer, setLayer] = useParam('layer', 'l7');
  const [order, setOrder] = useParam('order', 'newest', { replace: true });
  const [limit, setLimit] = useParam('limit', '100', { replace: true });
  const [cursor, setCursor] = useParam('cursor', '');
  const [picked, setPicked] = useState<string[]>([]);
  const wanted = { service, operation, attributes, min_duration: asDuration(min), max_duration: asDuration(max), status, layer: layer === 'any' ? '' : layer };
  const params = { ...wanted, order: SERVER_ORDERS[order] ?? '', limit, cursor };
  // A cursor is one of the list that was asked for before.
  const list = JSON.stringify([wanted, order, limit, range]);
  const before = useRef(list);
  useEffect(() => {
    if (before.current !== list) setCursor('');
    before.current = list;
  }, [list, setCursor]);
  const { data, error, isPending, refetch } = useRanged<{ traces: TraceSummary[]; next_cursor?: string }>('/traces', params, { range, everyMs: 3000 });
  const { data: known } = useLatest<{ services: { name: string; operations: string[] }[] }>('/operations', {}, { everyMs: 30_000 });
  const traces = useMemo(() => (data?.traces ?? []).toSorted(ORDERS[order] ?? ORDERS['newest']!), [data, order]);
  const operations = known?.services.filter((one) => !service || one.name === service).flatMap((one) => one.operations) ?? [];
  const slowest = Math.max(1, ...traces.map((trace) => trace.duration_ms));

  return (
    <div className="page">
      <div className="page-head">
        <h1>Traces</h1>
        {data && <span className="page-sub">{plural(traces.length, 'trace')}{data.next_cursor ? ', more exist' : ''}</span>}
        <KeptSince kind="spans" />
        <span className="spacer" />
        <button type="button" className="button" disabled={picked.length !== 2} onClick={() => navigate(href('/traces/compare', { a: picked[0], b: picked[1] }))}>
          <Icon name="compare" size={14} /> Compare {picked.length > 0 ? `(${picked.length} of 2)` : 'two'}
        </button>
      </div>
      <div className="toolbar trace-filters" role="search" aria-label="Search traces">
        <select className="select" aria-label="Service" value={service} onChange={(event) => patchQuery({ service: event.target.value, operation: undefined })}>
          <option value="">Every service</option>
          {[...new Set([...(service ? [service] : []), ...(known?.services ?? []).map((one) => one.name)])].sort().map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <select className="select operation" aria-label="Operation or route" value={operation} onChange={(event) => setOperation(event.target.value)}>
          <option value="">Every operation</option>
          {[...new Set([...(operation ? [operation] : []), ...operations])].sort().map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <SearchField value={attributes} set={setAttributes} label="Attributes" placeholder="Attribute: key=value" />
        <SearchField value={min} set={setMin} label="Shortest duration" placeholder="At least, as 20ms" />
        <SearchField value={max} set={setMax} label="Longest duration" placeholder="At most, as 2s" />
        <select className="select" aria-label="Status" value={status} onChange={(event) => setStatus(event.target.value)}>
          <option value="">Every status</option>
          <option value="error">Errors</option>
          <option value="ok">OK</option>
          <option value="unset">Unset</option>
        </select>
        <select className="select" aria-label="Layer" value={layer} onChange={(event) => setLayer(event.target.value)}>
          <option value="l7">With requests</option>
          <option value="l4">With connections</option>
          <option value="any">Both layers</option>
        </select>
        <select className="select" aria-label="At most" value={limit} onChange={(event) => setLimit(event.target.value)}>
          {['20', '100', '500', '1000'].map((one) => (
            <option key={one} value={one}>
              at most {one}
            </option>
          ))}
        </select>
      </div>
      {service !== '' && known && !known.services.some((one) => one.name === service) && (
        <p className="muted trace-hint">
          No span names a service “{service}”. <button type="button" className="text-button" onClick={() => setService('')}>Search in all</button>
        </p>
      )}
      <SpanHeat params={wanted} />
      {error && !data ? (
        <Failure error={error} retry={() => void refetch()} />
      ) : isPending ? (
        <Loading what="traces" />
      ) : traces.length === 0 ? (
        <Empty what="No trace matches" />
      ) : (
        <>
          <section className="card scatter-card" aria-label="Durations over time">
            <Scatter
              points={traces.map((trace) => ({ id: trace.trace_id, time: Date.parse(trace.start), value: trace.duration_ms, size: trace.spans, failed: trace.errors > 0, label: `${trace.root_service}: ${trace.root_operation}` }))}
              format={millis}
              onOpen={(id) => navigate(href(pathOf('traces', id)))}
            />
          </section>
          <div className="card table-scroll">
            <table className="table" aria-label="Traces">
              <thead>
                <tr>
                  <th scope="col">
                    <span className="visually-hidden">Compare</span>
                  </th>
                  <th scope="col">Trace</th>
                  <SortHeader name="newest" label="Began" order={order} set={setOrder} />
                  <SortHeader name="longest" label="Duration" order={order} set={setOrder} num />
                  <SortHeader name="spans" label="Spans" order={order} set={setOrder} num />
                  <SortHeader name="errors" label="Errors" order={order} set={setOrder} num />
                  <th scope="col">Services</th>
                </tr>
              </thead>
              <tbody>
                {traces.map((trace) => (
                  <tr key={trace.trace_id} className="link" onClick={(event) => !(event.target as HTMLElement).closest('a, input, label') && navigate(href(pathOf('traces', trace.trace_id)))}>
                    <td className="pick">
                      <input
                        type="checkbox"
                        aria-label={`Compare ${trace.root_operation}`}
                        checked={picked.includes(trace.trace_id)}
                        onChange={(event) => setPicked(event.target.checked ? [...picked, trace.trace_id].slice(-2) : picked.filter((id) => id !== trace.trace_id))}
                      />
                    </td>
                    <td>
                      <Link to={pathOf('traces', trace.trace_id)}>
                        <b>{trace.root_service}</b> {trace.root_operation}
                      </Link>
                    </td>
                    <td className="nowrap">
                      <Time at={trace.start} />
                    </td>
                    <td className="num">
                      <span className="duration-bar" aria-hidden="true">
                        <span style={{ width: `${(trace.duration_ms / slowest) * 100}%` }} />
                      </span>
                      <span className="trace-duration">{millis(trace.duration_ms)}</span>
                    </td>
                    <td className="num">
                      {trace.spans}
                      <span className="muted small trace-l4">{trace.l4_spans > 0 && `${trace.l4_spans} L4`}</span>
                    </td>
                    <td className={`num ${trace.errors > 0 ? 'text-failing' : 'muted'}`}>{trace.errors > 0 ? `✕ ${trace.errors}` : '0'}</td>
                    <td className="muted trace-services" title={trace.services.join(', ')}>
                      {trace.services.join(', ')}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {(cursor || data?.next_cursor) && (
            <div className="pager">
              {cursor && (
                <button type="button" className="button" onClick={() => setCursor('')}>
                  First {limit}
                </button>
              )}
              {data?.next_cursor && (
                <button type="button" className="button" onClick={() => setCursor(data.next_cursor!)}>
                  Next {limit}
                </button>
              )}
            </div>
          )}
        </>
      )}
    </div>
  );
}

/** When the spans that match began and how long they took, all of the range; a cell leads to its spans. */
function SpanHeat({ params }: { params: Params }) {
  const range = useRange();
  const { data } = useRanged<SpanCounts>('/traces/counts', { ...params, steps: 120 }, { range, everyMs: 10_000 });
  const heat = useMemo(() => data && heatOfSpans(data), [data]);
  if (!data || !heat) return null;
  return (
    <section className="card scatter-card" aria-label="Spans by duration over time">
      <HeatGrid
        title="Spans by duration over time"
        heat={heat}
        one="span"
        height={130}
        onPick={(column, row) =>
          patchQuery({
            at: toRFC3339(heat.times[column]! * 1000), last: formatWindow(Math.max(5, Math.ceil(data.step_seconds))), cursor: undefined,
            min: `${Math.floor(heat.bounds[row]! * 1e6)}us`, max: `${Math.ceil(heat.bounds[row + 1]! * 1e6)}us`,
          })
        }
      />
    </section>
  );
}

/** The same orders, as the server has them. */
const SERVER_ORDERS: Record<string, string> = { newest: 'newest', longest: 'slowest', spans: 'most_spans', errors: 'most_errors' };

const ORDERS: Record<string, (a: TraceSummary, b: TraceSummary) => number> = {
  newest: (a, b) => Date.parse(b.start) - Date.parse(a.start),
  longest: (a, b) => b.duration_ms - a.duration_ms,
  spans: (a, b) => b.spans - a.spans,
  errors: (a, b) => b.errors - a.errors || Date.parse(b.start) - Date.parse(a.start),
};

function SortHeader({ name, label, order, set, num = false }: { name: string; label: string; order: string; set: (order: string) => void; num?: boolean }) {
  return (
    <th scope="col" className={num ? 'num' : ''} aria-sort={order === name ? 'descending' : undefined}>
      <button type="button" onClick={() => set(name)}>
        {label} {order === name && <Icon name="down" size={10} />}
      </button>
    </th>
  );
}

/** "20" means milliseconds; what does not read as a duration is left out of the search. */
function asDuration(text: string): string {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return `${trimmed}ms`;
  return /^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(trimmed) ? trimmed : '';
}
