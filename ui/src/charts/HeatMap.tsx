import '../styles/chart.css';

import { useEffect, useMemo, useRef, useState } from 'react';

import type { Params } from '../api/client';
import { shownNow, useRange } from '../api/queries';
import { useSeries } from '../api/series';
import { useTheme } from '../app/theme';
import { millis, plural } from '../domain/format';
import { heatOf, type Heat } from '../domain/heat';
import { clock, stepFor, tickClock, ticksBetween } from '../domain/time';
import { ChartFrame } from './ChartFrame';

const [LEFT, BOTTOM, TOP, RIGHT] = [62, 22, 8, 22];

/** How often which duration occurred, over time; the darker the oftener. `one` is what is counted. */
export function HeatMap({ title, metric, params, one, height = 150 }: { title: string; metric: string; params: Params; one: string; height?: number }) {
  const range = useRange();
  // Fewer columns than a line has points: a cell has to hold some requests to say something.
  const step = Math.max(5, stepFor(range.seconds * 0.7));
  const queries = useMemo(() => [{ metric, params: { ...params, step } }], [metric, params, step]);
  const { data, error, pending } = useSeries(queries, range);
  const heat = useMemo(() => heatOf(data[0]), [data[0]]);
  return (
    <ChartFrame title={title} promql={data[0] ? [data[0].promql] : []} range={range}>
      {error && !heat ? (
        <p className="chart-empty fault">{error.message}</p>
      ) : !heat ? (
        <p className="chart-empty">{pending ? 'Loading…' : 'Nothing was measured in this time.'}</p>
      ) : (
        <HeatGrid title={title} heat={heat} one={one} height={height} />
      )}
    </ChartFrame>
  );
}

/** A heat's cells. onPick is told the column and row of one that is clicked and not empty. */
export function HeatGrid({ title, heat, one, height, onPick }: { title: string; heat: Heat; one: string; height: number; onPick?: (column: number, row: number) => void }) {
  const theme = useTheme();
  const host = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [over, setOver] = useState<Cell>();

  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => entry && setWidth(entry.contentRect.width));
    observer.observe(host.current!);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    if (canvas.current && width > 0) paint(canvas.current, heat, width, height);
  }, [heat, width, height, theme]);

  return (
    <>
      <div
        ref={host}
        className={onPick ? 'heat pickable' : 'heat'}
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          setOver(cellAt(heat, event.clientX - box.left, event.clientY - box.top, width, height));
        }}
        onPointerLeave={() => setOver(undefined)}
        onClick={() => over && over.n > 0 && onPick?.(over.column, over.row)}
      >
        <canvas ref={canvas} role="img" aria-label={`${title}: from ${millis(heat.bounds[0]! * 1000)} to ${millis(heat.bounds.at(-1)! * 1000)}, at most ${plural(heat.max, one)} in a cell`} />
        {over && (
          <div className="heat-tip" style={{ left: Math.min(over.x + 12, width - 210), top: Math.max(0, over.y - 30) }}>
            {clock(heat.times[over.column]! * 1000, shownNow())}, {millis(heat.bounds[over.row]! * 1000)} to {millis(heat.bounds[over.row + 1]! * 1000)}: {plural(over.n, one)}
          </div>
        )}
      </div>
      <div className="heat-scale" aria-hidden="true">
        0 <i /> {plural(heat.max, one)} in a cell
      </div>
    </>
  );
}

interface Cell {
  x: number;
  y: number;
  column: number;
  row: number;
  n: number;
}

function paint(canvas: HTMLCanvasElement, heat: Heat, width: number, height: number): void {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext('2d')!;
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const rows = heat.bounds.length - 1;
  const [cellWidth, cellHeight] = [(width - LEFT - RIGHT) / heat.times.length, (height - TOP - BOTTOM) / rows];
  context.fillStyle = colour('series-1');
  heat.counts.forEach((column, i) => {
    column.forEach((n, row) => {
      if (n === 0) return;
      // A square root, so that rare slow requests stay visible beside many quick ones.
      context.globalAlpha = 0.12 + 0.88 * Math.sqrt(n / heat.max);
      context.fillRect(LEFT + i * cellWidth, height - BOTTOM - (row + 1) * cellHeight, Math.max(1, cellWidth - 0.6), Math.max(1, cellHeight - 0.6));
    });
  });
  context.globalAlpha = 1;
  context.fillStyle = colour('text-muted');
  context.font = '11px Inter Variable, system-ui, sans-serif';
  context.textAlign = 'right';
  for (const row of [0, rows / 2, rows]) context.fillText(millis(heat.bounds[Math.round(row)]! * 1000), LEFT - 8, height - BOTTOM - row * cellHeight + 4);
  context.textAlign = 'center';
  const now = shownNow();
  // A cell is what happened until its time.
  const [first, step] = [heat.times[0]! * 1000, ((heat.times[1] ?? heat.times[0]! + 1) - heat.times[0]!) * 1000];
  for (const tick of ticksBetween(first, heat.times.at(-1)! * 1000, Math.max(2, Math.floor(width / 110)))) {
    context.fillText(tickClock(tick, now), LEFT + ((tick - first) / step + 1) * cellWidth, height - 6);
  }
}

function cellAt(heat: Heat, x: number, y: number, width: number, height: number): Cell | undefined {
  const rows = heat.bounds.length - 1;
  const column = Math.floor(((x - LEFT) / (width - LEFT - RIGHT)) * heat.times.length);
  const row = Math.floor(((height - BOTTOM - y) / (height - TOP - BOTTOM)) * rows);
  const n = heat.counts[column]?.[row];
  return n === undefined ? undefined : { x, y, column, row, n };
}
