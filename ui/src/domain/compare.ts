import type { Graph, GraphEdge } from '../api/types';
import { HEALTH, asHealth } from './health';
import { metricsOf, secondsOf, type EdgeMetrics } from './metrics';

/** One difference between two moments. */
export interface Change {
  kind: 'appeared' | 'vanished' | 'worse' | 'better';
  /** Id of the node, or "source→destination" of the edge. */
  id: string;
  label: string;
  detail: string;
}

/** What appeared, vanished, got worse and got better from one graph to the other, the worst first. */
export function compareGraphs(before: Graph, after: Graph): Change[] {
  const changes: Change[] = [];
  const oldNodes = new Map(before.nodes.map((node) => [node.id, node]));
  const newNodes = new Map(after.nodes.map((node) => [node.id, node]));
  for (const node of after.nodes) {
    if (!oldNodes.has(node.id)) changes.push({ kind: 'appeared', id: node.id, label: node.name, detail: node.namespace || 'outside the mesh' });
  }
  for (const node of before.nodes) {
    if (!newNodes.has(node.id)) changes.push({ kind: 'vanished', id: node.id, label: node.name, detail: node.namespace || 'outside the mesh' });
  }
  const nameOf = (id: string) => (newNodes.get(id) ?? oldNodes.get(id))?.name ?? id;
  const [oldEdges, newEdges] = [sum(before), sum(after)];
  for (const [id, { source, destination, metrics }] of newEdges) {
    const label = `${nameOf(source)} → ${nameOf(destination)}`;
    const old = oldEdges.get(id)?.metrics;
    const [was, is] = [active(old), active(metrics)];
    if (!is) continue;
    if (!was) changes.push({ kind: 'appeared', id, label, detail: `${asHealth(metrics.health)}` });
    else changes.push(...judge(id, label, old!, metrics));
  }
  for (const [id, { source, destination, metrics }] of oldEdges) {
    if (active(metrics) && !active(newEdges.get(id)?.metrics)) changes.push({ kind: 'vanished', id, label: `${nameOf(source)} → ${nameOf(destination)}`, detail: 'no traffic any more' });
  }
  const order = { worse: 0, vanished: 1, appeared: 2, better: 3 };
  return changes.sort((a, b) => order[a.kind] - order[b.kind] || a.label.localeCompare(b.label));
}

/** A change of health, or of the failing share by five points, or of p95 by half and 20 ms. */
function judge(id: string, label: string, old: EdgeMetrics, now: EdgeMetrics): Change[] {
  const [a, b] = [HEALTH[asHealth(old.health)].rank, HEALTH[asHealth(now.health)].rank];
  const failures = (now.failureShare ?? 0) - (old.failureShare ?? 0);
  if (a !== b && Math.max(a, b) >= HEALTH.degraded.rank) return [{ kind: b > a ? 'worse' : 'better', id, label, detail: `${old.health} → ${now.health}` }];
  if (Math.abs(failures) >= 0.05) {
    return [{ kind: failures > 0 ? 'worse' : 'better', id, label, detail: `failures ${Math.round((old.failureShare ?? 0) * 100)}% → ${Math.round((now.failureShare ?? 0) * 100)}%` }];
  }
  if (old.p95 !== undefined && now.p95 !== undefined && Math.abs(now.p95 - old.p95) >= Math.max(20, Math.min(now.p95, old.p95) * 0.5)) {
    return [{ kind: now.p95 > old.p95 ? 'worse' : 'better', id, label, detail: `p95 ${Math.round(old.p95)} → ${Math.round(now.p95)} ms` }];
  }
  return [];
}

function active(metrics: EdgeMetrics | undefined): boolean {
  return metrics !== undefined && (metrics.opened > 0 || metrics.closed > 0 || metrics.active > 0 || metrics.requests > 0 || metrics.sent + metrics.received > 0);
}

function sum(graph: Graph): Map<string, { source: string; destination: string; metrics: EdgeMetrics }> {
  const seconds = secondsOf(graph);
  const parts = new Map<string, GraphEdge[]>();
  for (const edge of graph.edges) {
    const id = `${edge.source}→${edge.destination}`;
    const list = parts.get(id);
    if (list) list.push(edge);
    else parts.set(id, [edge]);
  }
  return new Map([...parts].map(([id, edges]) => [id, { source: edges[0]!.source, destination: edges[0]!.destination, metrics: metricsOf(edges, seconds) }]));
}
