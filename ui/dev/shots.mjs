// Screenshots for judging by eye: node dev/shots.mjs <base URL> <folder> <path> [<path> …]
import { chromium } from 'playwright-core';
import { mkdirSync } from 'node:fs';

const [base, folder, ...paths] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const sizes = (process.env.SIZES ?? '1440x900,800x1000').split(',').map((s) => s.split('x').map(Number));
const themes = (process.env.THEMES ?? 'light,dark').split(',');
const said = new Set();
const say = (text) => !said.has(text) && said.add(text) && console.log(text.slice(0, 400));
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
for (const [width, height] of sizes) {
  for (const theme of themes) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, reducedMotion: 'reduce' });
    const page = await context.newPage();
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && say(`[${message.type()}] ${message.text()}`));
    page.on('pageerror', (error) => say(`[pageerror] ${error.message}`));
    for (const path of paths) {
      await page.goto(base + path, { waitUntil: 'load' });
      await page.waitForTimeout(Number(process.env.WAIT ?? 1800));
      const name = (path.replace(/[^a-z0-9]+/gi, '-').replace(/^-|-$/g, '') || 'overview').slice(0, 60);
      await page.screenshot({ path: `${folder}/${name}-${width}-${theme}.png` });
    }
    await context.close();
  }
}
await browser.close();
