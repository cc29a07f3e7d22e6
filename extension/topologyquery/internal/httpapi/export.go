package httpapi

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
)

const exportPattern = "/api/v1/flows/export"

// maxExported bounds the flows of one export.
const maxExported = 1_000_000

// export streams flows, newest first, as JSON lines or as CSV. It is no handler: what it sends is larger than what is kept in memory.
type export struct {
	flows     flowReader
	responder *responder
}

// rowWriter writes one flow after the other.
type rowWriter interface {
	write(f *flows.Flow) error
	// flush sends what was written.
	flush() error
}

func (s *export) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started, status := time.Now(), http.StatusOK
	defer func() { s.responder.observe(r.Context(), exportPattern, status, time.Since(started)) }()
	p := &params{values: r.URL.Query()}
	p.single()
	filter, format, limit := filterOf(p), p.oneOf("format", "jsonl", "jsonl", "csv"), p.limit(maxExported, maxExported)
	if p.err != nil {
		status = s.responder.problem(w, r, p.err)
		return
	}
	if err := s.responder.gate.enter(r.Context()); err != nil {
		status = s.responder.problem(w, r, err)
		return
	}
	defer s.responder.gate.leave()
	var out rowWriter = &jsonLines{json.NewEncoder(w)}
	contentType := "application/jsonl"
	if format == "csv" {
		out, contentType = &csvLines{writer: csv.NewWriter(w)}, "text/csv; charset=utf-8"
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Disposition", `attachment; filename="flows.`+format+`"`)
	if r.Method == http.MethodHead {
		return
	}
	var failed error
	n := 0
	err := s.flows.Each(r.Context(), filter, func(f *flows.Flow) bool {
		failed = out.write(f)
		n++
		return failed == nil && n < limit
	})
	if failed == nil {
		failed = out.flush()
	}
	if err != nil || failed != nil {
		if r.Context().Err() == nil {
			s.responder.rejected(r.Context(), rejectedSlow)
		}
		// What was sent so far must not look whole.
		panic(http.ErrAbortHandler)
	}
}

type jsonLines struct{ encoder *json.Encoder }

func (j *jsonLines) write(f *flows.Flow) error { return j.encoder.Encode(f) }
func (j *jsonLines) flush() error              { return nil }

type csvLines struct {
	writer *csv.Writer
	headed bool
	row    []string
}

// csvColumns are the columns of an export, the same as those of the UI's.
var csvColumns = []struct {
	name string
	of   func(f *flows.Flow) string
}{
	{"time", func(f *flows.Flow) string { return f.Time.Format(time.RFC3339Nano) }},
	{"protocol", func(f *flows.Flow) string { return f.Protocol }},
	{"verdict", func(f *flows.Flow) string { return f.Verdict }},
	{"reason", func(f *flows.Flow) string { return f.Reason }},
	{"policy", func(f *flows.Flow) string { return f.Policy }},
	{"direction", func(f *flows.Flow) string { return f.Direction }},
	{"node", func(f *flows.Flow) string { return f.Node }},
	{"source_namespace", func(f *flows.Flow) string { return f.Source.Namespace }},
	{"source_pod", func(f *flows.Flow) string { return f.Source.Pod }},
	{"source_address", func(f *flows.Flow) string { return f.Source.Address }},
	{"source_identity", func(f *flows.Flow) string { return f.Source.Identity }},
	{"destination_namespace", func(f *flows.Flow) string { return f.Dest.Namespace }},
	{"destination_pod", func(f *flows.Flow) string { return f.Dest.Pod }},
	{"destination_address", func(f *flows.Flow) string { return f.Dest.Address }},
	{"destination_port", func(f *flows.Flow) string { return strconv.Itoa(int(f.Dest.Port)) }},
	{"destination_identity", func(f *flows.Flow) string { return f.Dest.Identity }},
	{"service", func(f *flows.Flow) string { return f.Service }},
	{"security", func(f *flows.Flow) string { return f.Security }},
	{"bytes_sent", func(f *flows.Flow) string { return strconv.FormatInt(f.BytesSent, 10) }},
	{"bytes_received", func(f *flows.Flow) string { return strconv.FormatInt(f.BytesRecv, 10) }},
	{"duration_ms", func(f *flows.Flow) string { return strconv.FormatFloat(f.DurationMS, 'f', -1, 64) }},
	{"query_name", ofLookup(func(l *flows.Lookup) string { return l.Name })},
	{"query_type", ofLookup(func(l *flows.Lookup) string { return l.Type })},
	{"query_result", ofLookup(func(l *flows.Lookup) string { return l.Result })},
	{"method", ofRequest(func(r *flows.Request) string { return r.Method })},
	{"path", ofRequest(func(r *flows.Request) string { return r.Path })},
	{"status", ofRequest(func(r *flows.Request) string { return strconv.Itoa(r.Status) })},
	{"response_flags", ofRequest(func(r *flows.Request) string { return r.Flags })},
	{"request_id", ofRequest(func(r *flows.Request) string { return r.ID })},
	{"upstream_ms", ofRequest(func(r *flows.Request) string {
		if r.UpstreamMS == nil {
			return ""
		}
		return strconv.FormatFloat(*r.UpstreamMS, 'f', -1, 64)
	})},
	{"message", func(f *flows.Flow) string { return f.Message }},
}

// ofRequest is a column that only requests have.
func ofRequest(of func(r *flows.Request) string) func(f *flows.Flow) string {
	return func(f *flows.Flow) string {
		if f.Request == nil {
			return ""
		}
		return of(f.Request)
	}
}

func ofLookup(of func(l *flows.Lookup) string) func(f *flows.Flow) string {
	return func(f *flows.Flow) string {
		if f.Lookup == nil {
			return ""
		}
		return of(f.Lookup)
	}
}

func (c *csvLines) write(f *flows.Flow) error {
	c.head()
	c.row = c.row[:0]
	for i := range csvColumns {
		c.row = append(c.row, harmless(csvColumns[i].of(f)))
	}
	return c.writer.Write(c.row)
}

func (c *csvLines) head() {
	if c.headed {
		return
	}
	c.headed = true
	for i := range csvColumns {
		c.row = append(c.row, csvColumns[i].name)
	}
	// A writer keeps its first error.
	_ = c.writer.Write(c.row)
}

func (c *csvLines) flush() error {
	c.head()
	c.writer.Flush()
	return c.writer.Error()
}

// harmless keeps a spreadsheet from taking what a client chose for a formula.
func harmless(text string) string {
	if text != "" && (text[0] == '=' || text[0] == '+' || text[0] == '-' || text[0] == '@') {
		return "'" + text
	}
	return text
}
