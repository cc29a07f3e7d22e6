import type { ReactNode } from 'react';

import { APIError } from '../api/client';
import { useLive } from '../api/live';
import { useRange } from '../api/queries';
import type { Dropped, SourceStatus } from '../api/types';
import { count } from '../domain/format';
import { inText, sentence, sourceLabel } from '../domain/kinds';
import { Icon } from './Icon';
import { Time } from './Time';
import { TableHead } from './TableHead';

/** What stands where content would: loading, an error, or nothing with the reason why. */
export function Loading({ what }: { what: string }) {
  return (
    <div className="state" role="status">
      <span className="spinner" aria-hidden="true" />
      <p>Loading {what}…</p>
    </div>
  );
}

/** `page` where it stands for a whole page, its heading included. */
export function Failure({ error, retry, page = false }: { error: Error; retry?: () => void; page?: boolean }) {
  const Heading = page ? 'h1' : 'h2';
  const title = error instanceof APIError ? error.title : 'Something went wrong';
  return (
    <div className="state" role="alert">
      <Icon name="outage" size={22} />
      <Heading>{title}</Heading>
      {error.message !== title && <p>{error.message}</p>}
      {retry && (
        <button type="button" className="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Nothing to show; says why, from what the sources last delivered. `none` is why there may be nothing although they all deliver. */
export function Empty({ what, none, children }: { what: string; none?: string | undefined; children?: ReactNode }) {
  const { status } = useLive();
  const sources = status?.sources ?? [];
  const failing = sources.filter((source) => !source.up || source.problem);
  const dropped = status?.dropped ?? [];
  return (
    <div className="state">
      <Icon name="info" size={22} />
      <h2>{what}</h2>
      <p>{children ?? reason(sources, failing, dropped, none)}</p>
      {!children && failing.length > 0 && <SourceTable sources={failing} />}
      {!children && failing.length === 0 && dropped.length > 0 && <DroppedTable dropped={dropped} />}
    </div>
  );
}

function reason(sources: SourceStatus[], failing: SourceStatus[], dropped: Dropped[], none = 'All sources deliver data, but none matches this time range.'): string {
  if (sources.length === 0) return 'No data, because no source has delivered anything yet.';
  if (failing.length === sources.length) return 'No data, because every source is failing.';
  if (failing.length > 0) return `Some sources are failing, so this may be incomplete: ${failing.map(nameOf).join(', ')}.`;
  if (dropped.length > 0) return 'All sources deliver data, but the collector has dropped some of it since it started.';
  return none;
}

function DroppedTable({ dropped }: { dropped: Dropped[] }) {
  return (
    <table className="table compact sources">
      <TableHead columns={['Component', 'Reason', 'Dropped']} />
      <tbody>
        {dropped.map((one) => (
          <tr key={`${one.component} ${one.reason}`}>
            <td>{sentence(one.component)}</td>
            <td>{sentence(one.reason)}</td>
            <td className="num">{count(one.count)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function nameOf(source: SourceStatus): string {
  return `${inText(sourceLabel(source.source))}${source.node ? ` of ${source.node}` : ''}`;
}

/** What sources last delivered, by the clock while another moment is shown; the node's column only where it tells rows apart. */
export function SourceTable({ sources }: { sources: SourceStatus[] }) {
  const nodes = new Set(sources.map((source) => source.node)).size > 1;
  const { at } = useRange();
  return (
    <table className="table compact sources">
      <TableHead columns={['Source', nodes && 'Node', 'State', 'Last delivered']} />
      <tbody>
        {sources.map((source) => (
          <tr key={`${source.source} ${source.node ?? ''}`}>
            <td>{sourceLabel(source.source)}</td>
            {nodes && <td>{source.node ?? '–'}</td>}
            <td>
              <span className={source.up ? (source.problem ? 'text-degraded' : 'text-healthy') : 'text-failing'}>
                {source.up ? (source.problem ? '! delivers in part' : '✓ delivers') : '✕ fails'}
              </span>
              {source.detail && <div className="muted">{source.detail}</div>}
            </td>
            <td>
              <Time at={source.last_seen} absolute={at !== undefined} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
