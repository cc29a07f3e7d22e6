import type { GraphEdge } from '../api/types';

export interface Hop {
  from: string;
  to: string;
  closed: number;
  failed: number;
  failures: Record<string, number>;
}

/** The hops of edges through waypoints, those between the same two added up over ports, clients' first. */
export function hopsOf(edges: readonly GraphEdge[]): Hop[] {
  const hops = new Map<string, Hop & { place: number }>();
  for (const edge of edges) {
    for (const [place, { from, to, connections, failures }] of (edge.hops ?? []).entries()) {
      const id = `${from}→${to}`;
      const hop = hops.get(id) ?? { from, to, closed: 0, failed: 0, failures: {}, place };
      hops.set(id, hop);
      hop.closed += connections.closed;
      hop.failed += connections.failed;
      for (const [reason, n] of Object.entries(failures)) hop.failures[reason] = (hop.failures[reason] ?? 0) + n;
    }
  }
  return [...hops.values()].sort((a, b) => a.place - b.place).map(({ place: _, ...hop }) => hop);
}
