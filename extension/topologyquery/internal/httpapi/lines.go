package httpapi

import (
	"context"
	"net/http"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/lines"
)

// lineReader is what proxies logged beside connections. lines.Store is one.
type lineReader interface {
	List(ctx context.Context, filter lines.Filter, before uint64, limit int) (list []lines.Line, next uint64, err error)
}

type lineRoutes struct{ lines lineReader }

func (s *lineRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/lines": s.list}
}

func (s *lineRoutes) list(r *http.Request, p *params) (*answer, error) {
	filter := lines.Filter{
		Node:   p.text("node"),
		Source: p.oneOf("source", "", lines.SourceZtunnel, lines.SourceCNI),
		Level:  p.oneOf("level", "", "error", "warn", "info", "debug", "trace"),
		Text:   p.text("text"),
		Since:  p.time("start"),
		Until:  p.time("end"),
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && filter.Until.Before(filter.Since) {
		p.fail("end", "lies before start")
	}
	limit, before := p.limit(defaultLimit, maxLimit), p.number("cursor", notACursor)
	if p.err != nil {
		return nil, p.err
	}
	list, next, err := s.lines.List(r.Context(), filter, before, limit)
	if err != nil {
		return nil, err
	}
	return jsonAnswer(struct {
		Lines []lines.Line `json:"lines"`
		Next  string       `json:"next_cursor,omitempty"`
	}{list, formatCursor(next)})
}
