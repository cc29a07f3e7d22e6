import { useState } from 'react';

import { useRange, useRanged } from '../api/queries';
import type { LineList } from '../api/types';
import { KeptSince } from './KeptSince';
import { SearchField } from './ListPage';
import { TableHead } from './TableHead';
import { Time } from './Time';

const LEVELS = ['error', 'warn', 'info'];
const SOURCES: Record<string, string> = { ztunnel: 'ztunnel', istio_cni: 'CNI agent' };

/** The lines that a node's proxies logged beside connections in the range, newest first. */
export function Lines({ node }: { node: string }) {
  const range = useRange();
  const [text, setText] = useState('');
  const [level, setLevel] = useState('');
  const [limit, setLimit] = useState(50);
  const { data } = useRanged<LineList>('/lines', { node, text, level, limit }, { range, everyMs: 5000 });
  if (!data || (data.lines.length === 0 && !text && !level)) return null;
  return (
    <section className="card" aria-label="Log">
      <div className="card-head">
        <h2>Log</h2>
        <span className="page-sub">line by line, in the time that is shown</span>
        <KeptSince kind="lines" />
        <span className="spacer" />
        <SearchField value={text} set={setText} label="Search the log" />
        <select className="select" aria-label="Level" value={level} onChange={(event) => setLevel(event.target.value)}>
          <option value="">Every level</option>
          {LEVELS.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      </div>
      <div className="table-scroll">
        <table className="table compact">
          <TableHead columns={['Time', 'Of', 'Level', 'Line']} />
          <tbody>
            {data.lines.map((line) => (
              <tr key={line.cursor}>
                <td className="nowrap">
                  <Time at={line.time} absolute />
                </td>
                <td className="nowrap">{SOURCES[line.source]}</td>
                <td className={line.level === 'error' ? 'text-failing' : line.level === 'warn' ? 'text-degraded' : 'muted'}>{line.level}</td>
                <td className="mono">
                  {line.message}{' '}
                  <span className="muted">
                    {Object.entries(line.fields ?? {}).map(([name, value]) => `${name}=${value}`).join(' ')} {line.scope}
                  </span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {data.next_cursor && limit < 1000 && (
        <button type="button" className="text-button" onClick={() => setLimit(Math.min(1000, limit * 4))}>
          More lines
        </button>
      )}
    </section>
  );
}
