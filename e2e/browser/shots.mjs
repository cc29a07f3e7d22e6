// Screenshots for judging by eye, and the README's.
//
//   node shots.mjs <base URL> <folder> <path> …   each page, in the sizes of SIZES and the themes of THEMES
//   node shots.mjs readme                         docs/images, from the recording of a denied connection
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { launch, openPage } from './chromium.mjs';
import { get, holderOf, replay } from './nephilia.mjs';

const holder = holderOf();
const browser = await launch(holder);

async function shoot(base, path, file, size, colorScheme) {
  const [width, height] = size.split('x').map(Number);
  const page = await openPage(browser, base, { viewport: { width, height }, colorScheme });
  await page.goto(path);
  await page.locator('.live-badge:not(.connecting)').waitFor();
  await page.waitForFunction(() => !document.querySelector('.spinner') && ![...document.querySelectorAll('.chart-empty')].some((one) => one.textContent === 'Loading…'));
  // Charts and the graph are painted after their data has come.
  await page.waitForTimeout(Number(process.env.WAIT ?? 800));
  await page.screenshot({ path: file });
  for (const complaint of page.complaints) console.log(`${path}: ${complaint}`);
  await page.context().close();
}

if (process.argv[2] === 'readme') {
  const nephilia = await replay(holder, 'policy-deny');
  const { outages } = await get(nephilia, '/outages');
  const folder = fileURLToPath(new URL('../../docs/images/', import.meta.url));
  mkdirSync(folder, { recursive: true });
  const moment = 'at=2026-11-23T21:26:30Z';
  for (const [name, path, theme] of [
    ['outage', `/outages/${outages[0].id}?${moment}`, 'light'],
    ['graph', `/graph?${moment}&last=1m&sel=workload/Kubernetes/shop/checkout-v1→workload/Kubernetes/billing/payment-v1`, 'dark'],
    ['trace', `/traces/${(await get(nephilia, '/traces?operation=POST%20%2Fcheckout&layer=l7&limit=1')).traces[0]?.trace_id}`, 'light'],
  ]) {
    await shoot(nephilia.url, path, `${folder}${name}.png`, '1440x900', theme);
    // A palette is enough for an interface, and a quarter of the size.
    execFileSync('convert', [`${folder}${name}.png`, '-strip', '+dither', '-colors', '200', `PNG8:${folder}${name}.png`]);
  }
} else {
  const [base, folder, ...paths] = process.argv.slice(2);
  mkdirSync(folder, { recursive: true });
  for (const size of (process.env.SIZES ?? '1440x900,800x1000').split(',')) {
    for (const theme of (process.env.THEMES ?? 'light,dark').split(',')) {
      for (const path of paths) {
        const name = (path.replace(/[^a-z0-9]+/gi, '-').replace(/^-|-$/g, '') || 'overview').slice(0, 60);
        await shoot(base, path, `${folder}/${name}-${size.split('x')[0]}-${theme}.png`, size, theme);
      }
    }
  }
}
await holder.end();
