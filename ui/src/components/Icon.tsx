/** Line icons on a 16 px grid, drawn in the text's colour. */
const PATHS = {
  overview: 'M2 2.5h5v5H2zM9 2.5h5v3H9zM9 7.5h5v6H9zM2 9.5h5v4H2z',
  graph: 'M3.5 5.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM12.5 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM4.5 14.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM5.3 4.4l5.4 2.7M6.3 11.7l4.5-2.6M3.7 5.5l.6 5',
  outage: 'M9 1.5 3 9h4.2L6.5 14.5 13 6.5H8.6z',
  clock: 'M8 14.5a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM8 4.5V8l2.5 1.7',
  response: 'M1.5 13.5h13M3 11V8M6 11V4M9 11V6.5M12 11V2.5',
  traces: 'M1.5 3.5h8M4.5 8h8M7.5 12.5h7',
  endpoints: 'M5.5 3 1.5 8l4 5M10.5 3l4 5-4 5M9 2.5l-2 11',
  flows: 'M1.5 5h11M9.5 2l3 3-3 3M14.5 11h-11M6.5 8l-3 3 3 3',
  workloads: 'M8 1.5 14 4.8v6.4L8 14.5 2 11.2V4.8zM2 4.8 8 8l6-3.2M8 8v6.5',
  services: 'M2.5 4.5h11v7h-11zM5 8h.01M8 8h3',
  nodes: 'M2 2.5h12v4.5H2zM2 9h12v4.5H2zM4.5 4.8h.01M4.5 11.2h.01',
  policies: 'M8 1.5 13.5 3.6v4.1c0 3.4-2.3 5.6-5.5 6.8-3.2-1.2-5.5-3.4-5.5-6.8V3.6zM5.6 8l1.7 1.7 3.2-3.4',
  search: 'M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10ZM10.7 10.7l3.8 3.8',
  sun: 'M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1.1 1.1M11.9 11.9 13 13M3 13l1.1-1.1M11.9 4.1 13 3',
  moon: 'M13.5 9.6A6 6 0 0 1 6.4 2.5a6 6 0 1 0 7.1 7.1Z',
  close: 'm3.5 3.5 9 9m0-9-9 9',
  chevronDown: 'm3.5 6 4.5 4.5L12.5 6',
  chevronRight: 'm6 3.5 4.5 4.5L6 12.5',
  chevronLeft: 'M10 3.5 5.5 8l4.5 4.5',
  plus: 'M8 3v10M3 8h10',
  minus: 'M3 8h10',
  fit: 'M2 5.5V2h3.5M10.5 2H14v3.5M14 10.5V14h-3.5M5.5 14H2v-3.5',
  tidy: 'M2.5 3h4v3h-4zM9.5 3h4v3h-4zM6 10h4v3H6zM4.5 6v2h7V6M8 8v2',
  download: 'M8 2v8M4.8 7 8 10.2 11.2 7M2.5 13.5h11',
  play: 'M4.5 2.8v10.4L13 8z',
  pause: 'M4.5 3v10M11.5 3v10',
  lock: 'M3.5 7.5h9v6h-9zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5',
  unlock: 'M3.5 7.5h9v6h-9zM5.5 7.5V5a2.5 2.5 0 0 1 4.9-.8',
  waypoint: 'M8 1.5 14.5 8 8 14.5 1.5 8zM8 5v6M5 8h6',
  outside: 'M6 2.5H2.5v11h11V10M9 2.5h4.5V7M13.5 2.5 7.5 8.5',
  copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
  check: 'm2.5 8.5 3.5 3.5 7.5-8',
  filter: 'M2 3h12L9.5 8.5v4l-3 1.5V8.5z',
  info: 'M8 14.5a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM8 7.2v4M8 4.8h.01',
  fold: 'M8 1.5v4.5M5.5 4 8 6.3 10.5 4M8 14.5V10M5.5 12 8 9.7l2.5 2.3M2 8h12',
  unfold: 'M8 6V1.5M5.5 4 8 1.5 10.5 4M8 10v4.5M5.5 12 8 14.5l2.5-2.5M2 8h12',
  compare: 'M6.5 3h-4v10h4M9.5 3h4v10h-4M8 1.5v13',
  legend: 'M2.5 4h2M7 4h6.5M2.5 8h2M7 8h6.5M2.5 12h2M7 12h6.5',
  external: 'M6 3H2.5v10.5H13V10M9 2.5h4.5V7M13.5 2.5 8 8',
  menu: 'M2 4h12M2 8h12M2 12h12',
  up: 'M8 13V3M4 7l4-4 4 4',
  down: 'M8 3v10M4 9l4 4 4-4',
  now: 'M2.5 3v10l6-5zM9 3v10l6-5z',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16, label }: { name: IconName; size?: number; label?: string }) {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" strokeLinejoin="round" {...(label ? { role: 'img', 'aria-label': label } : { 'aria-hidden': true })}>
      <path d={PATHS[name]} />
    </svg>
  );
}
