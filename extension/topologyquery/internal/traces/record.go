package traces

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

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
	Name: KindName, Ints: []string{fieldDuration}, Raw: []string{fieldTrace, fieldSpan, fieldParent},
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

func encode(s *Span) records.Record {
	fields := make([]records.Field, 0, len(texts)+len(s.Attributes)+6)
	for i := range texts {
		fields = append(fields, records.Field{Name: texts[i].name, Text: *texts[i].of(s)})
	}
	fields = append(fields,
		records.Field{Name: fieldTrace, Text: bytesOf(s.TraceID)},
		records.Field{Name: fieldSpan, Text: bytesOf(s.SpanID)},
		records.Field{Name: fieldParent, Text: bytesOf(s.ParentID)},
		records.Field{Name: fieldDuration, Number: int64(s.duration())},
	)
	var empty []string
	for name, value := range s.Attributes {
		if value == "" {
			empty = append(empty, name)
			continue
		}
		fields = append(fields, records.Field{Name: prefixAttribute + name, Text: value})
	}
	if len(empty) > 0 {
		slices.Sort(empty)
		fields = append(fields, records.Field{Name: fieldEmpty, Text: strings.Join(empty, "\n")})
	}
	if len(s.Events) > 0 {
		if encoded, err := json.Marshal(s.Events); err == nil {
			fields = append(fields, records.Field{Name: fieldEvents, Text: string(encoded)})
		}
	}
	return records.Record{Time: s.Start.UnixNano(), Fields: fields}
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

// bytesOf are the bytes of an id; it was made by hex itself.
func bytesOf(id string) string {
	b, _ := hex.DecodeString(id)
	return string(b)
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
