import type { components } from '../api/schema';
import type { Graph, Outage, Subject } from '../api/types';
import { count, plural } from './format';
import { clock } from './time';

/** "billing/payment", or "node-b" for what has no namespace. */
export function subjectName(subject: { namespace?: string | undefined; name: string }): string {
  return subject.namespace ? `${subject.namespace}/${subject.name}` : subject.name;
}

const PERIOD = /\b(since|from) (\d\d:\d\d:\d\d)(?: (?:to (\d\d:\d\d:\d\d)|on\b))?/;

/**
 * A sentence about an outage with its clock in local time. The detector writes UTC: "… fails since 02:51:07: …" while it is open,
 * "… failed from 02:51:07 to 02:52:11: …" once it is over, "… from 02:51:07 on: …" where nobody saw its end.
 */
export function localised(text: string, outage: Outage, now: number): string {
  return text.replace(PERIOD, (period, word: string, from: string, to: string | undefined) => {
    const local = (time: string, near: string | undefined) => clock(nearest(time, Date.parse(near ?? outage.started_at)), now);
    const began = `${word} ${local(from, outage.started_at)}`;
    return to ? `${began} to ${local(to, outage.ended_at)}` : began + (period.endsWith(' on') ? ' on' : '');
  });
}

/** The moment of a UTC clock time that is nearest to another. */
function nearest(time: string, near: number): number {
  const day = 86400_000;
  const at = Date.parse(`${new Date(near).toISOString().slice(0, 10)}T${time}Z`);
  return at - Math.round((at - near) / day) * day;
}

/** The outage in one sentence. */
export function summaryOf(outage: Outage, now: number): string {
  return localised(outage.summary, outage, now);
}

export function durationSeconds(outage: Outage, now: number): number {
  return Math.max(0, (outage.ended_at ? Date.parse(outage.ended_at) : now) - Date.parse(outage.started_at)) / 1000;
}

const DETECTED = 'detected: ';

/** The counts in a sentence, such as " (3 of 4)". */
const COUNTS = / \([\d,.]+ of [\d,.]+\)/g;

/**
 * An outage as it stood at a moment: one that ended later was still open, and is told as when it was detected, without the counts that
 * are of that moment only.
 */
export function outageAt(outage: Outage, at: number): Outage {
  if (outage.state === 'open' || !outage.ended_at || Date.parse(outage.ended_at) <= at) return outage;
  const { ended_at: _ended, ...rest } = outage;
  const detected = outage.timeline?.find(({ text }) => text.startsWith(DETECTED));
  return { ...rest, state: 'open', ...(detected ? { summary: detected.text.slice(DETECTED.length).replace(COUNTS, '') } : {}) };
}

/** Open before closed, critical before warning, newest first. */
export function byUrgency(a: Outage, b: Outage): number {
  const rank = (outage: Outage) => (outage.state === 'open' ? 0 : 2) + (outage.severity === 'critical' ? 0 : 1);
  return rank(a) - rank(b) || Date.parse(b.started_at) - Date.parse(a.started_at);
}

/** The ids of the graph's nodes that an outage touches, by the part they have in it. */
export function blastRadius(graph: Graph, outage: Outage): { root: Set<string>; callers: Set<string>; dependents: Set<string>; edges: Set<string> } {
  const matching = (name: { namespace?: string | undefined; name: string }) =>
    graph.nodes.filter((node) => (node.app === name.name || node.name === name.name) && (name.namespace ?? '') === node.namespace).map((node) => node.id);
  const root = new Set(outage.root.type === 'node' ? graph.nodes.filter((node) => node.pods.some((pod) => pod.node === outage.root.name)).map((node) => node.id) : matching(outage.root));
  const callers = new Set<string>();
  const dependents = new Set<string>();
  for (const one of outage.impact ?? []) for (const id of matching(one)) (one.how === 'calls' ? callers : dependents).add(id);
  const edges = new Set<string>();
  for (const edge of outage.edges ?? []) {
    for (const source of matching(edge.source)) for (const destination of matching(edge.destination)) edges.add(`${source}→${destination}`);
  }
  return { root, callers, dependents, edges };
}

/** Where the interface has a page about a subject. */
export function subjectPath(subject: Subject, graph: Graph | undefined): string | undefined {
  switch (subject.type) {
    case 'node': return `/nodes/${encodeURIComponent(subject.name)}`;
    case 'service': return `/services/${encodeURIComponent(subject.namespace ?? '-')}/${encodeURIComponent(subject.name)}`;
    case 'workload': {
      // Outages name workloads by app; a page is of one workload of it.
      const node = graph?.nodes.find((one) => one.type === 'workload' && one.namespace === subject.namespace && (one.app === subject.name || one.name === subject.name));
      return node && `/workloads/${encodeURIComponent(node.namespace)}/${encodeURIComponent(node.name)}`;
    }
    default: return undefined;
  }
}

type Excess = components['schemas']['Excess'];

/** What a candidate adds to an outage of its own, and what those explain that it calls: failures, and seconds that calls take longer. */
export function blameText(own: Excess | undefined, explained: Excess | undefined): string | undefined {
  if (!own || !explained) return undefined;
  return `${excessText(own)} of its own, ${excessText(explained)} explained`;
}

function excessText({ failures, seconds }: Excess): string {
  const parts = [];
  if (failures >= 0.5) parts.push(plural(Math.round(failures), 'failure'));
  if (seconds >= 0.05) parts.push(`${count(Math.round(seconds * 10) / 10)} s`);
  return parts.join(' and ') || 'nothing';
}
