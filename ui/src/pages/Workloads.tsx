import { useCallback, useMemo } from 'react';

import { useWorkloadGraph } from '../api/graph';
import type { Workload } from '../api/types';
import { href, navigate, pathOf } from '../app/router';
import type { PageProps } from '../app/page';
import type { ColumnDef } from '../components/DataTable';
import { HealthMark } from '../components/HealthMark';
import { Link } from '../components/Link';
import { ListPage } from '../components/ListPage';
import { millis, percent, rate } from '../domain/format';
import { HEALTH, asHealth } from '../domain/health';
import { inboundByNode } from '../domain/inbound';
import type { EdgeMetrics } from '../domain/metrics';
import WorkloadDetail from './WorkloadDetail';

type Row = Workload & { traffic: EdgeMetrics | undefined };
interface Answer {
  workloads: Workload[];
  total: number;
  next_cursor?: string;
}

export default function Workloads({ parts }: PageProps) {
  const [, namespace, name] = parts;
  return namespace !== undefined && name !== undefined ? <WorkloadDetail namespace={namespace} name={name} /> : <WorkloadList />;
}

function WorkloadList() {
  const { data: graph } = useWorkloadGraph({ everyMs: 3000 });
  const traffic = useMemo(() => (graph ? inboundByNode(graph) : undefined), [graph]);
  const rowsOf = useCallback(
    (answer: Answer): Row[] => answer.workloads.map((workload) => ({ ...workload, traffic: traffic?.get(`${workload.namespace}/${workload.name}`) })),
    [traffic],
  );
  const columns = useMemo<ColumnDef<Row, unknown>[]>(
    () => [
      { id: 'name', header: 'Workload', accessorKey: 'name', cell: ({ row: { original: w } }) => <Link to={pathOf('workloads', w.namespace, w.name)}>{w.name}</Link> },
      { id: 'namespace', header: 'Namespace', accessorKey: 'namespace' },
      { id: 'health', header: 'Health', accessorFn: (w) => HEALTH[asHealth(w.health)].rank, cell: ({ row: { original: w } }) => <HealthMark health={w.health} reason={w.health_reason} /> },
      { id: 'pods', header: 'Pods', meta: 'num', accessorFn: (w) => w.pods.length, cell: ({ row: { original: w } }) => `${w.pods.filter((pod) => pod.healthy).length}/${w.pods.length}` },
      { id: 'rate', header: 'Traffic in', meta: 'num', accessorFn: (w) => w.traffic?.rate ?? 0, cell: ({ getValue }) => rate(getValue() as number) },
      {
        id: 'failures', header: 'Failures', meta: 'num', accessorFn: (w) => w.traffic?.failureShare ?? -1,
        cell: ({ getValue }) => <Share value={getValue() as number} />,
      },
      { id: 'p95', header: 'p95', meta: 'num', accessorFn: (w) => w.traffic?.p95 ?? -1, cell: ({ getValue }) => ((getValue() as number) < 0 ? '–' : millis(getValue() as number)) },
      { id: 'mesh', header: 'Mesh', accessorKey: 'in_mesh', cell: ({ row: { original: w } }) => (w.in_mesh ? (w.waypoint ? 'in, with waypoint' : 'in') : <span className="badge">outside</span>) },
    ],
    [],
  );
  return (
    <ListPage<Row, Answer>
      title="Workloads"
      one="workload"
      path="/workloads"
      rowsOf={rowsOf}
      columns={columns}
      rowKey={(w) => `${w.cluster}/${w.namespace}/${w.name}`}
      sort="-health"
      onOpen={(w) => navigate(href(pathOf('workloads', w.namespace, w.name)))}
    />
  );
}

export function Share({ value }: { value: number }) {
  return value < 0 ? <span className="muted">–</span> : <span className={value > 0 ? 'text-failing' : 'muted'}>{percent(value)}</span>;
}
