import { useMemo } from 'react';

import { shownNow } from '../api/queries';
import { useSeries } from '../api/series';
import type { Outage } from '../api/types';
import { formatOf, TimeChart, type Line } from '../charts/TimeChart';
import { FAILURE_COLOURS } from '../charts/TrafficCharts';
import { percent } from '../domain/format';
import { kindLabel } from '../domain/kinds';
import { meansAround, type Points } from '../domain/around';
import type { TimeRange } from '../domain/time';

/** What is shown of the time before an outage, and of that after it. */
const MARGIN_S = 120;

/** The failing edges' traffic before, during and after an outage, with what changed just before it. */
export function OutageChart({ outage, flags }: { outage: Outage; flags: readonly number[] }) {
  const from = Date.parse(outage.started_at);
  const ended = outage.ended_at ? Date.parse(outage.ended_at) : undefined;
  const now = shownNow();
  // A chart of an open outage follows in steps, so that each second is not a query of its own.
  const end = Math.min(ended ? ended + MARGIN_S * 1000 : now, Math.floor(now / 5000) * 5000);
  const range = useMemo<TimeRange>(() => ({ seconds: Math.round((end - from) / 1000) + MARGIN_S, at: end }), [end, from]);
  const shape = JSON.stringify([outage.kind, selector(outage)]);
  const [lines, atWaypoint] = useMemo<[Line[], Line[]]>(() => {
    const [kind, params] = JSON.parse(shape) as [string, Record<string, string> | undefined];
    return params ? [linesOf(kind, params), kind === 'policy_denied' ? deniedRequests(params) : []] : [[], []];
  }, [shape]);
  // A waypoint denies requests, a ztunnel connections.
  const denials = useSeries(atWaypoint, range, atWaypoint.length > 0);
  if (lines.length === 0 || denials.pending) return null;
  const denies = denials.data[1]?.series?.some((line) => line.points?.some(([, value]) => value));
  return <Chart outage={outage} flags={flags} range={range} from={from} end={end} lines={denies ? atWaypoint : lines} title={denies ? 'Requests' : titleOf(outage)} />;
}

interface ChartProps {
  outage: Outage;
  flags: readonly number[];
  range: TimeRange;
  from: number;
  end: number;
  lines: Line[];
  title: string;
}

function Chart({ outage, flags, range, from, end, lines, title }: ChartProps) {
  const ended = outage.ended_at ? Date.parse(outage.ended_at) : undefined;
  return (
    <section className="card outage-chart" aria-label="Before, during and after">
      <TimeChart
        title={title} lines={lines} colours={FAILURE_COLOURS} range={range} band={{ from, to: Math.min(ended ?? end, end) }} flags={flags} height={170}
        name={(labels) => (labels['error_type'] ? kindLabel(labels['error_type']) : 'failed')}
      />
      <Around outage={outage} lines={lines} range={range} from={from} to={ended ?? end} />
    </section>
  );
}

/** One line: what was measured before, during and after. */
function Around({ outage, lines, range, from, to }: { outage: Outage; lines: Line[]; range: TimeRange; from: number; to: number }) {
  const { data } = useSeries(lines, range);
  const points = data.map((one) => (one?.series ?? []).flatMap((line) => (line.points ?? []) as Points));
  if (data.some((one) => one === undefined)) return null;
  const format = formatOf(data[0]?.unit ?? '');
  const means = points.map((all) => meansAround(all, from / 1000, to / 1000));
  const share = lines.length === 2 && ['errors', 'failures', 'denied_requests'].includes(lines[1]!.metric);
  const values = (['before', 'during', 'after'] as const).map((when) => {
    const [first, second] = means.map((mean) => mean[when]);
    if (share) return first ? percent(Math.min(1, (second ?? 0) / first)) : undefined;
    return first === undefined ? undefined : format(first);
  });
  if (values[1] === undefined) return null;
  return (
    <p className="outage-around">
      <span className="muted">{share ? lines[1]!.label : lines[0]!.label}</span>
      {(['before', 'during', outage.ended_at ? 'after' : undefined] as const).map((when, i) => when && (
        <span key={when}>
          <b className={when === 'during' ? 'text-failing' : undefined}>{values[i] ?? 'unknown'}</b> <span className="muted">{when}</span>
        </span>
      ))}
    </p>
  );
}

function titleOf({ kind }: Outage): string {
  switch (kind) {
    case 'latency': return 'Response time';
    case 'http_errors': return 'Requests';
    default: return 'Connections';
  }
}

/** What failed, as a chart asks for it: the edges to the one that all failing edges have in common. */
function selector({ edges, root }: Outage): Record<string, string> | undefined {
  const to = edges?.[0]?.destination ?? (root.type === 'workload' ? root : undefined);
  if (!to || edges?.some(({ destination }) => destination.name !== to.name || destination.namespace !== to.namespace)) return undefined;
  const from = edges?.length === 1 ? edges[0]!.source : undefined;
  return {
    destination_app: to.name, ...(to.namespace ? { destination_namespace: to.namespace } : {}),
    ...(from ? { source_app: from.name, ...(from.namespace ? { source_namespace: from.namespace } : {}) } : {}),
  };
}

function deniedRequests(params: Record<string, string>): Line[] {
  return [
    { metric: 'requests', label: 'requests', colour: 'series-1', params },
    { metric: 'denied_requests', label: 'denied', colour: 'failing-line', params },
  ];
}

function linesOf(kind: string, params: Record<string, string>): Line[] {
  switch (kind) {
    case 'latency': return [
      { metric: 'p95', label: 'p95', colour: 'series-3', params },
      { metric: 'p50', label: 'p50', colour: 'series-2', params },
    ];
    case 'http_errors': return [
      { metric: 'requests', label: 'requests', colour: 'series-1', params },
      { metric: 'errors', label: 'failed', colour: 'failing-line', params },
    ];
    case 'traffic_loss': return [{ metric: 'opened', label: 'opened', colour: 'series-1', params }];
    default: return [
      { metric: 'opened', label: 'opened', colour: 'series-1', params },
      { metric: 'failures', label: 'failed', params: { ...params, by: 'error_type' } },
    ];
  }
}
