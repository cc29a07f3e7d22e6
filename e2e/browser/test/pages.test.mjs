// Every page on a recording of a denied connection: it loads, says what the recording holds, complains of nothing, and
// axe finds no violation in either theme.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { before, describe, it } from 'node:test';

import { get, replay } from '../nephilia.mjs';
import { suite } from '../suite.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What a page of the recording policy-deny shows once it has loaded, as text or as the name of an element. */
function pages({ outage, trace, other }) {
  return {
    overview: ['/', 'Nothing is broken', 'checkout → payment failed from 22:25:41 to 22:26:46', 'Namespaces', 'Traffic of the mesh', '3 ztunnels connected'],
    graph: ['/graph', { role: 'application', name: /12 nodes, 14 edges, 1 failing/ }],
    'graph of services': ['/graph?group=service', { role: 'application', name: /Service graph: \d+ nodes/ }],
    'graph of apps': ['/graph?group=app&box=both', { role: 'application', name: /11 nodes/ }],
    'graph of namespaces': ['/graph?group=namespace', { role: 'application', name: /5 nodes/ }],
    'graph, a node chosen': ['/graph?sel=workload/Kubernetes/billing/payment-v1', 'Open workload', 'Calls to it', 'payment-66cd-a1'],
    'graph, an edge chosen': ['/graph?sel=workload/Kubernetes/shop/checkout-v1→workload/Kubernetes/billing/payment-v1', 'Connections (L4)', 'Requests (L7)', 'Denied by policy'],
    'graph, folded and compared': ['/graph?fold=ns:shop&vs=2026-11-23T21:25:30Z&at=2026-11-23T21:26:30Z&last=30s', 'Compared with', { role: 'region', name: 'Compared' }],
    outages: ['/outages', '1 outage', 'Denied by policy', { role: 'region', name: 'Timeline of outages' }],
    outage: [`/outages/${outage}`, 'billing/no-checkout', 'What changed just before', 'AuthorizationPolicy billing/no-checkout added', 'Samples', 'the client saw: http status: 401 Unauthorized', { role: 'application', name: /Blast radius/ }],
    'API endpoints': ['/endpoints', '10 endpoints of 7 services', '/product/{id}', 'billing/payment', { role: 'table', name: 'Endpoints' }],
    'API endpoints, one chosen': ['/endpoints?sel=GET%20shop/catalog/products/{id}', 'Counted from', 'the applications’ spans', { role: 'table', name: 'Callers' }],
    'API endpoints by caller': ['/endpoints?view=matrix', { role: 'button', name: /frontend-v1 to GET \/products\/\{id\} \d+/ }, { role: 'table', name: 'Callers and endpoints' }],
    'response times': ['/response-times', '/product/{id}', 'Slowest edges, by p95', 'How long connections live', { role: 'img', name: /Distribution: from/ }],
    traces: ['/traces', '100 traces', 'loadgen', { role: 'img', name: /durations, from/ }],
    trace: [`/traces/${trace}`, 'POST /checkout', { role: 'treegrid', name: 'Spans' }],
    'traces compared': [`/traces/compare?a=${trace}&b=${other}`, 'Two traces compared', 'Shorter or longer in B'],
    flows: ['/flows', 'connections, more exist', 'shop/checkout', { role: 'table', name: 'Connections' }],
    'flows, filtered': ['/flows?filter=verdict%3Ddenied%20and%20port%3D8080', '65 connections', 'Searched: all 130 records of this time that the server keeps with verdict=denied.'],
    workloads: ['/workloads', '12 workloads', 'payment-v1', '36%'],
    workload: ['/workloads/billing/payment-v1', 'Calls to it', 'checkout-v1', 'Policies that select it', '2 certificates', 'spiffe://cluster.local/ns/billing/sa/payment', 'AuthorizationPolicy billing/no-checkout no longer applies to billing/payment-v1'],
    services: ['/services', '9 services', 'payment'],
    service: ['/services/billing/payment', 'payment.billing.svc.cluster.local', '2 healthy endpoints of 2'],
    nodes: ['/nodes', '3 nodes', 'connected', 'config dump'],
    node: ['/nodes/node-a', '5 pods of 5 workloads', 'istio-system/ztunnel', '4 certificates', 'Recent changes', 'None is known.'],
    policies: ['/policies', '1 policy', 'no-checkout', 'DENY', 'gone'],
    policy: ['/policies/billing/no-checkout', 'gone from the mesh', '65 in this time', 'Denies connections from identity shop/checkout.', 'As istiod sent them', 'AuthorizationPolicy billing/no-checkout was created'],
    'no such page': ['/nothing-of-the-kind', 'no such page'],
    'no such workload': ['/workloads/shop/none', 'Not found'],
  };
}

describe('every page', () => {
  const shared = suite((holder) => replay(holder, 'policy-deny'), { colorScheme: 'light' });
  let shown;
  before(async () => {
    const { outages } = await get(shared.nephilia, '/outages');
    const { traces } = await get(shared.nephilia, '/traces?operation=POST%20%2Fcheckout&layer=l7&start=2026-11-23T21:24:41Z&limit=2');
    shown = pages({ outage: outages[0].id, trace: traces[0].trace_id, other: traces[1].trace_id });
  });

  for (const name of Object.keys(pages({}))) {
    it(name, async () => {
      const [path, ...contents] = shown[name];
      const { page } = shared;
      await page.goto(path);
      for (const content of contents) {
        const found = typeof content === 'string' ? page.getByText(content).or(page.getByLabel(content)) : page.getByRole(content.role, { name: content.name });
        await found.filter({ visible: true }).first().waitFor();
      }
      await page.locator('.live-badge:not(.connecting)').waitFor();
      // Charts come after their frames.
      await page.waitForFunction(() => !document.querySelector('.spinner') && ![...document.querySelectorAll('.chart-empty')].some((one) => one.textContent === 'Loading…'));
      // The content security policy is not lifted: axe comes in through the debugger, as a person's developer tools do.
      await page.evaluate(axe);
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme });
        const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
        assert.deepEqual(violations.map(({ id, help, nodes }) => `${colorScheme}: ${id}: ${help}: ${nodes.map((node) => node.html.slice(0, 200)).join(' | ')}`), []);
      }
      assert.deepEqual(page.complaints.filter((text) => !(name.startsWith('no such') && text.includes('404'))), []);
    });
  }
});
