package requests

import (
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/appspan"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/identity"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// What told a request's client.
const (
	byUnknown    = "unknown"
	byAddress    = "address"
	byClientSpan = "client_span"
)

// parties tell between whom requests were.
type parties struct {
	names *naming.Directory
	who   *identity.Resolver
}

// between decides between whom a request was; false means that it is worth waiting. With final nothing is waited for.
func (p *parties) between(r *request, now pcommon.Timestamp, final bool) (by string, ok bool) {
	p.learnClient(r)
	server, ok := p.serverOf(r, now, final)
	if !ok {
		return "", false
	}
	client, ok := p.clientOf(r, now, final)
	if !ok {
		return "", false
	}
	r.key = edge.Key{Source: client.Party, Destination: server.Party, Security: semconv.SecurityUnknown}
	if !r.message {
		r.key.Service, r.key.Port, ok = p.serviceOf(r, server.Workload, final)
		if !ok {
			return "", false
		}
		r.key.Security = predictSecurity(&client, server.Workload)
		r.key.Waypoint = p.waypointOf(r, &client)
	}
	if r.server = server.Workload; server.Exact && r.backend == nil {
		r.pod = server.Workload
	}
	if r.asked != nil && r.asked.answered == (naming.Pod{}) {
		r.asked.answered = podOf(r.origin, &server)
	}
	r.guessed = r.asked == nil || r.asked.call == nil
	return client.by, true
}

// client is who sent a request.
type client struct {
	naming.Identity
	by string
}

// clientOf names the client of a request. The address that the server saw comes first: it is the connection's own, so
// that the request lands on the connection's edge. A waypoint in between is looked through by the client's span. Of a message the
// server saw only the broker.
func (p *parties) clientOf(r *request, now pcommon.Timestamp, final bool) (client, bool) {
	if w := p.peerOf(r); w != nil {
		return client{naming.IdentityOf(w), byAddress}, true
	}
	if x := r.asked; x != nil && x.origin != nil {
		id := p.who.Of(x.origin)
		switch {
		case id.Workload == nil && !final && (x.origin.Nameless() || p.who.MayAppear(x.origin, now)):
			return client{}, false
		case id.Workload != nil || !x.origin.Nameless():
			return client{id, byClientSpan}, true
		}
	}
	if !final && (r.asked != nil && r.asked.origin == nil || !p.names.Known()) {
		return client{}, false
	}
	if r.message && r.answer.Called.Known() {
		broker, _ := p.who.Callee(&r.answer.Called, p.who.Of(r.origin).Party.Namespace)
		return client{broker.Identity, byAddress}, true
	}
	if seen := r.answer.Seen(); seen.IsValid() && !seen.IsLoopback() && !r.message && p.names.Holder(seen) == nil {
		return client{naming.Identity{Party: p.who.Outside(seen.String())}, byAddress}, true
	}
	return client{naming.Identity{Party: edge.Party{Workload: naming.Unknown}}, byUnknown}, true
}

// peerOf is the workload that the server saw, nil if it saw none but a waypoint. Behind a proxy it is the proxy, if that is in the mesh.
func (p *parties) peerOf(r *request) *mesh.Workload {
	if r.message {
		return nil
	}
	if w := p.names.Holder(r.answer.Client); w != nil && !p.names.IsWaypoint(w) {
		return w
	}
	if w := p.names.Holder(r.answer.Forwarded); w != nil && !p.names.IsWaypoint(w) {
		return w
	}
	return nil
}

// nested tells whether a server's span is part of a request that its own service answers already: it lies below another span of
// that, with no client's in between.
func (p *parties) nested(r *request) bool {
	x := r.asked
	if x == nil || x.origin == nil || x.call != nil || r.origin == nil || !p.who.Same(x.origin, r.origin) {
		return false
	}
	// A service may call itself without a client's span: then it saw its own address.
	w := p.names.Holder(r.answer.Seen())
	return w == nil || w != p.who.Of(r.origin).Workload
}

// serverOf names who answered a request; false means that it is worth waiting.
func (p *parties) serverOf(r *request, now pcommon.Timestamp, final bool) (naming.Identity, bool) {
	if r.backend != nil {
		return naming.IdentityOf(r.backend), true
	}
	id := p.who.Of(r.origin)
	if id.Workload != nil {
		return id, true
	}
	if called, ok := p.calledBy(r); ok && (final || r.origin.Nameless() || !p.who.MayAppear(r.origin, now)) {
		if called.Exact {
			p.who.Learn(r.origin, called.Workload)
		}
		return called, true
	}
	if !final && p.who.MayAppear(r.origin, now) {
		return id, false
	}
	asked := r.asked != nil && r.asked.origin == nil
	return id, final || !r.origin.Nameless() && (!asked || !p.names.Known())
}

// calledBy names the only party that the client of a request can have called, unless it was passed on by another one.
func (p *parties) calledBy(r *request) (naming.Identity, bool) {
	x := r.asked
	if r.message || x == nil || x.call == nil {
		return naming.Identity{}, false
	}
	if peer := p.peerOf(r); peer != nil {
		if asking := p.who.Of(x.origin); asking.Workload != nil && asking.Party != naming.PartyOf(peer) {
			return naming.Identity{}, false
		}
	}
	to, ok := p.who.Callee(&x.call.Peer, p.who.NamespaceOf(x.origin))
	return to.Identity, ok && to.Workload != nil
}

// learnClient takes over who wrote the client's span, if nothing else tells: whose address the server saw.
func (p *parties) learnClient(r *request) {
	if r.asked != nil && r.asked.call != nil && p.who.Of(r.asked.origin).Workload == nil {
		p.who.Learn(r.asked.origin, p.peerOf(r))
	}
}

// podOf is the pod that wrote a span, as far as it is known.
func podOf(o *appspan.Origin, id *naming.Identity) naming.Pod {
	switch {
	case o == nil:
		return naming.Pod{}
	case id.Exact:
		return naming.Pod{Namespace: id.Workload.Namespace, Name: id.Workload.Name}
	case o.Pod == "":
		return naming.Pod{}
	}
	return naming.Pod{Namespace: o.Namespace, Name: o.Pod}
}

// serviceOf tells which service and port of the server's workload a request was for: what the client addressed, else
// the only one that the workload offers.
func (p *parties) serviceOf(r *request, server *mesh.Workload, final bool) (string, uint16, bool) {
	if server == nil {
		return "", r.answer.Called.Port, true
	}
	hasClient := r.asked != nil && r.asked.call != nil
	if hasClient {
		call := r.asked.call
		if service := p.who.ServiceCalled(r.asked.origin, call); service != nil {
			if _, offered := server.Services[service.Key()]; offered {
				return service.Hostname, naming.ServicePort(server, service.Key(), uint32(call.Port)), true
			}
		}
		if call.Addr.IsValid() && slices.Contains(server.Addresses, call.Addr.String()) {
			return "", call.Port, true
		}
	}
	hostname, port, choices := naming.OnlyService(server, r.answer.Called.Port)
	if choices > 1 && !final && !hasClient && r.asked != nil {
		return "", 0, false
	}
	return hostname, port, true
}

// waypointOf is the waypoint that a request came through, as the server saw it or as the waypoint's own span says.
func (p *parties) waypointOf(r *request, c *client) string {
	if c.by == byAddress {
		return ""
	}
	if w := p.names.Holder(r.answer.Seen()); w != nil && p.names.IsWaypoint(w) {
		return naming.WaypointName(w)
	}
	if r.asked != nil {
		return r.asked.waypoint
	}
	return ""
}

// predictSecurity is what the ztunnels will say of the request's connection.
func predictSecurity(c *client, server *mesh.Workload) string {
	switch {
	case server == nil || c.by == byUnknown:
		return semconv.SecurityUnknown
	case server.InMesh() && c.Workload != nil && c.Workload.InMesh():
		return semconv.SecurityMutualTLS
	}
	return semconv.SecurityNone
}
