import type { ReactNode } from 'react';

/** One figure with its name. */
export function Stat({ label, value, tone, note }: { label: string; value: ReactNode; tone?: 'failing' | 'degraded' | 'healthy' | undefined; note?: ReactNode }) {
  return (
    <div className={`stat ${tone ?? ''}`}>
      <dt>{label}</dt>
      <dd>
        {value}
        {note && <span className="stat-note">{note}</span>}
      </dd>
    </div>
  );
}

/** A share as a bar with its number beside it. */
export function Meter({ value, tone }: { value: number | undefined; tone?: string }) {
  const width = Math.max(0, Math.min(1, value ?? 0)) * 100;
  return (
    <span className="meter" aria-hidden="true">
      <span className={tone} style={{ width: `${width > 0 ? Math.max(width, 2) : 0}%` }} />
    </span>
  );
}
