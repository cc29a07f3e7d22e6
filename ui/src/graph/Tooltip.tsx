import { HealthIcon } from '../components/HealthMark';
import { count, millis, percent, plural, rate } from '../domain/format';
import { HEALTH } from '../domain/health';
import { kindLabel } from '../domain/kinds';
import type { Point } from './layout';
import type { View } from './model';

export function Tooltip({ view, id, at }: { view: View; id: string; at: Point }) {
  const node = view.nodes.find((one) => one.id === id);
  const edge = node ? undefined : view.edges.find((one) => one.id === id);
  if (!node && !edge) return null;
  const name = (wanted: string) => view.nodes.find((one) => one.id === wanted)?.label ?? wanted;
  return (
    <div className="graph-tooltip" style={{ transform: `translate(${Math.round(at.x + 14)}px, ${Math.round(at.y + 14)}px)` }}>
      {node && (
        <>
          <strong>
            <HealthIcon health={node.health} /> {node.node?.name ?? node.label}
          </strong>
          <span className="muted">{node.folded ? `${plural(node.folded.members.length, 'workload')}, double-click unfolds` : node.node?.namespace || 'outside the mesh'}</span>
          <span>{HEALTH[node.health].label}</span>
          {node.outages.map((outage) => (
            <span key={outage.id} className="text-failing">
              {kindLabel(outage.kind)}
            </span>
          ))}
        </>
      )}
      {edge && (
        <>
          <strong>
            <HealthIcon health={edge.metrics.health} /> {name(edge.source)} → {name(edge.destination)}
          </strong>
          {edge.metrics.requests > 0 && (
            <span>
              {rate(edge.metrics.requestRate)} requests, {percent(edge.metrics.errors / edge.metrics.requests)} fail
            </span>
          )}
          <span>
            {rate(edge.metrics.connectionRate)} connections, {count(edge.metrics.failed)} failed, {count(edge.metrics.active)} open
          </span>
          {edge.metrics.p95 !== undefined && <span>p95 {millis(edge.metrics.p95)}</span>}
          <span className="muted">{edge.metrics.mtls === undefined ? 'encryption unknown' : edge.metrics.mtls ? 'mutual TLS' : 'plaintext'}</span>
        </>
      )}
    </div>
  );
}
