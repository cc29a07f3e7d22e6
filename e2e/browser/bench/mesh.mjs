// A simulated mesh on one node: its state in a config dump, its connections in a log that the binary tails.
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { freePort, startNephilia } from '../nephilia.mjs';

/** The workload of a number. */
export function workload(name, namespace, number) {
  return { name, namespace, ip: `10.${1 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}` };
}

/** Runs the binary with config/standalone.yaml on a mesh of workloads; write() appends to the ztunnel's log. */
export async function startMesh(holder, workloads) {
  const folder = mkdtempSync(join(tmpdir(), 'nephilia-mesh-'));
  const log = join(folder, 'ztunnel.log');
  appendFileSync(log, '');
  const dump = {
    config: {}, certificates: [], policies: [], services: [], workloadState: {},
    workloads: workloads.map(({ name, namespace, ip }) => ({
      uid: `Kubernetes//Pod/${namespace}/${name}`, name, namespace, node: 'node-a', clusterId: 'Kubernetes', serviceAccount: name, workloadName: name, workloadType: 'deployment', canonicalName: name, canonicalRevision: 'v1',
      protocol: 'HBONE', status: 'Healthy', capacity: 1, trustDomain: 'cluster.local', networkMode: 'Standard', services: [], workloadIps: [ip],
    })),
  };
  const ztunnel = createServer((request, response) => response.end(request.url === '/config_dump' ? JSON.stringify(dump) : ''));
  await new Promise((resolve) => ztunnel.listen(0, '127.0.0.1', resolve));
  const admin = `http://127.0.0.1:${ztunnel.address().port}`;
  const free = async () => `127.0.0.1:${await freePort()}`;
  holder.after(() => {
    ztunnel.closeAllConnections();
    ztunnel.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const nephilia = await startNephilia(holder, ['config/standalone.yaml', 'e2e/browser/bench/state.yaml'], {
    NEPHILIA_LOGS: log, NEPHILIA_LOGS_START: 'beginning', K8S_NODE_NAME: 'node-a', NEPHILIA_ZTUNNEL_METRICS: `${admin}/metrics`, NEPHILIA_ZTUNNEL_ADMIN: `${admin}/config_dump`,
    NEPHILIA_XDS: await free(), NEPHILIA_XDS_INSECURE: 'true', NEPHILIA_OTLP_GRPC: await free(), NEPHILIA_OTLP_HTTP: await free(), NEPHILIA_PROMETHEUS: await free(), NEPHILIA_HEALTH: await free(),
  });
  return { nephilia, write: (text) => appendFileSync(log, text) };
}

/** What the ztunnel of both ends' node says of a connection: the server's side and the client's. */
export function connection(client, server, denied = false) {
  const party = (side, { name, namespace, ip }, port) =>
    `${side}.addr=${ip}:${port} ${side}.workload="${name}" ${side}.namespace="${namespace}" ${side}.identity="spiffe://cluster.local/ns/${namespace}/sa/${name}" ${side}.cluster="Kubernetes"`;
  const line = (direction, error) =>
    `${new Date().toISOString()}\t${denied ? 'error' : 'info'}\taccess\tconnection complete\t${party('src', client, 40000)} ${party('dst', server, 15008)} ` +
    `dst.hbone_addr=${server.ip}:8080 dst.service="${server.name}.${server.namespace}.svc.cluster.local" direction="${direction}" bytes_sent=0 bytes_recv=0 duration="9ms"${denied ? ` error="${error}"` : ''}\n`;
  return line('inbound', 'connection closed due to policy rejection: explicitly denied by: shop/none') + line('outbound', 'http status: 401 Unauthorized');
}
