import { useCallback, useMemo, useRef } from 'react';

import type { Graph, Outage } from '../api/types';
import { pathOf, href, navigate } from '../app/router';
import { Loading } from '../components/State';
import { blastRadius } from '../domain/outages';
import { Canvas, type CanvasHandle } from './Canvas';
import type { Positions } from './layout';
import { BOX_PADDING, NODE_HEIGHT } from './measure';
import { buildView, type View } from './model';
import { useLayout } from './useLayout';

const NONE: ReadonlySet<string> = new Set();

/** The part of the graph that an outage touches, as it was while the outage lasted. */
export default function BlastRadius({ graph, outage }: { graph: Graph; outage: Outage }) {
  const canvas = useRef<CanvasHandle>(null);
  const view = useMemo(() => viewOf(graph, outage), [graph, outage]);
  const { positions, ready, round, move } = useLayout(view, `outage ${outage.id}`);
  const options = useMemo(() => ({ labels: ['rate'] as const, width: 'none' as const, colour: 'health' as const, chosen: undefined }), []);
  const open = useCallback(
    (id: string | undefined) => {
      const node = graph.nodes.find((one) => one.id === id);
      if (node && node.type === 'workload') navigate(href(pathOf('workloads', node.namespace, node.name)));
    },
    [graph],
  );
  if (view.nodes.length === 0) return <p className="chart-empty">None of it is on the graph of that time.</p>;
  if (!ready || !positions) return <Loading what="the layout" />;
  return (
    <div className="blast-canvas" style={{ height: heightOf(ready, positions) }}>
      <Canvas
        ref={canvas}
        view={ready}
        positions={positions}
        round={round}
        options={options}
        animate={false}
        label={`Blast radius: ${ready.nodes.map((node) => node.label).join(', ')}`}
        onChoose={() => undefined}
        onOpen={open}
        onMoved={move}
      />
    </div>
  );
}

const [SHORTEST, TALLEST] = [170, 420];

/** As high as the graph is at its own size, within bounds. */
function heightOf(view: View, positions: Positions): number {
  const heights = view.nodes.map((node) => positions[node.id]?.y ?? 0);
  return Math.max(SHORTEST, Math.min(TALLEST, Math.max(...heights) - Math.min(...heights) + NODE_HEIGHT + BOX_PADDING.top + BOX_PADDING.bottom + 60));
}

function viewOf(graph: Graph, outage: Outage): View {
  const { root, callers, dependents, edges } = blastRadius(graph, outage);
  const touched = new Set([...root, ...callers, ...dependents]);
  for (const id of edges) for (const end of id.split('→')) touched.add(end);
  const around: Graph = { ...graph, nodes: graph.nodes.filter((node) => touched.has(node.id)), edges: graph.edges.filter((edge) => touched.has(edge.source) && touched.has(edge.destination)) };
  const asOpen: Outage = { ...outage, state: 'open' };
  const view = buildView(around, { boxing: 'namespace', folded: NONE, find: undefined, hide: undefined, focus: undefined, depth: 1, outages: [asOpen] });
  return { ...view, nodes: view.nodes.map((node) => ({ ...node, health: root.has(node.id) ? 'failing' : node.health })) };
}
