/** Outage kinds and failure types in words. The API's names stand where this build does not know one. */

const KINDS: Record<string, string> = {
  connection_refused: 'Connections refused',
  connection_timeout: 'Connections time out',
  connection_reset: 'Connections reset',
  policy_denied: 'Denied by policy',
  no_healthy_upstream: 'No healthy endpoint',
  tls_failure: 'TLS failure',
  identity_error: 'Identity error',
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

/** "depends_on" gives "Depends on". */
export function sentence(name: string): string {
  const words = name.replace(/_/g, ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
