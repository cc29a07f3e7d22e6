package httpapi

import (
	"net/http"
	"strconv"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
)

func (s *Server) flows(_ *http.Request, p *params) (*answer, error) {
	filter := flows.Filter{
		Source:      p.text("source"),
		Destination: p.text("destination"),
		Namespace:   p.text("namespace"),
		Direction:   p.oneOf("direction", "", "inbound", "outbound"),
		Verdict:     p.oneOf("verdict", "", flows.VerdictForwarded, flows.VerdictDenied, flows.VerdictFailed),
		Reason:      p.text("reason"),
		Since:       p.time("since"),
		Until:       p.time("until"),
	}
	if start := p.time("start"); filter.Since.IsZero() {
		filter.Since = start
	}
	if end := p.time("end"); filter.Until.IsZero() {
		filter.Until = end
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && filter.Until.Before(filter.Since) {
		p.fail("end", "lies before start")
	}
	limit := p.limit(defaultLimit, maxLimit)
	before, after := p.number("cursor"), p.number("after")
	if p.err != nil {
		return nil, p.err
	}
	body := struct {
		Flows []flows.Flow `json:"flows"`
		// Next is the cursor of older flows, After that of those to come.
		Next  string `json:"next_cursor,omitempty"`
		After string `json:"after"`
	}{}
	var next, newest uint64
	if p.values.Has("after") {
		body.Flows, newest = s.Flows.After(filter, after, limit)
	} else {
		newest = s.Flows.Newest()
		body.Flows, next = s.Flows.List(filter, before, limit)
	}
	body.Next, body.After = formatCursor(next), strconv.FormatUint(newest, 10)
	return jsonAnswer(body)
}
