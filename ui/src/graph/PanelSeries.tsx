import type { GraphNode } from '../api/types';
import type { ViewEdge } from './model';

export function NodeSeries(_: { node: GraphNode }) {
  return null;
}

export function EdgeSeries(_: { edge: ViewEdge }) {
  return null;
}
