// The interface behind authenticators: nothing is served without credentials, all of it works with them.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { openPage } from '../chromium.mjs';
import { startNephilia } from '../nephilia.mjs';
import { suite } from '../suite.mjs';

for (const [name, config, wrong, options] of [
  ['basic authentication', 'e2e/browser/auth-basic.yaml', `Basic ${Buffer.from('ada:wrong').toString('base64')}`, { httpCredentials: { username: 'ada', password: 'secret' } }],
  ['a bearer token', 'e2e/browser/auth-bearer.yaml', 'Bearer wrong', { extraHTTPHeaders: { Authorization: 'Bearer secret' } }],
]) {
  describe(name, () => {
    const shared = suite((holder) => startNephilia(holder, ['config/demo.yaml', config], { NEPHILIA_RECORDING: 'recordings/baseline' }), options);

    it('is asked for by everything', async () => {
      for (const path of ['/', '/graph', '/index.html', '/theme.js', '/favicon.svg', '/api/v1/status', '/api/v1/graph', '/api/v1/events', '/api/v1/openapi.yaml', '/api/v1/none']) {
        for (const headers of [{}, { Authorization: wrong }]) {
          const response = await fetch(shared.nephilia.url + path, { headers });
          assert.equal(response.status, 401, path);
          assert.doesNotMatch(await response.text(), /Nephilia|data_time/);
        }
      }
    });

    it('shows nothing in a browser that has none', async () => {
      const page = await openPage(shared.browser, shared.nephilia.url);
      const response = await page.goto('/graph').catch(() => undefined);
      assert.ok(response === undefined || response.status() === 401);
      assert.equal(await page.getByRole('navigation').count(), 0);
      await page.context().close();
    });

    it('lets a browser that has them in, the event stream included', async () => {
      const { page } = shared;
      await page.goto('/graph');
      await page.getByRole('application', { name: /\d+ nodes/ }).waitFor();
      // It says so only while it hears the event stream.
      await page.getByText('Live', { exact: true }).first().waitFor();
      assert.deepEqual(page.complaints, []);
    });
  });
}
