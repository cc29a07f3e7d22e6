import { useCallback, useEffect, useRef, useState } from 'react';

import type { Direction, LayoutInput, Point, Positions } from './layout';
import type { LayoutReply, LayoutRequest } from './layout.worker';
import type { View } from './model';
import { NODE_HEIGHT, nodeLabel, nodeWidth } from './measure';

/** Remembered across reloads, so that a graph looks tomorrow as it does today. */
const STORE = 'nephilia.positions';
const REMEMBERED = 5000;

/**
 * Positions for a view, computed in a worker. A node that has been seen keeps its place for good, also while it is away or
 * folded; only tidy() lays out anew. Returns undefined until the first layout is there.
 */
export function useLayout(view: View | undefined, graph: string, direction: Direction = 'right'): { positions: Positions | undefined; ready: View | undefined; tidy: () => void; move: (moved: Positions) => void } {
  const scope = direction === 'right' ? graph : `${graph} ${direction}`;
  const worker = useRef<Worker>(undefined);
  /** The view that waits for the worker to finish with an earlier one; a refresh must not keep starting it over. */
  const waiting = useRef<{ view: View; anew: boolean }>(undefined);
  const busy = useRef(false);
  const known = useRef<Positions>({});
  const scopeNow = useRef<string>(undefined);
  const request = useRef(0);
  const latest = useRef<View>(undefined);
  const [result, setResult] = useState<{ view: View; positions: Positions; scope: string }>();

  if (scopeNow.current !== scope) {
    scopeNow.current = scope;
    known.current = recall(scope);
  }
  latest.current = view;

  useEffect(() => {
    worker.current = new Worker(new URL('./layout.worker.ts', import.meta.url), { type: 'module' });
    return () => {
      worker.current?.terminate();
      worker.current = undefined;
      busy.current = false;
    };
  }, []);

  const compute = useCallback((wanted: View, anew: boolean) => {
    const input: LayoutInput = { ...inputOf(wanted), direction };
    const forScope = scopeNow.current!;
    if (!anew) adoptFolds(wanted, known.current);
    if (!anew && input.nodes.every((node) => known.current[node.id])) {
      setResult({ view: wanted, positions: known.current, scope: forScope });
      return;
    }
    if (busy.current) {
      waiting.current = { view: wanted, anew: anew || (waiting.current?.anew ?? false) };
      return;
    }
    if (!worker.current) return;
    busy.current = true;
    const id = ++request.current;
    worker.current.onmessage = ({ data }: MessageEvent<LayoutReply>) => {
      busy.current = false;
      if (scopeNow.current === forScope) {
        known.current = { ...(anew ? {} : known.current), ...data.positions };
        remember(forScope, known.current);
        setResult({ view: wanted, positions: known.current, scope: forScope });
      }
      const next = waiting.current;
      waiting.current = undefined;
      if (next) latestCompute.current(next.view, next.anew);
    };
    const message: LayoutRequest = { id, input, known: anew ? undefined : known.current };
    worker.current.postMessage(message);
  }, [direction]);
  const latestCompute = useRef(compute);
  latestCompute.current = compute;

  useEffect(() => {
    if (view) compute(view, false);
  }, [view, scope, compute]);

  const tidy = useCallback(() => {
    if (latest.current) compute(latest.current, true);
  }, [compute]);

  const move = useCallback((moved: Positions) => {
    known.current = { ...known.current, ...moved };
    remember(scopeNow.current!, known.current);
    setResult((before) => before && { ...before, positions: known.current });
  }, []);

  const current = result?.scope === scope ? result : undefined;
  return { positions: current?.positions, ready: current?.view, tidy, move };
}

export function inputOf(view: View): LayoutInput {
  return {
    nodes: view.nodes.map((node) => ({ id: node.id, box: node.box, width: nodeWidth(nodeLabel(node.label, node.folded?.members.length)), height: NODE_HEIGHT })),
    boxes: view.boxes.map(({ id, parent }) => ({ id, parent })),
    edges: view.edges.map(({ source, destination }) => ({ source, destination })),
  };
}

/** A box that was just folded stands where the middle of its members was. */
function adoptFolds(view: View, known: Positions): void {
  for (const { id, folded } of view.nodes) {
    if (!folded || known[id]) continue;
    const at = folded.members.map((member) => known[member.id]).filter((point): point is Point => point !== undefined);
    if (at.length === 0) continue;
    known[id] = { x: Math.round(at.reduce((sum, p) => sum + p.x, 0) / at.length), y: Math.round(at.reduce((sum, p) => sum + p.y, 0) / at.length) };
  }
}

function recall(scope: string): Positions {
  try {
    const all = JSON.parse(localStorage.getItem(STORE) ?? '{}') as Record<string, Positions>;
    const found = all[scope];
    if (!found || typeof found !== 'object') return {};
    const valid: Positions = {};
    for (const [id, point] of Object.entries(found)) if (Number.isFinite(point?.x) && Number.isFinite(point?.y)) valid[id] = point;
    return valid;
  } catch {
    return {};
  }
}

function remember(scope: string, positions: Positions): void {
  const entries = Object.entries(positions);
  try {
    const all = JSON.parse(localStorage.getItem(STORE) ?? '{}') as Record<string, Positions>;
    all[scope] = Object.fromEntries(entries.slice(-REMEMBERED));
    localStorage.setItem(STORE, JSON.stringify(all));
  } catch {
    // Full or forbidden storage costs the memory of the layout, nothing else.
  }
}
