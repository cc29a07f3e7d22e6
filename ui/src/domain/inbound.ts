import type { Graph, GraphEdge } from '../api/types';
import { metricsOf, secondsOf, type EdgeMetrics } from './metrics';

/** What arrives at each workload, by "namespace/name". */
export function inboundByNode(graph: Graph): Map<string, EdgeMetrics> {
  const seconds = secondsOf(graph);
  const edges = new Map<string, GraphEdge[]>();
  for (const edge of graph.edges) edges.set(edge.destination, [...(edges.get(edge.destination) ?? []), edge]);
  const result = new Map<string, EdgeMetrics>();
  for (const node of graph.nodes) {
    const into = edges.get(node.id);
    if (into) result.set(`${node.namespace}/${node.name}`, metricsOf(into, seconds));
  }
  return result;
}
