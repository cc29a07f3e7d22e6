/** The shapes of the topology API (extension/topologyquery/api/openapi.yaml). Times are RFC 3339. */

export type Health = 'healthy' | 'degraded' | 'failing' | 'idle' | 'unknown';
export type GroupBy = 'workload' | 'service' | 'app' | 'namespace';
export type Protocol = 'tcp' | 'http' | 'grpc';
export type Security = 'mutual_tls' | 'plaintext' | 'unknown';

export interface Pod {
  name: string;
  node?: string;
  ip?: string;
  healthy: boolean;
}

export interface GraphNode {
  id: string;
  type: string;
  namespace: string;
  name: string;
  app?: string;
  version?: string;
  cluster?: string;
  in_mesh: boolean;
  health: Health;
  pods?: Pod[] | null;
}

/** Counts are for the graph's [start, end); rates are per second; duration_ms is of requests, never of connections. */
export interface GraphEdge {
  source: string;
  destination: string;
  service?: string;
  port?: number;
  protocol: Protocol;
  security: Security;
  waypoint?: string;
  connections: { opened: number; closed: number; failed: number; active: number; rate: number };
  failures?: Record<string, number> | null;
  /** Denied connections by "namespace/name" of the policy. */
  denied_by?: Record<string, number> | null;
  bytes: { sent: number; received: number };
  requests?: { total: number; errors: number; rate: number } | null;
  duration_ms?: Percentiles | null;
  /** How long connections live; never a response time. */
  connection_duration_ms?: Percentiles | null;
  health: Health;
}

/** Null where nothing was measured. */
export interface Percentiles {
  p50?: number | null;
  p90?: number | null;
  p95?: number | null;
  p99?: number | null;
}

export interface Graph {
  start: string;
  end: string;
  /** The data's own now. */
  data_time?: string;
  nodes: GraphNode[];
  edges: GraphEdge[];
}

export type OutageState = 'open' | 'resolved' | 'stale';

export interface Subject {
  type: 'workload' | 'service' | 'node' | 'control_plane' | string;
  namespace?: string;
  name: string;
}

export interface Name {
  namespace?: string;
  name: string;
}

export interface Evidence {
  time: string;
  text: string;
  source: string;
}

export interface Outage {
  id: string;
  state: OutageState;
  kind: string;
  severity: 'critical' | 'warning';
  summary: string;
  root: Subject;
  started_at: string;
  detected_at: string;
  ended_at?: string | null;
  edges?: { source: Name; destination: Name; failed: number; total: number }[] | null;
  policy?: string;
  pods?: string[] | null;
  candidates?: (Subject & { score: number; reason?: string })[] | null;
  impact?: (Name & { how: 'calls' | 'depends_on' | string; since?: string })[] | null;
  evidence?: Evidence[] | null;
  timeline?: Evidence[] | null;
  trace_ids?: string[] | null;
}

/** What the server runs on and what each source last delivered. */
export interface Status {
  time?: string;
  build?: { version?: string; commit?: string };
  replay?: { state: 'running' | 'done'; position?: string; start?: string; end?: string } | null;
  history?: { start?: string; end?: string } | null;
  sources?: SourceStatus[] | null;
  links?: Links | null;
}

export interface SourceStatus {
  /** access_log, metrics, config_dump, xds or spans. */
  source: string;
  node?: string;
  up: boolean;
  last_seen?: string | null;
  message?: string;
}

/** Where other tools are, as far as they are configured. */
export interface Links {
  jaeger?: string;
  grafana?: string;
  prometheus?: string;
}
