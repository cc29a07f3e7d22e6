// The built binary, run for a test.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const binary = process.env.NEPHILIA_BINARY ?? join(root, 'bin/otelcol-nephilia');

/** A generous bound: nothing is timed, but what never comes has to fail. */
export const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 60_000);

/** A loopback port that was free a moment ago. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/**
 * Runs the binary with some configurations (below the repository's root, or absolute) and environment until its
 * holder ends: a test, or what holderOf() gives.
 */
export async function startNephilia(test, configs, env = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'nephilia-browser-'));
  const api = `127.0.0.1:${await freePort()}`;
  let output = '';
  const child = spawn(binary, configs.flatMap((config) => ['--config', config]), {
    cwd: root,
    env: { ...process.env, NEPHILIA_API: api, NEPHILIA_DATA: folder, NEPHILIA_TELEMETRY_PORT: '0', ...env },
  });
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output = (output + data).slice(-100_000)));
  const ended = new Promise((resolve) => child.on('exit', (code) => resolve(code)));
  test.after(async () => {
    child.kill('SIGTERM');
    const code = await ended;
    rmSync(folder, { recursive: true, force: true });
    if (code !== 0) throw new Error(`the binary ended with ${code} and said:\n${output}`);
  });
  const url = `http://${api}`;
  await until(`${url} answers`, async () => {
    if (child.exitCode !== null) throw new Error(`the binary ended with ${child.exitCode} and said:\n${output}`);
    return (await fetch(`${url}/api/v1/status`).catch(() => undefined)) !== undefined;
  });
  return { url, api, pid: child.pid };
}

/** Replays a recording at once, with the recording's own times, and waits until everything has reached the API. */
export async function replay(test, recording, configs = []) {
  const nephilia = await startNephilia(test, ['config/replay.yaml', ...configs], { NEPHILIA_RECORDING: `recordings/${recording}`, NEPHILIA_REPLAY_SPEED: 'max' });
  await until('the replay is done', async () => (await get(nephilia, '/status')).replay?.state === 'done');
  return nephilia;
}

export async function get({ url }, path) {
  const response = await fetch(`${url}/api/v1${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Polls until a condition holds. */
export async function until(what, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Something that things are started for: end() ends them, the newest first. */
export function holderOf() {
  const stop = [];
  return {
    after: (end) => stop.push(end),
    async end() {
      for (const end of stop.reverse()) await end();
    },
  };
}
