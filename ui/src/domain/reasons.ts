/** Written from internal/reasons: make generate. */

/** Kinds of outages and reasons of failed connections in words. */
export const LABELS: Record<string, string> = {
  connection_refused: 'Connections refused',
  hbone_blocked: 'HBONE port blocked',
  connection_timeout: 'Connections time out',
  connection_reset: 'Connections reset',
  connection_failed: 'Connections fail',
  no_healthy_upstream: 'No healthy endpoint',
  unknown_waypoint: 'Waypoint missing',
  not_routed: 'No route',
  unknown_party: 'Not known to ztunnel',
  dns_failure: 'Name not resolved',
  client_exhausted: 'Client out of ports',
  tls_failure: 'TLS failure',
  identity_error: 'Identity error',
  policy_denied: 'Denied by policy',
  http_errors: 'HTTP errors',
  latency: 'Slow responses',
  traffic_loss: 'Traffic lost',
  node_down: 'Node down',
  telemetry_lost: 'Telemetry lost',
  control_plane_down: 'Control plane down',
  client_aborted: 'Client left',
  connect_failed: 'Tunnel refused',
  other: 'Other failure',
};

/** Why connections fail, as error_type has it. */
export const REASONS = [
  'connection_refused',
  'hbone_blocked',
  'identity_error',
  'tls_failure',
  'connection_timeout',
  'client_exhausted',
  'client_aborted',
  'connection_reset',
  'no_healthy_upstream',
  'unknown_waypoint',
  'unknown_party',
  'not_routed',
  'dns_failure',
  'policy_denied',
  'connect_failed',
  'other',
];
