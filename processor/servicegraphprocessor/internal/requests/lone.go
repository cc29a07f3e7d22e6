package requests

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/appspan"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/identity"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// addSent takes over a client's span for the connections that look for their requests.
func (t *Table) addSent(x *Exchange) {
	id := t.who.Of(x.origin)
	pod := podOf(x.origin, &id)
	service := t.who.ServiceCalled(x.origin, x.call)
	switch {
	case pod.Name == "":
	case service != nil:
		t.Sent.add(x, pod, service.Hostname)
	case x.call.Addr.IsValid():
		t.Sent.add(x, pod, x.call.Addr.String())
	}
}

// unanswered counts a call of which only the client tells, if its peer sends no spans. Where that sends some, the request is counted
// by them, or it did not arrive. Of a peer that is known to be silent nothing is waited for, unless it passes messages on; with final
// nothing is at all.
func (t *Table) unanswered(x *Exchange, now pcommon.Timestamp, final bool) {
	if x.call == nil || x.lone || len(x.requests) > 0 || x.behind != nil {
		return
	}
	if final {
		t.telemetry.ClientSpanExpired()
	}
	from := t.who.Of(x.origin)
	if x.outer || from.Workload == nil && (x.origin.Nameless() || !final) || x.call.Message && !final {
		return
	}
	to, ok := t.who.Callee(&x.call.Peer, t.who.NamespaceOf(x.origin))
	heard := ok && t.voices.Heard(to.Party, x.call.Host)
	if !ok || !final && !t.voices.Missed(to.Party) || heard && (!final || !t.answeredOnTheWay(x, &to)) {
		return
	}
	x.lone = true
	if !heard {
		t.voices.Miss(to.Party, now)
	}
	if x.call.Unanswered {
		return // The connection failed, of which ztunnels tell, also where it leaves the mesh. It says nothing of the peer's answers.
	}
	t.ledger.enter(t.loneRequest(x, from, &to), byClientSpan, now)
}

// answeredOnTheWay tells whether a waypoint answered a call, with a code of proxies, of which the service's pods tell nothing.
func (t *Table) answeredOnTheWay(x *Exchange, to *identity.Callee) bool {
	switch x.call.Status {
	case 403, 429, 503, 504:
		return to.Service != nil && t.names.WaypointOf(to.Service.Hostname, "") != ""
	}
	return false
}

// loneRequest is a request as its client tells it.
func (t *Table) loneRequest(x *Exchange, from naming.Identity, to *identity.Callee) *request {
	r := &request{details: &details{asked: x, end: min(x.call.End, x.arrived), lone: true, server: to.Workload}}
	r.answer = appspan.Answer{
		Operation: x.call.Operation, Protocol: x.call.Protocol, Status: x.call.Status, Failed: x.call.Failed, Start: x.call.Start, End: x.call.End,
	}
	c := client{from, byClientSpan}
	r.key = edge.Key{Source: from.Party, Destination: to.Party, Port: to.Port, Security: predictSecurity(&c, to.Workload)}
	if to.Service != nil {
		r.key.Service, r.key.Waypoint = to.Service.Hostname, t.names.WaypointOf(to.Service.Hostname, x.waypoint)
	}
	if to.Workload == nil && to.Service == nil && x.call.Host == "" && x.call.Addr.IsValid() && from.Workload != nil && from.Workload.InMesh() {
		r.key.Security = semconv.SecurityNone // as ztunnel says of what leaves the mesh
	}
	if to.Exact {
		r.pod = to.Workload
	}
	return r
}
