import { useState } from 'react';

import { useChanges } from '../api/changes';
import { useLive } from '../api/live';
import type { Change } from '../api/types';
import { sentence } from '../domain/kinds';
import { plural } from '../domain/format';
import { HealthIcon } from './HealthMark';
import { Icon } from './Icon';
import { Time } from './Time';

const FEW = 6;
const MANY = 200;
const SOURCES: Record<string, string> = { kubernetes: 'Kubernetes', mesh: "mesh's state" };

/** What changed of a workload, a policy or, without a namespace, a node, newest first, until the moment shown. */
export function Changes({ name, namespace }: { name: string; namespace?: string }) {
  const [all, setAll] = useState(false);
  const { data, error } = useChanges(name, namespace, all ? MANY : FEW);
  const { status } = useLive();
  const watched = status?.sources?.some((source) => source.source === 'kubernetes') ?? true;
  const rest = (data?.total ?? 0) - FEW;
  return (
    <section className="card" aria-labelledby="changes">
      <div className="card-head">
        <h2 id="changes">Recent changes</h2>
        {!watched && <span className="muted small">of the mesh's state; Kubernetes is not watched</span>}
      </div>
      {error && !data ? (
        <p className="card-body fault">{error.message}</p>
      ) : !data ? (
        <p className="card-body muted">Loading…</p>
      ) : data.changes.length === 0 ? (
        <p className="card-body muted">None is known.</p>
      ) : (
        <ul className="changes">
          {data.changes.map((change, i) => (
            <ChangeRow key={`${change.time} ${i}`} change={change} />
          ))}
        </ul>
      )}
      {rest > 0 && (
        <p className="changes-more">
          <button type="button" className="button small plain" aria-expanded={all} onClick={() => setAll(!all)}>
            <Icon name={all ? 'up' : 'down'} size={12} /> {all ? 'Fewer' : `${plural(rest, 'older one')}`}
          </button>
        </p>
      )}
    </section>
  );
}

function ChangeRow({ change }: { change: Change }) {
  const warning = change.severity === 'warning';
  return (
    <li className={warning ? 'warning' : ''}>
      <span className="change-time">
        <Time at={change.time} />
      </span>
      <span className="change-mark">{warning && <HealthIcon health="degraded" size={13} />}</span>
      <span>
        {sentence(change.text)} <span className="muted small">{SOURCES[change.source]}</span>
      </span>
    </li>
  );
}
