import { useSyncExternalStore } from 'react';

import type { Status } from './types';
import { apiURL, get } from './client';

/**
 * What is live: the event stream's state, and the data's clock. The data's clock is what the server says it is, never the
 * browser's: a recording of last week has its own "now".
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

const EVENTS = ['hello', 'graph', 'outage', 'status', 'resync', 'heartbeat'];
const POLL_MS = 5000;
const MAX_RECONNECT_MS = 15_000;
/** A stream that has said nothing for this long is dead, whatever the connection says: the server speaks every ten seconds. */
const SILENT_MS = 35_000;

let live: Live = { stream: 'connecting', heardAt: 0, version: 0, status: undefined, statusError: undefined };
let clockOffset = 0;
let dataTime = 0;
let source: EventSource | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;
let reconnectMs = 1000;
const listeners = new Set<() => void>();

function update(patch: Partial<Live>): void {
  live = { ...live, ...patch };
  for (const listener of listeners) listener();
}

function connect(): void {
  clearTimeout(retry);
  source?.close();
  const stream = new EventSource(apiURL('/events'));
  source = stream;
  stream.onopen = () => {
    reconnectMs = 1000;
    update({ stream: 'open', heardAt: Date.now(), version: live.version + 1 });
  };
  stream.onerror = () => {
    update({ stream: 'lost' });
    // The browser reconnects by itself with Last-Event-ID, except after an answer that is no event stream.
    if (stream.readyState !== EventSource.CLOSED) return;
    clearTimeout(retry);
    retry = setTimeout(connect, reconnectMs);
    reconnectMs = Math.min(reconnectMs * 2, MAX_RECONNECT_MS);
  };
  for (const name of EVENTS) stream.addEventListener(name, heard);
}

function heard(event: MessageEvent<string>): void {
  hearTime(event.data);
  update({ stream: 'open', heardAt: Date.now(), version: live.version + 1 });
  if (event.type === 'status' || event.type === 'hello') void poll();
}

/** The time stands at the start of every event, so that a large delta need not be parsed to read it. */
function hearTime(data: string): void {
  const time = Date.parse(/"time":"([^"]+)"/.exec(data.slice(0, 80))?.[1] ?? '');
  if (Number.isFinite(time)) dataTime = Math.max(dataTime, time);
}

async function poll(): Promise<void> {
  if (live.stream === 'open' && Date.now() - live.heardAt > SILENT_MS) {
    update({ stream: 'lost' });
    connect();
  }
  try {
    const status = await get<Status>('/status');
    clockOffset = Date.parse(status.time) - Date.now();
    const time = Date.parse(status.data_time ?? '');
    if (Number.isFinite(time)) dataTime = time;
    // Without the stream the poll is what brings news.
    update({ status, statusError: undefined, version: live.version + (live.stream === 'open' ? 0 : 1) });
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

/** The data's now, in unix milliseconds; the server's clock before any data. */
export function dataNow(): number {
  return dataTime > 0 ? dataTime : Date.now() + clockOffset;
}

export function useLive(): Live {
  return useSyncExternalStore(subscribe, () => live);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
