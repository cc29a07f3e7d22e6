package requests

import (
	"cmp"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// ledger adds requests to their edges once the clock has passed their end.
type ledger struct {
	*parties
	max       int // of those that wait for the clock
	wait      time.Duration
	store     *edges.Store
	waypoints *Waypoints
	telemetry *telemetry.Telemetry
	ready     []*request
}

// enter makes a request wait for the clock.
func (l *ledger) enter(r *request, by string, now pcommon.Timestamp) {
	r.counted = true
	l.telemetry.Request(by)
	if len(l.ready) < l.max {
		l.ready = append(l.ready, r)
		return
	}
	l.telemetry.Dropped(telemetry.DroppedSpanLimit, 1)
	if e := l.edgeOf(r, now); e != nil {
		l.add(r, e, now)
	}
	r.details = nil
}

func (l *ledger) rewind(now pcommon.Timestamp) {
	for _, r := range l.ready {
		r.end = min(r.end, now)
	}
}

// observeClient counts how long a client waited, once it is known where that belongs.
func (l *ledger) observeClient(x *Exchange, now pcommon.Timestamp) {
	if x.between == nil || x.observed || x.call == nil || x.call.Duration() == 0 {
		return
	}
	l.store.Services.ObserveClient(x.between, x.call.Duration().Seconds(), now)
	x.observed = true
}

// sourceOf is whose span tells of a request.
func sourceOf(r *request) string {
	if r.backend != nil {
		return semconv.RequestSourceWaypointSpans
	}
	return semconv.RequestSourceSpans
}

// protocolOf is what the mesh's state says of a request's protocol, else what its span does.
func (l *ledger) protocolOf(r *request) string {
	return cmp.Or(l.names.Protocol(r.key.Service, r.key.Port), r.answer.Protocol)
}

// settle adds the requests that ended before now to their edges. Where a log tells of the edge, it is waited for; at the end it will tell
// what it has not yet, if anybody reads on. What came through a waypoint from a client that no span tells of is not counted again where the
// waypoint tells it, with its client.
func (l *ledger) settle(m moment.Moment) {
	left := l.ready[:0]
	for _, r := range l.ready {
		if r.end >= m.Now && !m.Final {
			left = append(left, r)
			continue
		}
		if w := r.key.Waypoint; w != "" && r.key.Source.Workload == naming.Unknown {
			if !m.Final && l.waypoints.logs.Hears(w) && !m.Past(r.end, l.wait) {
				left = append(left, r)
				continue
			}
			if l.waypoints.tells(r, m.Now) {
				r.details = nil
				continue
			}
		}
		switch e := l.edgeOf(r, m.Now); {
		case e == nil:
		case !l.waypoints.logs.Tells(e) || m.Past(r.end, l.wait):
			l.add(r, e, m.Now)
		case !m.Final:
			left = append(left, r)
			continue
		}
		r.details = nil
	}
	clear(l.ready[len(left):])
	l.ready = left
}

// edgeOf finds the edge of a request; nil if it is none.
func (l *ledger) edgeOf(r *request, now pcommon.Timestamp) *edges.Edge {
	if r.guessed && r.asked != nil && r.asked.origin != nil {
		if l.nested(r) {
			return nil
		}
		if r.asked.call != nil && !r.message {
			// The client's span came after it had been counted.
			r.key.Service, r.key.Port, _ = l.serviceOf(r, r.server, true)
		}
	}
	return l.store.Edges.Find(r.key, l.protocolOf(r), r.startBy(now))
}

// longest is how far before the end of a request its edge may begin: a stream of hours counts where it ended, not over all of them.
const longest = pcommon.Timestamp(10 * time.Second)

// startBy is when a request began, as far as it can be right.
func (r *request) startBy(now pcommon.Timestamp) pcommon.Timestamp {
	start := max(min(r.answer.Start, r.end), r.end-min(r.end, longest))
	if now > 0 {
		start = min(start, now)
	}
	return start
}

func (l *ledger) add(r *request, e *edges.Edge, now pcommon.Timestamp) {
	start := r.startBy(now)
	seconds := r.answer.Duration().Seconds()
	total, failed, durations, code := l.waypoints.bySpan(e, now, r.answer.Failed, r.answer.Status)
	byLog := total
	var of responses.Counts
	if code != 0 {
		of = responses.Counts{{Response: responses.Response{Code: code, Source: sourceOf(r)}, N: 1}}
	}
	total, failed, durations = l.waypoints.logs.Beyond(e, now, total, failed, durations, of)
	byLog -= total
	if total+failed+durations > 0 {
		h := l.store.Edges.AddRequests(e, r.answer.Operation, total, failed, start, now)
		if !r.lone || r.server == nil {
			h.Add(exphist.Default, seconds, durations)
		}
	}
	if r.pod != nil && byLog == 0 { // the log has named the pod
		if p := l.store.Endpoints.OfWorkload(r.pod); p != nil {
			l.store.Endpoints.AddRequest(p, r.answer.Failed, start, now)
		}
	}
	services := l.store.Services
	if s := services.Find(edges.ServiceKeyOf(r.key.Source, r.key.Destination).For(r.answer.Protocol), start); s != nil {
		services.Add(s, total, failed, now)
		if !r.lone {
			services.ObserveServer(s, seconds, durations)
		}
		if r.asked != nil {
			r.asked.between = cmp.Or(r.asked.between, s)
			l.observeClient(r.asked, now)
		}
	}
}
