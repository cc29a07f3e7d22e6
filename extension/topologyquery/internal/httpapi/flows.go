package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/internal/semconv"
)

// flowReader is the flow records that are kept. flows.Ring is one.
type flowReader interface {
	List(filter flows.Filter, before uint64, limit int) (list []flows.Flow, next uint64)
	After(filter flows.Filter, after uint64, limit int) (list []flows.Flow, newest uint64)
	Newest() uint64
	// KeptSince is the time from which on flows are kept, zero as long as none was forgotten.
	KeptSince() time.Time
}

type flowRoutes struct{ flows flowReader }

func (s *flowRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/flows": s.list}
}

func (s *flowRoutes) list(_ *http.Request, p *params) (*answer, error) {
	filter := flows.Filter{
		Source:      p.text("source"),
		Destination: p.text("destination"),
		Namespace:   p.text("namespace"),
		Direction:   p.oneOf("direction", "", "inbound", "outbound"),
		Verdict:     p.oneOf("verdict", "", flows.VerdictForwarded, flows.VerdictDenied, flows.VerdictFailed),
		Reason:      p.text("reason"),
		Since:       p.time("since"),
		Until:       p.time("until"),
		RequestFilter: flows.RequestFilter{
			Protocol:  p.oneOf("protocol", "", semconv.ProtocolTCP, semconv.ProtocolHTTP, semconv.ProtocolGRPC),
			Status:    p.statuses("status"),
			Method:    p.text("method"),
			Path:      p.text("path"),
			RequestID: p.text("request_id"),
		},
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
	before, after := p.number("cursor", notACursor), p.number("after", notACursor)
	if p.err != nil {
		return nil, p.err
	}
	body := struct {
		Flows []flows.Flow `json:"flows"`
		// Next is the cursor of older flows, After that of those to come.
		Next  string `json:"next_cursor,omitempty"`
		After string `json:"after"`
		// KeptSince is the time of the oldest flow that is kept, if older ones were forgotten.
		KeptSince time.Time `json:"kept_since,omitzero"`
	}{KeptSince: s.flows.KeptSince()}
	var next, newest uint64
	if p.values.Has("after") {
		body.Flows, newest = s.flows.After(filter, after, limit)
	} else {
		newest = s.flows.Newest()
		body.Flows, next = s.flows.List(filter, before, limit)
	}
	body.Next, body.After = formatCursor(next), strconv.FormatUint(newest, 10)
	return jsonAnswer(body)
}

// statuses reads codes and classes of codes, such as 404,5xx.
func (p *params) statuses(name string) string {
	value := p.text(name)
	for one := range strings.SplitSeq(value, ",") {
		one = strings.ToLower(strings.TrimSpace(one))
		if _, err := strconv.ParseUint(strings.TrimSuffix(one, "xx"), 10, 16); value != "" && err != nil {
			p.fail(name, "must be codes or classes of them, such as 404,5xx")
		}
	}
	return value
}

func formatCursor(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}
