/** Requests to the topology API of the same origin. */
import { base } from '../app/base';

/** An RFC 9457 problem, or a failure to reach the server (status 0). */
export class APIError extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
  ) {
    super(detail || title);
    this.name = 'APIError';
  }
}

export type Params = Record<string, string | number | boolean | undefined>;

export function apiURL(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== '') query.set(name, String(value));
  }
  const text = query.toString();
  return `${base}/api/v1${path}${text ? `?${text}` : ''}`;
}

export async function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(apiURL(path, params), { headers: { Accept: 'application/json' }, ...(signal ? { signal } : {}) });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === 'AbortError') throw cause;
    throw new APIError(0, 'The server does not answer', 'No connection to the topology API.');
  }
  if (!response.ok) throw await problemOf(response);
  try {
    return (await response.json()) as T;
  } catch {
    throw new APIError(response.status, 'Unreadable answer', `${path} did not answer with JSON.`);
  }
}

async function problemOf(response: Response): Promise<APIError> {
  let title = response.statusText || `Status ${response.status}`;
  let detail = '';
  try {
    const body = (await response.json()) as { title?: unknown; detail?: unknown; error?: unknown };
    if (typeof body.title === 'string') title = body.title;
    if (typeof body.detail === 'string') detail = body.detail;
    else if (typeof body.error === 'string') detail = body.error;
  } catch {
    // A proxy's error page is not JSON; the status has to do.
  }
  if (response.status === 401 || response.status === 403) detail ||= 'This server asks for credentials that the browser did not send.';
  return new APIError(response.status, title, detail);
}
