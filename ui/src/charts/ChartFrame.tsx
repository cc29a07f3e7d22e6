import { useState, type ReactNode } from 'react';

import { useLive } from '../api/live';
import { rangeParams } from '../api/queries';
import { Icon } from '../components/Icon';
import type { TimeRange } from '../domain/time';

/** A chart's title, the PromQL behind it, and the way to it in other tools. */
export function ChartFrame({ title, note, promql, range, children }: { title: string; note?: string | undefined; promql: string[]; range: TimeRange; children: ReactNode }) {
  const { status } = useLive();
  const [open, setOpen] = useState(false);
  const [copied, setCopied] = useState(false);
  const text = promql.join('\n');
  const { prometheus, grafana } = status?.links ?? {};
  return (
    <figure className="chart-frame">
      <figcaption>
        <h2 className="chart-title">{title}</h2>
        {note && <span className="muted small">{note}</span>}
        <span className="spacer" />
        {promql.length > 0 && (
          <button type="button" className="button small plain chart-promql" aria-expanded={open} onClick={() => setOpen(!open)}>
            PromQL
          </button>
        )}
      </figcaption>
      {open && (
        <div className="promql">
          <pre tabIndex={0} aria-label="PromQL">
            {text}
          </pre>
          <div className="toolbar">
            <button
              type="button"
              className="button small"
              onClick={() => {
                void navigator.clipboard?.writeText(text).then(() => setCopied(true));
              }}
            >
              <Icon name={copied ? 'check' : 'copy'} size={13} /> {copied ? 'Copied' : 'Copy'}
            </button>
            {prometheus && (
              <a className="button small" href={prometheusLink(prometheus, promql, range)} target="_blank" rel="noreferrer">
                Prometheus <Icon name="external" size={12} />
              </a>
            )}
            {grafana && (
              <a className="button small" href={grafanaLink(grafana, promql, range)} target="_blank" rel="noreferrer">
                Grafana <Icon name="external" size={12} />
              </a>
            )}
          </div>
        </div>
      )}
      {children}
    </figure>
  );
}

function prometheusLink(base: string, promql: string[], range: TimeRange): string {
  const query = new URLSearchParams();
  promql.forEach((expr, i) => {
    query.set(`g${i}.expr`, expr);
    query.set(`g${i}.tab`, '0');
    query.set(`g${i}.range_input`, `${range.seconds}s`);
    if (range.at !== undefined) query.set(`g${i}.end_input`, new Date(range.at).toISOString());
  });
  return `${base.replace(/\/$/, '')}/graph?${query.toString()}`;
}

function grafanaLink(base: string, promql: string[], range: TimeRange): string {
  const { start, end } = rangeParams(range);
  const pane = {
    queries: promql.map((expr, i) => ({ refId: String.fromCharCode(65 + i), expr })),
    range: { from: String(Date.parse(start)), to: String(Date.parse(end)) },
  };
  return `${base.replace(/\/$/, '')}/explore?schemaVersion=1&panes=${encodeURIComponent(JSON.stringify({ a: pane }))}`;
}
