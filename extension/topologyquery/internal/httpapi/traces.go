package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
)

// maxOffset bounds how far a list of traces can be read that is not ordered by time.
const maxOffset = 10_000

// traceRange is the range of a search where none is asked for.
const traceRange = time.Hour

type traceRoutes struct {
	traces traces.Reader
	ranges *ranges
}

func (s *traceRoutes) routes() map[string]handler {
	return map[string]handler{
		"/api/v1/traces": s.search, "/api/v1/traces/{id}": s.get, "/api/v1/operations": s.operations,
		"/api/v1/traces/counts": s.counts,
	}
}

// queryOf reads which spans are asked for.
func queryOf(p *params) traces.Query {
	query := traces.Query{
		Service:     p.text("service"),
		Operation:   p.text("operation"),
		Attributes:  p.attributes(),
		MinDuration: p.duration("min_duration"),
		MaxDuration: p.duration("max_duration"),
		Status:      p.oneOf("status", "", "ok", "error", "unset"),
		Layer:       p.oneOf("layer", "", traces.LayerL4, traces.LayerL7),
	}
	if query.MaxDuration > 0 && query.MaxDuration < query.MinDuration {
		p.fail("max_duration", "is shorter than min_duration")
	}
	return query
}

func (s *traceRoutes) search(r *http.Request, p *params) (*answer, error) {
	query := queryOf(p)
	query.Order = traces.Order(p.oneOf("order", string(traces.OrderNewest),
		string(traces.OrderNewest), string(traces.OrderSlowest), string(traces.OrderSpans), string(traces.OrderErrors)))
	limit := p.limit(20, maxLimit)
	var after position
	if query.Order == traces.OrderNewest {
		after = p.position()
	} else if query.Offset = int(min(p.number("cursor", notACursor), maxOffset+1)); query.Offset > maxOffset {
		p.fail("cursor", notACursor)
	}
	// One more tells whether there are more.
	query.Limit, query.After, query.AfterID = limit+1, after.at, after.id
	w := s.ranges.windowOf(p, traceRange)
	if p.err != nil {
		return nil, p.err
	}
	query.Start, query.End = time.UnixMilli(w.start).UTC(), time.UnixMilli(w.end).UTC()
	if !p.values.Has("end") {
		// Spans may be newer than the newest heartbeat.
		query.End = query.End.Add(time.Hour)
	}
	list, err := s.traces.Search(r.Context(), query)
	if err != nil {
		return nil, unavailable(err)
	}
	body := struct {
		Traces []traces.Summary `json:"traces"`
		Next   string           `json:"next_cursor,omitempty"`
	}{Traces: list}
	if len(list) > limit {
		body.Traces = list[:limit]
		last := list[limit-1]
		body.Next = position{at: last.Start, id: last.TraceID}.cursor()
		if query.Order != traces.OrderNewest {
			body.Next = strconv.Itoa(query.Offset + limit)
		}
	}
	return jsonAnswer(body)
}

// attributes reads attributes as a JSON object of strings, or as key=value, given once or several times.
func (p *params) attributes() map[string]string {
	out := map[string]string{}
	for _, one := range p.values["attributes"] {
		if len(one) > maxText {
			p.fail("attributes", "is too long")
			return nil
		}
		if one == "" {
			continue
		}
		if strings.HasPrefix(one, "{") {
			if err := json.Unmarshal([]byte(one), &out); err != nil {
				p.fail("attributes", "is no JSON object of strings")
				return nil
			}
			continue
		}
		for pair := range strings.FieldsSeq(one) {
			name, value, ok := strings.Cut(pair, "=")
			if !ok || name == "" {
				p.fail("attributes", "must be key=value, or a JSON object of strings")
				return nil
			}
			out[name] = value
		}
	}
	return out
}

func (s *traceRoutes) get(r *http.Request, _ *params) (*answer, error) {
	id := strings.ToLower(r.PathValue("id"))
	t, err := s.traces.Trace(r.Context(), id)
	if err != nil {
		return nil, unavailable(err)
	}
	if t == nil {
		return nil, notFound("there is no trace " + id)
	}
	return jsonAnswer(t)
}

// counts answers for a heat map: spans by when they began and how long they took.
func (s *traceRoutes) counts(r *http.Request, p *params) (*answer, error) {
	query := queryOf(p)
	w := s.ranges.windowOf(p, traceRange)
	steps := max(min(int(p.number("steps", "must be a whole number")), 500), 0)
	if steps == 0 {
		steps = 60
	}
	if p.err != nil {
		return nil, p.err
	}
	query.Start, query.End = time.UnixMilli(w.start).UTC(), time.UnixMilli(max(w.end, w.start+1)).UTC()
	counts, err := s.traces.Count(r.Context(), query, steps)
	if err != nil {
		return nil, unavailable(err)
	}
	if counts == nil {
		return nil, notFound("the Jaeger that keeps the traces does not count spans")
	}
	return jsonAnswer(counts)
}

func (s *traceRoutes) operations(r *http.Request, p *params) (*answer, error) {
	wanted := p.text("service")
	start, end := p.time("start"), p.time("end")
	if p.err != nil {
		return nil, p.err
	}
	all, err := s.traces.Services(r.Context(), start, end)
	if err != nil {
		return nil, unavailable(err)
	}
	list := make([]traces.Service, 0, len(all))
	for _, service := range all {
		if wanted == "" || service.Name == wanted {
			list = append(list, service)
		}
	}
	return jsonAnswer(struct {
		Services []traces.Service `json:"services"`
	}{list})
}
