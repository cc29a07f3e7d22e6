import type { components } from './schema';

/** The shapes of the topology API, from its OpenAPI file (`npm run types`). Times are RFC 3339. */
type Schemas = components['schemas'];

export type Health = Schemas['Health'];
export type GroupBy = NonNullable<components['parameters']['groupBy']>;
export type Graph = Schemas['Graph'];
export type GraphNode = Schemas['Node'];
export type GraphEdge = Schemas['Edge'];
export type Status = Schemas['Status'];
export type SourceStatus = Schemas['Source'];
export type ClockProblem = NonNullable<Status['clock_problems']>[number];
export type Dropped = Status['dropped'][number];
export type Outage = Schemas['Outage'];
export type Subject = Schemas['Subject'];
export type Name = Schemas['Name'];
export type Evidence = Schemas['Evidence'];
export type Series = Schemas['Series'];
export type Workload = Schemas['Workload'];
export type WorkloadDetail = Schemas['WorkloadDetail'];
export type Service = Schemas['Service'];
export type ServiceDetail = Schemas['ServiceDetail'];
export type Policy = Schemas['Policy'];
export type PolicyList = Schemas['PolicyList'];
export type PolicyDetail = Schemas['PolicyDetail'];
export type Machine = Schemas['Machine'];
export type NodeDetail = Schemas['NodeDetail'];
export type Pod = Schemas['Pod'];
export type Certificate = Schemas['Certificate'];
export type Flow = Schemas['Flow'];
export type FlowList = Schemas['FlowList'];
export type Party = Schemas['Party'];
export type Trace = Schemas['Trace'];
export type Span = Trace['spans'][number];
export type TraceSummary = Schemas['TraceSummary'];
export type Change = Schemas['Change'];
export type ChangeList = Schemas['ChangeList'];
