/** Points in time are unix milliseconds, lengths are seconds. */

export interface TimeRange {
  /** Length of the window. */
  seconds: number;
  /** End of the window, or undefined while it follows the live data. */
  at: number | undefined;
}

export const WINDOWS: { seconds: number; label: string }[] = [
  { seconds: 60, label: 'Last minute' },
  { seconds: 5 * 60, label: 'Last 5 minutes' },
  { seconds: 15 * 60, label: 'Last 15 minutes' },
  { seconds: 60 * 60, label: 'Last hour' },
  { seconds: 6 * 3600, label: 'Last 6 hours' },
  { seconds: 24 * 3600, label: 'Last day' },
  { seconds: 7 * 86400, label: 'Last week' },
];

export const DEFAULT_WINDOW = 5 * 60;

const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86400 };

/** Reads "90s", "5m", "1h30m" or "7d"; undefined when it is none of these or not positive. */
export function parseWindow(text: string | null): number | undefined {
  if (!text || !/^(\d+[smhd])+$/.test(text)) return undefined;
  let seconds = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)([smhd])/g)) seconds += Number(count) * UNITS[unit!]!;
  return seconds > 0 && seconds <= 366 * 86400 ? seconds : undefined;
}

/** Writes a length with the fewest units: 300 gives "5m", 5400 gives "1h30m". */
export function formatWindow(seconds: number): string {
  let rest = Math.max(1, Math.round(seconds));
  let text = '';
  for (const unit of ['d', 'h', 'm', 's']) {
    const count = Math.floor(rest / UNITS[unit]!);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * UNITS[unit]!;
  }
  return text;
}

/** Reads RFC 3339 or unix seconds; undefined when it is neither. */
export function parseInstant(text: string | null | undefined): number | undefined {
  if (!text) return undefined;
  const ms = /^\d{9,11}(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  return Number.isFinite(ms) ? ms : undefined;
}

export function toRFC3339(ms: number): string {
  return new Date(ms).toISOString();
}

/** "now", "12 s ago", "3 min ago", "5 h ago", "2 d ago", or "in …". */
export function relative(ms: number, now: number): string {
  const seconds = Math.round((now - ms) / 1000);
  const length = Math.abs(seconds);
  if (length < 1) return 'now';
  const text = humanDuration(length);
  return seconds >= 0 ? `${text} ago` : `in ${text}`;
}

/** A length in its largest unit, or its two largest below ten of the first: "42 s", "3 min 5 s", "2 h 10 min". */
export function humanDuration(seconds: number): string {
  const units: [number, string][] = [
    [365 * 86400, 'y'],
    [86400, 'd'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's'],
  ];
  const rounded = Math.max(0, Math.round(seconds));
  for (let i = 0; i < units.length - 1; i++) {
    const [size, name] = units[i]!;
    if (rounded < size) continue;
    const count = Math.floor(rounded / size);
    const [nextSize, nextName] = units[i + 1]!;
    const rest = Math.floor((rounded % size) / nextSize);
    return count < 10 && rest > 0 ? `${count} ${name} ${rest} ${nextName}` : `${count} ${name}`;
  }
  return `${rounded} s`;
}

const sameDay = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const otherDay = new Intl.DateTimeFormat(undefined, {
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});

/** The local clock time, with the date when it is another day than now's. */
export function clock(ms: number, now: number): string {
  const other = new Date(ms).toDateString() !== new Date(now).toDateString();
  return (other ? otherDay : sameDay).format(ms);
}

/** The local time in full, for tooltips and exports. */
export function fullTime(ms: number): string {
  return `${new Date(ms).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' })} (${toRFC3339(ms)})`;
}

const TICK_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400].map((seconds) => seconds * 1000);

/** At most `most` round moments of the local clock between two. */
export function ticksBetween(start: number, end: number, most: number): number[] {
  const step = TICK_STEPS.find((one) => (end - start) / one <= most) ?? Math.ceil((end - start) / most / 86400_000) * 86400_000;
  const zone = new Date(end).getTimezoneOffset() * 60_000;
  const ticks: number[] = [];
  for (let tick = Math.ceil((start - zone) / step) * step + zone; tick <= end; tick += step) ticks.push(tick);
  return ticks.slice(0, most + 1);
}

/** A clock time without the seconds that all ticks share. */
export function tickClock(ms: number, now: number): string {
  return clock(ms, now).replace(/:00$/, '');
}

/** A step that gives a chart of that many seconds at most 75 points, a round number of seconds; finer ones show scrapes, not traffic. */
export function stepFor(seconds: number): number {
  const steps = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600];
  return steps.find((step) => seconds / step <= 75) ?? 86400;
}
