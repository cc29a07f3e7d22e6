/** The head of a plain table. A name that begins with # stands over numbers, one that begins with ~ is only read out. */
export function TableHead({ columns }: { columns: (string | false)[] }) {
  return (
    <thead>
      <tr>
        {columns.map((column, i) =>
          column === false ? null : (
            <th key={i} scope="col" className={column.startsWith('#') ? 'num' : undefined}>
              {column.startsWith('~') ? <span className="visually-hidden">{column.slice(1)}</span> : column.replace(/^#/, '')}
            </th>
          ),
        )}
      </tr>
    </thead>
  );
}
