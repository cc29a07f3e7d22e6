// A stand-in for the topology API while working on the interface without a collector; never shipped.
// node dev/mock.mjs [small|large]   then   npm run dev
import { createServer } from 'node:http';

const large = process.argv[2] === 'large';
const port = Number((process.env.NEPHILIA_API ?? 'localhost:16680').split(':')[1]);
const began = Date.now() - 30 * 60_000;

const shop = {
  nodes: [
    ['load', 'loadgen-v1', 'v1', 1], ['shop', 'frontend-v1', 'v1', 2], ['shop', 'catalog-v1', 'v1', 1], ['shop', 'catalog-v2', 'v2', 1], ['shop', 'cart-v1', 'v1', 1],
    ['shop', 'checkout-v1', 'v1', 1], ['shop', 'shipping-v1', 'v1', 1], ['billing', 'payment-v1', 'v1', 2], ['data', 'redis-v1', 'v1', 1], ['data', 'postgres-v1', 'v1', 1],
    ['', '10.244.9.7', '', 0], ['batch', 'batch-v1', 'v1', 0],
  ],
  edges: [
    [0, 1, 12, 24, 'http'], [1, 2, 4, 9, 'http'], [1, 3, 4, 8, 'http'], [1, 4, 5, 6, 'http'], [1, 5, 3, 60, 'http'], [5, 7, 3, 35, 'http'], [5, 6, 3, 15, 'http'], [5, 4, 3, 5, 'http'],
    [5, 10, 3, 12, 'tcp'], [4, 8, 8, 0, 'tcp'], [2, 9, 4, 0, 'tcp'], [3, 9, 4, 0, 'tcp'], [11, 2, 1, 20, 'tcp'],
  ],
};

function random(seed) {
  let s = seed;
  return () => (s = (s * 16807) % 2147483647) / 2147483647;
}

if (large) {
  const next = random(7);
  shop.nodes = Array.from({ length: 1000 }, (_, i) => [`team-${i % 20}`, `service-${i}-v1`, 'v1', 2]);
  shop.edges = Array.from({ length: 5000 }, () => {
    const a = Math.floor(next() * 1000);
    const b = next() < 0.6 ? (a + 20 * Math.ceil(next() * 8)) % 1000 : Math.floor(next() * 1000);
    return [a, b, 1 + next() * 40, 5 + next() * 80, 'http'];
  });
}

const idOf = (i) => `${shop.nodes[i][0]}/${shop.nodes[i][1]}`;
const brokenAt = (t) => !large && Math.floor((t - began) / 60_000) % 6 === 5;

function graph(start, end, group) {
  const seconds = (end - start) / 1000;
  const broken = brokenAt(end - 1000);
  const wave = 1 + 0.1 * Math.sin(end / 9000);
  const edges = shop.edges.map(([a, b, rate, ms, protocol], i) => {
    const total = Math.round(rate * seconds * wave);
    const deny = broken && i === 5;
    const slow = broken && i === 4;
    return {
      id: String(i), source: idOf(a), destination: idOf(b), service: shop.nodes[b][3] ? `${shop.nodes[b][1].replace(/-v.$/, '')}.${shop.nodes[b][0]}.svc.cluster.local` : '', port: protocol === 'tcp' ? 6379 : 8080,
      protocol, security: shop.nodes[a][3] && shop.nodes[b][3] ? 'mutual_tls' : 'plaintext', waypoint: '',
      connections: { opened: total, closed: total, failed: deny ? total : 0, active: i % 3, rate: total / seconds },
      failures: deny ? { policy_denied: total } : {}, denied_by: deny ? { 'billing/no-checkout': total } : {},
      bytes: { sent: total * 700, received: total * 4100 },
      requests: protocol === 'http' && !deny ? { total, errors: slow ? Math.round(total * 0.07) : 0, rate: total / seconds } : { total: 0, errors: 0, rate: 0 },
      duration_ms: protocol === 'http' && !deny ? { p50: ms * 0.6, p90: ms * 1.1, p95: ms * 1.4, p99: ms * 2.5 } : { p50: null, p90: null, p95: null, p99: null },
      connection_duration_ms: { p50: ms * 2, p90: ms * 4, p95: ms * 5, p99: ms * 9 },
      health: deny ? 'failing' : slow ? 'degraded' : 'healthy',
    };
  });
  const nodes = shop.nodes.map(([namespace, name, version, pods], i) => ({
    id: idOf(i), type: pods || namespace ? 'workload' : 'external', namespace, name, app: name.replace(/-v.$/, ''), version, cluster: 'Kubernetes', in_mesh: pods > 0,
    health: broken && i === 7 ? 'failing' : broken && i === 5 ? 'degraded' : 'healthy',
    pods: Array.from({ length: pods }, (_, p) => ({ name: `${name}-${p}`, node: `node-${'abc'[(i + p) % 3]}`, ip: `10.244.1.${i + p}`, healthy: true })),
  }));
  if (group === 'workload' || !group) return { start: new Date(start).toISOString(), end: new Date(end).toISOString(), nodes, edges };
  const key = (n) => (group === 'namespace' ? n.namespace || n.name : `${n.namespace}/${n.app}`);
  const grouped = new Map(nodes.map((n) => [key(n), { ...n, id: key(n), type: group, name: group === 'namespace' ? n.namespace || n.name : n.app, version: '' }]));
  const byID = new Map(nodes.map((n) => [n.id, key(n)]));
  return { start: new Date(start).toISOString(), end: new Date(end).toISOString(), nodes: [...grouped.values()], edges: edges.map((e) => ({ ...e, source: byID.get(e.source), destination: byID.get(e.destination) })) };
}

function outages() {
  const list = [];
  for (let t = began; t < Date.now(); t += 60_000) {
    if (!brokenAt(t) || brokenAt(t - 60_000)) continue;
    const ended = t + 60_000 < Date.now();
    list.push({
      id: `policy_denied-${t}`, state: ended ? 'resolved' : 'open', kind: 'policy_denied', severity: 'critical',
      summary: 'payment in billing denies every connection from checkout, by the policy billing/no-checkout', root: { type: 'workload', namespace: 'billing', name: 'payment' },
      started_at: new Date(t + 700).toISOString(), detected_at: new Date(t + 4100).toISOString(), ended_at: ended ? new Date(t + 61_000).toISOString() : null,
      edges: [{ source: { namespace: 'shop', name: 'checkout' }, destination: { namespace: 'billing', name: 'payment' }, failed: 41, total: 41 }], policy: 'billing/no-checkout',
      candidates: [{ type: 'workload', namespace: 'billing', name: 'payment', score: 0.97, reason: 'every caller is refused and the refusing side names a policy' }, { type: 'workload', namespace: 'shop', name: 'checkout', score: 0.18, reason: 'its other calls succeed' }],
      impact: [{ namespace: 'shop', name: 'checkout', how: 'calls' }, { namespace: 'shop', name: 'frontend', how: 'depends_on' }, { namespace: 'load', name: 'loadgen', how: 'depends_on' }],
      evidence: [{ time: new Date(t + 900).toISOString(), text: 'connection closed due to policy rejection: explicitly denied by: billing/no-checkout', source: 'ztunnel node-a' }],
      timeline: [{ time: new Date(t).toISOString(), text: 'AuthorizationPolicy billing/no-checkout appeared', source: 'istiod' }, { time: new Date(t + 700).toISOString(), text: 'first denied connection', source: 'ztunnel node-a' }],
    });
  }
  return { outages: list.reverse() };
}

const streams = new Set();
setInterval(() => {
  for (const stream of streams) stream.write(`event: graph\ndata: ${JSON.stringify({ time: new Date().toISOString() })}\n\n`);
}, 1000);

createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const time = (name, fallback) => (url.searchParams.get(name) ? Date.parse(url.searchParams.get(name)) : fallback);
  const answer = (body) => response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
  switch (url.pathname) {
    case '/api/v1/status':
      return answer({
        time: new Date().toISOString(), data_time: new Date().toISOString(), started: new Date(began).toISOString(), live: {}, links: {}, build: { version: '0.1.0' }, history: { start: new Date(began).toISOString() },
        sources: ['access_log', 'metrics', 'config_dump', 'xds'].flatMap((source) => ['node-a', 'node-b', 'node-c'].map((node) => ({ source, node, up: !(source === 'metrics' && node === 'node-c'), last_seen: new Date(Date.now() - 2000).toISOString() }))),
      });
    case '/api/v1/graph':
      return answer(graph(time('start', Date.now() - 300_000), time('end', Date.now()), url.searchParams.get('group_by')));
    case '/api/v1/outages':
      return answer(outages());
    case '/api/v1/events':
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
      response.write('event: hello\ndata: {}\n\n');
      streams.add(response);
      return request.on('close', () => streams.delete(response));
    default:
      return response.writeHead(404, { 'Content-Type': 'application/problem+json' }).end(JSON.stringify({ title: 'Not Found', status: 404, detail: `${url.pathname} is not mocked` }));
  }
}).listen(port, 'localhost', () => console.log(`mock API on http://localhost:${port}, ${shop.nodes.length} nodes`));
