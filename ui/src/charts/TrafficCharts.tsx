import { useMemo } from 'react';

import { kindLabel } from '../domain/kinds';
import { TimeChart, type Line } from './TimeChart';

/** For reasons of failure, which are never good news. */
export const FAILURE_COLOURS = ['failing-line', 'degraded-line', 'series-4', 'series-5'];

/** Requests, response times and connections of what a selector picks. */
export function TrafficCharts({ selector }: { selector: Record<string, string> }) {
  const key = JSON.stringify(selector);
  const [requests, times, connections, failures, open, bytes] = useMemo<Line[][]>(() => {
    const params = JSON.parse(key) as Record<string, string>;
    return [
      [
        { metric: 'requests', label: 'requests', colour: 'series-1', params },
        { metric: 'errors', label: 'failed', colour: 'failing-line', dash: [5, 3], params },
        { metric: 'denied_requests', label: 'denied', colour: 'degraded-line', dash: [2, 3], params },
      ],
      [
        { metric: 'p99', label: 'p99', colour: 'series-3', dash: [2, 3], params },
        { metric: 'p95', label: 'p95', colour: 'series-3', params },
        { metric: 'p50', label: 'p50', colour: 'series-2', params },
      ],
      [
        { metric: 'opened', label: 'opened', colour: 'series-1', params },
      ],
      [{ metric: 'failures', label: 'failed', params: { ...params, by: 'error_type' } }],
      [{ metric: 'active', label: 'open', colour: 'series-2', params }],
      [
        { metric: 'sent', label: 'to it', colour: 'series-1', params },
        { metric: 'received', label: 'from it', colour: 'series-4', dash: [5, 3], params },
      ],
    ];
  }, [key]);
  return (
    <div className="charts three">
      <div className="card">
        <TimeChart title="Requests" lines={requests!} />
      </div>
      <div className="card">
        <TimeChart title="Response time" note="of requests" lines={times!} />
      </div>
      <div className="card">
        <TimeChart title="Connections" note="opened" lines={connections!} />
      </div>
      <div className="card">
        <TimeChart title="Failed connections" note="by reason" lines={failures!} name={(labels) => kindLabel(labels['error_type'] ?? 'other')} colours={FAILURE_COLOURS} />
      </div>
      <div className="card">
        <TimeChart title="Open connections" lines={open!} />
      </div>
      <div className="card">
        <TimeChart title="Throughput" note="of connections" lines={bytes!} />
      </div>
    </div>
  );
}
