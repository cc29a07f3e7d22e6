// Names with markup in them, from the log and from spans: every page shows them as text, and nothing of them runs or loads anything.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import { freePort, get, startNephilia, until } from '../nephilia.mjs';
import { suite } from '../suite.mjs';

const beaconPort = await freePort();
const beacon = `http://127.0.0.1:${beaconPort}/x`;
const markup = `<img src=${beacon} onerror=document.title='PWNED'><script>document.title='PWNED'</script>`;
const link = "javascript:document.title='PWNED'//";
const trace = 'ab'.repeat(16);

/** A line of a ztunnel's access log, which puts names in quotes. */
function line(at, failed) {
  const error = failed ? `\terror="connection failed: Connection refused (os error 111) ${markup}"` : '';
  return (
    `${at.toISOString().replace('Z', '000Z')}\t${failed ? 'error' : 'info'}\taccess\tconnection complete\tsrc.addr=10.0.0.1:40000 src.workload="${markup}" src.namespace="shop" ` +
    `src.identity="spiffe://cluster.local/ns/shop/sa/a" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 dst.service="api.shop.svc.cluster.local" dst.workload="${link}" ` +
    `dst.namespace="shop" dst.identity="spiffe://cluster.local/ns/shop/sa/b" direction="outbound" bytes_sent=10 bytes_recv=20 duration="3ms"${error.replace('\t', ' ')}\n`
  );
}

const text = (key, value) => ({ key, value: { stringValue: value } });

async function start(holder) {
  const folder = mkdtempSync(join(tmpdir(), 'nephilia-markup-'));
  holder.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'logs'));
  const now = Date.now();
  let log = '';
  for (let i = 0; i < 200; i++) log += line(new Date(now - (200 - i) * 100), i > 100 && i % 2 === 0);
  writeFileSync(join(folder, 'logs', '0.log'), log);
  const otlp = `127.0.0.1:${await freePort()}`;
  const nephilia = await startNephilia(holder, ['config/standalone.yaml'], {
    NEPHILIA_LOGS: join(folder, 'logs', '*.log'), NEPHILIA_LOGS_START: 'beginning', K8S_NODE_NAME: markup, NEPHILIA_OTLP_HTTP: otlp,
    NEPHILIA_OTLP_GRPC: `127.0.0.1:${await freePort()}`, NEPHILIA_PROMETHEUS: `127.0.0.1:${await freePort()}`, NEPHILIA_HEALTH: `127.0.0.1:${await freePort()}`,
    NEPHILIA_XDS: '127.0.0.1:1', NEPHILIA_XDS_INSECURE: 'true', NEPHILIA_ZTUNNEL_METRICS: 'http://127.0.0.1:1/metrics', NEPHILIA_ZTUNNEL_ADMIN: 'http://127.0.0.1:1/config_dump',
  });
  const nanos = (ms) => `${ms}000000`;
  const span = {
    traceId: trace, spanId: '1'.repeat(16), name: markup, kind: 2, startTimeUnixNano: nanos(now - 1000), endTimeUnixNano: nanos(now),
    attributes: [text(markup, markup), text('http.route', link), text('url.full', link)], status: { code: 2, message: markup }, events: [{ name: markup, timeUnixNano: nanos(now) }],
  };
  const sent = await fetch(`http://${otlp}/v1/traces`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ resourceSpans: [{ resource: { attributes: [text('service.name', markup), text('k8s.pod.name', link)] }, scopeSpans: [{ spans: [span] }] }] }),
  });
  assert.equal(sent.status, 200);
  await until('the names are there', async () => (await get(nephilia, '/graph')).edges.length > 0 && (await get(nephilia, '/traces')).traces.length > 0);
  return nephilia;
}

describe('names with markup', () => {
  let loaded = 0;
  const shared = suite(async (holder) => {
    const server = createServer((_, response) => {
      loaded++;
      response.end();
    }).listen(beaconPort, '127.0.0.1');
    holder.after(() => server.close());
    return start(holder);
  });

  for (const path of [
    '/', '/graph', '/outages', '/flows', '/traces', `/traces/${trace}`, '/workloads', '/services', '/policies', '/nodes', '/changes',
    `/nodes/${encodeURIComponent(markup)}`, `/workloads/shop/${encodeURIComponent(link)}`, `/traces?service=${encodeURIComponent(markup)}`, `/graph?q=${encodeURIComponent(markup)}`,
  ]) {
    it(`are text at ${path.slice(0, 30)}`, async () => {
      const { page } = shared;
      await page.goto(path);
      await page.getByRole('main').waitFor();
      if (path === '/traces') await page.getByText('<img src=').first().waitFor();
      const found = await page.evaluate((beacon) => ({
        title: document.title, images: document.querySelectorAll(`img[src^="${beacon}"]`).length, links: document.querySelectorAll('a[href^="javascript:"]').length,
      }), beacon);
      assert.notEqual(found.title, 'PWNED');
      assert.equal(found.images + found.links, 0);
      assert.equal(loaded, 0);
    });
  }
});
