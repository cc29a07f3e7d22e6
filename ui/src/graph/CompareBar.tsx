import { useMemo } from 'react';

import type { Params } from '../api/client';
import { useGraph } from '../api/graph';
import { useRange } from '../api/queries';
import type { Graph } from '../api/types';
import { patchQuery, useLocation } from '../app/router';
import { Icon } from '../components/Icon';
import { Time } from '../components/Time';
import { compareGraphs, type Change } from '../domain/compare';
import { parseInstant } from '../domain/time';

const MARKS: Record<Change['kind'], { mark: string; label: string; tone: string }> = {
  worse: { mark: '▼', label: 'Got worse', tone: 'failing' },
  vanished: { mark: '−', label: 'Vanished', tone: 'degraded' },
  appeared: { mark: '+', label: 'Appeared', tone: 'accent' },
  better: { mark: '▲', label: 'Got better', tone: 'healthy' },
};

/** What is different between the moment shown and the one it is compared with. */
export function CompareBar({ graph, params, choose }: { graph: Graph; params: Params; choose: (id: string) => void }) {
  const { query } = useLocation();
  const range = useRange();
  const vs = parseInstant(query.get('vs'));
  const { data: before, error } = useGraph(params, { range: { seconds: range.seconds, at: vs }, enabled: vs !== undefined });
  const changes = useMemo(() => before && compareGraphs(before, graph), [before, graph]);
  if (vs === undefined) return null;
  return (
    <div className="context-bar compare" role="region" aria-label="Compared">
      <Icon name="compare" size={14} />
      <span>
        Compared with <Time at={vs} absolute />
      </span>
      {error && <span className="fault">{error.message}</span>}
      {changes?.length === 0 && <span className="muted">Nothing is different.</span>}
      <ul className="compare-list">
        {changes?.slice(0, 40).map((change) => (
          <li key={`${change.kind} ${change.id}`}>
            <button type="button" className={`badge ${MARKS[change.kind].tone}`} title={`${MARKS[change.kind].label}: ${change.detail}`} onClick={() => choose(change.id)}>
              <span aria-hidden="true">{MARKS[change.kind].mark}</span>
              <span className="visually-hidden">{MARKS[change.kind].label}:</span> {change.label} <span className="compare-detail">{change.detail}</span>
            </button>
          </li>
        ))}
      </ul>
      <button type="button" className="button small plain" onClick={() => patchQuery({ vs: undefined })}>
        <Icon name="close" size={12} /> Stop
      </button>
    </div>
  );
}
