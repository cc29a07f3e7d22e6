import { useSyncExternalStore } from 'react';

import type { Status } from './types';
import { apiURL, get } from './client';

/**
 * What is live: the event stream's state, and the data's clock. The data's clock is the server's, or a replay's
 * position, never the browser's: a recording of last week has its own "now".
 */
export interface Live {
  stream: 'connecting' | 'open' | 'lost';
  /** When the stream last said something, by the browser's clock; 0 before it did. */
  heardAt: number;
  /** Rises whenever there may be something new to fetch. */
  version: number;
  status: Status | undefined;
  statusError: Error | undefined;
}

const EVENTS = ['message', 'hello', 'graph', 'outage', 'outages', 'flows', 'status', 'heartbeat'];
const POLL_MS = 5000;

let live: Live = { stream: 'connecting', heardAt: 0, version: 0, status: undefined, statusError: undefined };
let clockOffset = 0;
let dataTime: number | undefined;
let source: EventSource | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;
let reconnectDelay = 1000;
const listeners = new Set<() => void>();

function update(patch: Partial<Live>): void {
  live = { ...live, ...patch };
  for (const listener of listeners) listener();
}

function connect(): void {
  source?.close();
  const stream = new EventSource(apiURL('/events'));
  source = stream;
  stream.onopen = () => {
    reconnectDelay = 1000;
    update({ stream: 'open', heardAt: Date.now(), version: live.version + 1 });
  };
  stream.onerror = () => {
    update({ stream: 'lost' });
    // The browser reconnects by itself with Last-Event-ID, except after an answer that is no event stream.
    if (stream.readyState !== EventSource.CLOSED) return;
    clearTimeout(retry);
    retry = setTimeout(connect, reconnectDelay);
    reconnectDelay = Math.min(reconnectDelay * 2, 30_000);
  };
  for (const name of EVENTS) stream.addEventListener(name, (event) => heard(name, event as MessageEvent<string>));
}

function heard(name: string, event: MessageEvent<string>): void {
  try {
    const body = JSON.parse(event.data) as { time?: string; end?: string };
    const time = Date.parse(body.time ?? body.end ?? '');
    if (Number.isFinite(time)) dataTime = Math.max(dataTime ?? 0, time);
  } catch {
    // An event without a body still says that the stream is alive.
  }
  const news = name !== 'heartbeat' && name !== 'hello';
  update({ stream: 'open', heardAt: Date.now(), version: live.version + (news ? 1 : 0) });
}

async function poll(): Promise<void> {
  try {
    const status = await get<Status>('/status');
    const now = Date.parse(status.time ?? '');
    clockOffset = Number.isFinite(now) ? now - Date.now() : 0;
    const position = status.replay ? Date.parse(status.replay.position ?? '') : NaN;
    if (Number.isFinite(position)) dataTime = position;
    else if (!status.replay) dataTime = undefined;
    // Without the stream the poll is what brings news.
    const version = live.version + (live.stream === 'open' ? 0 : 1);
    update({ status, statusError: undefined, version });
  } catch (error) {
    update({ statusError: error as Error });
  }
}

/** Starts the stream and the poll; for the life of the page. */
export function startLive(): void {
  connect();
  void poll();
  setInterval(() => {
    if (document.visibilityState === 'visible') void poll();
  }, POLL_MS);
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') void poll();
  });
}

/** The data's now, in unix milliseconds. */
export function dataNow(): number {
  return live.status?.replay && dataTime !== undefined ? dataTime : Date.now() + clockOffset;
}

export function useLive(): Live {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => live,
  );
}
