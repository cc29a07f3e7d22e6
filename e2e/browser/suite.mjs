// What a suite of browser tests has: a running binary, a browser, and a fresh page for each test.
import { after, before, beforeEach } from 'node:test';

import { launch, openPage } from './chromium.mjs';
import { holderOf } from './nephilia.mjs';

/** To be called within describe(). start gets a holder and returns the binary. */
export function suite(start, options = {}) {
  const holder = holderOf();
  const shared = { holder, nephilia: undefined, browser: undefined, page: undefined };
  before(async () => {
    shared.nephilia = await start(holder);
    shared.browser = await launch(holder);
  });
  after(() => holder.end());
  beforeEach(async () => {
    await shared.page?.context().close();
    shared.page = await openPage(shared.browser, shared.nephilia.url, options);
  });
  return shared;
}
