import { flexRender, getCoreRowModel, getSortedRowModel, useReactTable, type ColumnDef, type SortingState } from '@tanstack/react-table';
import { useMemo } from 'react';

import { useParam } from '../app/router';
import { Icon } from './Icon';

export type { ColumnDef } from '@tanstack/react-table';

interface Props<T> {
  rows: T[];
  columns: ColumnDef<T, unknown>[];
  label: string;
  rowKey: (row: T) => string;
  /** As "name" or "-name" for descending; the URL's sort parameter overrides it. */
  sort: string;
  onOpen?: (row: T) => void;
}

/** A sortable table; the order is part of the URL. Columns with meta "num" stand right. */
export function DataTable<T>({ rows, columns, label, rowKey, sort: fallback, onOpen }: Props<T>) {
  const [sort, setSort] = useParam('sort', fallback, { replace: true });
  const sorting = useMemo<SortingState>(() => [{ id: sort.replace(/^-/, ''), desc: sort.startsWith('-') }], [sort]);
  const table = useReactTable({
    data: rows,
    columns,
    state: { sorting },
    onSortingChange: (update) => {
      const [first] = typeof update === 'function' ? update(sorting) : update;
      setSort(first ? `${first.desc ? '-' : ''}${first.id}` : fallback);
    },
    enableSortingRemoval: false,
    getCoreRowModel: getCoreRowModel(),
    getSortedRowModel: getSortedRowModel(),
    getRowId: rowKey,
  });
  return (
    <div className="table-scroll card">
      <table className="table" aria-label={label}>
        <thead>
          <tr>
            {table.getFlatHeaders().map((header) => {
              const sorted = header.column.getIsSorted();
              return (
                <th key={header.id} scope="col" className={header.column.columnDef.meta === 'num' ? 'num' : ''} aria-sort={sorted === 'asc' ? 'ascending' : sorted === 'desc' ? 'descending' : undefined}>
                  {header.column.getCanSort() ? (
                    <button type="button" onClick={header.column.getToggleSortingHandler()}>
                      {flexRender(header.column.columnDef.header, header.getContext())}
                      {sorted && <Icon name={sorted === 'asc' ? 'up' : 'down'} size={10} />}
                    </button>
                  ) : (
                    flexRender(header.column.columnDef.header, header.getContext())
                  )}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {table.getRowModel().rows.map((row) => (
            <tr key={row.id} className={onOpen ? 'link' : ''} onClick={onOpen ? (event) => !(event.target as HTMLElement).closest('a, button') && onOpen(row.original) : undefined}>
              {row.getVisibleCells().map((cell) => (
                <td key={cell.id} className={cell.column.columnDef.meta === 'num' ? 'num' : ''}>
                  {flexRender(cell.column.columnDef.cell, cell.getContext())}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
