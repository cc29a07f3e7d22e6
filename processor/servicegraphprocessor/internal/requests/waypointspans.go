package requests

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/appspan"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// applyWaypointSpan joins what lies on either side of a waypoint: the request of its span's parent is that of its span's
// child. The waypoint itself is neither the request's client nor its server, but where it could not reach the server it is who
// tells that the request failed.
func (t *Table) applyWaypointSpan(o *appspan.Origin, span ptrace.Span, arrival moment.Arrival) {
	if span.ParentSpanID().IsEmpty() || span.ParentSpanID() == span.SpanID() {
		return
	}
	at := arrival.Of(span.EndTimestamp())
	front := t.exchange(appspan.IDOf(span.TraceID(), span.ParentSpanID()), at)
	if front == nil || front.behind != nil {
		return
	}
	behind := t.exchange(appspan.IDOf(span.TraceID(), span.SpanID()), at)
	if behind == nil {
		return
	}
	if w := t.names.Holder(o.PodIP); w != nil {
		behind.waypoint = naming.WaypointName(w)
	}
	front.behind = behind
	t.passOn(front, arrival.Now)
	if len(behind.requests) > 0 {
		return
	}
	if host, answer, own := appspan.OwnAnswer(span); own {
		t.answerFor(behind, o, host, answer, arrival)
	}
}

// answerFor counts an error that a waypoint answered with itself, in the place of the only backend of the service that was called.
func (t *Table) answerFor(x *Exchange, o *appspan.Origin, host string, answer appspan.Answer, arrival moment.Arrival) {
	hop := t.names.MergeHop(nil, t.names.Holder(o.PodIP), host, "")
	if hop.Kind != naming.HopThrough || len(hop.Backends) != 1 || !t.names.SpeaksFor(hop.Waypoint, host, naming.PartyOf(hop.Backends[0])) {
		return
	}
	r := &request{backend: hop.Backends[0], details: &details{asked: x, answer: answer}}
	r.answer.Client, r.answer.Operation, r.answer.Failed = o.PodIP, "", true
	r.arrived, r.end = arrival.Of(r.answer.End), arrival.End(r.answer.End)
	x.requests = append(x.requests, r)
	t.countOrWait(r, arrival.Now)
}

// passOn hands a request's client to what lies behind the waypoints on its way.
func (t *Table) passOn(x *Exchange, now pcommon.Timestamp) {
	if behind := x.behind; behind != nil && x.origin != nil && behind.origin == nil {
		behind.origin, behind.call = x.origin, x.call
		t.meet(behind, now)
	}
}
