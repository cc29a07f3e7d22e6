package mcpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
)

// Bounds of the tools that read traces: Jaeger's own.
const (
	defaultNames  = 100
	maxNames      = 1000
	defaultTraces = 10
	maxTraces     = 100
	maxDetails    = 20
	maxTopology   = 500
)

// traceTools are the tools of Jaeger's query service (cmd/jaeger/…/jaegerquery/internal/mcptools), by their names, parameters and answers, to which answers
// here add how fresh they are.
type traceTools struct{ *server }

func (s traceTools) add(m *mcp.Server) {
	add(m, "get_services", "List the services that have spans. 'pattern' filters them by a regular expression.", s.services)
	add(m, "get_span_names", "List the names of a service's spans with their kinds (SERVER, CLIENT, INTERNAL …). ztunnels' connections are spans as well: outbound … and inbound ….", s.spanNames)
	add(m, "search_traces", "Search for traces by service, time, attributes, errors and duration. Returns summaries (trace_id, duration_us, span_count, has_errors), no spans.", s.searchTraces)
	add(m, "get_span_details", "Read all of some spans of a trace: attributes, events, status.", s.spanDetails)
	add(m, "get_trace_errors", "Read all of the spans of a trace that failed. total_error_count tells whether there are more.", s.traceErrors)
	add(m, "get_trace_topology", "Read how a trace is made, depth first; each span's path has the ids of its ancestors. No attributes.", s.traceTopology)
	add(m, "get_critical_path", "Read which spans decided how long a trace took; self_time_us says where time went.", s.criticalPath)
	add(m, "get_service_dependencies", "List which service calls which, with the number of calls. For health and failures use get_mesh_graph.", s.dependencies)
}

type servicesIn struct {
	Pattern string `json:"pattern,omitempty" jsonschema:"Optional regex pattern to filter service names"`
	Limit   int    `json:"limit,omitempty" jsonschema:"Maximum number of services to return (default: 100)"`
}

type servicesOut struct {
	Services   []string `json:"services" jsonschema:"List of service names"`
	TotalCount int      `json:"total_count" jsonschema:"Total number of matching services before the limit was applied"`
	Truncated  bool     `json:"truncated" jsonschema:"True if results were truncated by the limit; raise limit or refine pattern to see more"`
	Fresh
}

// matcher is what a regular expression matches; an empty one matches all.
func matcher(pattern string) (func(string) bool, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("invalid pattern: %w", err)
	}
	return re.MatchString, nil
}

func (s traceTools) services(ctx context.Context, in servicesIn) (out servicesOut, err error) {
	matches, err := matcher(in.Pattern)
	if err != nil {
		return out, err
	}
	all, err := s.Traces.Services(ctx, time.Time{}, time.Time{})
	out = servicesOut{Services: []string{}, Fresh: s.fresh()}
	for i := range all {
		if matches(all[i].Name) {
			out.Services = append(out.Services, all[i].Name)
		}
	}
	out.Services, out.TotalCount, out.Truncated = cut(out.Services, bounded(in.Limit, defaultNames, maxNames))
	return out, err
}

type spanNamesIn struct {
	Service  string `json:"service_name" jsonschema:"Filter by service name (required). Use get_services to discover valid names"`
	Pattern  string `json:"pattern,omitempty" jsonschema:"Optional regex pattern to filter span names"`
	SpanKind string `json:"span_kind,omitempty" jsonschema:"Optional span kind filter (e.g. SERVER CLIENT PRODUCER CONSUMER INTERNAL)"`
	Limit    int    `json:"limit,omitempty" jsonschema:"Maximum number of span names to return (default: 100)"`
}

type spanName struct {
	Name string `json:"name"`
	Kind string `json:"span_kind"`
}

type spanNamesOut struct {
	SpanNames  []spanName `json:"span_names" jsonschema:"List of span names for the service"`
	TotalCount int        `json:"total_count" jsonschema:"Total number of matching span names before the limit was applied"`
	Truncated  bool       `json:"truncated" jsonschema:"True if results were truncated by the limit"`
	Fresh
}

func (s traceTools) spanNames(ctx context.Context, in spanNamesIn) (out spanNamesOut, err error) {
	matches, err := matcher(in.Pattern)
	if err != nil {
		return out, err
	}
	all, err := s.Traces.Services(ctx, time.Time{}, time.Time{})
	out = spanNamesOut{SpanNames: []spanName{}, Fresh: s.fresh()}
	if at := slices.IndexFunc(all, func(one traces.Service) bool { return one.Name == in.Service }); at >= 0 {
		for _, o := range all[at].Kinds {
			if matches(o.Name) && (in.SpanKind == "" || strings.EqualFold(strings.TrimSpace(in.SpanKind), o.Kind)) {
				out.SpanNames = append(out.SpanNames, spanName{o.Name, o.Kind})
			}
		}
	}
	out.SpanNames, out.TotalCount, out.Truncated = cut(out.SpanNames, bounded(in.Limit, defaultNames, maxNames))
	return out, err
}

type searchTracesIn struct {
	StartTimeMin string            `json:"start_time_min,omitempty" jsonschema:"Start of time interval (RFC3339 or relative like -1h). Default: -1h"`
	StartTimeMax string            `json:"start_time_max,omitempty" jsonschema:"End of time interval (RFC3339 or relative like now). Default: now"`
	Service      string            `json:"service_name,omitempty" jsonschema:"Filter by service name. Use get_services to discover valid names"`
	SpanName     string            `json:"span_name,omitempty" jsonschema:"Filter by span name"`
	Attributes   map[string]string `json:"attributes,omitempty" jsonschema:"Key-value pairs to match against span attributes"` // bounded by maxBody
	WithErrors   bool              `json:"with_errors,omitempty" jsonschema:"If true only return traces containing error spans"`
	DurationMin  string            `json:"duration_min,omitempty" jsonschema:"Minimum duration filter (e.g. 2s 100ms)"`
	DurationMax  string            `json:"duration_max,omitempty" jsonschema:"Maximum duration filter (e.g. 10s 1m)"`
	SearchDepth  int               `json:"search_depth,omitempty" jsonschema:"Maximum number of traces (default: 10, at most 100)"`
}

type traceSummary struct {
	TraceID      string   `json:"trace_id"`
	RootService  string   `json:"root_service"`
	RootSpanName string   `json:"root_span_name"`
	StartTime    string   `json:"start_time"`
	DurationUs   int64    `json:"duration_us"`
	SpanCount    int      `json:"span_count"`
	ServiceCount int      `json:"service_count"`
	Services     []string `json:"services"`
	HasErrors    bool     `json:"has_errors"`
}

type searchTracesOut struct {
	Traces    []traceSummary `json:"traces" jsonschema:"Traces that match, newest first"`
	Truncated bool           `json:"truncated" jsonschema:"True if there are more; raise search_depth or narrow the search"`
	Fresh
}

func (s traceTools) searchTraces(ctx context.Context, in searchTracesIn) (out searchTracesOut, err error) {
	q := traces.Query{
		Service: in.Service, Operation: in.SpanName, Attributes: in.Attributes, Order: traces.OrderNewest,
		Limit: bounded(in.SearchDepth, defaultTraces, maxTraces) + 1,
	}
	if in.WithErrors {
		q.Status = "error"
	}
	// Spans may be newer than the data's time.
	if q.End, err = s.at("start_time_max", in.StartTimeMax, s.now().Add(time.Hour)); err != nil {
		return out, err
	}
	if q.Start, err = s.at("start_time_min", in.StartTimeMin, s.now().Add(-time.Hour)); err != nil {
		return out, err
	}
	if q.End.Before(q.Start) {
		return out, errors.New("start_time_max must be after start_time_min")
	}
	for _, d := range []struct {
		name, text string
		into       *time.Duration
	}{{"duration_min", in.DurationMin, &q.MinDuration}, {"duration_max", in.DurationMax, &q.MaxDuration}} {
		if d.text != "" {
			if *d.into, err = time.ParseDuration(d.text); err != nil {
				return out, fmt.Errorf("invalid %s: %w", d.name, err)
			}
		}
	}
	found, err := s.Traces.Search(ctx, q)
	if err != nil {
		return out, fmt.Errorf("searching traces: %w", err)
	}
	out = searchTracesOut{Traces: []traceSummary{}, Fresh: s.fresh()}
	found, _, out.Truncated = cut(found, q.Limit-1)
	for i := range found {
		t := &found[i]
		out.Traces = append(out.Traces, traceSummary{
			t.TraceID, t.RootService, t.RootOperation, format(t.Start), int64(t.DurationMS * 1000), t.Spans, len(t.Services), t.Services, t.Errors > 0,
		})
	}
	return out, nil
}

// trace reads a trace, which has to be there.
func (s traceTools) trace(ctx context.Context, id string) (*traces.Trace, error) {
	if id == "" {
		return nil, errors.New("trace_id is required")
	}
	t, err := s.Traces.Trace(ctx, strings.Repeat("0", max(32-len(id), 0))+strings.ToLower(id))
	switch {
	case err != nil:
		return nil, fmt.Errorf("failed to get trace: %w", err)
	case t == nil:
		return nil, errors.New("trace not found")
	}
	return t, nil
}

type spanStatus struct {
	Code    string `json:"code" jsonschema:"Status code (Unset Ok Error)"`
	Message string `json:"message,omitempty"`
}

type spanEvent struct {
	Name       string            `json:"name"`
	Timestamp  string            `json:"timestamp"`
	Attributes map[string]string `json:"attributes,omitempty"` // bounded by traces
}

type spanDetail struct {
	SpanID       string            `json:"span_id"`
	TraceID      string            `json:"trace_id"`
	ParentSpanID string            `json:"parent_span_id,omitempty"`
	Service      string            `json:"service"`
	SpanName     string            `json:"span_name"`
	StartTime    string            `json:"start_time"`
	DurationUs   int64             `json:"duration_us"`
	Status       spanStatus        `json:"status"`
	Attributes   map[string]string `json:"attributes,omitempty"` // bounded by traces
	Events       []spanEvent       `json:"events,omitempty"`
}

// code is a status as OTLP writes it.
func code(status string) string {
	switch status {
	case "ok":
		return "Ok"
	case "error":
		return "Error"
	}
	return "Unset"
}

func detailOf(sp *traces.Span) spanDetail {
	d := spanDetail{
		SpanID: sp.SpanID, TraceID: sp.TraceID, ParentSpanID: sp.ParentID, Service: sp.Service, SpanName: sp.Name,
		StartTime: format(sp.Start), DurationUs: int64(sp.DurationMS * 1000), Status: spanStatus{code(sp.Status), sp.StatusMessage}, Attributes: sp.Attributes,
	}
	for _, e := range sp.Events {
		d.Events = append(d.Events, spanEvent{e.Name, format(e.Time), e.Attributes})
	}
	return d
}

type spanDetailsIn struct {
	TraceID string   `json:"trace_id" jsonschema:"Unique identifier for the trace"`
	SpanIDs []string `json:"span_ids" jsonschema:"List of span IDs to fetch details for, at most 20"`
}

type spanDetailsOut struct {
	TraceID string       `json:"trace_id"`
	Spans   []spanDetail `json:"spans,omitempty"`
	Error   string       `json:"error,omitempty" jsonschema:"Says which spans were not found"`
}

func (s traceTools) spanDetails(ctx context.Context, in spanDetailsIn) (out spanDetailsOut, err error) {
	if len(in.SpanIDs) == 0 || len(in.SpanIDs) > maxDetails {
		return out, fmt.Errorf("span_ids must have 1 to %d ids", maxDetails)
	}
	t, err := s.trace(ctx, in.TraceID)
	if err != nil {
		return out, err
	}
	out.TraceID = in.TraceID
	missing := slices.Clone(in.SpanIDs)
	for _, sp := range t.Spans {
		if at := slices.IndexFunc(missing, func(id string) bool { return strings.EqualFold(id, sp.SpanID) }); at >= 0 {
			missing = slices.Delete(missing, at, at+1)
			out.Spans = append(out.Spans, detailOf(sp))
		}
	}
	if len(missing) > 0 {
		out.Error = fmt.Sprintf("spans not found: %v", missing)
	}
	return out, nil
}

type traceIn struct {
	TraceID string `json:"trace_id" jsonschema:"Unique identifier for the trace"`
}

type traceErrorsOut struct {
	TraceID         string       `json:"trace_id"`
	TotalErrorCount int          `json:"total_error_count" jsonschema:"Number of spans that failed, which may be more than are listed"`
	Spans           []spanDetail `json:"spans,omitempty"`
}

func (s traceTools) traceErrors(ctx context.Context, in traceIn) (out traceErrorsOut, err error) {
	t, err := s.trace(ctx, in.TraceID)
	if err != nil {
		return out, err
	}
	out.TraceID = in.TraceID
	for _, sp := range t.Spans {
		if sp.Status != "error" {
			continue
		}
		if out.TotalErrorCount++; len(out.Spans) < maxDetails {
			out.Spans = append(out.Spans, detailOf(sp))
		}
	}
	return out, nil
}

type topologyIn struct {
	TraceID string `json:"trace_id" jsonschema:"Unique identifier for the trace"`
	Depth   int    `json:"depth,omitempty" jsonschema:"Maximum depth of the tree. 0 for full tree"`
}

type topologySpan struct {
	Path              string `json:"path" jsonschema:"Slash-delimited span IDs from root to this span"`
	Service           string `json:"service"`
	SpanName          string `json:"span_name"`
	StartTime         string `json:"start_time"`
	DurationUs        int64  `json:"duration_us"`
	Status            string `json:"status" jsonschema:"Span status (Unset Ok Error)"`
	TruncatedChildren int    `json:"truncated_children,omitempty" jsonschema:"Number of direct children excluded due to depth limit"`
}

type topologyOut struct {
	TraceID string         `json:"trace_id"`
	Spans   []topologySpan `json:"spans" jsonschema:"Flat depth-first list of spans; path encodes parent-child relationships"`
	Omitted int            `json:"omitted_spans,omitempty" jsonschema:"Number of spans that are not listed because there are too many, or because the trace was cut"`
}

func (s traceTools) traceTopology(ctx context.Context, in topologyIn) (out topologyOut, err error) {
	t, err := s.trace(ctx, in.TraceID)
	if err != nil {
		return out, err
	}
	tree := treeOf(t.Spans)
	out = topologyOut{TraceID: in.TraceID, Spans: []topologySpan{}, Omitted: t.DroppedSpans}
	var walk func(sp *traces.Span, path string, depth int)
	walk = func(sp *traces.Span, path string, depth int) {
		listed := len(out.Spans) < maxTopology
		if !listed {
			out.Omitted++
		} else {
			out.Spans = append(out.Spans, topologySpan{path, sp.Service, sp.Name, format(sp.Start), int64(sp.DurationMS * 1000), code(sp.Status), 0})
		}
		children := tree.of(sp)
		if in.Depth > 0 && depth >= in.Depth {
			if listed {
				out.Spans[len(out.Spans)-1].TruncatedChildren = len(children)
			}
			return
		}
		for _, child := range children {
			under := ""
			if len(out.Spans) < maxTopology {
				under = path + "/" + child.SpanID
			}
			walk(child, under, depth+1)
		}
	}
	for _, root := range tree.roots {
		path := root.SpanID
		if root.ParentID != "" {
			path = root.ParentID + "/" + path
		}
		walk(root, path, 1)
	}
	return out, nil
}

type dependenciesIn struct {
	StartTime string `json:"start_time,omitempty" jsonschema:"Start of time range (RFC3339 or relative like -24h). Default: -24h"`
	EndTime   string `json:"end_time,omitempty" jsonschema:"End of time range (RFC3339 or relative like now). Default: now"`
}

type dependency struct {
	Caller    string `json:"caller"`
	Callee    string `json:"callee"`
	CallCount uint64 `json:"call_count"`
}

type dependenciesOut struct {
	Dependencies []dependency `json:"dependencies" jsonschema:"Service-to-service dependency edges with call counts"`
	TotalCount   int          `json:"total_count"`
	Truncated    bool         `json:"truncated"`
	Fresh
}

func (s traceTools) dependencies(ctx context.Context, in dependenciesIn) (out dependenciesOut, err error) {
	start, end, err := s.window(Window{cmp.Or(in.StartTime, "-24h"), in.EndTime})
	if err != nil {
		return out, err
	}
	g, release, err := s.Graphs.Graph(ctx, graph.Options{Start: start.UnixMilli(), End: end.UnixMilli(), GroupBy: graph.ByApp})
	if err != nil {
		return out, err
	}
	defer release()
	out = dependenciesOut{Dependencies: []dependency{}, Fresh: s.fresh()}
	for _, l := range g.Links() {
		out.Dependencies = append(out.Dependencies, dependency{l.Parent, l.Child, l.Calls})
	}
	out.Dependencies, out.TotalCount, out.Truncated = cut(out.Dependencies, maxNames)
	return out, nil
}

// encode writes what can be written as JSON.
func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
