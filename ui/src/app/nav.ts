import type { IconName } from '../components/Icon';

export interface NavItem {
  path: string;
  label: string;
  icon: IconName;
  group: 'now' | 'look' | 'mesh';
}

export const NAV: NavItem[] = [
  { path: '/', label: 'Overview', icon: 'overview', group: 'now' },
  { path: '/graph', label: 'Graph', icon: 'graph', group: 'now' },
  { path: '/outages', label: 'Outages', icon: 'outage', group: 'now' },
  { path: '/endpoints', label: 'API endpoints', icon: 'endpoints', group: 'look' },
  { path: '/response-times', label: 'Response times', icon: 'response', group: 'look' },
  { path: '/traces', label: 'Traces', icon: 'traces', group: 'look' },
  { path: '/flows', label: 'Flows', icon: 'flows', group: 'look' },
  { path: '/workloads', label: 'Workloads', icon: 'workloads', group: 'mesh' },
  { path: '/services', label: 'Services', icon: 'services', group: 'mesh' },
  { path: '/nodes', label: 'Nodes', icon: 'nodes', group: 'mesh' },
  { path: '/policies', label: 'Policies', icon: 'policies', group: 'mesh' },
];
