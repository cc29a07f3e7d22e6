package mcpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Bounds of the tools that tell of outages.
const (
	defaultOutages = 20
	maxOutages     = 200
	maxParts       = 20 // edges, candidates, impacts, pieces of evidence of one outage
	defaultChanges = 30
	maxChanges     = 200
	// before an outage, this is how long ago a change may have been to be told with it.
	changesBefore = 10 * time.Minute
)

// outageTools tell what broke and what changed.
type outageTools struct{ *server }

func (s outageTools) add(m *mcp.Server) {
	add(m, "list_outages", "What is broken, or was: outages with their root causes, open ones first. Begin here. explain_outage tells why.", s.listOutages)
	add(m, "explain_outage", "Why something is broken: an outage's evidence, the explanations that were weighed, who feels it, what changed just before, sample traces, and PromQL to verify it. "+
		"Without an id it explains the most severe outage that is open, or else the newest.", s.explainOutage)
	add(m, "list_changes", "What changed in the mesh and in Kubernetes (rollouts, restarts, policies, config), newest first.", s.listChanges)
}

type listOutagesIn struct {
	State string `json:"state,omitempty" jsonschema:"open, resolved or stale. Default: all"`
	Since string `json:"since,omitempty" jsonschema:"Only outages that lasted until after this time: RFC 3339, or relative to the newest data, such as -1h. Default: all that are kept"`
	Limit int    `json:"limit,omitempty" jsonschema:"Maximum number of outages (default: 20, at most 200)"`
}

type outageRow struct {
	ID         string `json:"id"`
	State      string `json:"state"`
	Kind       string `json:"kind"`
	Severity   string `json:"severity"`
	Summary    string `json:"summary"`
	Root       string `json:"root" jsonschema:"The root cause: its type, namespace and name"`
	Policy     string `json:"policy,omitempty"`
	StartedAt  string `json:"started_at"`
	DetectedAt string `json:"detected_at"`
	EndedAt    string `json:"ended_at,omitempty"`
	Impact     int    `json:"impact_count" jsonschema:"How many other workloads feel it"`
}

type listOutagesOut struct {
	Outages    []outageRow `json:"outages"`
	TotalCount int         `json:"total_count"`
	OpenCount  int         `json:"open_count"`
	Truncated  bool        `json:"truncated"`
	Next       string      `json:"next,omitempty" jsonschema:"What to ask next"`
	Fresh
}

func rowOf(o *outage.Outage) outageRow {
	row := outageRow{
		ID: o.ID, State: o.State, Kind: o.Kind, Severity: o.Severity, Summary: o.Summary, Root: subject(&o.Root), Policy: o.Policy,
		StartedAt: format(o.StartedAt), DetectedAt: format(o.DetectedAt), Impact: len(o.Impact),
	}
	if o.EndedAt != nil {
		row.EndedAt = format(*o.EndedAt)
	}
	return row
}

// subject names what an outage is about: "workload billing/payment".
func subject(s *outage.Subject) string { return s.Type + " " + name(s.Namespace, s.Name) }

// name is a name with its namespace, if there is one.
func name(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// urgency orders outages: open ones before others, critical ones before warnings. Those that are equal keep their order, newest first.
func urgency(a, b *outage.Outage) int {
	rank := func(o *outage.Outage) int {
		switch {
		case o.State != semconv.OutageStateOpen:
			return 2
		case o.Severity != "critical":
			return 1
		}
		return 0
	}
	return cmp.Compare(rank(a), rank(b))
}

func (s outageTools) listOutages(_ context.Context, in listOutagesIn) (out listOutagesOut, err error) {
	if !slices.Contains([]string{"", "open", "resolved", "stale"}, in.State) {
		return out, fmt.Errorf("state: %q is none of open, resolved, stale", in.State)
	}
	since, err := s.at("since", in.Since, time.Time{})
	if err != nil {
		return out, err
	}
	all := s.Outages.List(since, time.Time{}, in.State)
	slices.SortStableFunc(all, urgency)
	out = listOutagesOut{Outages: []outageRow{}, Fresh: s.fresh()}
	for _, o := range all {
		if o.State == semconv.OutageStateOpen {
			out.OpenCount++
		}
	}
	all, out.TotalCount, out.Truncated = cut(all, bounded(in.Limit, defaultOutages, maxOutages))
	for _, o := range all {
		out.Outages = append(out.Outages, rowOf(o))
	}
	if out.Next = "explain_outage with an id tells why"; len(all) == 0 {
		out.Next = "get_status tells whether telemetry is complete; get_mesh_graph with only=failing shows what fails without being an outage"
	}
	return out, nil
}

type explainIn struct {
	ID string `json:"id,omitempty" jsonschema:"An outage's id, as list_outages tells. Default: the most severe one that is open, or else the newest"`
}

type failingEdge struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Failed uint64 `json:"failed"`
	Total  uint64 `json:"total"`
}

type candidate struct {
	Subject string  `json:"subject"`
	Score   float64 `json:"score" jsonschema:"How well it explains what was seen, from 0 to 1"`
	Reason  string  `json:"reason,omitempty"`
}

type impact struct {
	Workload string `json:"workload"`
	How      string `json:"how" jsonschema:"calls (directly) or depends_on (through others)"`
	Since    string `json:"since,omitempty"`
}

type observation struct {
	Time   string `json:"time"`
	Text   string `json:"text"`
	Source string `json:"source,omitempty"`
}

type changeRow struct {
	Time     string `json:"time"`
	Text     string `json:"text"`
	Reason   string `json:"reason"`
	Object   string `json:"object" jsonschema:"The object's kind, namespace and name"`
	Workload string `json:"workload,omitempty"`
	Severity string `json:"severity"`
	Source   string `json:"source" jsonschema:"kubernetes or mesh"`
}

type explainOut struct {
	Outage        outageRow     `json:"outage"`
	Pods          []string      `json:"pods,omitempty" jsonschema:"The pods at fault, where it is not all of the root's"`
	Edges         []failingEdge `json:"edges" jsonschema:"The edges that fail, most failed first"`
	Impact        []impact      `json:"impact" jsonschema:"Who feels it"`
	Candidates    []candidate   `json:"candidates" jsonschema:"The explanations that were weighed, best first"`
	Evidence      []observation `json:"evidence"`
	Timeline      []observation `json:"timeline"`
	ChangesBefore []changeRow   `json:"changes_before" jsonschema:"What changed in the ten minutes before it was detected, newest first; what concerns its workloads comes first"`
	TraceIDs      []string      `json:"trace_ids" jsonschema:"Traces that show it; get_trace_errors reads one"`
	PromQL        []string      `json:"promql,omitempty" jsonschema:"Queries for query_promql that verify it"`
	Page          string        `json:"page" jsonschema:"The path of its page in the UI"`
	Omitted       []string      `json:"omitted,omitempty" jsonschema:"What was left out of the lists above"`
	Fresh
}

// list keeps the first of a list and notes how many were left out.
func list[T any](all []T, what string, omitted *[]string) []T {
	kept, total, truncated := cut(all, maxParts)
	if truncated {
		*omitted = append(*omitted, fmt.Sprintf("%d of %d %s", total-maxParts, total, what))
	}
	return kept
}

func (s outageTools) explainOutage(_ context.Context, in explainIn) (out explainOut, err error) {
	o := s.Outages.Get(in.ID)
	if in.ID == "" {
		all := s.Outages.List(time.Time{}, time.Time{}, "")
		if len(all) == 0 {
			return out, errors.New("there is no outage; get_status tells whether telemetry is complete")
		}
		o = slices.MinFunc(all, urgency)
	}
	if o == nil {
		return out, fmt.Errorf("there is no outage %q; list_outages names them", in.ID)
	}
	out = explainOut{
		Outage: rowOf(o), Pods: o.Pods, Edges: []failingEdge{}, Impact: []impact{}, Candidates: []candidate{}, Page: "/outages/" + o.ID,
		PromQL: verify(o), Fresh: s.fresh(),
	}
	for _, e := range list(o.Edges, "edges", &out.Omitted) {
		out.Edges = append(out.Edges, failingEdge{name(e.Source.Namespace, e.Source.Name), name(e.Destination.Namespace, e.Destination.Name), e.Failed, e.Total})
	}
	for _, i := range list(o.Impact, "impacts", &out.Omitted) {
		one := impact{Workload: name(i.Namespace, i.Name.Name), How: i.How}
		if i.Since != nil {
			one.Since = format(*i.Since)
		}
		out.Impact = append(out.Impact, one)
	}
	for _, c := range list(o.Candidates, "candidates", &out.Omitted) {
		out.Candidates = append(out.Candidates, candidate{subject(&c.Subject), c.Score, c.Reason})
	}
	out.Evidence = observations(list(o.Evidence, "pieces of evidence", &out.Omitted))
	out.Timeline = observations(list(o.Timeline, "steps of the timeline", &out.Omitted))
	out.TraceIDs = slices.Concat([]string{}, list(o.TraceIDs, "traces", &out.Omitted))
	out.ChangesBefore = list(s.changesBefore(o), "changes", &out.Omitted)
	return out, nil
}

func observations(all []outage.Evidence) []observation {
	out := []observation{}
	for _, e := range all {
		out = append(out, observation{format(e.Time), e.Text, e.Source})
	}
	return out
}

// changesBefore is what changed before an outage was detected; what concerns its workloads comes first.
func (s outageTools) changesBefore(o *outage.Outage) []changeRow {
	all, _, _ := s.Changes.List(changes.Filter{Start: o.StartedAt.Add(-changesBefore), End: o.DetectedAt.Add(time.Millisecond)}, nil, maxChanges)
	names := []outage.Name{{Namespace: o.Root.Namespace, Name: o.Root.Name}}
	if namespace, policy, ok := strings.Cut(o.Policy, "/"); ok {
		names = append(names, outage.Name{Namespace: namespace, Name: policy})
	}
	for _, e := range o.Edges {
		names = append(names, e.Source, e.Destination)
	}
	concerns := func(c *changes.Change) int {
		if slices.ContainsFunc(names, func(n outage.Name) bool {
			return (n.Namespace == "" || n.Namespace == c.Namespace) && slices.Contains([]string{c.Name, c.App, c.Workload, c.Node}, n.Name)
		}) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b changes.Change) int { return cmp.Compare(concerns(&a), concerns(&b)) })
	return changeRows(all)
}

func changeRows(all []changes.Change) []changeRow {
	out := []changeRow{}
	for i := range all {
		c := &all[i]
		out = append(out, changeRow{format(c.Time), c.Text, c.Reason, c.Kind + " " + name(c.Namespace, c.Name), cmp.Or(c.Workload, c.App), c.Severity, c.Source})
	}
	return out
}

// verify are queries that show an outage's edges, the worst first.
func verify(o *outage.Outage) []string {
	var queries []string
	for _, e := range o.Edges[:min(2, len(o.Edges))] {
		edge := fmt.Sprintf("{%s=%q, %s=%q}", semconv.LabelSourceCanonicalService, e.Source.Name, semconv.LabelDestinationCanonicalService, e.Destination.Name)
		switch o.Kind {
		case "http_errors":
			queries = append(queries, "sum(rate(mesh_edge_request_failed_total"+edge+"[1m])) / sum(rate(mesh_edge_requests_total"+edge+"[1m]))")
		case "dns_failure", "dns_slow":
			queries = append(queries, fmt.Sprintf("sum(rate(mesh_dns_failed_total{%s=%q}[1m])) / sum(rate(mesh_dns_queries_total{%[1]s=%[2]q}[1m]))",
				semconv.LabelSourceCanonicalService, e.Source.Name))
		case "traffic_loss":
			queries = append(queries, "sum(rate(mesh_edge_connections_opened_total"+edge+"[1m]))")
		case "latency":
			queries = append(queries, "histogram_quantile(0.95, sum(rate(mesh_edge_request_duration_seconds"+edge+"[1m])))")
		default:
			queries = append(queries, "sum by (error_type, policy) (rate(mesh_edge_connections_failed_total"+edge+"[1m]))")
		}
	}
	return queries
}

type listChangesIn struct {
	Since     string `json:"since,omitempty" jsonschema:"Start: RFC 3339, or relative to the newest data, such as -1h. Default: all that are kept"`
	Until     string `json:"until,omitempty" jsonschema:"End, in the same way. Default: now"`
	Namespace string `json:"namespace,omitempty" jsonschema:"Only of this namespace"`
	Name      string `json:"name,omitempty" jsonschema:"Only of this object, workload, app or node"`
	Limit     int    `json:"limit,omitempty" jsonschema:"Maximum number of changes (default: 30, at most 200)"`
}

type listChangesOut struct {
	Changes    []changeRow `json:"changes"`
	TotalCount int         `json:"total_count"`
	Truncated  bool        `json:"truncated"`
	Fresh
}

func (s outageTools) listChanges(_ context.Context, in listChangesIn) (out listChangesOut, err error) {
	filter := changes.Filter{Namespace: in.Namespace, Name: in.Name}
	if filter.Start, err = s.at("since", in.Since, time.Time{}); err != nil {
		return out, err
	}
	if filter.End, err = s.at("until", in.Until, time.Time{}); err != nil {
		return out, err
	}
	all, total, _ := s.Changes.List(filter, nil, bounded(in.Limit, defaultChanges, maxChanges))
	return listChangesOut{changeRows(all), total, total > len(all), s.fresh()}, nil
}
