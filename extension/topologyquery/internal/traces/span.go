// Package traces keeps spans as records, or reads them from a Jaeger.
package traces

import (
	"cmp"
	"context"
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
)

// Limits on one span: whoever sends it chooses its content.
const (
	maxAttributes = 64
	maxEvents     = 16
	maxText       = 2048
)

// Layers of a span.
const (
	LayerL4 = "l4" // a connection, as a ztunnel saw it
	LayerL7 = "l7" // an application's or a waypoint's span
)

// Span is one span.
type Span struct {
	TraceID  string `json:"trace_id"`
	SpanID   string `json:"span_id"`
	ParentID string `json:"parent_id,omitempty"`
	Layer    string `json:"layer"`
	Kind     string `json:"kind"`
	Sender
	Name          string            `json:"name"`
	Start         time.Time         `json:"start"`
	DurationMS    float64           `json:"duration_ms"`
	Status        string            `json:"status"` // unset, ok or error
	StatusMessage string            `json:"status_message,omitempty"`
	Attributes    map[string]string `json:"attributes"`
	Events        []SpanEvent       `json:"events,omitempty"`
}

// Sender is who made a span.
type Sender struct {
	Service   string `json:"service"`
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Node      string `json:"node,omitempty"`
}

// SpanEvent is an event of a span.
type SpanEvent struct {
	Time       time.Time         `json:"time"`
	Name       string            `json:"name"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Trace is a trace with its spans by start.
type Trace struct {
	TraceID string  `json:"trace_id"`
	Spans   []*Span `json:"spans"`
	// DroppedSpans is how many spans came that a bound kept out: the trace is cut.
	DroppedSpans int         `json:"dropped_spans,omitempty"`
	ClockSkews   []ClockSkew `json:"clock_skews,omitempty"`
}

// Summary is a trace in a list.
type Summary struct {
	TraceID       string    `json:"trace_id"`
	RootService   string    `json:"root_service"`
	RootOperation string    `json:"root_operation"`
	Start         time.Time `json:"start"`
	DurationMS    float64   `json:"duration_ms"`
	Spans         int       `json:"spans"`
	Errors        int       `json:"errors"`
	Services      []string  `json:"services"`
	// L4Spans is how many of the spans are connections.
	L4Spans int `json:"l4_spans"`
	// DroppedSpans are those that a bound kept out, ClockSkewMS is the largest difference between two clocks.
	DroppedSpans int     `json:"dropped_spans,omitempty"`
	ClockSkewMS  float64 `json:"clock_skew_ms,omitempty"`
}

// Service is a service with the names of its operations.
type Service struct {
	Name       string   `json:"name"`
	Operations []string `json:"operations"`
	// Kinds are the operations with the kinds of their spans.
	Kinds []Operation `json:"-"`
}

// Operation is the name of spans of a kind: internal, server, client, producer or consumer; unspecified or empty where it is not known.
type Operation struct{ Name, Kind string }

// newService is a service that has these operations.
func newService(name string, operations []Operation) Service {
	s := Service{Name: name, Operations: []string{}, Kinds: operations}
	slices.SortFunc(s.Kinds, func(a, b Operation) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Kind, b.Kind))
	})
	for _, operation := range s.Kinds {
		s.Operations = append(s.Operations, operation.Name)
	}
	s.Operations = slices.Compact(s.Operations)
	return s
}

// Query selects traces: those with a span that has all that is asked for.
type Query struct {
	Service     string
	Operation   string            // the span's name or its http.route
	Attributes  map[string]string // bounded by the request
	MinDuration time.Duration
	MaxDuration time.Duration // 0 does not bound
	Status      string        // unset, ok or error
	Layer       string
	Start, End  time.Time
	// After and AfterID are the start and id of a trace: those that come after it in the list are asked for, unless After is zero.
	After   time.Time
	AfterID string
	// Offset is how many traces of the list to leave out, where its order is not by time.
	Offset int
	Limit  int
	Order  Order
}

// Order is the order of a list of traces.
type Order string

// Orders: by start, by duration, by number of spans and by number of errors. Those that are equal are by start.
const (
	OrderNewest  Order = "newest"
	OrderSlowest Order = "slowest"
	OrderSpans   Order = "most_spans"
	OrderErrors  Order = "most_errors"
)

// follows tells whether a trace comes after the one that the query goes on from: older, or as old with a larger id.
func (q *Query) follows(start time.Time, id string) bool {
	return q.After.IsZero() || cmp.Or(q.After.Compare(start), strings.Compare(id, q.AfterID)) > 0
}

// Reader answers for traces.
type Reader interface {
	// Search returns traces in the query's order.
	Search(ctx context.Context, query Query) ([]Summary, error)
	// Trace returns a trace, nil if it is unknown.
	Trace(ctx context.Context, id string) (*Trace, error)
	// Services returns the services that have spans in a range, by name. A zero time does not bound it.
	Services(ctx context.Context, start, end time.Time) ([]Service, error)
	// Count counts the spans that a query selects by time and duration, nil where that cannot be told.
	Count(ctx context.Context, query Query, steps int) (*Counts, error)
}

// AppOf names the app that a pod belongs to, empty if it is unknown.
type AppOf func(namespace, pod string) string

// convert reads the spans of a batch. Spans of ztunnels are named by the app of their pod where it is known, so that
// they are found beside the application's own.
func convert(td ptrace.Traces, appOf AppOf, yield func(*Span)) {
	for _, rs := range td.ResourceSpans().All() {
		sender := senderOf(rs.Resource().Attributes())
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				yield(newSpan(sender.of(span, appOf), span))
			}
		}
	}
}

func senderOf(resource pcommon.Map) *Sender {
	return &Sender{
		Service:   text(resource, semconv.AttrServiceName),
		Namespace: cmp.Or(text(resource, semconv.AttrServiceNamespace), text(resource, semconv.AttrNamespaceName)),
		Pod:       text(resource, semconv.AttrPodName),
		Node:      text(resource, semconv.AttrNodeName),
	}
}

// of is the sender of one of its spans.
func (s *Sender) of(span ptrace.Span, appOf AppOf) Sender {
	sender := *s
	if appOf != nil && s.Pod != "" && layerOf(span) == LayerL4 {
		sender.Service = cmp.Or(appOf(s.Namespace, s.Pod), s.Service)
	}
	return sender
}

func layerOf(span ptrace.Span) string {
	if _, ok := span.Attributes().Get(semconv.AttrDirection); ok {
		return LayerL4
	}
	return LayerL7
}

var (
	kinds    = [...]string{"unspecified", "internal", "server", "client", "producer", "consumer"}
	statuses = [...]string{"unset", "ok", "error"}
)

func kindOf(span ptrace.Span) string {
	if kind := span.Kind(); kind >= 0 && int(kind) < len(kinds) {
		return kinds[kind]
	}
	return strings.ToLower(span.Kind().String())
}

func statusOf(span ptrace.Span) string {
	if code := span.Status().Code(); code >= 0 && int(code) < len(statuses) {
		return statuses[code]
	}
	return strings.ToLower(span.Status().Code().String())
}

func durationOf(span ptrace.Span) time.Duration {
	if start, end := span.StartTimestamp(), span.EndTimestamp(); end > start {
		return time.Duration(min(end-start, math.MaxInt64)) //nolint:gosec // it fits
	}
	return 0
}

func eventsOf(span ptrace.Span) (list []SpanEvent) {
	for i, event := range span.Events().All() {
		if i == maxEvents {
			break
		}
		list = append(list, SpanEvent{event.Timestamp().AsTime(), clip(event.Name()), attributes(event.Attributes())})
	}
	return list
}

func newSpan(sender Sender, span ptrace.Span) *Span {
	traceID, spanID, parentID := span.TraceID(), span.SpanID(), span.ParentSpanID()
	s := &Span{
		TraceID:       hex.EncodeToString(traceID[:]),
		SpanID:        hex.EncodeToString(spanID[:]),
		Layer:         layerOf(span),
		Kind:          kindOf(span),
		Sender:        sender,
		Name:          clip(span.Name()),
		Start:         span.StartTimestamp().AsTime(),
		DurationMS:    float64(durationOf(span)) / 1e6,
		Status:        statusOf(span),
		StatusMessage: clip(span.Status().Message()),
		Attributes:    attributes(span.Attributes()),
		Events:        eventsOf(span),
	}
	if !parentID.IsEmpty() {
		s.ParentID = hex.EncodeToString(parentID[:])
	}
	return s
}

func attributes(m pcommon.Map) map[string]string {
	out := make(map[string]string, min(m.Len(), maxAttributes))
	for name, value := range m.All() {
		if len(out) == maxAttributes {
			break
		}
		out[clip(name)] = clip(value.AsString())
	}
	return out
}

func text(m pcommon.Map, name string) string {
	value, ok := m.Get(name)
	if !ok {
		return ""
	}
	return clip(value.AsString())
}

func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func (s *Span) duration() time.Duration { return time.Duration(math.Round(s.DurationMS * 1e6)) }

func (s *Span) end() time.Time { return s.Start.Add(s.duration()) }

func (s *Span) match(q *Query) bool {
	if q.Service != "" && s.Service != q.Service ||
		q.Operation != "" && s.Name != q.Operation && s.Attributes["http.route"] != q.Operation ||
		q.Status != "" && s.Status != q.Status ||
		q.Layer != "" && s.Layer != q.Layer ||
		q.MinDuration > 0 && s.DurationMS < float64(q.MinDuration)/1e6 ||
		q.MaxDuration > 0 && s.DurationMS > float64(q.MaxDuration)/1e6 {
		return false
	}
	for name, value := range q.Attributes {
		if got, ok := s.Attributes[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// summarise makes a trace's summary from its spans.
func summarise(id string, spans []*Span) Summary {
	out := Summary{TraceID: id, Spans: len(spans), Services: []string{}}
	ids := make(map[string]struct{}, len(spans))
	for _, s := range spans {
		ids[s.SpanID] = struct{}{}
	}
	var root *Span
	var end time.Time
	services := map[string]struct{}{}
	for _, s := range spans {
		if s.Status == "error" {
			out.Errors++
		}
		if s.Layer == LayerL4 {
			out.L4Spans++
		}
		services[s.Service] = struct{}{}
		if out.Start.IsZero() || s.Start.Before(out.Start) {
			out.Start = s.Start
		}
		if s.end().After(end) {
			end = s.end()
		}
		if _, known := ids[s.ParentID]; !known && (root == nil || s.Start.Before(root.Start)) {
			root = s
		}
	}
	if root != nil {
		out.RootService, out.RootOperation = root.Service, root.Name
	}
	out.DurationMS = float64(end.Sub(out.Start)) / 1e6
	for name := range services {
		out.Services = append(out.Services, name)
	}
	slices.Sort(out.Services)
	out.ClockSkewMS = largestSkew(skewsOf(spans))
	return out
}

func sortSpans(spans []*Span) {
	slices.SortFunc(spans, func(a, b *Span) int { return cmp.Or(a.Start.Compare(b.Start), strings.Compare(a.SpanID, b.SpanID)) })
}
