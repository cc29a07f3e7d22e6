// What a graph of 1,000 nodes and 5,000 edges costs in a browser, while traffic flows: first paint, panning and zooming,
// refreshing, and what the first visit downloads.
//
//   node bench/graph.mjs [nodes] [edges]
import { launch, openPage } from '../chromium.mjs';
import { get, holderOf, until } from '../nephilia.mjs';
import { connection, startMesh, workload } from './mesh.mjs';

const [nodes, edges] = [Number(process.argv[2] ?? 1000), Number(process.argv[3] ?? 5000)];
const NAMESPACES = 20;
const FLOWING = 500;

function randomOf(seed) {
  let state = seed;
  return () => (state = (state * 16807) % 2147483647) / 2147483647;
}

const random = randomOf(7);
const workloads = Array.from({ length: nodes }, (_, i) => workload(`service-${i}`, `team-${i % NAMESPACES}`, i + 1));
const pairs = new Map();
while (pairs.size < edges) {
  const from = Math.floor(random() * nodes);
  // Most calls stay within a namespace.
  const to = random() < 0.6 ? (from + NAMESPACES * Math.ceil(random() * 8)) % nodes : Math.floor(random() * nodes);
  if (from !== to) pairs.set(`${from} ${to}`, [workloads[from], workloads[to]]);
}
const list = [...pairs.values()];

const holder = holderOf();
const { nephilia, write } = await startMesh(holder, workloads);
write(list.map(([from, to], i) => connection(from, to, i % 97 === 0)).join(''));
await until('all edges are known', async () => (await get(nephilia, '/graph')).edges.length === edges);
let next = 0;
const traffic = setInterval(() => {
  const part = Array.from({ length: FLOWING }, () => list[next++ % list.length]);
  write(part.map(([from, to]) => connection(from, to)).join(''));
}, 1000);
holder.after(() => clearInterval(traffic));
const browser = await launch(holder);

async function visit(path) {
  const page = await openPage(browser, nephilia.url);
  let [build, api] = [0, 0];
  page.on('requestfinished', async (request) => {
    const { responseBodySize } = await request.sizes();
    if (request.url().includes('/api/')) api += responseBodySize;
    else build += responseBodySize;
  });
  const began = Date.now();
  await page.goto(path);
  await page.waitForFunction(() => performance.getEntriesByName('nephilia.paint').length > 0, null, { polling: 16 });
  const paint = await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.getEntriesByName('nephilia.paint')[0].startTime + performance.getEntriesByName('nephilia.paint')[0].duration)))));
  return { page, paint: Math.round(paint), wall: Date.now() - began, sizes: () => ({ build: Math.round(build / 1024), api: Math.round(api / 1024) }) };
}

async function framesWhile(page, act) {
  await page.evaluate(() => {
    window.__frames = [];
    const tick = (time) => {
      window.__frames.push(time);
      window.__raf = requestAnimationFrame(tick);
    };
    window.__raf = requestAnimationFrame(tick);
  });
  await act();
  return page.evaluate(() => {
    cancelAnimationFrame(window.__raf);
    const gaps = window.__frames.slice(1).map((time, i) => time - window.__frames[i]);
    const total = gaps.reduce((sum, gap) => sum + gap, 0);
    return `${Math.round((gaps.length / total) * 1000)} frames/s, longest ${Math.round(Math.max(...gaps))} ms`;
  });
}

const first = await visit('/graph');
const { page } = first;
console.log(`${nodes} nodes, ${edges} edges: first paint ${first.paint} ms after the navigation began`);
// A second visit knows the layout.
const again = await page.context().newPage();
await again.goto('/graph');
await again.waitForFunction(() => performance.getEntriesByName('nephilia.paint').length > 0, null, { polling: 16 });
console.log(`again, with the build cached and the layout known: ${await again.evaluate(() => Math.round(performance.getEntriesByName('nephilia.paint')[0].startTime))} ms`);
await again.close();

/** Each fetch of the graph with the first picture after its answer. */
const refreshes = () =>
  page.evaluate(() => {
    const paints = performance.getEntriesByName('nephilia.paint');
    return performance
      .getEntriesByType('resource')
      .filter((entry) => entry.name.includes('/api/v1/graph?') && entry.responseEnd > 0)
      .map(({ startTime, responseEnd }) => ({ startTime, responseEnd, paint: paints.find((paint) => paint.startTime >= responseEnd) }))
      .filter(({ paint }) => paint)
      .map(({ startTime, responseEnd, paint }) => ({ asked: paint.startTime + paint.duration - startTime, answered: paint.startTime + paint.duration - responseEnd }));
  });
await page.evaluate(() => performance.clearResourceTimings());
await until('it has refreshed', async () => (await refreshes()).length >= 20);
for (const [since, what] of [['asked', 'question'], ['answered', 'answer']]) {
  const times = (await refreshes()).map((one) => one[since]).sort((a, b) => a - b);
  console.log(`refresh, from the ${what} to the picture: median ${Math.round(times[times.length >> 1])} ms, longest ${Math.round(times.at(-1))} ms of ${times.length}`);
}

await page.mouse.move(700, 700);
console.log('pan', await framesWhile(page, async () => {
  await page.mouse.down();
  for (let i = 0; i < 150; i++) await page.mouse.move(700 + Math.sin(i / 10) * 250, 700 - i * 2);
  await page.mouse.up();
}));
console.log('zoom', await framesWhile(page, async () => {
  for (let i = 0; i < 90; i++) await page.mouse.wheel(0, i % 30 < 15 ? -60 : 60);
}));
const { build, api } = first.sizes();
console.log(`download: ${build} KiB of the build, ${api} KiB of answers so far, as sent`);
await holder.end();
