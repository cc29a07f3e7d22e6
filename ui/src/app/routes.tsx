import { lazy, type ComponentType } from 'react';

import { sentence } from '../domain/kinds';
import { NAV } from './nav';
import type { PageProps } from './page';

interface Route {
  title: string;
  page: ComponentType<PageProps>;
  /** Two paths with one key are one page that stays mounted. */
  key: string;
}

const pages: Record<string, ComponentType<PageProps>> = {
  '': lazy(() => import('../pages/Overview')),
  graph: lazy(() => import('../graph/GraphPage')),
  outages: lazy(() => import('../pages/Outages')),
  'response-times': lazy(() => import('../pages/ResponseTimes')),
  traces: lazy(() => import('../pages/Traces')),
  endpoints: lazy(() => import('../pages/Endpoints')),
  flows: lazy(() => import('../pages/Flows')),
  workloads: lazy(() => import('../pages/Workloads')),
  services: lazy(() => import('../pages/Services')),
  nodes: lazy(() => import('../pages/Nodes')),
  policies: lazy(() => import('../pages/Policies')),
};

const Missing = lazy(() => import('../pages/Missing'));

export function routeOf(parts: string[]): Route {
  const first = parts[0] ?? '';
  const page = Object.hasOwn(pages, first) ? pages[first] : undefined;
  const label = NAV.find((item) => item.path === `/${first}`)?.label ?? sentence(first);
  if (!page) return { title: 'Not found', page: Missing, key: 'missing' };
  const name = parts.slice(1).join('/');
  return { title: name ? `${name} · ${label}` : label, page, key: parts.join('/') };
}
