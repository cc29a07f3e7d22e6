// How long it takes from the writing of a connection's lines to a ztunnel's log until its edge is on the screen: the binary
// tails the file with config/standalone.yaml, a browser shows the graph. Half of the connections are the first of their
// edge, half are denied and turn their edge red.
//
//   node bench/freshness.mjs [connections]
import { launch, openPage } from '../chromium.mjs';
import { holderOf } from '../nephilia.mjs';
import { connection, startMesh, workload } from './mesh.mjs';

const wanted = Number(process.argv[2] ?? 120);
const holder = holderOf();
const [clients, servers] = ['client', 'server'].map((role, side) => Array.from({ length: wanted / 2 + 1 }, (_, i) => workload(`${role}-${i}`, 'shop', 1 + 2 * i + side)));
const { nephilia, write } = await startMesh(holder, [...clients, ...servers]);
const page = await openPage(await launch(holder), nephilia.url);
// What the picture says, and when it was painted: the frame after the label that describes what is drawn has changed.
await page.addInitScript(() => {
  window.__shown = [];
  new MutationObserver(() => {
    const label = document.querySelector('[role=application]')?.getAttribute('aria-label');
    if (!label || label === window.__shown.at(-1)?.label) return;
    const entry = { label, at: Infinity };
    requestAnimationFrame(() => setTimeout(() => (entry.at = Date.now())));
    window.__shown.push(entry);
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['aria-label'] });
});
write(connection(clients[0], servers[0]));
await page.goto('/graph');
await page.getByRole('application', { name: /2 nodes, 1 edge,/ }).waitFor();

const took = [];
for (let i = 1; took.length < wanted; i++) {
  for (const denied of [false, true]) {
    // Whatever beats in between, every moment of it is as likely.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 1500));
    const before = await page.evaluate(() => window.__shown.length);
    const began = Date.now();
    write(connection(clients[i], servers[i], denied));
    await page.waitForFunction((count) => Number.isFinite(window.__shown[count]?.at), before, { polling: 10 });
    took.push((await page.evaluate((count) => window.__shown[count].at, before)) - began);
  }
}
took.sort((a, b) => a - b);
const at = (share) => took[Math.ceil(took.length * share) - 1];
console.log(`${took.length} connections: p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, longest ${at(1)} ms`);
await holder.end();
