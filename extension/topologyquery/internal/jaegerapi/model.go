package jaegerapi

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
)

// trace is a trace in the JSON of Jaeger's UI. Times and durations are microseconds.
type trace struct {
	TraceID   string             `json:"traceID"`
	Spans     []span             `json:"spans"`
	Processes map[string]process `json:"processes"`
	Warnings  []string           `json:"warnings"`
}

type span struct {
	TraceID    string      `json:"traceID"`
	SpanID     string      `json:"spanID"`
	Operation  string      `json:"operationName"`
	References []reference `json:"references"`
	Start      int64       `json:"startTime"`
	Duration   int64       `json:"duration"`
	Tags       []tag       `json:"tags"`
	Logs       []logs      `json:"logs"`
	ProcessID  string      `json:"processID"`
	Warnings   []string    `json:"warnings"`
}

type reference struct {
	Type    string `json:"refType"`
	TraceID string `json:"traceID"`
	SpanID  string `json:"spanID"`
}

type tag struct {
	Key   string `json:"key"`
	Type  string `json:"type"`
	Value any    `json:"value"`
}

type logs struct {
	Time   int64 `json:"timestamp"`
	Fields []tag `json:"fields"`
}

type process struct {
	Service string `json:"serviceName"`
	Tags    []tag  `json:"tags"`
}

func traceOf(t *traces.Trace) *trace {
	out := &trace{TraceID: t.TraceID, Spans: make([]span, 0, len(t.Spans)), Processes: map[string]process{}}
	if t.DroppedSpans > 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("the trace is cut: %d spans were dropped", t.DroppedSpans))
	}
	ids := map[traces.Sender]string{} // bounded by the trace's spans
	for _, s := range t.Spans {
		id, ok := ids[s.Sender]
		if !ok {
			id = "p" + strconv.Itoa(len(ids)+1)
			ids[s.Sender] = id
			out.Processes[id] = process{s.Service, tagsOf(resourceOf(&s.Sender))}
		}
		one := span{
			TraceID: t.TraceID, SpanID: s.SpanID, Operation: s.Name, ProcessID: id,
			Start: s.Start.UnixMicro(), Duration: s.Start.Add(durationOf(s)).UnixMicro() - s.Start.UnixMicro(), // so that ends keep their order
			References: []reference{}, Tags: tagsOf(s.Attributes), Logs: []logs{},
		}
		if s.ParentID != "" {
			one.References = append(one.References, reference{"CHILD_OF", t.TraceID, s.ParentID})
		}
		if kind := Kind(s.Kind); kind != "" {
			one.Tags = append(one.Tags, tag{"span.kind", "string", kind})
		}
		switch s.Status {
		case "error":
			one.Tags = append(one.Tags, tag{"error", "bool", true}, tag{"otel.status_code", "string", "ERROR"})
		case "ok":
			one.Tags = append(one.Tags, tag{"otel.status_code", "string", "OK"})
		}
		if s.StatusMessage != "" {
			one.Tags = append(one.Tags, tag{"otel.status_description", "string", s.StatusMessage})
		}
		for _, e := range s.Events {
			one.Logs = append(one.Logs, logs{e.Time.UnixMicro(), append([]tag{{"event", "string", e.Name}}, tagsOf(e.Attributes)...)})
		}
		out.Spans = append(out.Spans, one)
	}
	return out
}

func durationOf(s *traces.Span) time.Duration {
	return time.Duration(math.Round(s.DurationMS * float64(time.Millisecond)))
}

// resourceOf are the attributes of who sent a span, beside its service's name.
func resourceOf(s *traces.Sender) map[string]string {
	out := map[string]string{}
	for name, value := range map[string]string{
		"service.namespace": s.Namespace, "k8s.namespace.name": s.Namespace, "k8s.pod.name": s.Pod,
		"k8s.node.name": s.Node, "host.name": s.Node,
	} {
		if value != "" {
			out[name] = value
		}
	}
	return out
}

func tagsOf(attributes map[string]string) []tag {
	out := make([]tag, 0, len(attributes)+3)
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		out = append(out, tag{key, "string", attributes[key]})
	}
	return out
}

var kinds = map[string]ptrace.SpanKind{ // bounded: constant
	"internal": ptrace.SpanKindInternal, "server": ptrace.SpanKindServer, "client": ptrace.SpanKindClient,
	"producer": ptrace.SpanKindProducer, "consumer": ptrace.SpanKindConsumer,
}

var statuses = map[string]ptrace.StatusCode{"ok": ptrace.StatusCodeOk, "error": ptrace.StatusCodeError} // bounded: constant

// OTLP writes a trace as OTLP, with a resource for each sender.
func OTLP(t *traces.Trace) ptrace.Traces { return otlpOf([]*traces.Trace{t}) }

// otlpOf writes traces as OTLP, with a resource for each sender.
func otlpOf(list []*traces.Trace) ptrace.Traces {
	out := ptrace.NewTraces()
	spans := map[traces.Sender]ptrace.SpanSlice{} // bounded by the traces' spans
	for _, t := range list {
		for _, s := range t.Spans {
			into, ok := spans[s.Sender]
			if !ok {
				resource := out.ResourceSpans().AppendEmpty()
				attributes := resource.Resource().Attributes()
				attributes.PutStr("service.name", s.Service)
				put(attributes, resourceOf(&s.Sender))
				into = resource.ScopeSpans().AppendEmpty().Spans()
				spans[s.Sender] = into
			}
			one := into.AppendEmpty()
			var id pcommon.TraceID
			decode(id[:], t.TraceID)
			one.SetTraceID(id)
			var spanID, parent pcommon.SpanID
			decode(spanID[:], s.SpanID)
			decode(parent[:], s.ParentID)
			one.SetSpanID(spanID)
			one.SetParentSpanID(parent)
			one.SetName(s.Name)
			one.SetKind(kinds[strings.ToLower(s.Kind)])
			one.SetStartTimestamp(pcommon.NewTimestampFromTime(s.Start))
			one.SetEndTimestamp(pcommon.NewTimestampFromTime(s.Start.Add(durationOf(s))))
			one.Status().SetCode(statuses[s.Status])
			one.Status().SetMessage(s.StatusMessage)
			put(one.Attributes(), s.Attributes)
			for _, e := range s.Events {
				event := one.Events().AppendEmpty()
				event.SetName(e.Name)
				event.SetTimestamp(pcommon.NewTimestampFromTime(e.Time))
				put(event.Attributes(), e.Attributes)
			}
		}
	}
	return out
}

func put(into pcommon.Map, attributes map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		into.PutStr(key, attributes[key])
	}
}

// decode reads an id in hexadecimal digits, right-aligned: ids of 64 bits are short. What is none stays zero.
func decode(into []byte, text string) {
	raw, err := hex.DecodeString(text)
	if err == nil && len(raw) <= len(into) {
		copy(into[len(into)-len(raw):], raw)
	}
}

func summaryOf(t *traces.Trace, of *traces.Summary) summary {
	out := summary{
		TraceID: t.TraceID, RootService: of.RootService, RootOperation: of.RootOperation,
		Spans: len(t.Spans), Services: []serviceSpans{},
	}
	known := map[string]bool{}             // bounded by the trace's spans
	services := map[string]*serviceSpans{} // bounded by the trace's spans
	for _, s := range t.Spans {
		known[s.SpanID] = true
	}
	var first, last time.Time
	for i, s := range t.Spans {
		if i == 0 || s.Start.Before(first) {
			first = s.Start
		}
		if end := s.Start.Add(durationOf(s)); end.After(last) {
			last = end
		}
		one := services[s.Service]
		if one == nil {
			one = &serviceSpans{Name: s.Service}
			services[s.Service] = one
		}
		one.Spans++
		if s.Status == "error" {
			one.Errors++
			out.Errors++
		}
		if s.ParentID != "" && !known[s.ParentID] {
			out.Orphans++
		}
	}
	out.Start, out.End = strconv.FormatInt(first.UnixNano(), 10), strconv.FormatInt(last.UnixNano(), 10)
	for _, one := range services {
		out.Services = append(out.Services, *one)
	}
	slices.SortFunc(out.Services, func(a, b serviceSpans) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
