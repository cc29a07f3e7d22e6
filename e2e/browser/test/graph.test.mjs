// The graph's expressions, focus, folding, grouping, labels and exports, on a recording of a denied connection.
import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { readFileSync } from 'node:fs';

import { replay, until } from '../nephilia.mjs';
import { suite } from '../suite.mjs';

describe('the graph', () => {
  const shared = suite((holder) => replay(holder, 'policy-deny'));
  let page;
  beforeEach(() => ({ page } = shared));

  const canvas = () => page.getByRole('application');
  const shows = (name) => page.getByRole('application', { name }).waitFor();

  for (const [expression, found] of [
    ['failing', 2],
    ['health=failing', 2],
    ['payment', 2],
    ['name~"^(cart|redis)"', 5],
    ['failures>30%', 2],
    ['failure=policy_denied', 1],
    ['p95>40ms and not source~loadgen', 2],
    ['port=6379 or port=5432', 3],
    ['namespace=shop and health=failing', 2],
    ['mesh=false', 2],
    ['mtls=false', 3],
    ['protocol=tcp', 3],
    ['node=node-b', 4],
  ]) {
    it(`finds ${expression}`, async () => {
      await page.goto('/graph');
      await page.getByLabel('Find by expression').fill(expression);
      await page.getByText(`${found} found`, { exact: true }).waitFor();
      assert.equal(new URL(page.url()).searchParams.get('find'), expression);
    });
  }

  it('hides by expression', async () => {
    await page.goto('/graph');
    await page.getByLabel('Hide by expression').fill('namespace=legacy or namespace=data');
    await shows(/8 nodes, 8 edges/);
    await page.getByLabel('Clear hide').click();
    await shows(/12 nodes, 14 edges/);
    await page.goto('/graph?hide=name~.');
    await page.getByText('Everything is hidden').waitFor();
  });

  it('says where an expression does not parse', async () => {
    await page.goto('/graph');
    await page.getByLabel('Find by expression').fill('helth=failing');
    await page.getByText('At character 1: there is no field "helth".').waitFor();
    await page.getByLabel('Find by expression').fill('p95>fast');
    await page.getByText('At character 5: "fast" is not a number.').waitFor();
    await shows(/12 nodes, 14 edges/);
  });

  it('shows the neighbours of one node', async () => {
    await page.goto('/graph?focus=workload/Kubernetes/billing/payment-v1');
    await shows(/2 nodes, 1 edge/);
    await page.getByLabel('at most').selectOption('2');
    await shows(/6 nodes/);
    assert.equal(new URL(page.url()).searchParams.get('depth'), '2');
    await page.getByRole('button', { name: 'Show all' }).click();
    await shows(/12 nodes/);
  });

  it('folds and unfolds', async () => {
    await page.goto('/graph');
    await page.getByRole('button', { name: 'Fold all boxes' }).click();
    await shows(/5 nodes, 5 edges/);
    await page.getByRole('button', { name: 'Unfold all boxes' }).click();
    await shows(/12 nodes/);
    await page.goBack();
    await shows(/5 nodes/);
  });

  it('groups', async () => {
    await page.goto('/graph');
    await shows(/12 nodes/);
    await page.getByRole('button', { name: 'Namespaces', exact: true }).click();
    await shows(/5 nodes/);
    await page.getByRole('button', { name: 'Apps', exact: true }).click();
    await shows(/11 nodes/);
    await page.getByRole('combobox', { name: 'Namespace' }).selectOption('billing');
    await shows(/2 nodes/);
  });

  it('walks along the edges by keys, and shows what is chosen beside it', async () => {
    await page.goto('/graph');
    await canvas().focus();
    for (const [key, name] of [['ArrowRight', 'loadgen-v1'], ['ArrowRight', 'frontend-v1'], ['ArrowLeft', 'loadgen-v1']]) {
      await page.keyboard.press(key);
      await page.getByRole('complementary', { name: 'Details' }).getByRole('heading', { name }).waitFor();
    }
    await page.keyboard.press('Escape');
    await page.getByRole('complementary', { name: 'Details' }).waitFor({ state: 'detached' });
  });

  it('keeps everything in its place when it refreshes or a node is dragged away and the page loaded again', async () => {
    await page.goto('/graph');
    await shows(/12 nodes/);
    const positions = () => page.evaluate(() => JSON.parse(localStorage.getItem('nephilia.positions'))['workload namespace']);
    await until('the layout is remembered', async () => (await page.evaluate(() => localStorage.getItem('nephilia.positions'))) !== null);
    const first = await positions();
    await page.goto('/graph?at=2026-11-23T21:25:30Z&last=30s');
    await shows(/12 nodes, 14 edges, 0 failing/);
    assert.deepEqual(await positions(), first);
    await page.reload();
    await shows(/12 nodes/);
    assert.deepEqual(await positions(), first);
  });

  it('downloads as SVG and PNG', async () => {
    await page.goto('/graph');
    await shows(/12 nodes/);
    for (const [kind, begins] of [['SVG', '<svg xmlns'], ['PNG', '\x89PNG']]) {
      const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: `Download as ${kind}` }).click()]);
      const content = readFileSync(await download.path());
      assert.ok(content.toString('latin1').startsWith(begins), kind);
      if (kind === 'SVG') for (const text of ['payment-v1', '36% fail', 'billing  1']) assert.ok(content.includes(text), text);
    }
    assert.deepEqual(page.complaints, []);
  });

  it('has a legend, labels of choice, and moving traffic', async () => {
    await page.goto('/graph');
    await page.getByRole('button', { name: 'Legend' }).click();
    await page.getByRole('complementary', { name: 'Legend' }).getByText('Passes a waypoint').waitFor();
    await page.getByRole('button', { name: 'Display' }).click();
    await page.getByRole('checkbox', { name: 'Bytes/s' }).check();
    await page.waitForURL(/labels=rate,p95,bytes/);
    await page.getByRole('radio', { name: 'By mTLS' }).check();
    await page.waitForURL(/colour=mtls/);
    const shown = page.waitForResponse(/\/api\/v1\/graph\?.*waypoints=show/);
    await page.getByRole('checkbox', { name: 'Waypoints' }).check();
    assert.ok((await shown).ok());
    await page.waitForURL(/waypoints=show/);
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Show traffic moving' }).click();
    await page.locator('canvas.traffic').waitFor();
  });
});
