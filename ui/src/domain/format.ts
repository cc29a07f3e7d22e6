import { humanDuration } from './time';

/** Numbers as a person reads them. Undefined and NaN give a dash. */

const DASH = '–';

function significant(value: number): string {
  const size = Math.abs(value);
  if (size >= 100 || size === 0) return value.toFixed(0);
  if (size >= 10) return trimZeros(value.toFixed(1));
  return trimZeros(value.toFixed(size < 0.1 ? 3 : 2));
}

function trimZeros(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

function missing(value: number | null | undefined): value is null | undefined {
  return value === undefined || value === null || !Number.isFinite(value);
}

/** 1234 gives "1.23k". */
export function count(value: number | null | undefined): string {
  if (missing(value)) return DASH;
  for (const [size, suffix] of [[1e9, 'G'], [1e6, 'M'], [1e4, 'k']] as const) {
    if (Math.abs(value) >= size) return significant(value / (suffix === 'k' ? 1e3 : size)) + suffix;
  }
  return Number.isInteger(value) ? value.toLocaleString('en-US') : significant(value);
}

/** Per second. */
export function rate(value: number | null | undefined): string {
  return missing(value) ? DASH : `${count(value)}/s`;
}

/** From milliseconds: "0.8 ms", "23 ms", "1.4 s", "1 min 32 s". */
export function millis(value: number | null | undefined): string {
  if (missing(value)) return DASH;
  if (value >= 60_000) return humanDuration(value / 1000);
  if (value >= 1000) return `${significant(value / 1000)} s`;
  if (value > 0 && value < 0.1) return `${significant(value * 1000)} µs`;
  return `${significant(value)} ms`;
}

/** Binary sizes: "512 B", "1.4 MiB". */
export function bytes(value: number | null | undefined): string {
  if (missing(value)) return DASH;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${unit === 0 ? size.toFixed(0) : significant(size)} ${units[unit]}`;
}

export function byteRate(value: number | null | undefined): string {
  return missing(value) ? DASH : `${bytes(value)}/s`;
}

/** From a fraction: 0 gives "0%", 0.004 gives "0.4%", never rounding a failure down to nothing. */
export function percent(fraction: number | null | undefined): string {
  if (missing(fraction)) return DASH;
  const value = fraction * 100;
  if (value === 0) return '0%';
  if (value < 0.1) return '<0.1%';
  if (value > 99.9 && value < 100) return '>99.9%';
  return `${value >= 10 ? value.toFixed(0) : trimZeros(value.toFixed(1))}%`;
}

/** 1 gives "1 pod", 2 gives "2 pods". */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
