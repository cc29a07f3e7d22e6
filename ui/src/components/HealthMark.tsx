import type { Health } from '../api/types';
import { HEALTH, asHealth } from '../domain/health';

/** Health as a shape of its own and a colour. */
export function HealthIcon({ health, size = 14 }: { health: Health | undefined; size?: number }) {
  const state = asHealth(health);
  return (
    <svg className={`health-icon ${state}`} width={size} height={size} viewBox="0 0 16 16" role="img" aria-label={HEALTH[state].label}>
      {SHAPES[state]}
    </svg>
  );
}

const SHAPES: Record<Health, React.ReactNode> = {
  failing: (
    <>
      <path className="fill" d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" />
      <path className="glyph" d="m5.4 5.4 5.2 5.2m0-5.2-5.2 5.2" />
    </>
  ),
  degraded: (
    <>
      <path className="fill" d="M8 1.2 15.4 14.3H.6z" />
      <path className="glyph" d="M8 5.8v4M8 12.2h.01" />
    </>
  ),
  healthy: (
    <>
      <circle className="fill" cx="8" cy="8" r="7" />
      <path className="glyph" d="m4.8 8.2 2.3 2.3 4.2-4.6" />
    </>
  ),
  denied: (
    <>
      <circle className="ring" cx="8" cy="8" r="6.2" />
      <path className="ring" d="m3.7 12.3 8.6-8.6" />
    </>
  ),
  idle: (
    <>
      <circle className="ring" cx="8" cy="8" r="6.2" />
      <path className="ring" d="M5 8h6" />
    </>
  ),
  unknown: (
    <>
      <circle className="ring dashed" cx="8" cy="8" r="6.2" />
      <path className="ring" d="M6.2 6.3a1.9 1.9 0 1 1 2.6 1.8c-.6.3-.8.6-.8 1.2M8 11.4h.01" />
    </>
  ),
};

/** Health in a word, with its reason as a tip or, `spelled`, beside it. */
export function HealthMark({ health, size, reason, spelled }: { health: Health | undefined; size?: number; reason?: string | undefined; spelled?: boolean }) {
  const state = asHealth(health);
  return (
    <span className={`health ${state}`} {...(reason && !spelled ? { title: reason } : {})}>
      <HealthIcon health={state} {...(size ? { size } : {})} />
      {HEALTH[state].label}
      {reason && spelled && <span className="health-reason">{reason}</span>}
    </span>
  );
}
