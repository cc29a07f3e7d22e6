import '../styles/endpoints.css';

import type { Finding } from '../api/types';
import { pathOf } from '../app/router';
import { count } from '../domain/format';
import { kindLabel } from '../domain/kinds';
import { Link } from './Link';

/** What is not as the configuration means it to be, with what shows it; nothing where there is nothing of the kind. */
export function Findings({ list }: { list: Finding[] }) {
  if (list.length === 0) return null;
  return (
    <section className="card" aria-labelledby="findings">
      <div className="card-head">
        <h2 id="findings">Findings</h2>
      </div>
      <ul className="findings">
        {list.map((finding) => (
          <li key={finding.id}>
            <span className={`badge ${finding.severity === 'critical' ? 'failing' : 'degraded'}`}>{kindLabel(finding.kind)}</span> {finding.summary}
            {finding.policies && (
              <div className="finding-evidence">
                Policies there that denied requests in this time:{' '}
                {finding.policies.map((policy) => (
                  <Link key={policy} to={pathOf('policies', ...policy.split('/'))}>
                    {policy}
                  </Link>
                ))}
              </div>
            )}
            {finding.evidence.slice(0, 5).map((evidence, i) => (
              <div key={i} className="muted finding-evidence">
                {evidence.connections !== undefined && `${count(evidence.connections)} × `}
                {evidence.source && <SourceOf {...evidence.source} />} {evidence.text}
                {evidence.port !== undefined && `, port ${evidence.port}`}
              </div>
            ))}
          </li>
        ))}
      </ul>
    </section>
  );
}

function SourceOf({ type, namespace, name }: NonNullable<Finding['evidence'][number]['source']>) {
  const text = namespace ? `${namespace}/${name}` : name;
  return type === 'workload' && namespace ? <Link to={pathOf('workloads', namespace, name)}>{text}</Link> : <b>{text}</b>;
}
