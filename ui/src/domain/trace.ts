import type { Span, Trace } from '../api/types';
import { millis } from './format';

/** Times are milliseconds after the trace's beginning. */
export interface TraceNode {
  span: Span;
  start: number;
  end: number;
  depth: number;
  children: TraceNode[];
}

export interface Tree {
  roots: TraceNode[];
  /** Every node in the order of a waterfall. */
  order: TraceNode[];
  /** When the trace began, in unix milliseconds with fractions. */
  begin: number;
  duration: number;
}

export interface Segment {
  span: string;
  start: number;
  end: number;
}

/** Unix milliseconds of an RFC 3339 time, keeping what Date.parse drops below a millisecond. */
export function preciseTime(text: string): number {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? '';
  return Math.floor(Date.parse(text) / 1000) * 1000 + Number(`0.${fraction || '0'}`) * 1000;
}

/**
 * The spans as a forest. Below an L7 span come first the connections that carried it, then what they carried, each in the
 * order of time. A span whose parent is missing, or that is its own ancestor, is a root.
 */
export function treeOf(trace: Trace): Tree {
  const begin = Math.min(...trace.spans.map((span) => preciseTime(span.start)));
  const nodes = new Map<string, TraceNode>();
  for (const span of trace.spans) {
    const start = preciseTime(span.start) - begin;
    nodes.set(span.span_id, { span, start, end: start + span.duration_ms, depth: 0, children: [] });
  }
  const roots: TraceNode[] = [];
  for (const node of nodes.values()) {
    const parent = nodes.get(node.span.parent_id ?? '');
    if (!parent || parent === node || descends(parent, node, nodes)) roots.push(node);
    else parent.children.push(node);
  }
  const inOrder = (a: TraceNode, b: TraceNode) => (a.span.layer === b.span.layer ? a.start - b.start : a.span.layer === 'l4' ? -1 : 1);
  const order: TraceNode[] = [];
  const visit = (node: TraceNode, depth: number) => {
    node.depth = depth;
    order.push(node);
    for (const child of node.children.sort(inOrder)) visit(child, depth + 1);
  };
  for (const root of roots.sort((a, b) => a.start - b.start)) visit(root, 0);
  const duration = Math.max(0, ...order.map((node) => node.end));
  return { roots, order, begin, duration };
}

/** Whether a is b or lies below it; also true for a chain of parents that never ends. */
function descends(a: TraceNode, b: TraceNode, nodes: Map<string, TraceNode>): boolean {
  let hops = 0;
  for (let up: TraceNode | undefined = a; up; up = nodes.get(up.span.parent_id ?? '')) {
    if (up === b || ++hops > nodes.size) return true;
  }
  return false;
}

/**
 * What the trace's duration consists of: from its end backwards, always the request that ended last before, else the
 * caller itself. Connections are left out: they hold what they carry.
 */
export function criticalPath(tree: Tree): Segment[] {
  const root = tree.roots.filter((node) => node.span.layer === 'l7').sort((a, b) => b.end - b.start - (a.end - a.start))[0] ?? tree.roots[0];
  if (!root) return [];
  const segments: Segment[] = [];
  const walk = (node: TraceNode, limit: number) => {
    let cursor = Math.min(node.end, limit);
    for (const child of requestsBelow(node).sort((a, b) => b.end - a.end)) {
      const [start, end] = [Math.max(child.start, node.start), Math.min(child.end, cursor)];
      // One that ran entirely beside what is already on the path did not hold anything up.
      if (end <= start || child.start >= cursor) continue;
      if (cursor > end) segments.push({ span: node.span.span_id, start: end, end: cursor });
      walk(child, end);
      cursor = start;
    }
    if (cursor > node.start) segments.push({ span: node.span.span_id, start: node.start, end: cursor });
  };
  walk(root, root.end);
  return segments.reverse();
}

/** The nearest requests below a node, through the connections between. */
function requestsBelow(node: TraceNode): TraceNode[] {
  return node.children.flatMap((child) => (child.span.layer === 'l7' ? [child] : requestsBelow(child)));
}

export interface Compared {
  key: string;
  service: string;
  name: string;
  layer: Span['layer'];
  depth: number;
  a: { count: number; total: number } | undefined;
  b: { count: number; total: number } | undefined;
}

interface Merged {
  row: Compared;
  children: Map<string, Merged>;
}

/** Two traces side by side: spans with the same chain of services and names are one row, below the row of their callers. */
export function compareTraces(a: Trace, b: Trace): Compared[] {
  const roots = new Map<string, Merged>();
  const add = (trace: Trace, side: 'a' | 'b') => {
    const visit = (node: TraceNode, siblings: Map<string, Merged>, path: string) => {
      const { service, name, kind, layer, duration_ms: duration } = node.span;
      const own = `${layer} ${kind} ${service} ${name}`;
      const key = `${path}\n${own}`;
      let merged = siblings.get(own);
      if (!merged) siblings.set(own, (merged = { row: { key, service, name, layer, depth: node.depth, a: undefined, b: undefined }, children: new Map() }));
      const sum = (merged.row[side] ??= { count: 0, total: 0 });
      sum.count++;
      sum.total += duration;
      for (const child of node.children) visit(child, merged.children, key);
    };
    for (const root of treeOf(trace).roots) visit(root, roots, '');
  };
  add(a, 'a');
  add(b, 'b');
  const flatten = (siblings: Map<string, Merged>): Compared[] => [...siblings.values()].flatMap(({ row, children }) => [row, ...flatten(children)]);
  return flatten(roots);
}

/** How far a clock is ahead of another one or behind it, in words. */
export function skewText(ms: number): string {
  return `${millis(Math.abs(ms))} ${ms < 0 ? 'behind' : 'ahead of'}`;
}

/** A line for each service whose clock differs from its callers': the largest difference. */
export function skewLines(trace: Trace): string[] {
  const largest = new Map<string, number>();
  for (const { service, skew_ms: ms } of trace.clock_skews ?? []) {
    if (Math.abs(ms) > Math.abs(largest.get(service) ?? 0)) largest.set(service, ms);
  }
  return [...largest].map(([service, ms]) => `the clock of ${service} is ${skewText(ms)} its caller's`);
}
