package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
)

// traceRange is the range of a search where none is asked for.
const traceRange = time.Hour

type traceRoutes struct {
	traces traces.Reader
	ranges *ranges
}

func (s *traceRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/traces": s.search, "/api/v1/traces/{id}": s.get, "/api/v1/operations": s.operations}
}

func (s *traceRoutes) search(r *http.Request, p *params) (*answer, error) {
	query := traces.Query{
		Service:     p.text("service"),
		Operation:   p.text("operation"),
		Attributes:  p.attributes(),
		MinDuration: p.duration("min_duration"),
		MaxDuration: p.duration("max_duration"),
		Status:      p.oneOf("status", "", "ok", "error", "unset"),
		Layer:       p.oneOf("layer", "", traces.LayerL4, traces.LayerL7),
	}
	limit, after := p.limit(20, maxLimit), p.position()
	// One more tells whether there are more.
	query.Limit, query.After, query.AfterID = limit+1, after.at, after.id
	w := s.ranges.windowOf(p, traceRange)
	if query.MaxDuration > 0 && query.MaxDuration < query.MinDuration {
		p.fail("max_duration", "is shorter than min_duration")
	}
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

func (s *traceRoutes) operations(r *http.Request, p *params) (*answer, error) {
	wanted := p.text("service")
	if p.err != nil {
		return nil, p.err
	}
	all, err := s.traces.Services(r.Context())
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
