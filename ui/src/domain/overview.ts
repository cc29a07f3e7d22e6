import type { Graph, Health } from '../api/types';
import { asHealth, reasonOf, worst } from './health';
import { lost, metricsOf, secondsOf, type EdgeMetrics } from './metrics';

export interface NamespaceRow {
  namespace: string;
  health: Health;
  reason: string | undefined;
  workloads: number;
  /** Of the edges into it. */
  metrics: EdgeMetrics;
}

export interface EdgeRow {
  /** As on the graph: "source→destination". */
  id: string;
  source: string;
  destination: string;
  metrics: EdgeMetrics;
}

export interface OverviewData {
  total: EdgeMetrics & { edges: number; workloads: number; unwell: number; mtlsShare: number | undefined };
  namespaces: NamespaceRow[];
  failing: EdgeRow[];
  slowest: EdgeRow[];
}

const LISTED = 6;

/** What the overview says, from the graph of workloads: the unwell first. */
export function overviewOf(graph: Graph): OverviewData {
  const seconds = secondsOf(graph);
  const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
  const workloads = graph.nodes.filter((node) => node.type === 'workload');

  const into = new Map<string, Graph['edges']>();
  const pairs = new Map<string, Graph['edges']>();
  for (const edge of graph.edges) {
    const namespace = nodes.get(edge.destination)?.namespace ?? '';
    push(into, namespace, edge);
    push(pairs, `${edge.source}→${edge.destination}`, edge);
  }
  const namespaces = [...new Set(workloads.map((node) => node.namespace))].map((namespace): NamespaceRow => {
    const own = workloads.filter((node) => node.namespace === namespace);
    const health = worst(own.map((node) => asHealth(node.health)));
    return { namespace, health, reason: reasonOf(own, health), workloads: own.length, metrics: metricsOf(into.get(namespace) ?? [], seconds) };
  });
  const rank: Record<Health, number> = { failing: 0, degraded: 1, denied: 2, healthy: 3, unknown: 4, idle: 5 };
  namespaces.sort((a, b) => rank[a.health] - rank[b.health] || b.metrics.rate - a.metrics.rate || a.namespace.localeCompare(b.namespace));

  const rows = [...pairs].map(([id, edges]): EdgeRow => ({
    id, source: nodes.get(edges[0]!.source)?.name ?? edges[0]!.source, destination: nodes.get(edges[0]!.destination)?.name ?? edges[0]!.destination, metrics: metricsOf(edges, seconds),
  }));
  const secure = graph.edges.reduce((sum, edge) => sum + (edge.security === 'mutual_tls' ? edge.connections.opened : 0), 0);
  const known = graph.edges.reduce((sum, edge) => sum + (edge.security !== 'unknown' ? edge.connections.opened : 0), 0);
  return {
    total: {
      ...metricsOf(graph.edges, seconds),
      edges: graph.edges.length,
      workloads: workloads.length,
      unwell: workloads.filter((node) => node.health === 'failing' || node.health === 'degraded').length,
      mtlsShare: known > 0 ? secure / known : undefined,
    },
    namespaces,
    failing: rows.filter((row) => lost(row.metrics) > 0).sort((a, b) => lost(b.metrics) - lost(a.metrics)).slice(0, LISTED),
    slowest: rows.filter((row) => row.metrics.p95 !== undefined).sort((a, b) => b.metrics.p95! - a.metrics.p95!).slice(0, LISTED),
  };
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
