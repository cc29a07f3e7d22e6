import { useMemo, type ReactNode } from 'react';

import { useRange, useRanged } from '../api/queries';
import { useParam } from '../app/router';
import { plural } from '../domain/format';
import { DataTable, type ColumnDef } from './DataTable';
import { Empty, Failure, Loading } from './State';
import { useTyped } from './useTyped';

interface Props<T, A> {
  title: string;
  /** What one row is called. */
  one: string;
  many?: string;
  path: string;
  /** The same function for the same rows. */
  rowsOf: (answer: A) => T[];
  columns: ColumnDef<T, unknown>[];
  rowKey: (row: T) => string;
  sort: string;
  onOpen: (row: T) => void;
  /** Nodes have no namespace. */
  namespaced?: boolean;
  /** What stands above the list. */
  above?: (answer: A) => ReactNode;
  /** Why there may be none, where every source delivers. */
  none?: string;
}

const PAGE = 1000;

/** A page with a searchable, sortable list of one kind of thing of the mesh. */
export function ListPage<T, A extends { total: number; next_cursor?: string }>({ title, one, many, path, rowsOf, columns, rowKey, sort, onOpen, namespaced = true, above, none }: Props<T, A>) {
  const range = useRange();
  const [q, setQ] = useParam('q', '', { replace: true });
  const [namespace, setNamespace] = useParam('namespace', '');
  const { data, error, isPending, refetch } = useRanged<A>(path, { q, namespace: namespaced ? namespace : undefined, limit: PAGE }, { range, everyMs: 3000 });
  const { data: namespaces } = useRanged<{ nodes: { name: string }[] }>('/graph', { group_by: 'namespace' }, { range, everyMs: 30_000, enabled: namespaced });
  const rows = useMemo(() => (data ? rowsOf(data) : []), [data, rowsOf]);
  return (
    <div className="page">
      <div className="page-head">
        <h1>{title}</h1>
        {data && <span className="page-sub">{plural(data.total, one, many)}{data.next_cursor ? `, the first ${PAGE} shown` : ''}</span>}
        <span className="spacer" />
        {namespaced && (
          <select className="select" aria-label="Namespace" value={namespace} onChange={(event) => setNamespace(event.target.value)}>
            <option value="">All namespaces</option>
            {[...new Set([...(namespace ? [namespace] : []), ...(namespaces?.nodes ?? []).map((node) => node.name)])].sort().map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        )}
        <SearchField value={q} set={setQ} label={`Search ${title.toLowerCase()}`} />
      </div>
      {data && above?.(data)}
      {error && !data ? (
        <Failure error={error} retry={() => void refetch()} />
      ) : isPending ? (
        <Loading what={title.toLowerCase()} />
      ) : rows.length === 0 ? (
        <Empty what={q || namespace ? `Nothing matches` : `No ${many ?? `${one}s`} are known`} none={none}>{q || namespace ? 'Search for another name, or in all namespaces.' : undefined}</Empty>
      ) : (
        <DataTable rows={rows} columns={columns} label={title} rowKey={rowKey} sort={sort} onOpen={onOpen} />
      )}
    </div>
  );
}

/** A text field that tells the URL after a pause in typing. */
export function SearchField({ value, set, label, placeholder = 'Search' }: { value: string; set: (value: string) => void; label: string; placeholder?: string }) {
  const [text, setText] = useTyped(value, set);
  return <input className="input" type="search" aria-label={label} placeholder={placeholder} value={text} onChange={(event) => setText(event.target.value)} spellCheck={false} autoComplete="off" />;
}
