import type { Series, SpanCounts } from '../api/types';

/** Counts in a grid: columns are times, rows are logarithmic ranges of seconds, the shortest first. */
export interface Heat {
  times: number[];
  /** Lower bounds of the rows, and the upper bound of the last. */
  bounds: number[];
  /** By column and row. */
  counts: number[][];
  max: number;
}

const ROWS = 24;

/** Brings a histogram's fine buckets over time onto few rows of equal ratio; undefined when nothing was counted. */
export function heatOf(series: Series | undefined): Heat | undefined {
  const columns = series?.series[0]?.heat ?? [];
  let [low, high] = [Infinity, 0];
  for (const { buckets } of columns) {
    for (const bucket of buckets) {
      const [from, to, count] = bucket as [number, number, number];
      if (count <= 0 || to <= 0) continue;
      low = Math.min(low, Math.max(from, 1e-5));
      high = Math.max(high, to);
    }
  }
  if (high <= 0 || !Number.isFinite(low)) return undefined;
  const ratio = Math.max(1.02, (high / low) ** (1 / ROWS));
  const bounds = Array.from({ length: ROWS + 1 }, (_, i) => low * ratio ** i);
  let max = 0;
  const counts = columns.map(({ buckets }) => {
    const column = new Array<number>(ROWS).fill(0);
    for (const bucket of buckets) {
      const [from, to, count] = bucket as [number, number, number];
      if (count <= 0) continue;
      const middle = Math.sqrt(Math.max(from, 1e-5) * Math.max(to, 1e-5));
      const row = Math.max(0, Math.min(ROWS - 1, Math.floor(Math.log(middle / low) / Math.log(ratio))));
      column[row]! += count;
      max = Math.max(max, column[row]!);
    }
    return column;
  });
  return { times: columns.map((column) => column.time), bounds, counts, max };
}

/** Counts of spans as a heat, without the durations that no span had; undefined without any span. */
export function heatOfSpans({ start, step_seconds, bounds_ms, spans }: SpanCounts): Heat | undefined {
  const used = bounds_ms.map((_, row) => spans.some((column) => column[row]! > 0));
  used.push(spans.some((column) => column[bounds_ms.length]! > 0));
  const [first, last] = [used.indexOf(true), used.lastIndexOf(true)];
  if (first < 0) return undefined;
  // The first range begins at half its bound, the last ends at twice its own.
  const bounds = [bounds_ms[0]! / 2, ...bounds_ms, bounds_ms.at(-1)! * 2].slice(first, last + 2).map((bound) => bound / 1000);
  const counts = spans.map((column) => column.slice(first, last + 1));
  const begin = Date.parse(start) / 1000;
  return { times: counts.map((_, i) => begin + (i + 1) * step_seconds), bounds, counts, max: Math.max(...counts.flat()) };
}
