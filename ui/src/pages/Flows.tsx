import '../styles/flows.css';
import '../styles/graph.css';

import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useMemo, useRef, useState } from 'react';

import { apiURL } from '../api/client';
import { rangeParams, shownNow, useRange } from '../api/queries';
import type { Flow } from '../api/types';
import { pathOf, useLocation, useParam } from '../app/router';
import { ExpressionField } from '../components/ExpressionField';
import { HealthIcon } from '../components/HealthMark';
import { Icon } from '../components/Icon';
import { KeptSince } from '../components/KeptSince';
import { Link } from '../components/Link';
import { SearchField } from '../components/ListPage';
import { SideFrame } from '../components/SideFrame';
import { Empty, Failure, Loading } from '../components/State';
import { Time, useSecond } from '../components/Time';
import { FLOW_FIELDS, flowFilter, flowLookup, flowsToCSV, isLookup, LOOKUP_RESULTS, pairFlows, partyName, shortIdentity, type FlowPair } from '../domain/flows';
import { bytes, count, millis, plural } from '../domain/format';
import { kindLabel } from '../domain/kinds';
import { REASONS } from '../domain/reasons';
import { clock, fullTime, relative } from '../domain/time';
import { save } from '../domain/save';
import { KEPT, useFlows } from './useFlows';

const ROW = 33;
const NUMBERS = new Set(['Sent', 'Received', 'Duration', 'Age']);
const SIDES: Record<string, string> = { outbound: "Client's records", inbound: "Server's records" };
const PROTOCOLS: Record<string, string> = { tcp: 'Connections', http: 'Requests', dns: 'Names asked for' };
const STATUSES: Record<string, string> = { '2xx': '2xx', '3xx': '3xx', '4xx': '4xx', '5xx': '5xx', '0': 'No answer' };
const VERDICTS: Record<string, string> = { forwarded: 'Forwarded', denied: 'Denied', failed: 'Failed' };

/** The live table of connections and requests. */
export default function Flows() {
  const range = useRange();
  const { query } = useLocation();
  const [source, setSource] = useParam('source', '', { replace: true });
  const [destination, setDestination] = useParam('destination', '', { replace: true });
  const [namespace, setNamespace] = useParam('namespace', '', { replace: true });
  const [verdict, setVerdict] = useParam('verdict', '');
  const [reports, setReports] = useParam('direction', '');
  const direction = reports in SIDES ? reports : '';
  const [reason, setReason] = useParam('reason', '');
  const [protocol, setProtocol] = useParam('protocol', '');
  const [status, setStatus] = useParam('status', '');
  const [path, setPath] = useParam('path', '', { replace: true });
  const [method, setMethod] = useParam('method', '');
  const [paused, setPaused] = useState(false);
  const [openID, setOpenID] = useState<number>();
  const [filter, setFilter] = useParam('filter', '', { replace: true });
  const expression = useMemo(() => flowFilter(filter), [filter]);
  const chosen = useMemo(() => ({ source, destination, namespace, verdict, direction, reason, protocol: protocol in PROTOCOLS ? protocol : '', status, path, method }), [source, destination, namespace, verdict, direction, reason, protocol, status, path, method]);
  // What is chosen beside the expression comes first; either narrows what the server searches.
  const filters = useMemo(() => ({ ...expression.params, ...Object.fromEntries(Object.entries(chosen).filter(([, value]) => value)) }), [expression, chosen]);
  const { flows: loaded, error, pending, waiting, older, keptSince } = useFlows(filters, paused);
  const { picks } = expression;
  const picked = useMemo(() => (picks ? loaded.filter((flow) => picks(flowLookup(flow))) : loaded), [loaded, picks]);
  // Both sides report a connection; unless asked for, it shows once.
  const once = reports === '';
  const pairs = useMemo((): FlowPair[] => (once ? pairFlows(picked) : picked.map((flow) => ({ flow, other: undefined }))), [once, picked]);
  const flows = useMemo(() => pairs.map(({ flow }) => flow), [pairs]);
  const open = openID === undefined ? undefined : pairs.find(({ flow, other }) => flow.cursor === openID || other?.cursor === openID);
  const live = range.at === undefined;
  const filtered = filter !== '' || Object.values(chosen).some(Boolean);

  return (
    <div className="flows-page">
      <div className="flows-head">
        <h1>Flows</h1>
        <span className="page-sub">
          {plural(flows.length, nounOf(flows, once))}{older && ', more exist'}{waiting > 0 && `, ${plural(waiting, 'record')} waiting`}
        </span>
        <KeptSince kind="flows" />
        <span className="spacer" />
        {live && (
          <button type="button" className="button" aria-pressed={!paused} onClick={() => setPaused(!paused)}>
            <Icon name={paused ? 'play' : 'pause'} size={13} /> {paused ? 'Follow' : 'Following'}
          </button>
        )}
        {picks ? (
          // What only the page can pick is what it has loaded.
          <button type="button" className="button" disabled={flows.length === 0} onClick={() => save(new Blob([flowsToCSV(flows)], { type: 'text/csv' }), 'flows.csv')}>
            <Icon name="download" size={13} /> CSV
          </button>
        ) : (
          ['CSV', 'JSONL'].map((format) => (
            <a key={format} className="button" download={`flows.${format.toLowerCase()}`} title="All records that match, a million at most"
              href={apiURL('/flows/export', { ...filters, ...rangeParams(range), format: format.toLowerCase() })}>
              <Icon name="download" size={13} /> {format}
            </a>
          ))
        )}
      </div>
      <div className="flows-filters toolbar" role="search" aria-label="Filter flows">
        <SearchField value={source} set={setSource} label="Source" placeholder="From" />
        <SearchField value={destination} set={setDestination} label="Destination" placeholder="To" />
        <SearchField value={namespace} set={setNamespace} label="Namespace" placeholder="Namespace" />
        <ExpressionField fields={FLOW_FIELDS} label="Filter" placeholder="Filter: not from~loadgen, port=443…" value={filter} set={setFilter} note="" />
        <Choice label="Protocol" value={protocol} set={setProtocol} any="Connections and requests" options={PROTOCOLS} />
        {protocol !== 'tcp' && protocol !== 'dns' && (
          <>
            <SearchField value={path} set={setPath} label="Path" placeholder="Path" />
            <Choice label="Status" value={status} set={setStatus} any="Every status" options={STATUSES} />
          </>
        )}
        {method && (
          <button type="button" className="button" onClick={() => setMethod('')}>
            {method} <Icon name="close" size={11} label="any method" />
          </button>
        )}
        <Choice label="Verdict" value={verdict} set={setVerdict} any="Every verdict" options={VERDICTS} />
        <Choice label="Reason" value={reason} set={setReason} any="Every reason" options={Object.fromEntries(REASONS.map((one) => [one, kindLabel(one)]))} />
        <Choice label="Reported by" value={reports} set={setReports} any="Each connection once" options={{ both: "Both sides' records", ...SIDES }} />
      </div>
      {picks && !pending && (
        <p className="flows-searched muted small" role="status">
          Searched: {older || loaded.length >= KEPT ? `the newest ${count(loaded.length)}` : `all ${count(loaded.length)}`} records of this time that the server keeps
          {expression.asked.length > 0 && <> with {expression.asked.map((one, i) => <span key={one}>{i > 0 && ' and '}<code>{one}</code></span>)}</>}
          {Object.values(chosen).some(Boolean) && ' and the choices above'}.
          {older && ` Older ones are searched at the list's end, ${count(KEPT)} at most.`}
        </p>
      )}
      {error && flows.length > 0 && (
        <p className="fault flows-fault" role="alert">
          {error.message} What is shown may be stale.
        </p>
      )}
      {error && flows.length === 0 ? (
        <Failure error={error} />
      ) : pending ? (
        <Loading what="flows" />
      ) : flows.length === 0 ? (
        <NoFlows filtered={filtered} keptSince={keptSince} />
      ) : (
        <div className={open ? 'flows-body beside' : 'flows-body'}>
          <FlowTable flows={flows} older={older} openID={open?.flow.cursor} setOpen={setOpenID} following={live && !paused} key={query.toString()} />
          {open && <FlowPanel {...open} close={() => setOpenID(undefined)} />}
        </div>
      )}
    </div>
  );
}

function nounOf(flows: Flow[], once: boolean): string {
  if (!once) return 'record';
  if (flows.some(isLookup)) return 'lookup';
  const requests = flows.some((flow) => flow.protocol !== 'tcp');
  return requests ? (flows.every((flow) => flow.protocol !== 'tcp') ? 'request' : 'flow') : 'connection';
}

/** Why no connection is listed: those of the time may be forgotten, which the graph and the charts do not do. */
function NoFlows({ filtered, keptSince }: { filtered: boolean; keptSince: string | undefined }) {
  const range = useRange();
  const forgotten = keptSince !== undefined && Date.parse(keptSince) > Date.parse(rangeParams(range).start);
  return (
    <Empty what={filtered ? 'No connection matches' : forgotten ? 'No connection is kept of this time' : 'No connection was seen'}>
      {forgotten ? (
        <>
          Single connections are kept since <Time at={keptSince} absolute />. The graph and the charts still count earlier ones.
        </>
      ) : filtered ? (
        'Try fewer filters. Connections appear when they close.'
      ) : undefined}
    </Empty>
  );
}

function Choice({ label, value, set, any, options }: { label: string; value: string; set: (value: string) => void; any: string; options: Record<string, string> }) {
  return (
    <select className="select" aria-label={label} value={value} onChange={(event) => set(event.target.value)}>
      <option value="">{any}</option>
      {Object.entries(options).map(([option, text]) => (
        <option key={option} value={option}>
          {text}
        </option>
      ))}
    </select>
  );
}

/** The verdict, or why there is none better. */
function Verdict({ flow, why = false }: { flow: Flow; why?: boolean }) {
  return (
    <span className={`health ${flow.verdict === 'forwarded' ? 'healthy' : 'failing'}`}>
      <HealthIcon health={flow.verdict === 'forwarded' ? 'healthy' : 'failing'} size={13} /> {why && isLookup(flow) ? LOOKUP_RESULTS[flow.query_result ?? 'other'] : why && flow.reason ? kindLabel(flow.reason) : VERDICTS[flow.verdict]}
    </span>
  );
}

function FlowTable({ flows, older, openID, setOpen, following }: { flows: Flow[]; older: (() => void) | undefined; openID: number | undefined; setOpen: (id: number | undefined) => void; following: boolean }) {
  useSecond();
  const scroller = useRef<HTMLDivElement>(null);
  const virtualizer = useVirtualizer({ count: flows.length, getScrollElement: () => scroller.current, estimateSize: () => ROW, overscan: 12, getItemKey: (i) => flows[i]!.cursor });
  const newest = flows[0]?.cursor;
  // New rows push down what one reads; someone who has scrolled away keeps the place.
  const before = useRef(flows);
  useEffect(() => {
    const element = scroller.current;
    const first = before.current[0]?.cursor;
    before.current = flows;
    if (!element || element.scrollTop < ROW || first === undefined) return;
    const added = flows.findIndex((flow) => flow.cursor === first);
    if (added > 0) element.scrollTop += added * ROW;
  }, [flows, newest]);
  const items = virtualizer.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (older && last >= flows.length - 5) older();
  }, [older, last, flows.length]);
  const now = shownNow();
  const requests = flows.some((flow) => flow.protocol !== 'tcp');
  return (
    <div className={requests && flows.every((flow) => flow.protocol !== 'tcp') ? 'flow-table requests' : 'flow-table'} role="table" aria-label={flows.some(isLookup) ? 'Names asked for' : requests ? 'Flows' : 'Connections'} aria-rowcount={flows.length} aria-live={following ? 'off' : undefined}>
      <div role="rowgroup">
        <div className="flow-row flow-header" role="row">
          {['Ended', 'Verdict', 'From', 'To', 'Asked for', 'Identity', 'Sent', 'Received', 'Duration', 'Age'].map((name) => (
            <span key={name} role="columnheader" className={NUMBERS.has(name) ? 'num' : `flow-${name === 'Asked for' ? 'service' : name.toLowerCase()}`}>
              {name}
            </span>
          ))}
        </div>
      </div>
      <div className="flow-scroll" ref={scroller} role="rowgroup" tabIndex={0}>
        <div style={{ height: virtualizer.getTotalSize(), position: 'relative' }}>
          {items.map((item) => {
            const flow = flows[item.index]!;
            const time = Date.parse(flow.time);
            return (
              <div
                key={item.key}
                className={`flow-row ${flow.verdict}`}
                role="row"
                aria-rowindex={item.index + 1}
                aria-selected={flow.cursor === openID}
                tabIndex={0}
                style={{ transform: `translateY(${item.start}px)` }}
                onClick={() => setOpen(flow.cursor === openID ? undefined : flow.cursor)}
                onKeyDown={(event) => event.key === 'Enter' && setOpen(flow.cursor === openID ? undefined : flow.cursor)}
              >
                <span role="cell" title={fullTime(time)}>
                  {clock(time, now)}
                </span>
                <span role="cell" className="truncate" title={flow.message}>
                  <Verdict flow={flow} why />
                </span>
                <PartyCell party={flow.source} />
                {isLookup(flow) ? <span role="cell" className="truncate muted">ztunnel on {flow.node}</span> : <PartyCell party={flow.destination} port />}
                <span role="cell" className="truncate muted flow-service" title={isLookup(flow) ? flow.query_name : flow.protocol === 'tcp' ? flow.service : `${flow.method ?? ''} ${flow.path ?? ''} ${statusText(flow)} of ${flow.service ?? 'nothing that is known'}`}>
                  {flow.protocol === 'tcp' ? flow.service?.replace('.svc.cluster.local', '') ?? 'by address' : isLookup(flow) ? <LookupLine flow={flow} /> : <RequestLine flow={flow} />}
                </span>
                <span role="cell" className="truncate flow-identity" title={flow.source.identity}>
                  {flow.security === 'mutual_tls' ? <Icon name="lock" size={11} label="mutual TLS" /> : flow.security === 'plaintext' && <Icon name="unlock" size={11} label="plaintext" />} {shortIdentity(flow.source.identity) || <span className="muted">–</span>}
                </span>
                <span role="cell" className="num">
                  {isLookup(flow) ? '–' : bytes(flow.bytes_sent)}
                </span>
                <span role="cell" className="num">
                  {isLookup(flow) ? '–' : bytes(flow.bytes_received)}
                </span>
                <span role="cell" className="num">
                  {isLookup(flow) ? '–' : millis(flow.duration_ms)}
                </span>
                <span role="cell" className="num muted">
                  {relative(time, now).replace(' ago', '')}
                </span>
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

function statusText(flow: Flow): string {
  return flow.grpc_status !== undefined ? `${flow.status} gRPC ${flow.grpc_status}` : flow.status ? String(flow.status) : 'no answer';
}

function LookupLine({ flow }: { flow: Flow }) {
  return (
    <>
      {flow.query_type} <span className="mono">{flow.query_name}</span>
    </>
  );
}

function RequestLine({ flow }: { flow: Flow }) {
  return (
    <>
      <span className={flow.verdict === 'forwarded' ? undefined : 'text-failing'}>{statusText(flow)}</span> {flow.method} <span className="mono">{flow.path}</span>
    </>
  );
}

function PartyCell({ party, port = false }: { party: Flow['source']; port?: boolean }) {
  return (
    <span role="cell" className="truncate" title={partyName(party)}>
      {party.pod && party.namespace && <span className="muted">{party.namespace}/</span>}
      {party.pod ?? party.address ?? 'unknown'}
      {port && party.port !== undefined && <span className="muted">:{party.port}</span>}
    </span>
  );
}

function FlowPanel({ flow, other, close }: FlowPair & { close: () => void }) {
  const [policyNamespace, policyName] = (flow.policy ?? '').split('/');
  return (
    <SideFrame label={isLookup(flow) ? 'Name asked for' : flow.protocol === 'tcp' ? 'Connection' : 'Request'} title={isLookup(flow) ? flow.query_name : flow.protocol === 'tcp' ? 'Connection' : <RequestLine flow={flow} />} sub={fullTime(Date.parse(flow.time))} close={close}>
      <Verdict flow={flow} />
      <dl className="facts">
        {flow.reason && <Fact name="Reason">{kindLabel(flow.reason)}</Fact>}
        {[flow, other].map((one) => one?.message && one.message !== (one === other ? flow.message : '') && <Fact key={one.cursor} name={one.direction === 'outbound' ? 'Client saw' : 'Server said'}>{one.message}</Fact>)}
        {flow.response_flags && <Fact name="Response flags">{flow.response_flags}</Fact>}
        {flow.details && <Fact name="Details"><span className="mono">{flow.details}</span></Fact>}
        {flow.route && <Fact name="Route">{flow.route}</Fact>}
        {flow.request_id && <Fact name="Request ID"><span className="mono">{flow.request_id}</span></Fact>}
        {flow.policy && (
          <Fact name="Policy">
            <Link to={pathOf('policies', policyNamespace ?? '', policyName ?? '')}>{flow.policy}</Link>
          </Fact>
        )}
        <Fact name="Reported by">
          <Reporter flow={flow} />
          {other && <> and <Reporter flow={other} /></>}
        </Fact>
        {flow.security !== 'unknown' && <Fact name="Encryption">{flow.security === 'mutual_tls' ? 'mutual TLS' : 'plaintext'}</Fact>}
        {isLookup(flow) ? (
          <>
            <Fact name="Record">{flow.query_type}</Fact>
            <Fact name="Result">{LOOKUP_RESULTS[flow.query_result ?? 'other']}</Fact>
          </>
        ) : (
          <>
            <Fact name="Sent">{bytes(flow.bytes_sent)}</Fact>
            <Fact name="Received">{bytes(flow.bytes_received)}</Fact>
            <Fact name="Duration">{millis(flow.duration_ms)}</Fact>
          </>
        )}
        {flow.service && <Fact name="Service">{flow.service}</Fact>}
      </dl>
      <Party title="Client" party={flow.source} />
      {!isLookup(flow) && <Party title="Server" party={flow.destination} />}
    </SideFrame>
  );
}

function Reporter({ flow: { direction, node, waypoint, protocol } }: { flow: Flow }) {
  if (protocol !== 'tcp' && protocol !== 'dns') return <>{waypoint ?? 'a proxy'}</>;
  return (
    <>
      {direction === 'outbound' ? "client's" : "server's"} ztunnel{node && <> on <Link to={pathOf('nodes', node)}>{node}</Link></>}
    </>
  );
}

function Party({ title, party }: { title: string; party: Flow['source'] }) {
  return (
    <section>
      <h3>{title}</h3>
      <dl className="facts">
        <Fact name="Pod">{party.pod ?? '–'}</Fact>
        <Fact name="Namespace">{party.namespace ?? '–'}</Fact>
        <Fact name="Address">
          <span className="mono">{party.address ? `${party.address}${party.port ? `:${party.port}` : ''}` : '–'}</span>
        </Fact>
        <Fact name="Identity">
          <span className="mono">{party.identity ?? '–'}</span>
        </Fact>
        {party.cluster && <Fact name="Cluster">{party.cluster}</Fact>}
      </dl>
    </section>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </>
  );
}
