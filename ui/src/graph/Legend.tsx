import { HealthIcon } from '../components/HealthMark';
import { Icon } from '../components/Icon';
import { HEALTH, HEALTHS } from '../domain/health';

export function Legend({ close }: { close: () => void }) {
  return (
    <aside className="legend card" aria-label="Legend">
      <div className="card-head">
        <h2>Legend</h2>
        <span className="spacer" />
        <button type="button" className="button small icon-only plain" aria-label="Close legend" onClick={close}>
          <Icon name="close" size={13} />
        </button>
      </div>
      <div className="card-body">
        <h3>Health</h3>
        <dl>
          {HEALTHS.map((health) => (
            <div key={health}>
              <dt>
                <HealthIcon health={health} size={15} />
              </dt>
              <dd>
                <b>{HEALTH[health].label}</b> <span className="muted">{HEALTH[health].meaning}</span>
              </dd>
            </div>
          ))}
        </dl>
        <h3>Nodes</h3>
        <dl>
          <Sample title="In the mesh">
            <rect x="2" y="3" width="36" height="14" rx="4" className="l-node" />
          </Sample>
          <Sample title="Outside the mesh">
            <rect x="2" y="3" width="36" height="14" rx="4" className="l-node dashed" />
          </Sample>
          <Sample title="Folded box, double-click unfolds">
            <rect x="2" y="3" width="36" height="14" rx="4" className="l-node" />
            <rect x="5" y="6" width="30" height="8" rx="2" className="l-node" />
          </Sample>
          <Sample title="Root of an open outage">
            <rect x="0" y="1" width="40" height="18" rx="6" className="l-outage" />
            <rect x="4" y="5" width="32" height="10" rx="3" className="l-node failing" />
          </Sample>
        </dl>
        <h3>Edges, from client to server</h3>
        <dl>
          <Sample title="Mutual TLS">
            <path d="M1 10h32" className="l-edge" />
            <path d="m32 6 7 4-7 4z" className="l-head" />
          </Sample>
          <Sample title="Plaintext, at least in part">
            <path d="M1 10h32" className="l-edge dashed" />
            <path d="m32 6 7 4-7 4z" className="l-head" />
          </Sample>
          <Sample title="Passes a waypoint">
            <path d="M1 10h32" className="l-edge" />
            <path d="m12 4 6 6-6 6-6-6z" className="l-node accent" />
            <path d="m32 6 7 4-7 4z" className="l-head" />
          </Sample>
          <Sample title="Degraded ▲">
            <path d="M1 10h32M27 5v10" className="l-edge degraded" />
            <path d="m32 6 7 4-7 4z" className="l-head degraded" />
          </Sample>
          <Sample title="Failing ✕">
            <path d="M1 10h32m-11-4.5 8 9m0-9-8 9" className="l-edge failing" />
            <path d="m32 6 7 4-7 4z" className="l-head failing" />
          </Sample>
          <Sample title="Idle">
            <path d="M1 10h32" className="l-edge dotted" />
            <path d="m32 6 7 4-7 4z" className="l-head dotted" />
          </Sample>
        </dl>
      </div>
    </aside>
  );
}

function Sample({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>
        <svg width="40" height="20" viewBox="0 0 40 20" aria-hidden="true">
          {children}
        </svg>
      </dt>
      <dd>{title}</dd>
    </div>
  );
}
