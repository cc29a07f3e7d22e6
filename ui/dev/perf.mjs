// Figures of the graph page: node dev/perf.mjs <base URL>, against dev/mock.mjs large.
import { chromium } from 'playwright-core';

const base = process.argv[2] ?? 'http://localhost:5174';
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
const page = await context.newPage();
let bytes = 0;
page.on('response', async (response) => {
  if (!response.url().includes('/api/')) bytes += Number((await response.allHeaders())['content-length'] ?? 0);
});
await page.goto(`${base}/graph`);
await page.waitForFunction(() => performance.getEntriesByName('nephilia.draw').length > 0, null, { timeout: 60_000, polling: 20 });
const first = await page.evaluate(
  () =>
    new Promise((done) => {
      requestAnimationFrame(() => requestAnimationFrame(() => {
        const [draw] = performance.getEntriesByName('nephilia.draw');
        done({ drawnAt: Math.round(draw.startTime + draw.duration), draw: Math.round(draw.duration), paintedAt: Math.round(performance.now()) });
      }));
    }),
);
console.log('first paint', first);
await page.waitForTimeout(4000);
const refreshes = await page.evaluate(() => performance.getEntriesByType('measure').map((m) => `${m.name} ${Math.round(m.duration)}`).slice(-12));
console.log('ms', refreshes.join(', '));

async function fps(name, act) {
  await page.evaluate(() => {
    window.__frames = [];
    const tick = (t) => {
      window.__frames.push(t);
      window.__raf = requestAnimationFrame(tick);
    };
    window.__raf = requestAnimationFrame(tick);
  });
  await act();
  const result = await page.evaluate(() => {
    cancelAnimationFrame(window.__raf);
    const gaps = window.__frames.slice(1).map((t, i) => t - window.__frames[i]);
    const total = gaps.reduce((a, b) => a + b, 0);
    return { fps: Math.round((gaps.length / total) * 1000), worst: Math.round(Math.max(...gaps)), frames: gaps.length };
  });
  console.log(name, result);
}

await page.mouse.move(700, 820);
await fps('pan', async () => {
  await page.mouse.down();
  for (let i = 0; i < 120; i++) {
    await page.mouse.move(700 + Math.sin(i / 10) * 250, 820 - i * 2);
    await page.waitForTimeout(12);
  }
  await page.mouse.up();
});
await fps('zoom', async () => {
  for (let i = 0; i < 60; i++) {
    await page.mouse.wheel(0, i % 30 < 15 ? -60 : 60);
    await page.waitForTimeout(25);
  }
});
console.log('initial download', Math.round(bytes / 1024), 'KiB as sent');
await browser.close();
