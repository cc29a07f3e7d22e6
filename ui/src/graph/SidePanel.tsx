import { shownNow } from '../api/queries';
import { href, navigate, pathOf } from '../app/router';
import { Codes } from '../components/CodeBar';
import { HealthMark } from '../components/HealthMark';
import { Icon } from '../components/Icon';
import { Link } from '../components/Link';
import { Time } from '../components/Time';
import { SideFrame } from '../components/SideFrame';
import { TableHead } from '../components/TableHead';
import { bytes, byteRate, count, millis, percent, plural, rate } from '../domain/format';
import { hopsOf } from '../domain/hops';
import { answersOf, flagText, requestSource, type Answers } from '../domain/endpoints';
import { kindLabel } from '../domain/kinds';
import { reasonOf } from '../domain/health';
import { lost, metricsOf, share, type EdgeMetrics } from '../domain/metrics';
import { summaryOf } from '../domain/outages';
import { EdgeSeries, NodeSeries } from './PanelSeries';
import type { View, ViewBox, ViewEdge, ViewNode } from './model';

interface Props {
  view: View;
  seconds: number;
  chosen: string;
  focused: boolean;
  close: () => void;
  choose: (id: string) => void;
  fold: (box: string) => void;
  focus: (id: string | undefined) => void;
}

export function SidePanel(props: Props) {
  const { view, chosen } = props;
  const node = view.nodes.find((one) => one.id === chosen);
  const edge = view.edges.find((one) => one.id === chosen);
  const box = view.boxes.find((one) => one.id === chosen);
  if (node) return <NodePanel {...props} node={node} />;
  if (edge) return <EdgePanel {...props} edge={edge} />;
  if (box) return <BoxPanel {...props} box={box} />;
  return (
    <SideFrame label="Details" title="Not on the graph" close={props.close}>
      <p className="muted">What was chosen has no traffic in this time, or is hidden.</p>
    </SideFrame>
  );
}

function NodePanel({ view, node, seconds, focused, close, choose, fold, focus }: Props & { node: ViewNode }) {
  const inbound = view.edges.filter((edge) => edge.destination === node.id);
  const outbound = view.edges.filter((edge) => edge.source === node.id);
  const own = node.node;
  return (
    <SideFrame label="Details" title={own?.name ?? node.label} sub={own ? own.namespace || 'outside the mesh' : `${node.folded!.kind}, folded`} close={close}>
      <div className="side-row">
        <HealthMark health={node.health} reason={own?.health_reason} spelled />
        {!node.inMesh && (
          <span className="badge">
            <Icon name="outside" size={12} /> outside the mesh
          </span>
        )}
        {own?.version && <span className="badge">{own.version}</span>}
      </div>
      {node.outages.map((outage) => (
        <Link key={outage.id} to={pathOf('outages', outage.id)} className={`side-outage ${outage.severity}`}>
          <b>{kindLabel(outage.kind)}</b> began <Time at={outage.started_at} />
          <span>{summaryOf(outage, shownNow())}</span>
        </Link>
      ))}
      <div className="toolbar">
        {own && own.namespace && own.type === 'workload' && (
          <Link to={pathOf('workloads', own.namespace, own.name)} className="button small">
            Open workload
          </Link>
        )}
        {own && own.type === 'service' && (
          <Link to={pathOf('services', own.namespace, own.name.split('.')[0] ?? own.name)} className="button small">
            Open service
          </Link>
        )}
        {node.folded && (
          <button type="button" className="button small" onClick={() => fold(node.id)}>
            <Icon name="unfold" size={13} /> Unfold
          </button>
        )}
        {own && (
          <button type="button" className="button small" aria-pressed={focused} onClick={() => focus(focused ? undefined : node.id)}>
            <Icon name="graph" size={13} /> {focused ? 'All of the graph' : 'Only neighbours'}
          </button>
        )}
      </div>
      {own && <NodeSeries node={own} />}
      <Traffic title="Calls to it" edges={inbound} other={(edge) => edge.source} view={view} choose={choose} seconds={seconds} />
      <Traffic title="Calls from it" edges={outbound} other={(edge) => edge.destination} view={view} choose={choose} seconds={seconds} />
      {own?.pods && own.pods.length > 0 && (
        <section>
          <h3>{plural(own.pods.length, 'pod')}</h3>
          <ul className="pods">
            {own.pods.map((pod) => (
              <li key={pod.name}>
                <span className={pod.healthy ? 'text-healthy' : 'text-failing'} aria-label={pod.healthy ? 'healthy' : 'unhealthy'} role="img">
                  {pod.healthy ? '✓' : '✕'}
                </span>
                <span className="truncate" title={pod.name}>
                  {pod.name}
                </span>
                <span className="muted">{pod.node}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
    </SideFrame>
  );
}

function Traffic({ title, edges, other, view, choose, seconds }: { title: string; edges: ViewEdge[]; other: (edge: ViewEdge) => string; view: View; choose: (id: string) => void; seconds: number }) {
  if (edges.length === 0) return null;
  const total = metricsOf(edges.flatMap((edge) => edge.parts), seconds);
  const sorted = edges.toSorted((a, b) => lost(b.metrics) - lost(a.metrics) || b.metrics.rate - a.metrics.rate);
  return (
    <section>
      <h3>
        {title} <span className="muted">{rate(total.rate)}</span>
      </h3>
      <table className="table compact side-table">
        <colgroup>
          <col />
          <col className="col-rate" />
          <col className="col-share" />
          <col className="col-time" />
        </colgroup>
        <TableHead columns={['Party', '#Rate', '#Fail', '#p95']} />
        <tbody>
          {sorted.slice(0, 30).map((edge) => (
            <tr key={edge.id} className="link" onClick={() => choose(edge.id)}>
              <td className="truncate">
                <button type="button" className="text-button truncate" onClick={() => choose(edge.id)}>
                  {view.nodes.find((node) => node.id === other(edge))?.label ?? other(edge)}
                </button>
              </td>
              <td className="num">{rate(edge.metrics.rate)}</td>
              <td className={`num ${edge.metrics.failureShare ? 'text-failing' : 'muted'}`}>{percent(edge.metrics.failureShare)}</td>
              <td className="num muted">{millis(edge.metrics.p95)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function EdgePanel({ view, edge, seconds, close, choose }: Props & { edge: ViewEdge }) {
  const m = edge.metrics;
  const label = (id: string) => view.nodes.find((node) => node.id === id)?.label ?? id;
  const messages = m.protocols.every((protocol) => protocol === 'messaging');
  return (
    <SideFrame
      label="Details"
      close={close}
      title={
        <>
          <button type="button" className="text-button" onClick={() => choose(edge.source)}>
            {label(edge.source)}
          </button>{' '}
          <span aria-label="calls">→</span>{' '}
          <button type="button" className="text-button" onClick={() => choose(edge.destination)}>
            {label(edge.destination)}
          </button>
        </>
      }
      sub={m.services.slice(0, 2).join(', ')}
    >
      <div className="side-row">
        <HealthMark health={m.health} reason={reasonOf(edge.parts, m.health)} spelled />
        <span className={`badge ${m.mtls === false ? 'degraded' : ''}`}>
          <Icon name={m.mtls === false ? 'unlock' : 'lock'} size={12} /> {m.mtls === undefined ? 'encryption unknown' : m.mtls ? 'mutual TLS' : 'plaintext'}
        </span>
        {m.waypoints.map((waypoint) => (
          <span key={waypoint} className="badge accent">
            <Icon name="waypoint" size={12} /> {waypoint}
          </span>
        ))}
      </div>
      <div className="toolbar">
        <button type="button" className="button small" onClick={() => navigate(href('/flows', { source: appOf(view, edge.source), destination: appOf(view, edge.destination) }))}>
          <Icon name="flows" size={13} /> Flows
        </button>
        <button type="button" className="button small" onClick={() => navigate(href('/traces', { service: appOf(view, edge.destination) }))}>
          <Icon name="traces" size={13} /> Traces
        </button>
      </div>
      {Object.entries(m.failures).map(([type, n]) => (
        <p key={type} className="side-outage">
          <b>✕ {kindLabel(type)}</b>
          <span>
            {count(n)} of {plural(Math.max(m.opened, m.closed), 'connection')} {deniedBy(edge) && type === 'policy_denied' ? `by ${deniedBy(edge)}` : ''}
          </span>
        </p>
      ))}
      <EdgeSeries edge={edge} from={view.nodes.find((node) => node.id === edge.source)?.node} to={view.nodes.find((node) => node.id === edge.destination)?.node} />
      {m.requests > 0 && <Requests m={m} title={messages ? 'Messages' : 'Requests (L7)'} answers={answersOf(edge.parts)} />}
      <Hops edge={edge} label={label} />
      {!messages && <Connections m={m} parts={edge} />}
      <section>
        <h3>{plural(edge.parts.length, 'port', 'ports and protocols')}</h3>
        <table className="table compact side-table">
          <tbody>
            {edge.parts.slice(0, 30).map((part, i) => (
              <tr key={i}>
                <td className="truncate" title={part.service}>
                  {part.service || 'by address'}
                </td>
                <td className="nowrap">
                  {part.port ?? ''} {part.protocol}
                </td>
                <td className="num">{rate(Math.max(part.requests.total, part.connections.opened) / seconds)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </SideFrame>
  );
}

/** The policies that denied connections of an edge. */
function deniedBy(edge: ViewEdge): string {
  return [...new Set(edge.parts.flatMap((part) => Object.keys(part.denied_by)))].join(', ');
}

/** The app of a node: what pods' names begin with and spans call their service. */
function appOf(view: View, id: string): string {
  const node = view.nodes.find((one) => one.id === id);
  return node?.node?.app || node?.label || id;
}

function Requests({ m, title, answers }: { m: EdgeMetrics; title: string; answers: Answers }) {
  return (
    <section>
      <h3>{title}</h3>
      <dl className="facts">
        <dt>Rate</dt>
        <dd>{rate(m.requestRate)}</dd>
        <dt>Failed</dt>
        <dd className={m.errors > 0 ? 'text-failing' : ''}>
          {count(m.errors)} of {count(m.requests)} ({percent(share(m.errors, m.requests))})
        </dd>
        {m.denied > 0 && (
          <>
            <dt>Denied</dt>
            <dd className="text-failing">
              {count(m.denied)} of {count(m.requests)} ({percent(share(m.denied, m.requests))})
            </dd>
          </>
        )}
        <dt>Response time</dt>
        <dd>
          <Percentile name="p50" value={m.p50} /> <Percentile name="p95" value={m.p95} /> <Percentile name="p99" value={m.p99} />
        </dd>
        {answers.sources.length > 0 && (
          <>
            <dt>Told by</dt>
            <dd>{answers.sources.map(requestSource).join(', ')}</dd>
          </>
        )}
      </dl>
      {Object.keys(answers.codes).length > 0 && <Codes byCode={answers.codes} />}
      {answers.flags.length > 0 && (
        <dl className="facts response-flags">
          {answers.flags.map(([flag, n]) => (
            <Flag key={flag} flag={flag} n={n} />
          ))}
        </dl>
      )}
    </section>
  );
}

function Flag({ flag, n }: { flag: string; n: number }) {
  return (
    <>
      <dt className="mono">{flag}</dt>
      <dd>
        {count(n)} <span className="muted">{flagText(flag)}</span>
      </dd>
    </>
  );
}

function Percentile({ name, value }: { name: string; value: number | undefined }) {
  return (
    <span className="nowrap percentile">
      <span className="muted">{name}</span> {millis(value)}
    </span>
  );
}

function Connections({ m, parts }: { m: EdgeMetrics; parts: ViewEdge }) {
  const life = Math.max(0, ...parts.parts.map((part) => part.connection_duration_ms?.p50 ?? 0));
  return (
    <section>
      <h3>Connections (L4)</h3>
      <dl className="facts">
        <dt>Opened</dt>
        <dd>
          {count(m.opened)} ({rate(m.connectionRate)})
        </dd>
        <dt>Closed</dt>
        <dd>{count(m.closed)}</dd>
        <dt>Open now</dt>
        <dd>{count(m.active)}</dd>
        <dt>Failed</dt>
        <dd className={m.failed > 0 ? 'text-failing' : ''}>
          {count(m.failed)} {m.failed > 0 && `(${percent(share(m.failed, Math.max(m.opened, m.closed)))})`}
        </dd>
        {Object.entries(m.failures).map(([type, n]) => (
          <Failure key={type} type={type} n={n} />
        ))}
        <dt>Sent</dt>
        <dd>{bytes(m.sent)}</dd>
        <dt>Received</dt>
        <dd>{bytes(m.received)}</dd>
        <dt>Throughput</dt>
        <dd>{byteRate(m.bytesPerSecond)}</dd>
        {life > 0 && (
          <>
            <dt>Typical life</dt>
            <dd>{millis(life)}</dd>
          </>
        )}
      </dl>
    </section>
  );
}

/** The ways to and from a waypoint: each is told by one ztunnel, and the second is for all clients of the waypoint. */
function Hops({ edge, label }: { edge: ViewEdge; label: (id: string) => string }) {
  const hops = hopsOf(edge.parts);
  if (hops.length === 0) return null;
  return (
    <section aria-label="Hops">
      <h3>Through the waypoint (L4)</h3>
      <table className="table compact side-table">
        <TableHead columns={['Hop', '#Closed', '#Failed']} />
        <tbody>
          {hops.map((hop) => (
            <tr key={`${hop.from}→${hop.to}`}>
              <td>
                {label(hop.from)} <span aria-label="to">→</span> {label(hop.to)}
                {Object.entries(hop.failures).map(([reason, n]) => (
                  <div key={reason} className="text-failing small">
                    ✕ {kindLabel(reason)}: {count(n)}
                  </div>
                ))}
              </td>
              <td className="num">{count(hop.closed)}</td>
              <td className={`num ${hop.failed > 0 ? 'text-failing' : 'muted'}`}>{count(hop.failed)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className="muted small">The waypoint keeps its connections for all its clients and for many requests, so the numbers of the hops may differ.</p>
    </section>
  );
}

function Failure({ type, n }: { type: string; n: number }) {
  return (
    <>
      <dt className="indent">{kindLabel(type)}</dt>
      <dd>{count(n)}</dd>
    </>
  );
}

function BoxPanel({ view, box, close, choose, fold }: Props & { box: ViewBox }) {
  const members = view.nodes.filter((node) => node.box === box.id);
  return (
    <SideFrame label="Details" title={box.label} sub={box.kind} close={close}>
      <div className="side-row">
        <HealthMark health={box.health} />
      </div>
      <div className="toolbar">
        <button type="button" className="button small" onClick={() => fold(box.id)}>
          <Icon name="fold" size={13} /> Fold
        </button>
        {box.kind === 'namespace' && (
          <button type="button" className="button small" onClick={() => navigate(href('/graph', { namespace: box.label }))}>
            Only this namespace
          </button>
        )}
      </div>
      <section>
        <h3>{plural(box.members.length, 'workload')}</h3>
        <ul className="pods">
          {members.map((node) => (
            <li key={node.id}>
              <HealthMark health={node.health} reason={node.node?.health_reason} />
              <button type="button" className="text-button truncate" onClick={() => choose(node.id)}>
                {node.label}
              </button>
            </li>
          ))}
        </ul>
      </section>
    </SideFrame>
  );
}
