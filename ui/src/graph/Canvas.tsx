import { useEffect, useImperativeHandle, useRef, useState, type Ref } from 'react';

import { useTheme } from '../app/theme';
import { startTraffic, type Traffic } from './animation';
import type { Point, Positions } from './layout';
import type { View } from './model';
import { Renderer, type Covered, type DrawOptions } from './renderer';
import { Tooltip } from './Tooltip';

const UNCOVERED: Covered = { left: 0, bottom: 0 };

export interface CanvasHandle {
  renderer(): Renderer | undefined;
}

interface Props {
  view: View;
  positions: Positions;
  /** Rises when everything was laid out anew. */
  round: number;
  options: DrawOptions;
  animate: boolean;
  /** How much of it something lies over; the same object as long as it is the same. */
  covered?: Covered;
  label: string;
  onChoose: (id: string | undefined) => void;
  onOpen: (id: string) => void;
  onMoved: (positions: Positions) => void;
  ref: Ref<CanvasHandle>;
}

/** The drawing surface. Arrow keys walk along the edges, so that everything on it is reachable without a mouse. */
export function Canvas({ view, positions, round, options, animate, covered = UNCOVERED, label, onChoose, onOpen, onMoved, ref }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const renderer = useRef<Renderer>(undefined);
  const traffic = useRef<Traffic>(undefined);
  const theme = useTheme();
  const [hover, setHover] = useState<{ id: string; at: Point }>();
  const calls = useRef({ onChoose, onOpen, onMoved });
  calls.current = { onChoose, onOpen, onMoved };

  useEffect(() => {
    const one = new Renderer(host.current!, {
      choose: (id) => calls.current.onChoose(id),
      open: (id) => calls.current.onOpen(id),
      moved: (moved) => calls.current.onMoved(moved),
      hover: (id, at) => setHover(id === undefined ? undefined : { id, at }),
      shown: () => traffic.current?.refresh(),
    }, covered);
    renderer.current = one;
    return () => {
      renderer.current = undefined;
      one.destroy();
    };
  }, [covered]);

  useImperativeHandle(ref, () => ({ renderer: () => renderer.current }), []);

  useEffect(() => {
    const started = performance.now();
    renderer.current?.draw(view, positions, options);
    performance.measure('nephilia.draw', { start: started });
  }, [view, positions, options]);

  useEffect(() => renderer.current?.refit(), [round]);

  useEffect(() => renderer.current?.retheme(), [theme]);

  useEffect(() => {
    if (options.chosen) renderer.current?.reveal(options.chosen);
  }, [options.chosen]);

  useEffect(() => {
    if (!animate || !renderer.current) return;
    const running = startTraffic(renderer.current, host.current!);
    traffic.current = running;
    return () => {
      traffic.current = undefined;
      running.stop();
    };
  }, [animate]);

  return (
    <div className="canvas-frame">
      <div
        ref={host}
        className="canvas"
        tabIndex={0}
        role="application"
        aria-label={label}
        aria-describedby="canvas-keys"
        onKeyDown={(event) => {
          const one = renderer.current;
          if (!one) return;
          if (event.key === '+' || event.key === '=') one.zoomBy(1.25);
          else if (event.key === '-') one.zoomBy(0.8);
          else if (event.key === '0') one.fit();
          else if (event.key === 'Escape') onChoose(undefined);
          else if (event.key === 'Enter' && options.chosen) onOpen(options.chosen);
          else if (event.key.startsWith('Arrow')) onChoose(step(view, positions, options.chosen, event.key));
          else return;
          event.preventDefault();
        }}
      />
      <p id="canvas-keys" className="visually-hidden">
        Arrow keys move from node to node: right to what it calls, left to what calls it, up and down among neighbours. Plus and minus zoom, 0 fits, Escape closes.
      </p>
      {hover && <Tooltip view={view} id={hover.id} at={hover.at} />}
    </div>
  );
}

/** The node that an arrow key leads to. */
function step(view: View, positions: Positions, from: string | undefined, key: string): string | undefined {
  const placed = view.nodes.filter((node) => positions[node.id]);
  const here = placed.find((node) => node.id === from);
  if (!here) return placed.toSorted((a, b) => positions[a.id]!.x - positions[b.id]!.x || positions[a.id]!.y - positions[b.id]!.y)[0]?.id;
  const at = positions[here.id]!;
  const linked = new Set(
    view.edges.flatMap((edge) => (key === 'ArrowRight' && edge.source === here.id ? [edge.destination] : key === 'ArrowLeft' && edge.destination === here.id ? [edge.source] : [])),
  );
  const horizontal = key === 'ArrowRight' || key === 'ArrowLeft';
  const candidates = horizontal && linked.size > 0
    ? placed.filter((node) => linked.has(node.id) && node.id !== here.id)
    : placed.filter(({ id }) => {
        const p = positions[id]!;
        if (key === 'ArrowUp') return p.y < at.y - 4;
        if (key === 'ArrowDown') return p.y > at.y + 4;
        return key === 'ArrowLeft' ? p.x < at.x - 4 : p.x > at.x + 4;
      });
  // Off-axis distance weighs more, so that down means down.
  const cost = (id: string) => {
    const [dx, dy] = [positions[id]!.x - at.x, positions[id]!.y - at.y];
    return horizontal ? Math.abs(dx) + 2 * Math.abs(dy) : Math.abs(dy) + 2 * Math.abs(dx);
  };
  return candidates.toSorted((a, b) => cost(a.id) - cost(b.id))[0]?.id ?? here.id;
}
