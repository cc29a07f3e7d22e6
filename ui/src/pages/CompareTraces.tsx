import { useMemo } from 'react';

import { useLatest } from '../api/queries';
import type { Trace } from '../api/types';
import { pathOf, useLocation } from '../app/router';
import { Crumbs } from '../components/Crumbs';
import { Link } from '../components/Link';
import { Failure, Loading } from '../components/State';
import { TableHead } from '../components/TableHead';
import { millis } from '../domain/format';
import { compareTraces, treeOf, type Compared } from '../domain/trace';

/** Two traces, row by row: what took longer, and what only one of them did. */
export function CompareTraces() {
  const { query } = useLocation();
  const [a, b] = [query.get('a') ?? '', query.get('b') ?? ''];
  const first = useLatest<Trace>(`/traces/${encodeURIComponent(a)}`, {}, { enabled: a !== '', everyMs: 30_000 });
  const second = useLatest<Trace>(`/traces/${encodeURIComponent(b)}`, {}, { enabled: b !== '', everyMs: 30_000 });
  const rows = useMemo(() => (first.data && second.data ? compareTraces(first.data, second.data) : []), [first.data, second.data]);
  const error = first.error ?? second.error;
  if (!a || !b) {
    return (
      <div className="state">
        <h1>Two traces make a comparison</h1>
        <p>
          Choose two in the <Link to="/traces">list of traces</Link>.
        </p>
      </div>
    );
  }
  if (error) return <Failure page error={error} />;
  if (!first.data || !second.data) return <Loading what="the traces" />;
  const [took, other] = [treeOf(first.data).duration, treeOf(second.data).duration];
  const largest = Math.max(0.001, ...rows.map((row) => Math.abs((row.b?.total ?? 0) - (row.a?.total ?? 0))));
  return (
    <div className="page">
      <Crumbs list="Traces" path="/traces" name="Comparison" />
      <div className="page-head">
        <h1>Two traces compared</h1>
        <span className="page-sub">
          A <Link to={pathOf('traces', a)} className="mono">{a.slice(0, 12)}</Link> took {millis(took)}, B <Link to={pathOf('traces', b)} className="mono">{b.slice(0, 12)}</Link> took {millis(other)} ({signed(other - took)})
        </span>
      </div>
      <div className="card table-scroll">
        <table className="table compact compare-traces">
          <TableHead columns={['Service and operation', '#A', '#B', '#Difference', 'Shorter or longer in B']} />
          <tbody>
            {rows.map((row) => (
              <Row key={row.key} row={row} largest={largest} />
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

function Row({ row, largest }: { row: Compared; largest: number }) {
  const difference = (row.b?.total ?? 0) - (row.a?.total ?? 0);
  const width = (Math.abs(difference) / largest) * 50;
  return (
    <tr className={row.layer}>
      <td style={{ paddingLeft: 14 + Math.min(row.depth, 20) * 14 }}>
        <b>{row.service}</b> <span className="muted">{row.name}</span> {row.layer === 'l4' && <span className="badge">L4</span>} {!row.a && <span className="badge accent">only B</span>} {!row.b && <span className="badge degraded">only A</span>}
      </td>
      <td className="num">{side(row.a)}</td>
      <td className="num">{side(row.b)}</td>
      <td className={`num ${difference > 0 ? 'text-failing' : 'text-healthy'}`}>{signed(difference)}</td>
      <td>
        <span className="difference" aria-hidden="true">
          <i className={difference > 0 ? 'longer' : 'shorter'} style={difference > 0 ? { left: '50%', width: `${width}%` } : { right: '50%', width: `${width}%` }} />
        </span>
      </td>
    </tr>
  );
}

function side(sum: { count: number; total: number } | undefined): string {
  if (!sum) return '–';
  return sum.count > 1 ? `${millis(sum.total)} (${sum.count}×)` : millis(sum.total);
}

function signed(ms: number): string {
  return `${ms > 0 ? '+' : ms < 0 ? '−' : '±'}${millis(Math.abs(ms))}`;
}
