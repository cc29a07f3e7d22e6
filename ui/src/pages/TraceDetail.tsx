import '../styles/graph.css';

import { useMemo, useState } from 'react';

import { useLive } from '../api/live';
import { useLatest } from '../api/queries';
import type { Span, Trace } from '../api/types';
import { useParam } from '../app/router';
import { Crumbs } from '../components/Crumbs';
import { Icon } from '../components/Icon';
import { SideFrame } from '../components/SideFrame';
import { Failure, Loading } from '../components/State';
import { Time } from '../components/Time';
import { millis, plural } from '../domain/format';
import { save } from '../domain/save';
import { criticalPath, skewLines, skewText, treeOf, type Segment, type Tree } from '../domain/trace';
import { fullTime } from '../domain/time';

/** Colours of services in a waterfall; a name always gets the same one within a trace. */
const SERIES = ['series-1', 'series-2', 'series-3', 'series-4', 'series-7', 'series-6', 'series-8', 'series-5'];

export default function TraceDetail({ id }: { id: string }) {
  const { data, error, refetch } = useLatest<Trace>(`/traces/${encodeURIComponent(id)}`, {}, { everyMs: 10_000 });
  const { status } = useLive();
  const [layers, setLayers] = useParam('layers', 'both', { replace: true });
  const [path, setPath] = useParam('critical', '1', { replace: true });
  const [chosen, setChosen] = useParam('span', '', { replace: true });
  const [folded, setFolded] = useState<ReadonlySet<string>>(new Set());
  const tree = useMemo(() => data && treeOf(data), [data]);
  const critical = useMemo(() => (tree ? criticalPath(tree) : []), [tree]);
  if (error && !data) return <Failure page error={error} retry={() => void refetch()} />;
  if (!tree || !data) return <Loading what="the trace" />;
  const root = tree.roots[0]!;
  const errors = data.spans.filter((span) => span.status === 'error').length;
  const l4 = data.spans.filter((span) => span.layer === 'l4').length;
  const services = [...new Set(tree.order.map((node) => node.span.service))];
  const colours = new Map(services.map((service, i) => [service, SERIES[i % SERIES.length]!]));
  const span = data.spans.find((one) => one.span_id === chosen);
  const toggle = (spanID: string) => {
    const next = new Set(folded);
    if (next.has(spanID)) next.delete(spanID);
    else next.add(spanID);
    setFolded(next);
  };
  return (
    <div className="trace-page">
      <div className="trace-head">
        <Crumbs list="Traces" path="/traces" name={<span className="mono">{id}</span>} />
        <div className="page-head">
          <h1>
            {root.span.service} <span className="trace-op">{root.span.name}</span>
          </h1>
          {errors > 0 && <span className="badge failing">✕ {plural(errors, 'error')}</span>}
          <span className="spacer" />
          <label className="check">
            <input type="checkbox" checked={layers === 'both'} onChange={(event) => setLayers(event.target.checked ? 'both' : 'l7')} /> Connections (L4)
          </label>
          <label className="check">
            <input type="checkbox" checked={path === '1'} onChange={(event) => setPath(event.target.checked ? '1' : '0')} /> Critical path
          </label>
          <button type="button" className="button" onClick={() => save(new Blob([JSON.stringify(data, null, 2)], { type: 'application/json' }), `trace-${id}.json`)}>
            <Icon name="download" size={13} /> JSON
          </button>
          {status?.links.jaeger && (
            <a className="button" href={`${status.links.jaeger.replace(/\/$/, '')}/trace/${encodeURIComponent(id)}`} target="_blank" rel="noreferrer">
              Jaeger <Icon name="external" size={12} />
            </a>
          )}
        </div>
        <div className="outage-facts">
          <span title={fullTime(tree.begin)}>
            began <Time at={tree.begin} absolute />
          </span>
          <span>
            took <b>{millis(tree.duration)}</b>
          </span>
          <span>{plural(data.spans.length, 'span')}, {l4} of them connections</span>
          <span>{plural(services.length, 'service')}</span>
          {data.dropped_spans !== undefined && <span className="text-degraded">! cut: {plural(data.dropped_spans, 'more span')} came than are kept of a trace</span>}
          {skewLines(data).map((line) => (
            <span key={line} className="text-degraded">
              ! {line}
            </span>
          ))}
        </div>
      </div>
      <div className="trace-body">
        <Waterfall tree={tree} critical={path === '1' ? critical : []} l4={layers === 'both'} colours={colours} chosen={chosen} choose={(spanID) => setChosen(spanID === chosen ? '' : spanID)} folded={folded} toggle={toggle} />
        {span && <SpanPanel span={span} skew={data.clock_skews?.find((one) => one.span_id === span.span_id)?.skew_ms} offset={tree.order.find((node) => node.span === span)!.start} critical={critical} close={() => setChosen('')} />}
      </div>
    </div>
  );
}

interface WaterfallProps {
  tree: Tree;
  critical: Segment[];
  l4: boolean;
  colours: Map<string, string>;
  chosen: string;
  choose: (id: string) => void;
  folded: ReadonlySet<string>;
  toggle: (id: string) => void;
}

const TICKS = [0, 0.25, 0.5, 0.75, 1];

function Waterfall({ tree, critical, l4, colours, chosen, choose, folded, toggle }: WaterfallProps) {
  const hiddenBelow: number[] = [];
  const rows = tree.order.filter((node) => {
    while (hiddenBelow.length > 0 && node.depth <= hiddenBelow.at(-1)!) hiddenBelow.pop();
    const visible = hiddenBelow.length === 0 && (l4 || node.span.layer === 'l7');
    if (folded.has(node.span.span_id)) hiddenBelow.push(node.depth);
    return visible;
  });
  const percent = (ms: number) => `${(ms / Math.max(tree.duration, 0.001)) * 100}%`;
  return (
    <div className="waterfall" role="treegrid" aria-label="Spans">
      <div className="span-row ruler" role="row">
        <span role="columnheader">Service and operation</span>
        <span role="columnheader" className="span-time">
          Took
        </span>
        <span role="columnheader" className="ruler-ticks" aria-label="Time">
          {TICKS.map((tick) => (
            <span key={tick} style={{ left: percent(tree.duration * tick) }} className={tick === 1 ? 'last' : tick === 0 ? 'first' : ''}>
              {millis(tree.duration * tick)}
            </span>
          ))}
        </span>
      </div>
      {rows.map((node) => {
        const { span } = node;
        const parts = critical.filter((segment) => segment.span === span.span_id);
        const label = `${span.service} ${span.name}, ${millis(span.duration_ms)}${span.layer === 'l4' ? ', connection' : ''}${span.status === 'error' ? ', failed' : ''}`;
        return (
          <div key={span.span_id} className={`span-row ${span.layer} ${span.status}`} role="row" aria-level={node.depth + 1} aria-selected={chosen === span.span_id} {...(node.children.length > 0 ? { 'aria-expanded': !folded.has(span.span_id) } : {})}>
            <span role="gridcell" className="span-name" style={{ paddingLeft: 8 + Math.min(node.depth, 24) * 14 }}>
              {node.children.length > 0 ? (
                <button type="button" className="span-fold" aria-label={folded.has(span.span_id) ? 'Unfold' : 'Fold'} onClick={() => toggle(span.span_id)}>
                  <Icon name={folded.has(span.span_id) ? 'chevronRight' : 'chevronDown'} size={11} />
                </button>
              ) : (
                <i className="span-fold" />
              )}
              <button type="button" className="span-label truncate" title={label} aria-label={label} onClick={() => choose(span.span_id)}>
                <i className="span-mark" style={{ background: `var(--${colours.get(span.service)})` }} />
                {span.status === 'error' && <b className="text-failing">✕ </b>}
                <b>{span.service}</b> <span className="muted">{span.name}</span>
              </button>
            </span>
            <span role="gridcell" className="span-time">
              {millis(span.duration_ms)}
            </span>
            <span role="gridcell" className="span-track" onClick={() => choose(span.span_id)}>
              {TICKS.slice(1, -1).map((tick) => (
                <i key={tick} className="span-grid" style={{ left: `${tick * 100}%` }} />
              ))}
              <i className="span-bar" style={{ left: percent(node.start), width: `max(2px, ${percent(span.duration_ms)})`, background: span.layer === 'l7' ? `var(--${colours.get(span.service)})` : undefined }} />
              {parts.map((segment, i) => (
                <i key={i} className="span-critical" style={{ left: percent(segment.start), width: percent(segment.end - segment.start) }} />
              ))}
            </span>
          </div>
        );
      })}
    </div>
  );
}

function SpanPanel({ span, skew, offset, critical, close }: { span: Span; skew: number | undefined; offset: number; critical: Segment[]; close: () => void }) {
  const own = critical.filter((segment) => segment.span === span.span_id).reduce((sum, { start, end }) => sum + end - start, 0);
  return (
    <SideFrame label="Span" title={span.name} sub={`${span.service}, ${span.layer === 'l4' ? 'a connection as a ztunnel saw it' : `${span.kind} span`}`} close={close}>
      {span.status === 'error' && <p className="side-outage">✕ {span.status_message || 'failed'}</p>}
      <dl className="facts">
        <dt>Begins after</dt>
        <dd>{millis(offset)}</dd>
        <dt>Duration</dt>
        <dd>{millis(span.duration_ms)}</dd>
        {skew !== undefined && (
          <>
            <dt>Clock</dt>
            <dd className="text-degraded">{skewText(skew)} its parent's, by estimate</dd>
          </>
        )}
        {own > 0 && (
          <>
            <dt>On the critical path</dt>
            <dd>{millis(own)}</dd>
          </>
        )}
        <dt>Pod</dt>
        <dd>{span.pod ? `${span.namespace ? `${span.namespace}/` : ''}${span.pod}` : '–'}</dd>
        {span.node && (
          <>
            <dt>Node</dt>
            <dd>{span.node}</dd>
          </>
        )}
        <dt>Span</dt>
        <dd className="mono">{span.span_id}</dd>
      </dl>
      <section>
        <h3>Attributes</h3>
        <dl className="attributes">
          {Object.entries(span.attributes).toSorted().map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd className="mono">{value}</dd>
            </div>
          ))}
        </dl>
      </section>
      {(span.events?.length ?? 0) > 0 && (
        <section>
          <h3>Events</h3>
          <dl className="attributes">
            {span.events!.map((event, i) => (
              <div key={i}>
                <dt>{event.name}</dt>
                <dd className="mono">{Object.entries(event.attributes ?? {}).map(([name, value]) => `${name}=${value}`).join(' ')}</dd>
              </div>
            ))}
          </dl>
        </section>
      )}
    </SideFrame>
  );
}
