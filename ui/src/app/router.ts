import { useCallback, useMemo, useSyncExternalStore } from 'react';

import { base } from './base';

/**
 * The URL is the whole state of the interface: the path says which page, the query what it shows.
 * A choice that a person may want to go back from pushes an entry; typing and dragging replace it.
 */

export type Patch = Record<string, string | number | boolean | undefined | null>;

/** The parameters that a link to another page keeps. */
const SHARED = ['last', 'at', 'vs'];

const listeners = new Set<() => void>();

function changed(): void {
  for (const listener of listeners) listener();
}

window.addEventListener('popstate', changed);

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const current = () => window.location.pathname + window.location.search;

export function navigate(to: string, options: { replace?: boolean } = {}): void {
  if (to === current()) return;
  if (options.replace) window.history.replaceState(null, '', to);
  else window.history.pushState(null, '', to);
  changed();
}

/** Sets and removes query parameters of the page that is shown. */
export function patchQuery(patch: Patch, options: { replace?: boolean } = {}): void {
  const query = new URLSearchParams(window.location.search);
  applyPatch(query, patch);
  navigate(join(window.location.pathname, query), options);
}

function applyPatch(query: URLSearchParams, patch: Patch): void {
  for (const [name, value] of Object.entries(patch)) {
    if (value === undefined || value === null || value === '' || value === false) query.delete(name);
    else query.set(name, value === true ? '1' : String(value));
  }
}

function join(path: string, query: URLSearchParams): string {
  // Colons, slashes and commas are legal in a query and far easier to read unescaped.
  const text = query.toString().replace(/%3A/g, ':').replace(/%2F/g, '/').replace(/%2C/g, ',');
  return text ? `${path}?${text}` : path;
}

/** A link to another page: keeps the time range, sets what is given. */
export function href(path: string, params: Patch = {}): string {
  const now = new URLSearchParams(window.location.search);
  const query = new URLSearchParams();
  for (const name of SHARED) {
    const value = now.get(name);
    if (value !== null) query.set(name, value);
  }
  applyPatch(query, params);
  return join(base + path, query);
}

export function useLocation(): { path: string; query: URLSearchParams } {
  const full = useSyncExternalStore(subscribe, current);
  const url = full.startsWith(base) ? full.slice(base.length) || '/' : full;
  return useMemo(() => {
    const split = url.indexOf('?');
    return split < 0
      ? { path: url, query: new URLSearchParams() }
      : { path: url.slice(0, split), query: new URLSearchParams(url.slice(split + 1)) };
  }, [url]);
}

/** One query parameter; setting it to the fallback removes it from the URL. */
export function useParam(name: string, fallback: string, options: { replace?: boolean } = {}): [string, (value: string) => void] {
  const { query } = useLocation();
  const value = query.get(name) ?? fallback;
  const { replace } = options;
  const set = useCallback(
    (next: string) => patchQuery({ [name]: next === fallback ? undefined : next }, replace ? { replace } : {}),
    [name, fallback, replace],
  );
  return [value, set];
}

/** Segments of the path, decoded: "/workloads/shop/cart" gives ["workloads", "shop", "cart"]. */
export function segments(path: string): string[] {
  return path
    .split('/')
    .filter(Boolean)
    .map((part) => {
      try {
        return decodeURIComponent(part);
      } catch {
        return part;
      }
    });
}

export function pathOf(...parts: string[]): string {
  return '/' + parts.map(encodeURIComponent).join('/');
}
