// Travelling in the time of a recorded outage: from healthy to broken and back.
import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';

import { replay, until } from '../nephilia.mjs';
import { suite } from '../suite.mjs';

// The policy is there from 21:25:41 to 21:26:46; the recording lasts from 21:24:41 to 21:27:41.
const BEFORE = '2026-11-23T21:25:30Z';
const DURING = '2026-11-23T21:26:30Z';
const AFTER = '2026-11-23T21:27:30Z';

describe('time travel', () => {
  const shared = suite((holder) => replay(holder, 'policy-deny'));
  let page;
  beforeEach(() => ({ page } = shared));

  const shows = (name) => page.getByRole('application', { name }).waitFor();
  const at = () => new URL(page.url()).searchParams.get('at');
  const handle = () => page.getByRole('slider', { name: 'Moment shown' });

  it('shows the graph healthy, broken and healthy again', async () => {
    await page.goto(`/graph?at=${BEFORE}&last=30s`);
    await shows(/12 nodes, 14 edges, 0 failing/);
    await page.goto(`/graph?at=${DURING}&last=30s&sel=workload/Kubernetes/shop/checkout-v1→workload/Kubernetes/billing/payment-v1`);
    await shows(/[1-3] failing/);
    const panel = page.getByRole('complementary', { name: 'Details' });
    await panel.getByText(/connections by billing.no-checkout/).waitFor();
    await page.getByRole('link', { name: /checkout → payment fails since 22:25:41/ }).waitFor();
    await page.goto(`/graph?at=${AFTER}&last=30s`);
    await shows(/12 nodes, 14 edges, 0 failing/);
    assert.equal(await page.getByRole('link', { name: /checkout → payment/ }).count(), 0);
    assert.deepEqual(page.complaints, []);
  });

  it('travels by the scrubber: by keys, by dragging, and back to the end', async () => {
    await page.goto('/graph?last=30s');
    await shows(/0 failing/);
    await handle().focus();
    // A minute at a time: into the outage.
    await page.keyboard.press('Shift+ArrowLeft');
    await shows(/[1-3] failing/);
    const during = at();
    assert.ok(during > '2026-11-23T21:25:45' && during < '2026-11-23T21:26:45', during);
    await page.getByRole('button', { name: /Go live/ }).waitFor();
    for (const key of ['Shift+ArrowLeft', 'ArrowLeft', 'ArrowLeft', 'ArrowLeft']) await page.keyboard.press(key);
    await shows(/0 failing/);
    const [box, outage] = [await page.locator('.scrub-track').boundingBox(), await page.locator('.scrub-outage').boundingBox()];
    await page.mouse.move(box.x + box.width * 0.5, box.y + 4);
    await page.mouse.down();
    await page.mouse.move(outage.x + outage.width * 0.9, box.y + 4, { steps: 4 });
    await page.mouse.up();
    await shows(/[1-3] failing/);
    await page.getByRole('button', { name: 'Live', exact: true }).click();
    await shows(/0 failing/);
    assert.equal(at(), null);
  });

  it('plays', async () => {
    await page.goto(`/graph?at=${BEFORE}&last=15s`);
    await shows(/0 failing/);
    await page.getByLabel('Speed of playing').selectOption('20');
    await page.getByRole('button', { name: 'Play from here' }).click();
    await shows(/[1-3] failing/);
    await shows(/0 failing/);
    await until('it has reached the end', async () => at() === null);
    await page.getByRole('button', { name: 'Play from here' }).waitFor();
  });

  it('compares two moments', async () => {
    await page.goto(`/graph?at=${DURING}&last=30s&vs=${BEFORE}`);
    const compared = page.getByRole('region', { name: 'Compared' });
    await compared.getByRole('button', { name: /Got worse: checkout-v1 → payment-v1/ }).click();
    await page.getByRole('complementary', { name: 'Details' }).getByText(/connections by billing.no-checkout/).waitFor();
    await page.goto(`/graph?at=${AFTER}&last=30s&vs=${DURING}`);
    await compared.getByRole('button', { name: /Got better: checkout-v1 → payment-v1/ }).waitFor();
    await compared.getByRole('button', { name: 'Stop' }).click();
    await compared.waitFor({ state: 'detached' });
  });

  it('shows every page as it was', async () => {
    await page.goto(`/?at=${DURING}&last=30s`);
    await page.getByText(/checkout → payment fails since 22:25:41/).waitFor();
    await page.getByText('open', { exact: false }).first().waitFor();
    await page.goto(`/?at=${BEFORE}&last=30s`);
    await page.getByText('Nothing was broken at this moment').waitFor();
    await page.goto(`/outages?at=${BEFORE}`);
    await page.getByText('No outage has been seen').or(page.getByText('No outage matches')).waitFor();
    await page.goto(`/workloads/billing/payment-v1?at=${DURING}&last=30s`);
    await page.getByText(/^Failing/).first().waitFor();
    await page.goto(`/flows?at=${DURING}&last=10s&verdict=denied`);
    await page.getByRole('cell', { name: 'Denied by policy' }).first().waitFor();
    await page.goto(`/flows?at=${BEFORE}&last=10s&verdict=denied`);
    await page.getByText('No connection matches').waitFor();
  });

  it('takes any range', async () => {
    await page.goto('/graph');
    await page.getByRole('button', { name: 'Last 5 minutes' }).click();
    await page.getByLabel('Length').fill('90 fortnights');
    await page.getByRole('button', { name: 'Apply' }).click();
    await page.getByText('A length is a number and s, m, h or d').waitFor();
    // The browser's clock is Berlin's.
    await page.getByLabel('From', { exact: true }).fill('2026-11-23T22:26:00');
    await page.getByLabel('To', { exact: true }).fill('2026-11-23T22:26:30');
    await page.getByRole('button', { name: 'Show this time' }).click();
    await shows(/[1-3] failing/);
    assert.equal(at(), '2026-11-23T21:26:30.000Z');
  });
});
