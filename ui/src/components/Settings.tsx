import { useRange, useRanged } from '../api/queries';
import type { Skew } from '../api/types';
import { pathOf } from '../app/router';
import { count } from '../domain/format';
import { Link } from './Link';
import { TableHead } from './TableHead';

type Variants = Skew['versions'];

const NAMED = 4;

/** In what the ztunnels are not alike; nothing where they are. */
export function Differences({ skew }: { skew: Skew }) {
  const rows: [string, Variants][] = [...(skew.versions.length > 1 ? [['version', skew.versions] as [string, Variants]] : []), ...skew.settings.map((s) => [s.name, s.values] as [string, Variants])];
  if (rows.length === 0) return null;
  return (
    <section className="card" aria-label="Differences">
      <div className="card-head">
        <h2>Differences</h2>
        <span className="page-sub">what the ztunnels do not have the same</span>
      </div>
      <div className="table-scroll">
        <table className="table compact">
          <TableHead columns={['Setting', 'Value', '#Nodes', 'Which']} />
          <tbody>
            {rows.flatMap(([name, values]) =>
              values.map((one, i) => (
                <tr key={`${name} ${one.value}`}>
                  <td className="mono">{i === 0 ? name : ''}</td>
                  <td className="mono">{one.value || '–'}</td>
                  <td className="num">{count(one.count)}</td>
                  <td>
                    {one.nodes.slice(0, NAMED).map((node, at) => (
                      <span key={node}>
                        {at > 0 && ', '}
                        <Link to={pathOf('nodes', node)}>{node}</Link>
                      </span>
                    ))}
                    {one.count > NAMED && <span className="muted"> and {count(one.count - NAMED)} more</span>}
                  </td>
                </tr>
              )),
            )}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** A ztunnel's settings, those first that others have otherwise. */
export function Settings({ settings, node }: { settings: Record<string, string>; node: string }) {
  const names = Object.keys(settings).toSorted();
  const { data } = useRanged<{ skew: Skew }>('/nodes', { limit: 1 }, { range: useRange(), everyMs: 30_000, enabled: names.length > 0 });
  if (names.length === 0) return null;
  const differing = new Map((data?.skew.settings ?? []).map((setting) => [setting.name, setting.values]));
  const others = (name: string) => differing.get(name)?.filter((variant) => !(variant.value === settings[name] && variant.nodes.includes(node)));
  return (
    <section className="card" aria-label="Settings">
      <div className="card-head">
        <h2>Settings</h2>
        <span className="page-sub">{differing.size > 0 ? 'those first that other ztunnels have otherwise' : 'the same as the other ztunnels\''}</span>
      </div>
      <div className="table-scroll">
        <table className="table compact">
          <TableHead columns={['Setting', 'Here', 'Elsewhere']} />
          <tbody>
            {names
              .toSorted((a, b) => Number(differing.has(b)) - Number(differing.has(a)))
              .map((name) => (
                <tr key={name}>
                  <td className="mono">{name}</td>
                  <td className={`mono ${differing.has(name) ? 'text-degraded' : ''}`}>{settings[name] || '–'}</td>
                  <td className="mono muted">
                    {others(name)
                      ?.map((variant) => `${variant.value || '–'} (${count(variant.count)})`)
                      .join(', ')}
                  </td>
                </tr>
              ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
