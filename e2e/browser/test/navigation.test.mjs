// Deep links, the back button, the command palette, and what a person chooses once.
import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';

import { openPage } from '../chromium.mjs';
import { get, replay, until } from '../nephilia.mjs';
import { suite } from '../suite.mjs';

describe('the interface', () => {
  const shared = suite((holder) => replay(holder, 'policy-deny'));
  let page;
  beforeEach(() => ({ page } = shared));

  const heading = (name) => page.getByRole('heading', { level: 1, name, exact: true }).waitFor();
  const url = () => decodeURIComponent(page.url().slice(shared.nephilia.url.length));

  it('goes back through everything that was chosen, and a copied address shows the same', async () => {
    await page.goto('/');
    await page.getByRole('link', { name: /checkout → payment failed/ }).first().click();
    await page.waitForURL(/\/outages\//);
    await page.getByRole('link', { name: 'billing/no-checkout' }).click();
    await heading('no-checkout');
    await page.getByRole('link', { name: 'Graph', exact: true }).click();
    await page.getByRole('button', { name: 'Apps', exact: true }).click();
    await page.waitForURL('/graph?group=app');
    await page.getByRole('combobox', { name: 'Namespace' }).selectOption('shop');
    await page.getByLabel('Find by expression').fill('health=failing');
    await page.waitForURL(/find=/);
    const copied = page.url();
    assert.equal(url(), '/graph?group=app&namespace=shop&find=health=failing');

    const other = await openPage(shared.browser, shared.nephilia.url);
    await other.goto(copied);
    await other.getByRole('button', { name: 'Apps', pressed: true }).waitFor();
    assert.equal(await other.getByLabel('Find by expression').inputValue(), 'health=failing');
    await other.getByText(/^\d+ found$/).waitFor();
    assert.deepEqual(other.complaints, []);
    await other.context().close();

    for (const path of ['/graph?group=app', '/graph', '/policies/billing/no-checkout']) {
      await page.goBack();
      await page.waitForURL(path);
    }
    await heading('no-checkout');
    await page.goBack();
    await page.waitForURL(/\/outages\//);
    await page.goForward();
    await heading('no-checkout');
    assert.deepEqual(page.complaints, []);
  });

  it('keeps the time range from page to page', async () => {
    await page.goto('/?at=2026-11-23T21:26:30Z&last=30s');
    for (const [name, path] of [['Graph', '/graph'], ['Flows', '/flows'], ['Policies', '/policies'], ['Overview', '/']]) {
      await page.getByRole('link', { name, exact: true }).click();
      await page.waitForURL(`${path}?last=30s&at=2026-11-23T21:26:30Z`);
    }
  });

  it('jumps to anything by keys alone', async () => {
    await page.goto('/flows');
    await page.getByRole('table').waitFor();
    for (const [text, path] of [['payment-v1', '/workloads/billing/payment-v1'], ['show redis', '/graph?sel=workload/Kubernetes/data/redis-v1&focus=workload/Kubernetes/data/redis-v1'], ['cart.shop', '/services/shop/cart'], ['resp tim', '/response-times']]) {
      await page.keyboard.press('Control+k');
      await page.getByRole('combobox', { name: 'Go to' }).fill(text);
      await page.locator('#palette-list [aria-selected=true]').waitFor();
      await page.keyboard.press('Enter');
      await until(`the page is ${path}`, () => url() === path);
    }
    await page.keyboard.press('Control+k');
    await page.getByRole('combobox', { name: 'Go to' }).fill('zzzz');
    await page.getByText('Nothing is called “zzzz”.').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
  });

  it('remembers the theme and how times are shown', async () => {
    await page.goto('/outages');
    await page.getByText(/began .* ago/).first().waitFor();
    await page.getByRole('button', { name: 'Clock times' }).click();
    await page.getByText(/began 22:25:41/).first().waitFor();
    await page.getByRole('button', { name: 'Dark', exact: true }).click();
    await page.reload();
    await page.getByText(/began 22:25:41/).first().waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
  });

  it('searches traces, and opens and compares them', async () => {
    await page.goto('/traces');
    await page.getByRole('combobox', { name: 'Service' }).selectOption('checkout');
    await page.getByRole('combobox', { name: 'Status' }).selectOption('error');
    await page.getByRole('combobox', { name: 'At most' }).selectOption('1000');
    await page.getByText(/^\d+ traces$/).waitFor();
    for (const row of await page.getByRole('table', { name: 'Traces' }).getByRole('row').all()) assert.match(await row.innerText(), /Services|✕/);
    await page.getByLabel('Shortest duration').fill('10m');
    await page.getByText('No trace matches').waitFor();
    await page.getByLabel('Shortest duration').fill('');
    await page.getByLabel('Attributes').fill('http.route=/orders');
    await page.getByRole('combobox', { name: 'Status' }).selectOption('');
    await page.getByText(/^\d+ traces$/).waitFor();
    const rows = page.getByRole('checkbox');
    await rows.nth(0).check();
    await rows.nth(1).check();
    await page.getByRole('button', { name: 'Compare (2 of 2)' }).click();
    await heading('Two traces compared');
    await page.goBack();
    await page.getByRole('table', { name: 'Traces' }).getByRole('link').first().click();
    const spans = page.getByRole('treegrid', { name: 'Spans' });
    await spans.waitFor();
    const all = await spans.getByRole('row').count();
    await page.getByRole('checkbox', { name: 'Connections (L4)' }).uncheck();
    await until('the connections are gone', async () => (await spans.getByRole('row').count()) < all);
    await spans.getByRole('button', { name: /payment POST/ }).click();
    await page.getByRole('complementary', { name: 'Span' }).getByText('http.route').waitFor();
    assert.deepEqual(page.complaints, []);
  });

  it('filters, shows and downloads flows', async () => {
    await page.goto('/flows?verdict=denied');
    await page.getByText(/^65 connections$/).waitFor();
    await page.getByRole('combobox', { name: 'Reported by' }).selectOption('both');
    await page.getByText(/^130 records$/).waitFor();
    await page.getByLabel('Filter by expression').fill('direction=inbound and node=node-a');
    await page.keyboard.press('Enter');
    await page.getByText(/^28 records$/).waitFor();
    await page.getByRole('row', { name: /Denied by policy/ }).first().click();
    const panel = page.getByRole('complementary', { name: 'Connection' });
    await panel.getByText('explicitly denied by: billing/no-checkout').waitFor();
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'CSV' }).click()]);
    assert.equal(download.suggestedFilename(), 'flows.csv');
    await panel.getByRole('link', { name: 'billing/no-checkout' }).click();
    await heading('no-checkout');
  });

  it('copies the PromQL of a chart, and links to other tools where they are configured', async () => {
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.goto('/response-times');
    await page.getByRole('figure').filter({ hasText: 'Percentiles' }).getByRole('button', { name: 'PromQL' }).click();
    await page.getByRole('button', { name: 'Copy' }).click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /histogram_quantile\(0\.99, sum/);
    assert.equal(await page.getByRole('link', { name: /Prometheus|Grafana/ }).count(), 0);
  });

  it('links to Jaeger, Prometheus and Grafana where they are configured', async () => {
    const linked = await replay(shared.holder, 'baseline', ['e2e/browser/linked.yaml']);
    const { traces } = await get(linked, '/traces?limit=1');
    const other = await openPage(shared.browser, linked.url);
    await other.goto(`/traces/${traces[0].trace_id}`);
    assert.equal(await other.getByRole('link', { name: 'Jaeger' }).getAttribute('href'), `https://jaeger.example/ui/trace/${traces[0].trace_id}`);
    await other.goto('/response-times');
    await other.getByRole('figure').filter({ hasText: 'Percentiles' }).getByRole('button', { name: 'PromQL' }).click();
    const prometheus = new URL(await other.getByRole('link', { name: 'Prometheus' }).getAttribute('href'));
    assert.equal(prometheus.origin + prometheus.pathname, 'https://prometheus.example/graph');
    assert.match(prometheus.searchParams.get('g0.expr'), /histogram_quantile/);
    const grafana = new URL(await other.getByRole('link', { name: 'Grafana' }).getAttribute('href'));
    assert.match(JSON.parse(grafana.searchParams.get('panes')).a.queries[0].expr, /histogram_quantile/);
    await other.context().close();
  });
});
