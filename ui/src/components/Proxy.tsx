import type { NodeDetail } from '../api/types';
import { count, percent, plural } from '../domain/format';
import { Sparkline } from './Sparkline';
import { TableHead } from './TableHead';
import { Time } from './Time';

type Ztunnel = NodeDetail['ztunnel'];

/** How busy a ztunnel is, among the facts about it. */
export function Load({ load }: { load: Ztunnel['load'] }) {
  if (!load) return null;
  return (
    <>
      <dt>Busy</dt>
      <dd>
        <span className={load.busy !== null && load.busy >= 0.5 ? 'text-failing' : ''}>{load.busy === null ? '–' : percent(load.busy)}</span>{' '}
        <span className="muted">of the time of {load.workers === 1 ? 'its thread' : `its ${count(load.workers)} threads`}</span>
      </dd>
      <dt>Sockets</dt>
      <dd>
        {count(load.sockets.outbound)} of pods, {count(load.sockets.inbound)} of other ztunnels
      </dd>
      <dt>File descriptors</dt>
      <dd>
        {count(load.file_descriptors.open)} <span className="muted">of {count(load.file_descriptors.max)}</span>
      </dd>
      <dt>Pods served</dt>
      <dd>
        {count(load.proxies.active)}
        {load.proxies.pending > 0 && <span className="text-failing">, {count(load.proxies.pending)} pending</span>}
      </dd>
    </>
  );
}

/** How busy a ztunnel was: what is known of the time that is shown. */
export function LoadCharts({ past }: { past: Ztunnel['load_history'] }) {
  if (past.length < 2) return null;
  const charts: { title: string; values: (number | null)[]; text: (value: number) => string; tone: string }[] = [
    { title: 'Busy', values: past.map((p) => p.busy), text: percent, tone: 'series-1' },
    { title: 'Idle moments a second', values: past.map((p) => p.parks_per_second), text: count, tone: 'series-2' },
    { title: 'Sockets of pods', values: past.map((p) => p.sockets.outbound), text: count, tone: 'series-3' },
    { title: 'Sockets of other ztunnels', values: past.map((p) => p.sockets.inbound), text: count, tone: 'series-4' },
    { title: 'File descriptors', values: past.map((p) => p.open_files), text: count, tone: 'series-5' },
  ];
  return (
    <section className="card" aria-label="Load">
      <div className="card-head">
        <h2>Load</h2>
        <span className="page-sub">
          from <Time at={past[0]!.at} /> to <Time at={past.at(-1)!.at} />
        </span>
      </div>
      <div className="table-scroll">
        <table className="table compact">
          <TableHead columns={['~Load', '~In the last hour', '#Now', '#Most']} />
          <tbody>
            {charts.map(({ title, values, text, tone }) => {
              const known = values.filter((value) => value !== null);
              if (known.length === 0) return null;
              return (
                <tr key={title}>
                  <td>{title}</td>
                  <td>
                    <Sparkline values={values} tone={tone} width={420} height={40} label={title} />
                  </td>
                  <td className="num">{text(known.at(-1)!)}</td>
                  <td className="num">{text(Math.max(...known))}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** What came of the list of revoked certificates, among the facts about a ztunnel. */
export function Revocation({ revocation }: { revocation: Ztunnel['revocation'] }) {
  if (!revocation) return null;
  const rejected = revocation.rejected.inbound + revocation.rejected.outbound;
  const untracked = revocation.untracked.inbound + revocation.untracked.outbound;
  if (rejected + untracked === 0) return null;
  return (
    <>
      <dt>Revoked certificates</dt>
      <dd>
        <span className={revocation.last_rejected ? 'text-degraded' : ''}>{plural(rejected, 'connection')} turned down</span>
        {revocation.last_rejected && (
          <span className="muted">
            , last <Time at={revocation.last_rejected} />
          </span>
        )}
        {untracked > 0 && <span className="muted">, {count(untracked)} not watched for revocation</span>}
      </dd>
    </>
  );
}

/** What a ztunnel logged beside connections. */
export function Messages({ events }: { events: Ztunnel['events'] }) {
  if (events.length === 0) return null;
  return (
    <section className="card" aria-label="Messages">
      <div className="card-head">
        <h2>Messages</h2>
        <span className="page-sub">what the ztunnel logs beside connections</span>
      </div>
      <div className="table-scroll">
        <table className="table compact">
          <TableHead columns={['Last', 'Level', 'Message', '#Times']} />
          <tbody>
            {events.map((event) => (
              <tr key={`${event.scope} ${event.level} ${event.message} ${event.first_seen}`}>
                <td>
                  <Time at={event.last_seen} />
                </td>
                <td className={event.level === 'error' ? 'text-failing' : event.level === 'warn' ? 'text-degraded' : 'muted'}>{event.level}</td>
                <td>
                  {event.meaning && <div>{event.meaning}</div>}
                  <div className="mono muted">{event.message}</div>
                </td>
                <td className="num">{count(event.count)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
