import 'uplot/dist/uPlot.min.css';
import '../styles/chart.css';

import { useEffect, useMemo, useRef, useState } from 'react';
import uPlot from 'uplot';

import { patchQuery } from '../app/router';
import { useTheme } from '../app/theme';
import { dataNow } from '../api/live';
import { useRange } from '../api/queries';
import { useSeries, type SeriesQuery } from '../api/series';
import type { Series } from '../api/types';
import { byteRate, count, millis, rate } from '../domain/format';
import { clock, formatWindow, tickClock, toRFC3339, type TimeRange } from '../domain/time';
import { ChartFrame } from './ChartFrame';

export interface Line extends SeriesQuery {
  label: string;
  /** A custom property without its dashes: series-1, failing-line… */
  colour?: string;
  dash?: number[];
}

interface Props {
  title: string;
  lines: Line[];
  /** Names a line of a query that gives several, by its labels. */
  name?: (labels: Record<string, string>) => string;
  height?: number;
  note?: string;
  /** Of lines that have none of their own. */
  colours?: readonly string[];
  /** Fills the area under the only line. */
  fill?: boolean;
  /** Another time than the page's. */
  range?: TimeRange;
  /** A time that stands out, in unix milliseconds. */
  band?: { from: number; to: number } | undefined;
  /** Moments that stand out, in unix milliseconds. */
  flags?: readonly number[];
}

const COLOURS = ['series-1', 'series-2', 'series-3', 'series-4', 'series-5', 'healthy-line', 'degraded-line', 'failing-line'];
const MOST_LINES = 12;

interface Drawn {
  label: string;
  colour: string;
  dash: number[] | undefined;
  values: (number | null)[];
}

interface Frame {
  /** Unix seconds. */
  start: number;
  end: number;
  band: { from: number; to: number } | undefined;
  flags: readonly number[];
}

/** The points that no line reaches. */
const alone: uPlot.Series.Points.Filter = (u, series) => {
  const values = u.data[series]!;
  const indices = [];
  for (let i = 0; i < values.length; i++) if (values[i] != null && values[i - 1] == null && values[i + 1] == null) indices.push(i);
  return indices;
};

/** What lies behind the lines. */
function drawFrame(u: uPlot, { band, flags }: Frame, colour: (token: string) => string) {
  const { ctx, bbox } = u;
  const x = (ms: number) => Math.min(Math.max(u.valToPos(ms / 1000, 'x', true), bbox.left), bbox.left + bbox.width);
  ctx.save();
  if (band) {
    ctx.fillStyle = `color-mix(in srgb, ${colour('failing-line')} 9%, transparent)`;
    ctx.fillRect(x(band.from), bbox.top, x(band.to) - x(band.from), bbox.height);
  }
  ctx.fillStyle = colour('accent');
  for (const flag of flags) {
    ctx.fillRect(x(flag) - devicePixelRatio / 2, bbox.top, devicePixelRatio, bbox.height);
    ctx.beginPath();
    ctx.arc(x(flag), bbox.top, 3 * devicePixelRatio, 0, 2 * Math.PI);
    ctx.fill();
  }
  ctx.restore();
}

/** Lines over the page's time range. Dragging over it zooms every page into that time. */
export function TimeChart({ title, lines, name, height = 150, note, colours = COLOURS, fill = false, range: wanted, band, flags }: Props) {
  const shown = useRange();
  const range = wanted ?? shown;
  const theme = useTheme();
  const { data, error, pending } = useSeries(lines, range);
  const unit = data.find((one) => one)?.unit ?? '';
  const { times, drawn } = useMemo(() => arrange(data, lines, name, colours), [data, lines, name, colours]);
  const host = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot>(undefined);
  const [cursor, setCursor] = useState<number>();
  const format = formatOf(unit);
  const shape = drawn.map((line) => `${line.label} ${line.colour}`).join('|');
  const end = (range.at ?? dataNow()) / 1000;
  const frame = useRef<Frame>({ start: 0, end: 0, band: undefined, flags: [] });
  frame.current = { start: end - range.seconds, end, band, flags: flags ?? [] };
  const empty = !pending && drawn.every((line) => line.values.every((value) => value === null || value === 0));

  useEffect(() => {
    if (!host.current || drawn.length === 0) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (token: string) => style.getPropertyValue(`--${token}`).trim();
    const axis = { stroke: colour('text-muted'), grid: { stroke: colour('border'), width: 1 }, ticks: { show: false }, font: '11px Inter Variable, system-ui, sans-serif' };
    const plot = new uPlot(
      {
        width: host.current.clientWidth,
        height,
        legend: { show: false },
        padding: [8, 28, 0, 0],
        cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false, setScale: false }, sync: { key: 'nephilia' } },
        scales: { x: { time: true, range: () => [frame.current.start, frame.current.end] }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.12 : 1] } },
        axes: [
          { ...axis, size: 26, space: 70, values: (_, ticks) => ticks.map((tick) => tickClock(tick * 1000, dataNow())) },
          { ...axis, size: 62, space: 30, values: (_, ticks) => ticks.map((tick) => format(tick)) },
        ],
        series: [
          {},
          ...drawn.map((line) => ({
            label: line.label, stroke: colour(line.colour), width: 1.75, spanGaps: false, points: { show: true, size: 4, fill: colour(line.colour), filter: alone },
            ...(line.dash ? { dash: line.dash } : {}),
            ...(fill ? { fill: `color-mix(in srgb, ${colour(line.colour)} 14%, transparent)` } : {}),
          })),
        ],
        hooks: {
          drawClear: [(u) => drawFrame(u, frame.current, colour)],
          setCursor: [(u) => setCursor(u.cursor.idx ?? undefined)],
          setSelect: [
            (u) => {
              if (u.select.width < 8) return;
              const [from, to] = [u.posToVal(u.select.left, 'x'), u.posToVal(u.select.left + u.select.width, 'x')];
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              patchQuery({ last: formatWindow(Math.max(1, to - from)), at: toRFC3339(Math.round(to) * 1000) });
            },
          ],
        },
      },
      [times, ...drawn.map((line) => line.values)] as uPlot.AlignedData,
      host.current,
    );
    chart.current = plot;
    const observer = new ResizeObserver(([entry]) => entry && plot.setSize({ width: entry.contentRect.width, height }));
    observer.observe(host.current);
    return () => {
      observer.disconnect();
      plot.destroy();
      chart.current = undefined;
    };
    // A new set of lines or theme needs a new chart; new points do not.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [shape, theme, height, unit]);

  useEffect(() => {
    chart.current?.setData([times, ...drawn.map((line) => line.values)] as uPlot.AlignedData);
  }, [times, drawn]);

  const last = cursor ?? times.length - 1;
  return (
    <ChartFrame title={title} note={note} promql={data.flatMap((one) => (one ? [one.promql] : []))} range={range}>
      {error && drawn.length === 0 ? (
        <p className="chart-empty fault">{error.message}</p>
      ) : pending && drawn.length === 0 ? (
        <p className="chart-empty">Loading…</p>
      ) : drawn.length === 0 ? (
        <p className="chart-empty">Nothing was measured in this time.</p>
      ) : (
        <>
          <div ref={host} className="chart" role="img" aria-label={`${title}: ${drawn.map((line) => `${line.label} ${format(lastValue(line.values))}`).join(', ')}`} />
          {empty && <span className="chart-flat">nothing in this time</span>}
          <ul className="chart-legend">
            {drawn.map((line) => (
              <li key={line.label}>
                <svg width="16" height="8" aria-hidden="true">
                  <line x1="0" y1="4" x2="16" y2="4" style={{ stroke: `var(--${line.colour})` }} strokeWidth="2.5" strokeDasharray={line.dash?.join(' ')} />
                </svg>
                <span className="truncate">{line.label}</span> <b>{format(cursor === undefined ? lastValue(line.values) : line.values[last])}</b>
              </li>
            ))}
            {cursor !== undefined && times[cursor] !== undefined && <li className="chart-when">{clock(times[cursor]! * 1000, dataNow())}</li>}
          </ul>
        </>
      )}
    </ChartFrame>
  );
}

function lastValue(values: (number | null)[]): number | null | undefined {
  return values.findLast((value) => value !== null);
}

export function formatOf(unit: string): (value: number | null | undefined) => string {
  switch (unit) {
    case 's': return (value) => millis(value === null || value === undefined ? value : value * 1000);
    case 'By/s': return byteRate;
    case '1/s': return rate;
    default: return count;
  }
}

/** Brings the points of all queries onto one list of times. */
function arrange(data: (Series | undefined)[], lines: Line[], name: ((labels: Record<string, string>) => string) | undefined, colours: readonly string[]): { times: number[]; drawn: Drawn[] } {
  const all = new Set<number>();
  for (const one of data) for (const line of one?.series ?? []) for (const [time] of line.points ?? []) all.add(time as number);
  const times = [...all].sort((a, b) => a - b);
  const index = new Map(times.map((time, i) => [time, i]));
  const drawn: Drawn[] = [];
  data.forEach((one, q) => {
    for (const line of one?.series ?? []) {
      if (drawn.length >= MOST_LINES) return;
      const values = new Array<number | null>(times.length).fill(null);
      for (const [time, value] of line.points ?? []) values[index.get(time as number)!] = (value ?? null) as number | null;
      const wanted = lines[q]!;
      drawn.push({
        label: name && one!.series.length > 0 && Object.keys(line.labels).length > 0 ? name(line.labels) : wanted.label,
        colour: wanted.colour ?? colours[drawn.length % colours.length]!,
        dash: wanted.dash,
        values,
      });
    }
  });
  return { times, drawn };
}
