import { byteRate, millis, percent, rate } from '../domain/format';
import type { EdgeMetrics } from '../domain/metrics';

/** What an edge's label, width and colour may say. */
export const EDGE_LABELS = {
  rate: 'Rate',
  failures: 'Failures',
  p50: 'p50',
  p95: 'p95',
  p99: 'p99',
  bytes: 'Bytes/s',
  protocol: 'Protocol',
} as const;
export type EdgeLabel = keyof typeof EDGE_LABELS;

export const EDGE_WIDTHS = { none: 'Same width', rate: 'By rate', bytes: 'By bytes/s' } as const;
export type EdgeWidth = keyof typeof EDGE_WIDTHS;

export const EDGE_COLOURS = { health: 'By health', p95: 'By p95', mtls: 'By mTLS' } as const;
export type EdgeColour = keyof typeof EDGE_COLOURS;

const HEALTH_MARK: Partial<Record<string, string>> = { failing: '✕', degraded: '▲' };

/** A failing or degraded edge says so in its label even when no label is asked for. Failures stand on a line of their own, else what is no rate does. */
export function edgeLabel(m: EdgeMetrics, wanted: readonly EdgeLabel[]): string {
  const mark = HEALTH_MARK[m.health];
  const failures = m.failureShare !== undefined && m.failureShare > 0 ? `${percent(m.failureShare)} fail` : '';
  const parts = wanted.map((label) => {
    switch (label) {
      case 'rate': return m.rate > 0 ? rate(m.rate) : '';
      case 'failures': return mark ? '' : failures;
      case 'bytes': return m.bytesPerSecond > 0 ? byteRate(m.bytesPerSecond) : '';
      case 'protocol': return m.protocols.join('+');
      default: return m[label] === undefined ? '' : `${label} ${millis(m[label])}`;
    }
  });
  const rates = parts.filter((_, i) => wanted[i] === 'rate' || wanted[i] === 'failures');
  const others = parts.filter((_, i) => wanted[i] !== 'rate' && wanted[i] !== 'failures');
  const [first, second] = mark ? [[failures ? `${mark} ${failures}` : mark], [...rates, ...others]] : [rates, others];
  return [first, second].map((line) => line.filter(Boolean).join(' · ')).filter(Boolean).join('\n');
}

/** 1.5 to 6, in quarter steps so that a refresh with nearly the same rate restyles nothing. */
export function edgeWidth(m: EdgeMetrics, by: EdgeWidth): number {
  if (by === 'none') return 1.75;
  const value = by === 'rate' ? m.rate : m.bytesPerSecond / 1024;
  return Math.min(6, Math.round((1.5 + Math.log10(1 + value) * 1.4) * 4) / 4);
}

/** The class that colours an edge; every one also differs in line or arrow. */
export function edgeTone(m: EdgeMetrics, by: EdgeColour): string {
  switch (by) {
    case 'mtls': return m.mtls === undefined ? 'unknown' : m.mtls ? 'healthy' : 'degraded';
    case 'p95': return m.p95 === undefined ? 'idle' : m.p95 >= 1000 ? 'failing' : m.p95 >= 250 ? 'degraded' : 'healthy';
    default: return m.health;
  }
}
