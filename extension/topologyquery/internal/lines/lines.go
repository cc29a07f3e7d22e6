// Package lines keeps what ztunnels and CNI agents log beside connections, line by line, as records.
package lines

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/records"
	"github.com/nephilia/nephilia/internal/semconv"
)

// KindName is the name of the records that are lines.
const KindName = "lines"

// Fields of a line's record beside its time. fieldFields is a JSON object of texts.
const (
	fieldUID     = "uid"
	fieldNode    = "node"
	fieldSource  = "source"
	fieldLevel   = "level"
	fieldScope   = "scope"
	fieldMessage = "message"
	fieldFields  = "fields"
)

// Sources of lines.
const (
	SourceZtunnel = "ztunnel"
	SourceCNI     = "istio_cni"
)

// Limits on one line.
const (
	maxText   = 2048
	maxFields = 32
)

// Kind are lines as records.
var Kind = records.Kind{Name: KindName, Raw: []string{fieldUID}, Identity: []string{fieldUID}, Share: 0.05}

// Line is one line of a log.
type Line struct {
	// Cursor is the line's place in the order of arrival.
	Cursor  uint64            `json:"cursor"`
	Time    time.Time         `json:"time"`
	Node    string            `json:"node"`
	Source  string            `json:"source"`
	Level   string            `json:"level"`
	Scope   string            `json:"scope,omitempty"`
	Message string            `json:"message"`
	Fields  map[string]string `json:"fields,omitempty"` // bounded by maxFields
}

// Store keeps lines as records. Its methods may be called from several goroutines.
type Store struct{ table records.Keeper }

// NewStore returns a store over the records of Kind.
func NewStore(table records.Keeper) *Store { return &Store{table} }

// Batch are lines that are stored together.
type Batch []records.Record

// Add takes over a line of a node's ztunnel or CNI agent (docs/data-model.md, section 2.2).
func (b *Batch) Add(node string, record plog.LogRecord) {
	source := SourceZtunnel
	if record.EventName() == semconv.EventCNILog {
		source = SourceCNI
	}
	fields := map[string]string{}
	for name, value := range record.Attributes().All() {
		if short, is := strings.CutPrefix(name, semconv.AttrFieldPrefix); is && len(fields) < maxFields {
			fields[bounded(short)] = bounded(value.AsString())
		}
	}
	encoded := ""
	if len(fields) > 0 {
		if text, err := json.Marshal(fields); err == nil {
			encoded = string(text)
		}
	}
	*b = append(*b, records.Record{Time: int64(record.Timestamp()), Fields: []records.Field{
		{Name: fieldUID, Text: text(record.Attributes(), semconv.AttrRecordUID)},
		{Name: fieldNode, Text: node},
		{Name: fieldSource, Text: source},
		{Name: fieldLevel, Text: strings.ToLower(bounded(record.SeverityText()))},
		{Name: fieldScope, Text: text(record.Attributes(), semconv.AttrScope)},
		{Name: fieldMessage, Text: bounded(record.Body().AsString())},
		{Name: fieldFields, Text: encoded},
	}})
}

// Add stores lines; one that is stored already is not stored again.
func (s *Store) Add(batch Batch) { s.table.Append(batch) }

// Filter selects lines; an empty field selects all.
type Filter struct {
	Node, Source, Level string
	Text                string // part of the message or of a field, in any case
	Since, Until        time.Time
}

func (f *Filter) query() records.Query {
	q := records.Query{}
	if !f.Since.IsZero() {
		q.From = f.Since.UnixNano()
	}
	if !f.Until.IsZero() {
		q.Until = f.Until.UnixNano()
	}
	for _, one := range [...][2]string{{fieldNode, f.Node}, {fieldSource, f.Source}, {fieldLevel, f.Level}} {
		if one[1] != "" {
			q.Where = append(q.Where, records.Clause{{Field: one[0], Equals: one[1]}})
		}
	}
	if want := strings.ToLower(f.Text); want != "" {
		has := func(text string) bool { return strings.Contains(strings.ToLower(text), want) }
		q.Where = append(q.Where, records.Clause{{Field: fieldMessage, Text: has}, {Field: fieldFields, Text: has}, {Field: fieldScope, Text: has}})
	}
	return q
}

// List returns at most limit lines that the filter selects, the newest first, older than before (a cursor, 0 for the newest). next is the
// cursor for the lines that follow, 0 if there are none.
func (s *Store) List(ctx context.Context, filter Filter, before uint64, limit int) (list []Line, next uint64, err error) {
	q := filter.query()
	q.Before = before
	return records.Page(ctx, s.table, q, limit, decode)
}

func decode(r records.Row) Line {
	l := Line{
		Cursor: r.Sequence(), Time: time.Unix(0, r.Time()).UTC(), Node: r.Text(fieldNode), Source: r.Text(fieldSource), Level: r.Text(fieldLevel),
		Scope: r.Text(fieldScope), Message: r.Text(fieldMessage),
	}
	if encoded := r.Text(fieldFields); encoded != "" {
		// What was encoded here can be decoded.
		_ = json.Unmarshal([]byte(encoded), &l.Fields)
	}
	return l
}

func text(attributes pcommon.Map, name string) string {
	value, _ := attributes.Get(name)
	return bounded(value.Str())
}

func bounded(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD")
}
