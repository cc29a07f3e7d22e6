import type { Health } from '../api/types';

/** What each state is called, and how bad it is: the worst of several wins. */
export const HEALTH: Record<Health, { label: string; meaning: string; rank: number }> = {
  failing: { label: 'Failing', meaning: 'many connections or requests fail', rank: 5 },
  degraded: { label: 'Degraded', meaning: 'some connections or requests fail, or answers are slow', rank: 4 },
  healthy: { label: 'Healthy', meaning: 'traffic flows and none or hardly any of it fails', rank: 1 },
  denied: { label: 'Denied', meaning: 'a policy denies most of it, as ever', rank: 2 },
  unknown: { label: 'Unknown', meaning: 'nothing reports on it', rank: 3 },
  idle: { label: 'Idle', meaning: 'no traffic in this time', rank: 0 },
};

export const HEALTHS: Health[] = ['failing', 'degraded', 'denied', 'healthy', 'unknown', 'idle'];

export function worst(states: Iterable<Health>): Health {
  let result: Health = 'idle';
  for (const state of states) if (HEALTH[asHealth(state)].rank > HEALTH[result].rank) result = asHealth(state);
  return result;
}

/** A state that this build does not know counts as unknown. */
export function asHealth(text: string | undefined): Health {
  return text !== undefined && text in HEALTH ? (text as Health) : 'unknown';
}

/** Why several things are as well as the worst of them: what the first that is so gives as its reason. */
export function reasonOf(things: readonly { health: string; health_reason?: string }[], health: Health): string | undefined {
  return things.find((one) => one.health === health && one.health_reason)?.health_reason;
}
