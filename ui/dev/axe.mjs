// Accessibility of every page: node dev/axe.mjs <base URL> <path> …
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [base, ...paths] = process.argv.slice(2);
const axe = readFileSync(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
let found = 0;
for (const colorScheme of ['light', 'dark']) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme, bypassCSP: true });
  const page = await context.newPage();
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && console.log(`[${message.type()}] ${message.text().slice(0, 300)}`));
  for (const path of paths) {
    await page.goto(base + path);
    await page.waitForTimeout(1800);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    for (const violation of violations) {
      found++;
      console.log(`${colorScheme} ${path} ${violation.impact} ${violation.id}: ${violation.help}`);
      for (const node of violation.nodes.slice(0, 4)) console.log(`   ${node.html.slice(0, 160)}\n   ${node.any.concat(node.all).map((check) => check.message).join('; ').slice(0, 240)}`);
    }
  }
  await context.close();
}
console.log(found, 'violations');
await browser.close();
