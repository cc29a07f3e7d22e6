import { useCallback, useEffect, useRef, useState } from 'react';

import type { Direction, LayoutInput, Point, Positions } from './layout';
import type { LayoutReply, LayoutRequest } from './layout.worker';
import type { View } from './model';
import { NODE_HEIGHT, nodeLabel, nodeWidth } from './measure';
import { outgrown, SETTLE_AT_MOST_MS, SETTLE_MS, type Made } from './settling';

/** Remembered across reloads, so that a graph looks tomorrow as it does today: the positions, and when they were made. */
const STORE = 'nephilia.positions';
const STORE_MADE = 'nephilia.layouts';
const REMEMBERED = 5000;

interface Layout {
  positions: Positions | undefined;
  /** The view that the positions are for. */
  ready: View | undefined;
  /** How often everything was laid out anew. */
  round: number;
  tidy: () => void;
  move: (moved: Positions) => void;
}

/**
 * Positions for a view, computed in a worker. A node that has been seen keeps its place, also while it is away or folded. All are
 * laid out anew by tidy(), and while the mesh is new: a layout of few edges is worth nothing once there are many. A layout is remembered
 * when it has settled. `part` tells that the view is of a part of the graph, which says nothing about the whole. Positions are undefined
 * until the first layout is there.
 */
export function useLayout(view: View | undefined, graph: string, { direction = 'right', part = false }: { direction?: Direction; part?: boolean } = {}): Layout {
  const scope = direction === 'right' ? graph : `${graph} ${direction}`;
  const worker = useRef<Worker>(undefined);
  /** The view that waits for the worker to finish with an earlier one; a refresh must not keep starting it over. */
  const waiting = useRef<{ view: View; anew: boolean }>(undefined);
  const busy = useRef(false);
  const known = useRef<Positions>({});
  const scopeNow = useRef<string>(undefined);
  const request = useRef(0);
  const latest = useRef<View>(undefined);
  const made = useRef<Made>({ edges: 0, touched: false });
  const settled = useRef(false);
  const round = useRef(0);
  const [result, setResult] = useState<{ view: View; positions: Positions; scope: string }>();

  if (scopeNow.current !== scope) {
    scopeNow.current = scope;
    known.current = recall(scope);
    settled.current = Object.keys(known.current).length > 0;
    // What an earlier version remembered does not say when it was made: it stays.
    made.current = recallMade(scope) ?? { edges: 0, touched: settled.current };
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

  const compute = useCallback((wanted: View, fresh: boolean) => {
    const input: LayoutInput = { ...inputOf(wanted), direction };
    const forScope = scopeNow.current!;
    const first = input.nodes.length > 0 && Object.keys(known.current).length === 0;
    const anew = fresh || first || (!part && outgrown(made.current, settled.current, wanted.edges.length));
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
        if (anew) {
          made.current = { edges: wanted.edges.length, touched: false };
          round.current++;
        }
        known.current = { ...(anew ? {} : known.current), ...data.positions };
        if (settled.current) remember(forScope, known.current, made.current);
        setResult({ view: wanted, positions: known.current, scope: forScope });
      }
      const next = waiting.current;
      waiting.current = undefined;
      if (next) latestCompute.current(next.view, next.anew);
    };
    const message: LayoutRequest = { id, input, known: anew ? undefined : known.current };
    worker.current.postMessage(message);
  }, [direction, part]);
  const latestCompute = useRef(compute);
  latestCompute.current = compute;

  useEffect(() => {
    if (view) compute(view, false);
  }, [view, scope, compute]);

  // The edges have stopped coming, or never will: from here on a node keeps its place, and the layout is remembered.
  const edges = part ? undefined : view?.edges.length;
  const settle = useCallback(() => {
    if (settled.current) return;
    settled.current = true;
    remember(scopeNow.current!, known.current, made.current);
  }, []);
  useEffect(() => {
    if (edges === undefined || edges === 0) return;
    const timer = setTimeout(settle, SETTLE_MS);
    return () => clearTimeout(timer);
  }, [edges, scope, settle]);
  useEffect(() => {
    const timer = setTimeout(settle, SETTLE_AT_MOST_MS);
    return () => clearTimeout(timer);
  }, [scope, settle]);

  const tidy = useCallback(() => {
    if (latest.current) compute(latest.current, true);
  }, [compute]);

  const move = useCallback((moved: Positions) => {
    known.current = { ...known.current, ...moved };
    made.current = { ...made.current, touched: true };
    settled.current = true;
    remember(scopeNow.current!, known.current, made.current);
    setResult((before) => before && { ...before, positions: known.current });
  }, []);

  const current = result?.scope === scope ? result : undefined;
  return { positions: current?.positions, ready: current?.view, round: round.current, tidy, move };
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

function recallMade(scope: string): Made | undefined {
  try {
    const found = (JSON.parse(localStorage.getItem(STORE_MADE) ?? '{}') as Record<string, Partial<Made>>)[scope];
    return typeof found?.edges === 'number' ? { edges: found.edges, touched: found.touched === true } : undefined;
  } catch {
    return undefined;
  }
}

function remember(scope: string, positions: Positions, made: Made): void {
  const entries = Object.entries(positions);
  try {
    put(STORE, scope, Object.fromEntries(entries.slice(-REMEMBERED)));
    put(STORE_MADE, scope, made);
  } catch {
    // Full or forbidden storage costs the memory of the layout, nothing else.
  }
}

function put(store: string, scope: string, value: unknown): void {
  const all = JSON.parse(localStorage.getItem(store) ?? '{}') as Record<string, unknown>;
  localStorage.setItem(store, JSON.stringify({ ...all, [scope]: value }));
}
