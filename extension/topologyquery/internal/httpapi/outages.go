package httpapi

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
)

// outageReader is the outages that are kept. outages.Store is one.
type outageReader interface {
	List(start, end time.Time, state string) []*outage.Outage
	Get(id string) *outage.Outage
}

// chronicReader is the chronic conditions that stand. outages.Chronic is one.
type chronicReader interface{ List() []*outage.Chronic }

type outageRoutes struct {
	outages    outageReader
	conditions chronicReader
}

func (s *outageRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/outages": s.list, "/api/v1/outages/{id}": s.get, "/api/v1/chronic": s.chronic}
}

func (s *outageRoutes) chronic(_ *http.Request, p *params) (*answer, error) {
	limit := p.limit(maxOutages, maxOutages)
	if p.err != nil {
		return nil, p.err
	}
	body := struct {
		Chronic []*outage.Chronic `json:"chronic"`
		Total   int               `json:"total"`
	}{Chronic: s.conditions.List()}
	body.Total = len(body.Chronic)
	body.Chronic = append([]*outage.Chronic{}, body.Chronic[:min(limit, body.Total)]...)
	return jsonAnswer(body)
}

// maxOutages bounds a list of outages.
const maxOutages = 10_000

func (s *outageRoutes) list(_ *http.Request, p *params) (*answer, error) {
	start, end := p.time("start"), p.time("end")
	limit, after := p.limit(maxOutages, maxOutages), p.position()
	state := p.oneOf("state", "", "open", "resolved", "stale")
	if p.err == nil && !start.IsZero() && !end.IsZero() && end.Before(start) {
		p.fail("end", "lies before start")
	}
	if p.err != nil {
		return nil, p.err
	}
	body := struct {
		Outages []*outage.Outage `json:"outages"`
		Next    string           `json:"next_cursor,omitempty"`
	}{Outages: s.outages.List(start, end, state)}
	if !after.at.IsZero() {
		from, _ := slices.BinarySearchFunc(body.Outages, after, func(o *outage.Outage, after position) int {
			if cmp.Or(after.at.Compare(o.StartedAt), strings.Compare(o.ID, after.id)) <= 0 {
				return -1
			}
			return 1
		})
		body.Outages = body.Outages[from:]
	}
	if len(body.Outages) > limit {
		body.Outages = body.Outages[:limit]
		last := body.Outages[limit-1]
		body.Next = position{at: last.StartedAt, id: last.ID}.cursor()
	}
	return jsonAnswer(body)
}

func (s *outageRoutes) get(r *http.Request, _ *params) (*answer, error) {
	o := s.outages.Get(r.PathValue("id"))
	if o == nil {
		return nil, notFound("there is no outage " + r.PathValue("id"))
	}
	return jsonAnswer(o)
}

// in are the outages that overlap a window, newest first.
func (s *outageRoutes) in(w window) []*outage.Outage {
	return s.outages.List(time.UnixMilli(w.start), time.UnixMilli(w.end), "")
}

// touching are the outages in a window that have one of some names in their root, edges or impact.
func (s *outageRoutes) touching(w window, namespace string, names ...string) []*outage.Outage {
	out := []*outage.Outage{}
	is := func(ns, name string) bool { return ns == namespace && slices.Contains(names, name) }
	for _, o := range s.in(w) {
		touched := is(o.Root.Namespace, o.Root.Name)
		for _, e := range o.Edges {
			touched = touched || is(e.Source.Namespace, e.Source.Name) || is(e.Destination.Namespace, e.Destination.Name)
		}
		for _, i := range o.Impact {
			touched = touched || is(i.Namespace, i.Name.Name)
		}
		if touched {
			out = append(out, o)
		}
	}
	return out
}
