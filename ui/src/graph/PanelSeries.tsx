import { lazy, Suspense, useMemo } from 'react';

import type { GraphNode } from '../api/types';
import type { Line } from '../charts/TimeChart';
import type { Params } from '../api/client';
import type { ViewEdge } from './model';

const TimeChart = lazy(() => import('../charts/TimeChart').then((module) => ({ default: module.TimeChart })));

/** Calls to a node, over time. */
export function NodeSeries({ node }: { node: GraphNode }) {
  const params = useMemo(() => towards(node), [node.id, node.type]);
  const failures = useMemo<Line[]>(() => [{ metric: 'failures', label: 'connections', colour: 'failing-line', params }, { metric: 'errors', label: 'requests', colour: 'degraded-line', dash: [5, 3], params }], [params]);
  const traffic = useMemo<Line[]>(() => [{ metric: 'opened', label: 'connections', colour: 'series-5', params }, { metric: 'requests', label: 'requests', colour: 'series-1', params }], [params]);
  return (
    <Suspense fallback={<p className="chart-empty">Loading…</p>}>
      <TimeChart title="Traffic to it" lines={traffic} height={104} />
      <TimeChart title="Failures" lines={failures} height={90} />
    </Suspense>
  );
}

function towards(node: GraphNode): Params {
  switch (node.type) {
    case 'namespace': return { destination_namespace: node.namespace || node.name };
    case 'app': return { destination_app: node.app || node.name, destination_namespace: node.namespace };
    case 'service': return { service: node.name.includes('.') ? node.name : `${node.name}.${node.namespace}.svc.cluster.local` };
    default: return { destination: `${node.namespace}/${node.name}` };
  }
}

/** Traffic between two nodes, over time. */
export function EdgeSeries({ edge, from, to }: { edge: ViewEdge; from: GraphNode | undefined; to: GraphNode | undefined }) {
  const params = useMemo<Params | undefined>(
    () => (from?.type === 'workload' || from?.type === 'external') && (to?.type === 'workload' || to?.type === 'external') ? { source: `${from.namespace}/${from.name}`, destination: `${to.namespace}/${to.name}` } : undefined,
    [from?.id, to?.id],
  );
  const l7 = edge.metrics.requests > 0;
  const connections = useMemo<Line[]>(() => params ? [{ metric: 'opened', label: 'opened', colour: 'series-1', params }, { metric: 'failures', label: 'failed', colour: 'failing-line', dash: [5, 3], params }] : [], [params]);
  const requests = useMemo<Line[]>(() => params ? [{ metric: 'requests', label: 'requests', colour: 'series-1', params }, { metric: 'errors', label: 'failed', colour: 'failing-line', dash: [5, 3], params }, { metric: 'denied_requests', label: 'denied', colour: 'degraded-line', dash: [2, 3], params }] : [], [params]);
  const times = useMemo<Line[]>(() => params ? [{ metric: 'p95', label: 'p95', colour: 'series-3', params }, { metric: 'p50', label: 'p50', colour: 'series-2', params }] : [], [params]);
  if (!params) return null;
  return (
    <Suspense fallback={<p className="chart-empty">Loading…</p>}>
      {l7 && <TimeChart title="Requests" note="L7" lines={requests} height={96} />}
      <TimeChart title="Connections" note="L4" lines={connections} height={96} />
      {l7 && <TimeChart title="Response time" lines={times} height={104} />}
    </Suspense>
  );
}
