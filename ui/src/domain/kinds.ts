/** Outage kinds and failure types in words. The API's names stand where this build does not know one. */

const KINDS: Record<string, string> = {
  connection_refused: 'Connections refused',
  connection_timeout: 'Connections time out',
  connection_reset: 'Connections reset',
  policy_denied: 'Denied by policy',
  no_healthy_upstream: 'No healthy endpoint',
  tls_failure: 'TLS failure',
  identity_error: 'Identity error',
  connection_failed: 'Connections fail',
  hbone_blocked: 'HBONE port blocked',
  unknown_waypoint: 'Waypoint missing',
  not_routed: 'No route',
  unknown_party: 'Not known to ztunnel',
  client_exhausted: 'Client out of ports',
  client_aborted: 'Client left',
  dns_failure: 'Name not resolved',
  connect_failed: 'Tunnel refused',
  node_down: 'Node down',
  control_plane_down: 'Control plane down',
  http_errors: 'HTTP errors',
  latency: 'Slow responses',
  traffic_loss: 'Traffic lost',
  telemetry_lost: 'Telemetry lost',
  other: 'Other failure',
};

export function kindLabel(kind: string): string {
  return KINDS[kind] ?? sentence(kind);
}

const SOURCES: Record<string, string> = { access_log: 'Access log', config_dump: 'Config dump', metrics: 'Metrics', spans: 'Spans', xds: 'xDS' };

/** What a source of telemetry is called. */
export function sourceLabel(source: string): string {
  return SOURCES[source] ?? sentence(source);
}

/** A label within a sentence: "Access log" gives "access log", "xDS" stays. */
export function inText(label: string): string {
  return /^[A-Z][a-z]/.test(label) ? label.charAt(0).toLowerCase() + label.slice(1) : label;
}

/** "depends_on" gives "Depends on". */
export function sentence(name: string): string {
  const words = name.replace(/_/g, ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
