import type { Graph, GraphEdge, GraphNode, Health, Outage } from '../api/types';
import { asHealth, worst } from '../domain/health';
import type { Lookup, Predicate } from '../domain/expression';
import { lost, metricsOf, secondsOf, type EdgeMetrics } from '../domain/metrics';

/** What the canvas draws: the API's graph after boxing, folding, hiding, focusing and finding. */
export interface View {
  boxes: ViewBox[];
  nodes: ViewNode[];
  edges: ViewEdge[];
  /** How many nodes and edges the hide expression or the focus took away. */
  hidden: number;
  /** How many nodes and edges the find expression matches; undefined without one. */
  found: number | undefined;
}

export interface ViewBox {
  id: string;
  kind: 'namespace' | 'app';
  label: string;
  parent: string | undefined;
  members: GraphNode[];
  health: Health;
}

export interface ViewNode {
  id: string;
  label: string;
  box: string | undefined;
  health: Health;
  inMesh: boolean;
  /** Undefined for a folded box. */
  node: GraphNode | undefined;
  folded: ViewBox | undefined;
  outages: Outage[];
  dimmed: boolean;
}

export interface ViewEdge {
  id: string;
  source: string;
  destination: string;
  parts: GraphEdge[];
  metrics: EdgeMetrics;
  dimmed: boolean;
}

export type Boxing = 'none' | 'namespace' | 'app' | 'both';

export interface ViewOptions {
  boxing: Boxing;
  folded: ReadonlySet<string>;
  find: Predicate | undefined;
  hide: Predicate | undefined;
  focus: string | undefined;
  depth: number;
  outages: Outage[];
}

export function buildView(graph: Graph, options: ViewOptions): View {
  const seconds = secondsOf(graph);
  const known = new Map(graph.nodes.map((node) => [node.id, node]));
  const pairs = pairUp(graph.edges.filter((edge) => known.has(edge.source) && known.has(edge.destination)), (id) => id);

  let nodes = graph.nodes;
  let edges = [...pairs.values()].map((pair) => ({ ...pair, metrics: metricsOf(pair.parts, seconds) }));
  const before = nodes.length + edges.length;
  if (options.hide) {
    const { hide } = options;
    nodes = nodes.filter((node) => !hide(nodeLookup(node, edges)));
    const kept = new Set(nodes.map((node) => node.id));
    edges = edges.filter((e) => kept.has(e.source) && kept.has(e.destination) && !hide(edgeLookup(e.metrics, known.get(e.source)!, known.get(e.destination)!)));
  }
  if (options.focus !== undefined) {
    const near = neighbourhood(options.focus, edges, options.depth);
    nodes = nodes.filter((node) => near.has(node.id));
    edges = edges.filter((edge) => near.has(edge.source) && near.has(edge.destination));
  }
  const hidden = before - nodes.length - edges.length;

  const foundNodes = new Set<string>();
  const foundEdges = new Set<string>();
  if (options.find) {
    for (const node of nodes) if (options.find(nodeLookup(node, edges))) foundNodes.add(node.id);
    for (const e of edges) if (options.find(edgeLookup(e.metrics, known.get(e.source)!, known.get(e.destination)!))) foundEdges.add(e.id);
  }
  const finding = options.find !== undefined;
  const lit = new Set(foundNodes);
  for (const e of edges) if (foundEdges.has(e.id)) lit.add(e.source).add(e.destination);

  const boxes = boxUp(nodes, options.boxing);
  const boxOf = new Map<string, ViewBox>();
  for (const box of boxes) for (const member of box.members) if (!boxOf.has(member.id) || box.kind === 'app') boxOf.set(member.id, box);
  const byID = new Map(boxes.map((box) => [box.id, box]));
  const foldedInto = (id: string): ViewBox | undefined => {
    let result: ViewBox | undefined;
    for (let box = boxOf.get(id); box; box = box.parent ? byID.get(box.parent) : undefined) if (options.folded.has(box.id)) result = box;
    return result;
  };

  const viewNodes = new Map<string, ViewNode>();
  const stands = new Map<string, string>();
  for (const node of nodes) {
    const fold = foldedInto(node.id);
    const dimmed = finding && !lit.has(node.id);
    stands.set(node.id, fold?.id ?? node.id);
    if (!fold) {
      viewNodes.set(node.id, {
        id: node.id, label: labelOf(node), box: boxOf.get(node.id)?.id, health: asHealth(node.health), inMesh: node.in_mesh,
        node, folded: undefined, outages: outagesAt(node, options.outages), dimmed,
      });
      continue;
    }
    const standing = viewNodes.get(fold.id);
    if (standing) {
      standing.dimmed &&= dimmed;
      standing.inMesh ||= node.in_mesh;
      for (const outage of outagesAt(node, options.outages)) if (!standing.outages.includes(outage)) standing.outages.push(outage);
    } else {
      viewNodes.set(fold.id, {
        id: fold.id, label: fold.label, box: fold.parent, health: fold.health, inMesh: node.in_mesh,
        node: undefined, folded: fold, outages: [...outagesAt(node, options.outages)], dimmed,
      });
    }
  }

  const drawn = pairUp(edges.flatMap((edge) => edge.parts), (id) => stands.get(id)!);
  const litPairs = new Set(edges.filter((e) => foundEdges.has(e.id)).map((e) => edgeID(stands.get(e.source)!, stands.get(e.destination)!)));
  const open = new Set(boxes.filter((box) => !options.folded.has(box.id)).map((box) => box.id));
  return {
    boxes: boxes.filter((box) => open.has(box.id) && (box.parent === undefined || open.has(box.parent))),
    nodes: [...viewNodes.values()],
    // Traffic within a folded box is the box's own affair.
    edges: [...drawn.values()]
      .filter((edge) => edge.source !== edge.destination || known.has(edge.source))
      .map((edge) => ({ ...edge, metrics: metricsOf(edge.parts, seconds), dimmed: finding && !litPairs.has(edge.id) })),
    hidden,
    found: finding ? foundNodes.size + foundEdges.size : undefined,
  };
}

interface Pair {
  id: string;
  source: string;
  destination: string;
  parts: GraphEdge[];
}

export function edgeID(source: string, destination: string): string {
  return `${source}→${destination}`;
}

/** One edge per pair of nodes: L4 and L7, every port and service of it. */
function pairUp(edges: GraphEdge[], stand: (id: string) => string): Map<string, Pair> {
  const pairs = new Map<string, Pair>();
  for (const edge of edges) {
    const source = stand(edge.source);
    const destination = stand(edge.destination);
    const id = edgeID(source, destination);
    const pair = pairs.get(id);
    if (pair) pair.parts.push(edge);
    else pairs.set(id, { id, source, destination, parts: [edge] });
  }
  return pairs;
}

function labelOf(node: GraphNode): string {
  return node.name || node.namespace || node.id;
}

function boxUp(nodes: GraphNode[], boxing: Boxing): ViewBox[] {
  const boxes = new Map<string, ViewBox>();
  const add = (id: string, kind: ViewBox['kind'], label: string, parent: string | undefined, node: GraphNode) => {
    const box = boxes.get(id);
    if (box) box.members.push(node);
    else boxes.set(id, { id, kind, label, parent, members: [node], health: 'idle' });
  };
  for (const node of nodes) {
    if (node.type === 'namespace' || node.namespace === '') continue;
    const namespaceBox = boxing === 'namespace' || boxing === 'both' ? `ns:${node.namespace}` : undefined;
    if (namespaceBox) add(namespaceBox, 'namespace', node.namespace, undefined, node);
    if ((boxing === 'app' || boxing === 'both') && node.app && node.type === 'workload') {
      add(`app:${node.namespace}/${node.app}`, 'app', node.app, namespaceBox, node);
    }
  }
  for (const [id, box] of boxes) {
    // A box around a single workload says nothing.
    if (box.kind === 'app' && box.members.length < 2) boxes.delete(id);
    else box.health = worst(box.members.map((node) => asHealth(node.health)));
  }
  return [...boxes.values()];
}

/** The nodes at most depth hops from a node, in either direction. */
export function neighbourhood(focus: string, edges: { source: string; destination: string }[], depth: number): Set<string> {
  const near = new Set([focus]);
  let frontier = new Set([focus]);
  for (let hop = 0; hop < depth && frontier.size > 0; hop++) {
    const next = new Set<string>();
    for (const { source, destination } of edges) {
      if (frontier.has(source) && !near.has(destination)) next.add(destination);
      if (frontier.has(destination) && !near.has(source)) next.add(source);
    }
    for (const id of next) near.add(id);
    frontier = next;
  }
  return near;
}

/** The open outages whose root is this node, or a machine that runs its pods. */
export function outagesAt(node: GraphNode, outages: Outage[]): Outage[] {
  return outages.filter(({ state, root }) => {
    if (state !== 'open') return false;
    if (root.type === 'node') return node.pods?.some((pod) => pod.node === root.name) ?? false;
    return root.namespace === node.namespace && (root.name === node.app || root.name === node.name);
  });
}

export function nodeLookup(node: GraphNode, edges: { destination: string; metrics: EdgeMetrics }[]): Lookup {
  let inbound: EdgeMetrics[] | undefined;
  const into = () => (inbound ??= edges.filter((edge) => edge.destination === node.id).map((edge) => edge.metrics));
  const sum = (of: (m: EdgeMetrics) => number) => into().reduce((total, m) => total + of(m), 0);
  return (field) => {
    switch (field) {
      case 'name': return [node.name, node.app ?? ''].filter(Boolean);
      case 'namespace': return node.namespace;
      case 'app': return node.app;
      case 'version': return node.version;
      case 'health': return asHealth(node.health);
      case 'mesh': return node.in_mesh;
      case 'node': return (node.pods ?? []).map((pod) => pod.node ?? '');
      case 'rate': return sum((m) => m.rate);
      case 'connections': return sum((m) => m.connectionRate);
      case 'requests': return sum((m) => m.requestRate);
      default: return undefined;
    }
  };
}

export function edgeLookup(m: EdgeMetrics, source: GraphNode, destination: GraphNode): Lookup {
  return (field) => {
    switch (field) {
      case 'name': return [source.name, destination.name];
      case 'namespace': return [source.namespace, destination.namespace];
      case 'health': return m.health;
      case 'source': return [source.name, source.app ?? '', `${source.namespace}/${source.name}`];
      case 'destination': return [destination.name, destination.app ?? '', `${destination.namespace}/${destination.name}`];
      case 'service': return m.services;
      case 'port': return m.ports.map(String);
      case 'protocol': return m.protocols;
      case 'mtls': return m.mtls;
      case 'waypoint': return m.waypoints;
      case 'rate': return m.rate;
      case 'connections': return m.connectionRate;
      case 'requests': return m.requestRate;
      case 'failures': return m.failureShare;
      case 'failed': return lost(m);
      case 'failure': return Object.keys(m.failures);
      case 'active': return m.active;
      case 'bytes': return m.bytesPerSecond;
      case 'p50': case 'p90': case 'p95': case 'p99': return m[field];
      default: return undefined;
    }
  };
}
