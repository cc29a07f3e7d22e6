// The live demo: what happens shows by itself, and an event stream that breaks is noticed and taken up again.
import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';

import { launch, openPage } from '../chromium.mjs';
import { get, startNephilia, until } from '../nephilia.mjs';
import { startProxy } from '../proxy.mjs';
import { suite } from '../suite.mjs';

describe('live', () => {
  const shared = suite((holder) => startNephilia(holder, ['config/demo.yaml'], { NEPHILIA_REPLAY_SPEED: '8' }));
  let page;
  beforeEach(() => ({ page } = shared));

  const dataTime = (page) => page.locator('.live-badge.live').getAttribute('title');

  it('shows an outage when it begins and when it ends, untouched', async () => {
    await page.goto('/');
    await page.getByText('Live', { exact: true }).first().waitFor();
    await page.getByText(/checkout → payment fails since/).first().waitFor();
    await page.getByText('Nothing is broken').waitFor();
    await page.getByText(/checkout → payment failed from/).first().waitFor();
  });

  it('notices that the stream is lost, and takes it up where it was', async () => {
    const proxy = await startProxy(shared.holder, shared.nephilia.url);
    const page = await openPage(shared.browser, proxy.url);
    await page.goto('/graph');
    const badge = (text) => page.locator('.live-badge', { hasText: text }).waitFor();
    await badge('Live');
    await page.getByRole('application', { name: /12 nodes/ }).waitFor();
    proxy.cut();
    await badge('Stale for');
    await until('the browser tries again', async () => proxy.asked.length > 1);
    const cutAt = Date.parse((await get(shared.nephilia, '/status')).data_time);
    proxy.mend();
    await badge('Live');
    await until('data arrives again', async () => Date.parse((await dataTime(page))?.replace('Data time ', '') ?? '') > cutAt);
    assert.equal(proxy.asked[0], undefined);
    assert.match(proxy.asked.at(-1) ?? 'nothing', /^[0-9a-f]+-\d+$/, 'the stream goes on after the last event that was heard');
    assert.deepEqual(page.complaints.filter((text) => !text.includes('ERR_')), []);
    await page.context().close();
  });

  it('says what it cannot reach, and recovers', async () => {
    await page.goto('/workloads');
    await page.getByText('12 workloads').waitFor();
    await page.route('**/api/v1/services?**', (route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body: '{"title":"Too busy","status":503,"detail":"too many requests are being answered"}' }));
    await page.getByRole('link', { name: 'Services' }).click();
    const alert = page.getByRole('alert');
    await alert.getByText('Too busy').waitFor();
    await alert.getByText('too many requests are being answered').waitFor();
    // The page asks again by itself as well: the button may be gone once an answer can come.
    const asked = page.waitForRequest('**/api/v1/services?**');
    await alert.getByRole('button', { name: 'Try again' }).click();
    await asked;
    await page.unroute('**/api/v1/services?**');
    await page.getByText('9 services').waitFor();
  });
});

describe('a collector that has no data', () => {
  it('says so, and why', async (test) => {
    const nephilia = await startNephilia(test, ['e2e/browser/silent.yaml']);
    const page = await openPage(await launch(test), nephilia.url);
    for (const [path, text] of [['/', 'No traffic'], ['/graph', 'No traffic in the last 5m'], ['/traces', 'No trace matches'], ['/flows', 'No connection was seen'], ['/workloads', 'No workloads are known'], ['/outages', 'No outage has been seen']]) {
      await page.goto(path);
      await page.getByText(text).waitFor();
      await page.getByText('No data, because no source has delivered anything yet.').first().waitFor();
    }
    assert.deepEqual(page.complaints, []);
  });
});
