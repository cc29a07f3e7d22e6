package mcpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Bounds of the tools that search.
const (
	defaultFlows = 20
	maxFlows     = 200
	maxSeries    = 50
	maxPoints    = 120
)

// queryTools search.
type queryTools struct{ *server }

func (s queryTools) add(m *mcp.Server) {
	add(m, "get_status", "Whether telemetry is complete: what is silent is unknown, not healthy. Also what the mesh consists of and how many outages are open.", s.status)
	add(m, "search_flows", "Single connections and requests as ztunnels and waypoints logged them, newest first.", s.searchFlows)
	add(m, "query_promql", "Evaluate PromQL over the mesh's series (mesh_edge_requests_total, mesh_edge_request_failed_total, mesh_edge_request_duration_seconds (a native histogram), "+
		"mesh_edge_connections_closed_total, mesh_edge_connections_failed_total …), labelled by source_/destination_ workload, workload_namespace and canonical_service; at a time, or with step over a window.", s.queryPromQL)
}

type statusIn struct{}

type troubledSource struct {
	Node     string `json:"node"`
	Source   string `json:"source"`
	Problem  string `json:"problem"`
	Detail   string `json:"detail,omitempty"`
	LastSeen string `json:"last_seen,omitempty"`
}

type statusOut struct {
	Telemetry     string           `json:"telemetry" jsonschema:"complete, incomplete or none"`
	Sources       int              `json:"source_count"`
	Troubled      []troubledSource `json:"troubled_sources" jsonschema:"What is silent or says that it is not complete"`
	TroubledCount int              `json:"troubled_count"`
	HistoryStart  string           `json:"history_start,omitempty"`
	Nodes         int              `json:"node_count"`
	Workloads     int              `json:"workload_count"`
	InMesh        int              `json:"workloads_in_mesh"`
	Policies      int              `json:"policy_count"`
	OpenOutages   int              `json:"open_outages"`
	Version       string           `json:"version"`
	Fresh
}

// troubled are the sources that do not tell all there is.
func (s *server) troubled() []troubledSource {
	var out []troubledSource
	for _, node := range s.Sources.Nodes() {
		for _, source := range node.Sources {
			if source.Up && source.Problem == "" {
				continue
			}
			one := troubledSource{Node: node.Name, Source: source.Name, Problem: cmp.Or(source.Problem, "down"), Detail: source.Detail}
			if source.LastSeen > 0 {
				one.LastSeen = format(time.UnixMilli(source.LastSeen))
			}
			out = append(out, one)
		}
	}
	return out
}

func (s queryTools) status(context.Context, statusIn) (out statusOut, err error) {
	out = statusOut{
		Telemetry: "complete", Version: s.Version, Policies: len(s.Mesh.Policies()),
		OpenOutages: len(s.Outages.List(time.Time{}, time.Time{}, semconv.OutageStateOpen)), Fresh: s.fresh(),
	}
	for _, node := range s.Sources.Nodes() {
		out.Nodes++
		out.Sources += len(node.Sources)
	}
	for _, w := range s.Mesh.Workloads() {
		out.Workloads++
		if w.InMesh {
			out.InMesh++
		}
	}
	out.Troubled, out.TroubledCount, _ = cut(append([]troubledSource{}, s.troubled()...), maxFlows)
	first, now := s.Sources.Clock()
	switch {
	case now == 0:
		out.Telemetry = "none"
	case out.TroubledCount > 0:
		out.Telemetry = "incomplete"
	}
	if first != 0 {
		out.HistoryStart = format(time.UnixMilli(first))
	}
	return out, nil
}

type searchFlowsIn struct {
	Source      string `json:"source,omitempty" jsonschema:"Part of the client's namespace/pod, or its address"`
	Destination string `json:"destination,omitempty" jsonschema:"Part of the server's namespace/pod, its address, or a service's host name"`
	Namespace   string `json:"namespace,omitempty" jsonschema:"Of either side"`
	Verdict     string `json:"verdict,omitempty" jsonschema:"forwarded, denied or failed"`
	Reason      string `json:"reason,omitempty" jsonschema:"Why it failed, such as policy_denied or connection_refused"`
	Text        string `json:"text,omitempty" jsonschema:"Part of any text, such as of the ztunnel's message"`
	Limit       int    `json:"limit,omitempty" jsonschema:"Maximum number (default: 20, at most 200)"`
	Window
}

type flowRow struct {
	Time        string  `json:"time"`
	Node        string  `json:"node,omitempty"`
	Direction   string  `json:"direction,omitempty"`
	Protocol    string  `json:"protocol"`
	Source      string  `json:"source"`
	Destination string  `json:"destination"`
	Service     string  `json:"service,omitempty"`
	Verdict     string  `json:"verdict"`
	Reason      string  `json:"reason,omitempty"`
	Message     string  `json:"message,omitempty"`
	Policy      string  `json:"policy,omitempty"`
	Request     string  `json:"request,omitempty" jsonschema:"Method, path and status, of requests"`
	DurationMS  float64 `json:"duration_ms"`
}

type searchFlowsOut struct {
	Flows     []flowRow `json:"flows"`
	Truncated bool      `json:"truncated" jsonschema:"There are more, older ones"`
	Fresh
}

func (s queryTools) searchFlows(ctx context.Context, in searchFlowsIn) (out searchFlowsOut, err error) {
	start, end, err := s.window(in.Window)
	if err != nil {
		return out, err
	}
	if !slices.Contains([]string{"", flows.VerdictForwarded, flows.VerdictDenied, flows.VerdictFailed}, in.Verdict) {
		return out, fmt.Errorf("verdict: %q is none of forwarded, denied, failed", in.Verdict)
	}
	found, next, err := s.Flows.List(ctx, flows.Filter{
		Source: in.Source, Destination: in.Destination, Namespace: in.Namespace, Verdict: in.Verdict, Reason: in.Reason, Text: in.Text,
		Since: start, Until: end.Add(time.Millisecond),
	}, 0, bounded(in.Limit, defaultFlows, maxFlows))
	out = searchFlowsOut{Flows: []flowRow{}, Truncated: next != 0, Fresh: s.fresh()}
	for _, f := range found {
		row := flowRow{
			Time: format(f.Time), Node: f.Node, Direction: f.Direction, Protocol: f.Protocol, Source: party(&f.Source), Destination: party(&f.Dest),
			Service: f.Service, Verdict: f.Verdict, Reason: f.Reason, Message: f.Message, Policy: f.Policy, DurationMS: rounded(f.DurationMS),
		}
		if f.Request != nil {
			row.Request = fmt.Sprintf("%s %s %d", f.Method, f.Path, f.Status)
		}
		out.Flows = append(out.Flows, row)
	}
	return out, err
}

type promQLIn struct {
	Query string `json:"query" jsonschema:"A PromQL expression"`
	Step  string `json:"step,omitempty" jsonschema:"With a step, such as 30s, the expression is evaluated over the window; without one, at its end"`
	Window
}

type series struct {
	Labels map[string]string `json:"labels"` // bounded by the series' labels
	// Values are [time, value].
	Values [][2]any `json:"values" jsonschema:"Pairs of a time and a value; of a histogram its count and sum"`
}

type promQLOut struct {
	Series     []series `json:"series"`
	TotalCount int      `json:"total_count"`
	Truncated  bool     `json:"truncated"`
	Fresh
}

func (s queryTools) queryPromQL(ctx context.Context, in promQLIn) (out promQLOut, err error) {
	if in.Query == "" {
		return out, errors.New("query is required")
	}
	start, end, err := s.window(in.Window)
	if err != nil {
		return out, err
	}
	var found []history.Result
	if in.Step == "" {
		found, err = s.Engine.Instant(ctx, in.Query, end)
	} else {
		step, parsed := time.ParseDuration(in.Step)
		if parsed != nil || step <= 0 || end.Sub(start)/step > maxPoints {
			return out, fmt.Errorf("step: %q is not a duration such as 30s, or makes more than %d points", in.Step, maxPoints)
		}
		found, err = s.Engine.Range(ctx, in.Query, start, end, step)
	}
	if err != nil {
		return out, fmt.Errorf("evaluating the query: %w", err)
	}
	out = promQLOut{Series: []series{}, Fresh: s.fresh()}
	found, out.TotalCount, out.Truncated = cut(found, maxSeries)
	for _, one := range found {
		line := series{Labels: one.Labels.Map(), Values: [][2]any{}}
		points, _, longer := cut(one.Points, maxPoints+1)
		out.Truncated = out.Truncated || longer
		for _, p := range points {
			at := format(time.UnixMilli(p.Time))
			if p.Histogram != nil {
				line.Values = append(line.Values, [2]any{at, fmt.Sprintf("count %d, sum %g", p.Histogram.Count, p.Histogram.Sum)})
			} else {
				line.Values = append(line.Values, [2]any{at, number(p.Value)})
			}
		}
		out.Series = append(out.Series, line)
	}
	return out, nil
}

// number is a value as JSON can say it: those that it cannot, as text.
func number(v float64) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Sprint(v)
	}
	return v
}
