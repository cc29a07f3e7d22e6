package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/internal/semconv"
)

// flowReader is the flow records that are kept. flows.Store is one.
type flowReader interface {
	List(ctx context.Context, filter flows.Filter, before uint64, limit int) (list []*flows.Flow, next uint64, err error)
	After(ctx context.Context, filter flows.Filter, after uint64, limit int) (list []*flows.Flow, newest uint64, err error)
	Each(ctx context.Context, filter flows.Filter, visit func(f *flows.Flow) bool) error
	Count(ctx context.Context, filter flows.Filter, by []string) (groups []flows.Group, others, total uint64, err error)
	Newest() uint64
	// KeptSince is the time from which on flows are kept, zero as long as none was forgotten.
	KeptSince() time.Time
}

type flowRoutes struct{ flows flowReader }

func (s *flowRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/flows": s.list}
}

// filterOf reads which flows are asked for.
func filterOf(p *params) flows.Filter {
	filter := flows.Filter{
		Source:      p.text("source"),
		Destination: p.text("destination"),
		Namespace:   p.text("namespace"),
		Direction:   p.oneOf("direction", "", "inbound", "outbound"),
		Verdict:     p.oneOf("verdict", "", flows.VerdictForwarded, flows.VerdictDenied, flows.VerdictFailed),
		Reason:      p.text("reason"),
		Text:        p.text("text"),
		Since:       p.time("since"),
		Until:       p.time("until"),
		RequestFilter: flows.RequestFilter{
			Protocol:  p.oneOf("protocol", "", semconv.ProtocolTCP, semconv.ProtocolHTTP, semconv.ProtocolGRPC, semconv.ProtocolDNS),
			Status:    p.statuses("status"),
			Method:    p.text("method"),
			Path:      p.text("path"),
			RequestID: p.text("request_id"),
		},
		LookupFilter: flows.LookupFilter{Query: p.text("query_name"), Result: p.oneOf("query_result", "", flows.Results...)},
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
	return filter
}

func (s *flowRoutes) list(r *http.Request, p *params) (*answer, error) {
	filter := filterOf(p)
	if by := p.text("group_by"); by != "" || p.boolean("count") {
		return s.count(r, p, filter, by)
	}
	limit := p.limit(defaultLimit, maxLimit)
	before, after := p.number("cursor", notACursor), p.number("after", notACursor)
	if p.err != nil {
		return nil, p.err
	}
	body := struct {
		Flows []*flows.Flow `json:"flows"`
		// Next is the cursor of older flows, After that of those to come.
		Next  string `json:"next_cursor,omitempty"`
		After string `json:"after"`
		// KeptSince is the time of the oldest flow that is kept, if older ones were forgotten.
		KeptSince time.Time `json:"kept_since,omitzero"`
	}{KeptSince: s.flows.KeptSince()}
	var next, newest uint64
	var err error
	if p.values.Has("after") {
		body.Flows, newest, err = s.flows.After(r.Context(), filter, after, limit)
	} else {
		newest = s.flows.Newest()
		body.Flows, next, err = s.flows.List(r.Context(), filter, before, limit)
	}
	if err != nil {
		return nil, err
	}
	body.Next, body.After = formatCursor(next), strconv.FormatUint(newest, 10)
	return jsonAnswer(body)
}

// count answers how many flows there are, by what is asked for.
func (s *flowRoutes) count(r *http.Request, p *params, filter flows.Filter, by string) (*answer, error) {
	var names []string
	for name := range strings.SplitSeq(by, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if !slices.Contains(flows.Groupings(), name) {
			p.fail("group_by", "must be of "+strings.Join(flows.Groupings(), ", "))
		}
		names = append(names, name)
	}
	limit := p.limit(defaultLimit, maxLimit)
	if p.err != nil {
		return nil, p.err
	}
	groups, others, total, err := s.flows.Count(r.Context(), filter, names)
	if err != nil {
		return nil, err
	}
	for _, g := range groups[min(limit, len(groups)):] {
		others += g.Count
	}
	return jsonAnswer(struct {
		Groups []flows.Group `json:"groups"`
		Total  uint64        `json:"total"`
		// Others are the flows of groups that are not listed.
		Others uint64 `json:"others"`
	}{groups[:min(limit, len(groups))], total, others})
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
