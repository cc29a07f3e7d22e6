package endpoints

import (
	"cmp"
	"slices"
	"strings"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Query selects endpoints.
type Query struct {
	// Namespace and Service, unless empty, are the service's.
	Namespace, Service string
	// Start and End bound the requests that count, in unix milliseconds: [Start, End), widened to whole steps in which they are counted.
	Start, End int64
	// Points is in how many steps of time requests are counted, beside in all.
	Points int
	// Silent also lists endpoints that had no request in that time.
	Silent bool
}

// Endpoint is what happened at an endpoint.
type Endpoint struct {
	Service      Name
	Method, Path string
	Counts
	Durations exphist.Histogram
	// Callers are by requests, most first.
	Callers []Caller
	// First and Last are when a request was seen, ever, in unix milliseconds.
	First, Last int64
	Source      string
}

// Caller is what happened between a caller and an endpoint.
type Caller struct {
	Name
	Counts
}

// Counts are requests.
type Counts struct {
	Total, Failed uint64
	ByCode        map[uint16]uint64 // bounded by the codes that were seen; nil of callers
	// Steps are the requests in equal steps of time, FailedSteps those that failed; empty unless asked for.
	Steps, FailedSteps []uint64
}

// List returns the endpoints by service, path and method, and from when on all counts are kept, 0 if none was forgotten for want of room.
func (c *Catalogue) List(q *Query) (list []Endpoint, keptSince int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, s := range c.services.All() {
		if q.Namespace != "" && name.Namespace != q.Namespace || q.Service != "" && name.Name != q.Service {
			continue
		}
		list = append(list, s.list(q)...)
	}
	slices.SortFunc(list, func(a, b Endpoint) int {
		return cmp.Or(compareNames(a.Service, b.Service), strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method))
	})
	return list, c.oldest
}

func (s *service) list(q *Query) (list []Endpoint) {
	uses := s.uses(q)
	s.all(func(n *node, e *endpoint) {
		out := Endpoint{Service: s.name, Method: e.method, Path: n.Template(), First: e.first, Last: e.last}
		out.Counts = newCounts(q.Points)
		out.ByCode = map[uint16]uint64{}
		callers := map[uint32]*Caller{}
		for source := range numSources {
			if uses[source] && out.take(&e.counts[source], q, s.callers, callers) {
				out.Source = cmp.Or(out.Source, sourceNames[source])
			}
		}
		if out.Total == 0 {
			if !q.Silent || e.last >= q.Start {
				return
			}
			out.Source = sourceNames[e.newest()]
		}
		for _, caller := range callers {
			out.Callers = append(out.Callers, *caller)
		}
		slices.SortFunc(out.Callers, func(a, b Caller) int { return cmp.Or(cmp.Compare(b.Total, a.Total), compareNames(a.Name, b.Name)) })
		list = append(list, out)
	})
	return list
}

var sourceNames = [numSources]string{semconv.RequestSourceWaypointLog, semconv.RequestSourceGatewayLog, semconv.RequestSourceSpans}

// uses are the sources that count: logs and spans tell the same requests. Of a service that has a waypoint its log tells all; a gateway's
// log only what came from outside, so that spans may tell more.
func (s *service) uses(q *Query) [numSources]bool {
	var told [numSources]uint64
	s.all(func(_ *node, e *endpoint) {
		for source := range e.counts {
			for i := range e.counts[source].slots {
				if one := &e.counts[source].slots[i]; one.in(q) {
					for _, c := range one.cells {
						told[source] += uint64(c.requests)
					}
				}
			}
		}
	})
	logs := told[WaypointLog] > 0 || told[GatewayLog] > told[Spans]
	return [numSources]bool{WaypointLog: logs, GatewayLog: logs, Spans: !logs}
}

// newest is the source of the endpoint's newest requests.
func (e *endpoint) newest() (newest Source) {
	last := int64(0)
	for source := range numSources {
		if slots := e.counts[source].slots; len(slots) > 0 && slots[len(slots)-1].start > last {
			newest, last = source, slots[len(slots)-1].start
		}
	}
	return newest
}

func newCounts(points int) Counts {
	if points == 0 {
		return Counts{}
	}
	return Counts{Steps: make([]uint64, points), FailedSteps: make([]uint64, points)}
}

// take adds the counts of a series and tells whether there are any.
func (e *Endpoint) take(s *series, q *Query, names []Name, callers map[uint32]*Caller) (found bool) {
	for i := range s.slots {
		one := &s.slots[i]
		if !one.in(q) {
			continue
		}
		found = true
		step := 0
		if q.Points > 0 {
			step = int(max(one.start-q.Start, 0) * int64(q.Points) / (q.End - q.Start))
		}
		for _, c := range one.cells {
			caller := callers[c.caller]
			if caller == nil {
				caller = &Caller{Name: names[c.caller], Counts: newCounts(q.Points)}
				callers[c.caller] = caller
			}
			e.ByCode[c.code] += uint64(c.requests)
			e.add(c, step)
			caller.add(c, step)
		}
		for _, b := range one.durations {
			if b.index == noTime {
				e.Durations.AddZero(uint64(b.count))
			} else {
				e.Durations.AddBucket(exphist.Default, scale, int32(b.index), uint64(b.count))
			}
		}
	}
	return found
}

func (c *Counts) add(one cell, step int) {
	c.Total += uint64(one.requests)
	c.Failed += uint64(one.failed)
	if len(c.Steps) > 0 {
		c.Steps[step] += uint64(one.requests)
		c.FailedSteps[step] += uint64(one.failed)
	}
}
