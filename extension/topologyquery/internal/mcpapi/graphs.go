package mcpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Bounds of the tools that read the graph.
const (
	defaultEdges = 30
	maxEdges     = 200
	maxDepth     = 10
)

// graphTools tell who talks to whom.
type graphTools struct{ *server }

func (s graphTools) add(m *mcp.Server) {
	add(m, "get_mesh_graph", "Who talks to whom and how well: one row for each edge with rate, failures by reason, latency, mutual TLS and health, the worst first. only=failing keeps those that are not healthy.", s.meshGraph)
	add(m, "compare_graph", "What is different between two windows of equal length: edges that are new or gone, and those whose rate, failures or latency changed.", s.compareGraph)
	add(m, "who_depends_on", "The blast radius of a workload: who calls it, directly or through others; or, with direction=callees, what it depends on.", s.whoDependsOn)
	add(m, "why_denied", "Why a workload may not talk to another one: which policy denied what, its rules, sample connections, and the outage that this is part of.", s.whyDenied)
}

type edgeRow struct {
	Source         string            `json:"source"`
	Target         string            `json:"target"`
	Service        string            `json:"service,omitempty"`
	Port           uint16            `json:"port,omitempty"`
	Protocol       string            `json:"protocol"`
	Rate           float64           `json:"rate_per_second" jsonschema:"Requests, or connections where no requests are seen"`
	ErrorRatio     float64           `json:"error_ratio" jsonschema:"Share of them that failed, from 0 to 1; denied and refused connections count"`
	ErrorsByReason map[string]uint64 `json:"errors_by_reason,omitempty"` // bounded by the reasons
	P95            float64           `json:"p95_ms,omitempty" jsonschema:"95th percentile of the requests' duration"`
	MTLS           bool              `json:"mtls"`
	Health         string            `json:"health" jsonschema:"healthy, degraded, failing, denied (on purpose), idle, or unknown (no telemetry)"`
	Reason         string            `json:"health_reason,omitempty"`
}

// counted is how many there were on an edge, of what, and how many failed.
func counted(c *live.Counts) (all, failed uint64) {
	if requests := c.Fields[live.Requests]; requests > 0 {
		// A connection that fails carries no request.
		return requests + c.Failed, min(c.Fields[live.RequestsFailed], requests) + c.Failed
	}
	return max(c.Fields[live.Closed], c.Fields[live.Opened], c.Failed), c.Failed
}

func p95(c *live.Counts) float64 {
	if c.Request.Count == 0 {
		return 0
	}
	var value [1]float64
	c.Request.Quantiles([]float64{0.95}, value[:])
	return rounded(value[0] * 1000)
}

// rounded is a number with three decimals.
func rounded(v float64) float64 { return math.Round(v*1000) / 1000 }

func share(part, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return rounded(float64(part) / float64(all))
}

func nodeName(n *graph.Node) string { return name(n.Namespace, n.Name) }

func edgeRowOf(g *graph.Graph, e *graph.Edge) edgeRow {
	all, failed := counted(e.Counts)
	row := edgeRow{
		Source: nodeName(&g.Nodes[e.Source]), Target: nodeName(&g.Nodes[e.Destination]), Service: e.Service, Port: e.Port,
		Protocol: cmp.Or(e.Protocol, semconv.ProtocolTCP), Rate: rounded(float64(all) / max(float64(g.End-g.Start)/1000, 0.001)), ErrorRatio: share(failed, all),
		P95: p95(e.Counts), MTLS: e.Security == semconv.SecurityMutualTLS, Health: e.Health, Reason: e.Reason, ErrorsByReason: map[string]uint64{},
	}
	for _, r := range e.Counts.Reasons {
		row.ErrorsByReason[r.Reason.ErrorType] += r.Count
	}
	if n := e.Counts.Denied(); n > 0 {
		row.ErrorsByReason[semconv.ErrorTypePolicyDenied] += n
	}
	for _, r := range e.Counts.Responses {
		if r.Response.Code >= "500" && len(r.Response.Code) == 3 && r.Response.Code < "600" {
			row.ErrorsByReason["http_"+r.Response.Code] += r.Count
		}
	}
	return row
}

// in tells whether a node is in one of some namespaces; all are in none.
func in(n *graph.Node, namespaces []string) bool {
	return len(namespaces) == 0 || slices.Contains(namespaces, n.Namespace)
}

func (s graphTools) graphOf(ctx context.Context, start, end time.Time, by graph.GroupBy) (*graph.Graph, func(), error) {
	return s.Graphs.Graph(ctx, graph.Options{Start: start.UnixMilli(), End: end.UnixMilli(), GroupBy: by})
}

type meshGraphIn struct {
	Namespaces []string `json:"namespaces,omitempty" jsonschema:"Only edges that touch one of these namespaces. Default: all"`
	GroupBy    string   `json:"group_by,omitempty" jsonschema:"workload, service, app or namespace. Default: workload"`
	Only       string   `json:"only,omitempty" jsonschema:"failing: only edges that are not healthy; all. Default: all"`
	Top        int      `json:"top,omitempty" jsonschema:"Maximum number of edges (default: 30, at most 200)"`
	Window
}

type meshGraphOut struct {
	Start      string         `json:"start"`
	End        string         `json:"end"`
	Edges      []edgeRow      `json:"edges"`
	TotalCount int            `json:"total_count"`
	Truncated  bool           `json:"truncated"`
	Nodes      map[string]int `json:"nodes_by_health" jsonschema:"How many nodes have each health"` // bounded by the healths
	Fresh
}

func (s graphTools) meshGraph(ctx context.Context, asked meshGraphIn) (out meshGraphOut, err error) {
	start, end, err := s.window(asked.Window)
	if err != nil {
		return out, err
	}
	by := graph.GroupBy(cmp.Or(asked.GroupBy, string(graph.ByWorkload)))
	if !slices.Contains(graph.Groupings(), string(by)) {
		return out, fmt.Errorf("group_by: %q is none of %s", by, strings.Join(graph.Groupings(), ", "))
	}
	if !slices.Contains([]string{"", "all", "failing"}, asked.Only) {
		return out, fmt.Errorf("only: %q is neither failing nor all", asked.Only)
	}
	g, release, err := s.graphOf(ctx, start, end, by)
	if err != nil {
		return out, err
	}
	defer release()
	out = meshGraphOut{Start: format(start), End: format(end), Edges: []edgeRow{}, Nodes: map[string]int{}, Fresh: s.fresh()}
	for i := range g.Nodes {
		if in(&g.Nodes[i], asked.Namespaces) {
			out.Nodes[g.Nodes[i].Health]++
		}
	}
	for _, e := range g.Edges {
		if !in(&g.Nodes[e.Source], asked.Namespaces) && !in(&g.Nodes[e.Destination], asked.Namespaces) {
			continue
		}
		row := edgeRowOf(g, e)
		if asked.Only == "failing" && row.ErrorRatio == 0 && (e.Health == graph.Healthy || e.Health == graph.Idle) {
			continue
		}
		out.Edges = append(out.Edges, row)
	}
	slices.SortStableFunc(out.Edges, func(a, b edgeRow) int {
		switch {
		case graph.Worse(a.Health, b.Health):
			return -1
		case graph.Worse(b.Health, a.Health):
			return 1
		}
		return cmp.Or(cmp.Compare(b.ErrorRatio, a.ErrorRatio), cmp.Compare(b.Rate, a.Rate))
	})
	out.Edges, out.TotalCount, out.Truncated = cut(out.Edges, bounded(asked.Top, defaultEdges, maxEdges))
	return out, nil
}

type compareIn struct {
	Before string `json:"before,omitempty" jsonschema:"End of the earlier window: RFC 3339, or relative to the newest data, such as -10m. Default: where the later window begins"`
	After  string `json:"after,omitempty" jsonschema:"End of the later window. Default: now"`
	Window string `json:"window,omitempty" jsonschema:"Length of both windows, such as 5m. Default: 5m"`
	Top    int    `json:"top,omitempty" jsonschema:"Maximum number of edges (default: 30, at most 200)"`
}

type difference struct {
	Source string   `json:"source"`
	Target string   `json:"target"`
	What   []string `json:"what" jsonschema:"What changed, in words"`
	weight float64
}

type compareOut struct {
	Before     string       `json:"before" jsonschema:"The earlier window"`
	After      string       `json:"after" jsonschema:"The later window"`
	Edges      []difference `json:"edges" jsonschema:"The edges that differ, the most failing first"`
	Unchanged  int          `json:"unchanged_count" jsonschema:"How many edges are much the same"`
	TotalCount int          `json:"total_count"`
	Truncated  bool         `json:"truncated"`
	Fresh
}

// pair is what happened between two nodes in a window.
type pair struct {
	all, failed uint64
	p95         float64
}

func (s graphTools) pairs(ctx context.Context, start, end time.Time) (map[[2]string]pair, error) {
	g, release, err := s.graphOf(ctx, start, end, graph.ByWorkload)
	if err != nil {
		return nil, err
	}
	defer release()
	pairs := map[[2]string]pair{} // bounded by the edges
	for _, e := range g.Edges {
		key := [2]string{nodeName(&g.Nodes[e.Source]), nodeName(&g.Nodes[e.Destination])}
		all, failed := counted(e.Counts)
		if p := pairs[key]; all > 0 {
			pairs[key] = pair{p.all + all, p.failed + failed, max(p.p95, p95(e.Counts))}
		}
	}
	return pairs, nil
}

func (s graphTools) compareGraph(ctx context.Context, in compareIn) (out compareOut, err error) {
	length, err := time.ParseDuration(cmp.Or(in.Window, "5m"))
	if err != nil || length <= 0 || length > s.MaxRange {
		return out, fmt.Errorf("window: %q is not a duration such as 5m, of at most %s", in.Window, s.MaxRange)
	}
	after, err := s.at("after", in.After, s.now())
	if err != nil {
		return out, err
	}
	before, err := s.at("before", in.Before, after.Add(-length))
	if err != nil {
		return out, err
	}
	if !before.Before(after) {
		return out, errors.New("before must lie before after")
	}
	old, err := s.pairs(ctx, before.Add(-length), before)
	if err != nil {
		return out, err
	}
	now, err := s.pairs(ctx, after.Add(-length), after)
	if err != nil {
		return out, err
	}
	out = compareOut{
		Before: format(before.Add(-length)) + " to " + format(before), After: format(after.Add(-length)) + " to " + format(after),
		Edges: []difference{}, Fresh: s.fresh(),
	}
	keys := maps.Clone(old)
	maps.Copy(keys, now)
	for key := range keys {
		d := difference{Source: key[0], Target: key[1]}
		d.compare(old[key], now[key], length)
		if len(d.What) == 0 {
			out.Unchanged++
			continue
		}
		out.Edges = append(out.Edges, d)
	}
	slices.SortFunc(out.Edges, func(a, b difference) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Target, b.Target))
	})
	out.Edges, out.TotalCount, out.Truncated = cut(out.Edges, bounded(in.Top, defaultEdges, maxEdges))
	return out, nil
}

// Changes that are told: of enough, by enough.
const (
	leastCount = 10
	leastRatio = 0.05
	rateFactor = 2
	slowFactor = 1.5
)

func (d *difference) compare(old, now pair, length time.Duration) {
	say := func(format string, args ...any) { d.What = append(d.What, fmt.Sprintf(format, args...)) }
	rate := func(p pair) float64 { return rounded(float64(p.all) / length.Seconds()) }
	was, is := share(old.failed, old.all), share(now.failed, now.all)
	switch {
	case old.all == 0:
		say("new: %g per second", rate(now))
	case now.all == 0:
		say("gone: was %g per second", rate(old))
	case max(old.all, now.all) >= leastCount && (now.all > rateFactor*old.all || old.all > rateFactor*now.all):
		say("rate: %g to %g per second", rate(old), rate(now))
	}
	if math.Abs(is-was) >= leastRatio && now.all > 0 {
		say("failed: %.1f %% to %.1f %%", was*100, is*100)
		d.weight = is - was
	}
	if old.p95 > 0 && now.p95 > 0 && min(old.all, now.all) >= leastCount && (now.p95 > slowFactor*old.p95 || old.p95 > slowFactor*now.p95) {
		say("p95: %g to %g ms", old.p95, now.p95)
	}
}

// named tells whether a node is meant by a name: a workload's or an app's, with its namespace or without, or a service's host name.
func named(n *graph.Node, wanted string) bool {
	namespace, short, qualified := strings.Cut(wanted, "/")
	if !qualified {
		namespace, short = "", wanted
		if host, rest, is := strings.Cut(wanted, "."); is && n.Type != graph.TypeExternal {
			short = host
			namespace, _, _ = strings.Cut(rest, ".")
		}
	}
	return (namespace == "" || n.Namespace == namespace) && (n.Name == short || n.App == short || n.Name == wanted)
}

type dependsIn struct {
	Workload  string `json:"workload" jsonschema:"A workload or app, such as payment, billing/payment or payment.billing.svc.cluster.local"`
	Depth     int    `json:"depth,omitempty" jsonschema:"How many steps to go (default: 3, at most 10)"`
	Direction string `json:"direction,omitempty" jsonschema:"callers: who depends on it; callees: what it depends on. Default: callers"`
	Window
}

type dependent struct {
	Workload   string  `json:"workload"`
	Distance   int     `json:"distance" jsonschema:"1: directly"`
	Via        string  `json:"via" jsonschema:"The next one on the way"`
	Rate       float64 `json:"rate_per_second" jsonschema:"Of the step to via"`
	ErrorRatio float64 `json:"error_ratio" jsonschema:"Of the step to via"`
	Health     string  `json:"health"`
	Reason     string  `json:"health_reason,omitempty"`
}

type dependsOut struct {
	Workloads  []string    `json:"workloads" jsonschema:"What the name stands for"`
	Health     string      `json:"health"`
	Reason     string      `json:"health_reason,omitempty"`
	Dependents []dependent `json:"dependents" jsonschema:"The nearest first"`
	TotalCount int         `json:"total_count"`
	Truncated  bool        `json:"truncated"`
	Fresh
}

func (s graphTools) whoDependsOn(ctx context.Context, in dependsIn) (out dependsOut, err error) {
	if !slices.Contains([]string{"", "callers", "callees"}, in.Direction) {
		return out, fmt.Errorf("direction: %q is neither callers nor callees", in.Direction)
	}
	start, end, err := s.window(in.Window)
	if err != nil {
		return out, err
	}
	g, release, err := s.graphOf(ctx, start, end, graph.ByWorkload)
	if err != nil {
		return out, err
	}
	defer release()
	out = dependsOut{Workloads: []string{}, Dependents: []dependent{}, Health: graph.Idle, Fresh: s.fresh()}
	seen := map[int]bool{} // bounded by the nodes
	var reached []int
	for i := range g.Nodes {
		if n := &g.Nodes[i]; named(n, in.Workload) {
			seen[i], reached = true, append(reached, i)
			out.Workloads = append(out.Workloads, nodeName(n))
			if graph.Worse(n.Health, out.Health) {
				out.Health, out.Reason = n.Health, n.Reason
			}
		}
	}
	if len(reached) == 0 {
		return out, fmt.Errorf("no workload is named %q; get_mesh_graph lists those that talk", in.Workload)
	}
	steps := map[int][]*graph.Edge{} // bounded by the nodes
	far := func(e *graph.Edge) (at, to int) { return e.Destination, e.Source }
	if in.Direction == "callees" {
		far = func(e *graph.Edge) (at, to int) { return e.Source, e.Destination }
	}
	for _, e := range g.Edges {
		at, _ := far(e)
		steps[at] = append(steps[at], e)
	}
	for distance := 1; distance <= bounded(in.Depth, 3, maxDepth) && len(reached) > 0; distance++ {
		var next []int
		for _, at := range reached {
			for _, e := range steps[at] {
				_, to := far(e)
				if seen[to] {
					continue
				}
				seen[to], next = true, append(next, to)
				row, n := edgeRowOf(g, e), &g.Nodes[to]
				out.Dependents = append(out.Dependents, dependent{nodeName(n), distance, nodeName(&g.Nodes[at]), row.Rate, row.ErrorRatio, n.Health, n.Reason})
			}
		}
		reached = next
	}
	out.Dependents, out.TotalCount, out.Truncated = cut(out.Dependents, maxEdges)
	return out, nil
}
