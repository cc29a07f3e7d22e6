package traces

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/records"
)

// KindName is the name of the records that are spans.
const KindName = "spans"

// Fields of a span's record beside its time. An attribute's field begins with prefixAttribute; fieldEmpty has the names of attributes
// whose values are empty, a line each.
const (
	fieldTrace    = "trace_id"
	fieldSpan     = "span_id"
	fieldParent   = "parent_id"
	fieldDuration = "duration"
	fieldService  = "service"
	fieldName     = "name"
	fieldStatus   = "status"
	fieldLayer    = "layer"
	fieldKind     = "kind"
	fieldMessage  = "status_message"
	fieldEvents   = "events"
	fieldEmpty    = "empty_attributes"

	prefixAttribute = "attr."
	attributeRoute  = "http.route"
)

// Kind are spans as records. Durations are nanoseconds, ids are bytes.
var Kind = records.Kind{
	Name: KindName, Ints: []string{fieldDuration}, Raw: []string{fieldTrace, fieldSpan, fieldParent}, Binary: []string{fieldTrace, fieldSpan, fieldParent},
	Lookups: []string{fieldTrace}, Identity: []string{fieldTrace, fieldSpan}, Share: 0.5, Digest: digestBlocks,
}

// SampleKind are spans of outages, which are kept when they leave Kind's records.
var SampleKind = records.Kind{
	Name: "outage_spans", Ints: Kind.Ints, Raw: Kind.Raw, Lookups: Kind.Lookups, Identity: Kind.Identity, Share: 0.05, Ageless: true,
}

// texts are the fields of a span that are stored as they are.
var texts = []struct {
	name string
	of   func(s *Span) *string
}{
	{fieldService, func(s *Span) *string { return &s.Service }},
	{fieldName, func(s *Span) *string { return &s.Name }},
	{fieldStatus, func(s *Span) *string { return &s.Status }},
	{fieldLayer, func(s *Span) *string { return &s.Layer }},
	{fieldKind, func(s *Span) *string { return &s.Kind }},
	{"namespace", func(s *Span) *string { return &s.Namespace }},
	{"pod", func(s *Span) *string { return &s.Pod }},
	{"node", func(s *Span) *string { return &s.Node }},
	{fieldMessage, func(s *Span) *string { return &s.StatusMessage }},
}

// briefTexts is how many of the texts a summary needs.
const briefTexts = 5

// encoder makes records of spans. Its memory is used again by the next batch: what takes the records copies them.
type encoder struct {
	batch  []records.Record
	fields []records.Field
	// names are the fields of attributes by their names; bounded by maxNames.
	names map[string]string
}

// maxNames bounds the names of attributes whose fields are remembered.
const maxNames = 1024

// encode makes the records of a batch, valid until the next one.
func (e *encoder) encode(td ptrace.Traces, appOf AppOf) []records.Record {
	clear(e.fields)
	e.batch, e.fields = e.batch[:0], e.fields[:0]
	for _, rs := range td.ResourceSpans().All() {
		sender := senderOf(rs.Resource().Attributes())
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				e.add(sender.of(span, appOf), span)
			}
		}
	}
	return e.batch
}

func (e *encoder) text(name, value string) {
	if value != "" {
		e.fields = append(e.fields, records.Field{Name: name, Text: value})
	}
}

func (e *encoder) add(sender Sender, span ptrace.Span) {
	first := len(e.fields)
	// What is texts of a Span.
	brief := Span{
		Sender: sender, Name: clip(span.Name()), Status: statusOf(span), Layer: layerOf(span), Kind: kindOf(span), StatusMessage: clip(span.Status().Message()),
	}
	for i := range texts {
		e.text(texts[i].name, *texts[i].of(&brief))
	}
	traceID, spanID, parentID := span.TraceID(), span.SpanID(), span.ParentSpanID()
	e.text(fieldTrace, string(traceID[:]))
	e.text(fieldSpan, string(spanID[:]))
	if !parentID.IsEmpty() {
		e.text(fieldParent, string(parentID[:]))
	}
	e.fields = append(e.fields, records.Field{Name: fieldDuration, Number: int64(durationOf(span))})
	var empty []string
	n := 0
	for name, value := range span.Attributes().All() {
		if n++; n > maxAttributes {
			break
		}
		if text := clip(value.AsString()); text == "" {
			empty = append(empty, clip(name))
		} else {
			e.text(e.attribute(name), text)
		}
	}
	if len(empty) > 0 {
		slices.Sort(empty)
		e.text(fieldEmpty, strings.Join(empty, "\n"))
	}
	if list := eventsOf(span); len(list) > 0 {
		if encoded, err := json.Marshal(list); err == nil {
			e.text(fieldEvents, string(encoded))
		}
	}
	e.batch = append(e.batch, records.Record{Time: span.StartTimestamp().AsTime().UnixNano(), Fields: e.fields[first:len(e.fields):len(e.fields)]})
}

// attribute is the field of an attribute.
func (e *encoder) attribute(name string) string {
	field, known := e.names[name]
	if !known {
		field = prefixAttribute + clip(name)
		if e.names == nil || len(e.names) >= maxNames {
			e.names = map[string]string{}
		}
		e.names[strings.Clone(name)] = field
	}
	return field
}

// decode reads a span; brief leaves out what a summary does not need.
func decode(r records.Row, brief bool) *Span {
	s := &Span{
		TraceID:    hex.EncodeToString([]byte(r.Text(fieldTrace))),
		SpanID:     hex.EncodeToString([]byte(r.Text(fieldSpan))),
		ParentID:   hex.EncodeToString([]byte(r.Text(fieldParent))),
		Start:      time.Unix(0, r.Time()).UTC(),
		DurationMS: float64(r.Number(fieldDuration)) / 1e6,
	}
	if brief {
		for i := range texts[:briefTexts] {
			*texts[i].of(s) = r.Text(texts[i].name)
		}
		return s
	}
	for i := range texts {
		*texts[i].of(s) = r.Text(texts[i].name)
	}
	s.Attributes = map[string]string{}
	for _, field := range r.Fields() {
		if name, is := strings.CutPrefix(field, prefixAttribute); is {
			if value := r.Text(field); value != "" {
				s.Attributes[name] = value
			}
		}
	}
	for field, value := range r.More() {
		if name, is := strings.CutPrefix(field, prefixAttribute); is {
			s.Attributes[name] = value
		}
	}
	if empty := r.Text(fieldEmpty); empty != "" {
		for name := range strings.SplitSeq(empty, "\n") {
			s.Attributes[name] = ""
		}
	}
	if events := r.Text(fieldEvents); events != "" {
		// What was encoded here can be decoded.
		_ = json.Unmarshal([]byte(events), &s.Events)
	}
	return s
}

// where is what a record of a span that is asked for has.
func (q *Query) where() (clauses []records.Clause) {
	equals := func(field, value string) {
		if value != "" {
			clauses = append(clauses, records.Clause{{Field: field, Equals: value}})
		}
	}
	equals(fieldService, q.Service)
	equals(fieldStatus, q.Status)
	equals(fieldLayer, q.Layer)
	if q.Operation != "" {
		clauses = append(clauses, append(records.Clause{{Field: fieldName, Equals: q.Operation}}, records.HasField(prefixAttribute+attributeRoute, q.Operation)...))
	}
	if q.MinDuration > 0 || q.MaxDuration > 0 {
		clauses = append(clauses, records.Clause{{Field: fieldDuration, Number: func(d int64) bool {
			return d >= int64(q.MinDuration) && (q.MaxDuration == 0 || d <= int64(q.MaxDuration))
		}}})
	}
	for name, value := range q.Attributes {
		if value == "" {
			clauses = append(clauses, records.Clause{{Field: fieldEmpty, Text: func(names string) bool {
				return slices.Contains(strings.Split(names, "\n"), name)
			}}})
			continue
		}
		clauses = append(clauses, records.HasField(prefixAttribute+name, value))
	}
	return clauses
}
