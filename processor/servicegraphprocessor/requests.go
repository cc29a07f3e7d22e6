package servicegraphprocessor

import (
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// exchange is one request as its two spans tell it, by the client span's id; either side may come first or never.
type exchange struct {
	id        spanID
	arrived   pcommon.Timestamp
	client    clientSpan
	server    serverSpan
	hasClient bool
	hasServer bool
	counted   bool
	waits     bool
	between   *serviceEdge // where the client's duration belongs, once the request is counted
	behind    *exchange    // that of the span of a waypoint which passed the request on
}

// meshKnowledge is what decides whether a request has to wait for the mesh's state.
type meshKnowledge struct {
	generation uint64
	meshless   bool
}

// request is one that is counted once the graph's clock has passed its end.
type request struct {
	key      edge.Key
	protocol string
	pod      *mesh.Workload
	server   serverSpan
	exchange *exchange
}

// requestTable joins the two spans of a request and holds those that cannot be counted yet.
type requestTable struct {
	byClient map[spanID]*exchange
	// order holds the exchanges in the order of arrival, waiting those whose server span is not counted.
	order   queue[*exchange]
	waiting queue[*exchange]
	ready   []request
	recent  recentSpans
	// triedAt is what was known of the mesh when all that wait were last looked at.
	triedAt meshKnowledge
}

func newRequestTable(cfg *Config) *requestTable {
	return &requestTable{
		byClient: map[spanID]*exchange{},
		recent:   recentSpans{max: cfg.Requests.MaxSpans, current: map[spanID]struct{}{}},
	}
}

// applySpan takes over an application's span.
func (g *graph) applySpan(o origin, span ptrace.Span) {
	if isWaypointSpan(span) {
		g.applyWaypointSpan(span)
		return
	}
	switch span.Kind() {
	case ptrace.SpanKindClient:
		id := idOf(span.TraceID(), span.SpanID())
		x := g.exchange(id, max(g.clock.time, span.EndTimestamp()))
		if x == nil || x.hasClient {
			return
		}
		x.client, x.hasClient = readClientSpan(o, span), true
		g.flowSpans.application(g, x)
		if x.hasServer {
			g.meet(x)
		}
		g.passOn(x)
	case ptrace.SpanKindServer:
		if !g.requests.recent.add(idOf(span.TraceID(), span.SpanID())) {
			g.dropped("duplicate_span", 1)
			return
		}
		g.applyServerSpan(o, span)
	}
}

// applyWaypointSpan joins what lies on either side of a waypoint: the request of its span's parent is that of its span's
// child. The waypoint itself is neither the request's client nor its server.
func (g *graph) applyWaypointSpan(span ptrace.Span) {
	if span.ParentSpanID().IsEmpty() || span.ParentSpanID() == span.SpanID() {
		return
	}
	at := max(g.clock.time, span.EndTimestamp())
	front := g.exchange(idOf(span.TraceID(), span.ParentSpanID()), at)
	if front == nil || front.behind != nil {
		return
	}
	if front.behind = g.exchange(idOf(span.TraceID(), span.SpanID()), at); front.behind != nil {
		g.passOn(front)
	}
}

// passOn hands a request's client to what lies behind the waypoints on its way.
func (g *graph) passOn(x *exchange) {
	for ; x.behind != nil && x.hasClient && !x.behind.hasClient; x = x.behind {
		x.behind.client, x.behind.hasClient = x.client, true
		if x.behind.hasServer {
			g.meet(x.behind)
		}
	}
}

func (g *graph) applyServerSpan(o origin, span ptrace.Span) {
	server := readServerSpan(o, span)
	arrived := max(g.clock.time, span.EndTimestamp())
	var x *exchange
	if !span.ParentSpanID().IsEmpty() {
		x = g.exchange(idOf(span.TraceID(), span.ParentSpanID()), arrived)
	}
	if x == nil || x.hasServer {
		// No parent, no room, or a second answer to one request (a retry below the client's span): a request by itself.
		alone := &exchange{arrived: arrived, server: server, hasServer: true}
		if x != nil {
			alone.client, alone.hasClient = x.client, x.hasClient
		}
		x = alone
	} else {
		x.server, x.hasServer = server, true
		if x.hasClient {
			g.meet(x)
			return
		}
	}
	if !g.count(x, false) {
		g.wait(x)
	}
}

// wait keeps an uncounted request until more is known, or counts it if there is no room.
func (g *graph) wait(x *exchange) {
	if g.requests.waiting.len() >= g.cfg.Requests.MaxSpans {
		g.dropped("span_limit", 1)
		g.count(x, true)
		return
	}
	x.waits = true
	g.requests.waiting.push(x)
}

// meet counts a request whose two spans are known, if it was not counted on the server's word alone.
func (g *graph) meet(x *exchange) {
	switch {
	case x.counted:
		g.observeClient(x)
	case !g.count(x, false) && !x.waits:
		g.wait(x)
	}
}

func (g *graph) observeClient(x *exchange) {
	if x.between == nil || !x.hasClient || x.client.end <= x.client.start {
		return
	}
	g.services.observeClient(x.between, time.Duration(x.client.end-x.client.start), g.clock.time)
	x.between = nil
}

// exchange finds or creates the exchange of a client span; nil if there is no room.
func (g *graph) exchange(id spanID, at pcommon.Timestamp) *exchange {
	if x, ok := g.requests.byClient[id]; ok {
		return x
	}
	if len(g.requests.byClient) >= g.cfg.Requests.MaxSpans {
		g.dropped("span_limit", 1)
		return nil
	}
	x := &exchange{id: id, arrived: at}
	g.requests.byClient[id] = x
	g.requests.order.push(x)
	return x
}

// count decides between whom a request was and readies it; false means that it is worth waiting. With final nothing is
// waited for.
func (g *graph) count(x *exchange, final bool) bool {
	server := g.originPod(&x.server.origin)
	if server == nil && !final && g.originMayAppear(&x.server.origin) {
		return false
	}
	source, client, by, ok := g.clientOf(x, final)
	if !ok {
		return false
	}
	key := edge.Key{Source: source, Destination: g.originParty(server, &x.server.origin)}
	key.Service, key.Port, ok = g.serviceOf(x, server, final)
	if !ok {
		return false
	}
	key.Security = predictSecurity(client, by, server)
	if w := g.directory.Holder(x.server.client); w != nil && by == byClientSpan && g.directory.IsWaypoint(w) {
		key.Waypoint = naming.WaypointName(w)
	}
	protocol := g.directory.Protocol(key.Service, key.Port)
	if protocol == "" {
		protocol = semconv.ProtocolHTTP
		if x.server.grpc {
			protocol = semconv.ProtocolGRPC
		}
	}
	x.counted = true
	g.requests.ready = append(g.requests.ready, request{key: key, protocol: protocol, pod: server, server: x.server, exchange: x})
	g.countedBy(by)
	return true
}

// clientBy is what told a request's client.
type clientBy uint8

const (
	byUnknown clientBy = iota
	byAddress
	byClientSpan
)

// clientOf names the client of a request. The address that the server saw comes first: it is the connection's own, so
// that the request lands on the connection's edge. A waypoint in between is looked through by the client's span.
func (g *graph) clientOf(x *exchange, final bool) (edge.Party, *mesh.Workload, clientBy, bool) {
	if x.server.client.IsValid() {
		if w := g.directory.Holder(x.server.client); w != nil && !g.directory.IsWaypoint(w) {
			return naming.PartyOf(w), w, byAddress, true
		}
	}
	if x.hasClient {
		w := g.originPod(&x.client.origin)
		if w != nil || final || !g.originMayAppear(&x.client.origin) {
			return g.originParty(w, &x.client.origin), w, byClientSpan, true
		}
		return edge.Party{}, nil, byUnknown, false
	}
	if !final && (x.id != spanID{} || !g.directory.Known()) {
		return edge.Party{}, nil, byUnknown, false
	}
	if x.server.client.IsValid() {
		party, ok := g.directory.Externals.Name(x.server.client.String())
		if !ok {
			g.overflowed("external")
		}
		return party, nil, byAddress, true
	}
	return edge.Party{Workload: naming.Unknown}, nil, byUnknown, true
}

// serviceOf tells which service and port of the server's workload a request was for: what the client addressed, else
// the only one that the workload offers.
func (g *graph) serviceOf(x *exchange, server *mesh.Workload, final bool) (string, uint16, bool) {
	if server == nil {
		return "", x.server.port, true
	}
	if x.hasClient && x.client.peer.IsValid() {
		addr := x.client.peer.Addr().Unmap()
		if service := g.directory.Called(addr); service != nil {
			if _, offered := server.Services[service.Key()]; offered {
				return service.Hostname, naming.ServicePort(server, service.Key(), uint32(x.client.peer.Port())), true
			}
		}
		if slices.Contains(server.Addresses, addr.String()) {
			return "", x.client.peer.Port(), true
		}
	}
	hostname, port, choices := naming.OnlyService(server, x.server.port)
	if choices > 1 && !final && !x.hasClient && x.id != (spanID{}) {
		return "", 0, false
	}
	return hostname, port, true
}

// predictSecurity is what the ztunnels will say of the request's connection.
func predictSecurity(client *mesh.Workload, by clientBy, server *mesh.Workload) string {
	switch {
	case server == nil || by == byUnknown:
		return semconv.SecurityUnknown
	case server.InMesh() && client != nil && client.InMesh():
		return semconv.SecurityMutualTLS
	}
	return semconv.SecurityNone
}

// originPod finds the workload that wrote a span.
func (g *graph) originPod(o *origin) *mesh.Workload {
	namespace := o.namespace
	if namespace == "" {
		namespace = o.serviceNamespace
	}
	if w := g.directory.Pod(namespace, o.pod); w != nil {
		return w
	}
	return g.directory.HolderOf(o.podIP)
}

// originMayAppear tells whether a span's writer may be named later by the mesh's state.
func (g *graph) originMayAppear(o *origin) bool {
	return (!g.directory.Known() && !g.directory.Meshless(g.clock.time)) || (o.pod != "" && g.directory.Known())
}

func (g *graph) originParty(w *mesh.Workload, o *origin) edge.Party {
	if w != nil {
		return naming.PartyOf(w)
	}
	namespace := o.namespace
	if namespace == "" {
		namespace = o.serviceNamespace
	}
	name := o.workload
	if name == "" {
		name = o.service
	}
	if name == "" {
		name = o.pod
	}
	if name == "" {
		name = naming.Unknown
	}
	return edge.Party{Workload: name, Namespace: namespace, App: o.service}
}

// retryRequests looks again at the requests that wait, and gives up on those that waited long enough.
func (g *graph) retryRequests(now pcommon.Timestamp, force bool) {
	q := &g.requests.waiting
	asOf := meshKnowledge{g.directory.Version(), g.directory.Meshless(g.clock.time)}
	if force || asOf != g.requests.triedAt {
		g.requests.triedAt = asOf
		for n := q.len(); n > 0; n-- {
			if x := q.pop(); !x.counted && !g.count(x, force) {
				q.push(x)
			}
		}
	}
	for q.len() > 0 && (q.first().counted || since(q.first().arrived, now, g.cfg.Requests.Wait)) {
		if x := q.pop(); !x.counted {
			g.count(x, true)
		}
	}
	keep := max(g.cfg.Requests.Wait, g.cfg.FlowSpans.ApplicationWait)
	for q := &g.requests.order; q.len() > 0; {
		x := q.first()
		if !force && !since(x.arrived, now, keep) {
			break
		}
		q.pop()
		if x.hasClient && !x.hasServer && x.behind == nil {
			g.telemetry.ServiceGraphClientSpansExpired.Add(g.ctx, 1)
		}
		delete(g.requests.byClient, x.id)
	}
}

// countRequests adds the requests that ended before now to their edges.
func (g *graph) countRequests(now pcommon.Timestamp, force bool) {
	left := g.requests.ready[:0]
	for i := range g.requests.ready {
		r := &g.requests.ready[i]
		if r.server.end >= now && !force {
			left = append(left, *r)
			continue
		}
		g.addRequest(r, now)
	}
	clear(g.requests.ready[len(left):])
	g.requests.ready = left
}

func (g *graph) addRequest(r *request, now pcommon.Timestamp) {
	e := g.edges.find(r.key, r.protocol, r.server.start)
	e.startsAt(r.server.start)
	seconds := r.server.duration().Seconds()
	total, failed, durations := e.waypoint.bySpan(now, r.server.failed, g.limits)
	if total+failed+durations > 0 {
		route := g.edges.route(e, r.server.route)
		route.total += total
		route.failed += failed
		route.duration.Observe(seconds, durations)
		route.changed = true
		g.edges.touch(e, now)
	}

	if r.pod != nil {
		if p := g.podEndpoint(r.pod); p != nil {
			p.requests++
			if r.server.failed {
				p.requestsFailed++
			}
			g.touchEndpoint(p, r.server.start, now)
		}
	}
	if s := g.services.find(serviceKeyOf(r.key.Source, r.key.Destination), r.server.start); s != nil {
		s.total += total
		s.failed += failed
		s.server.observe(g.services.bounds, seconds, durations)
		g.services.touch(s, now)
		r.exchange.between = s
		g.observeClient(r.exchange)
	}
}

// recentSpans remembers at least the last max span ids.
type recentSpans struct {
	max               int
	current, previous map[spanID]struct{}
}

// add remembers a span's id; false means that it is known already.
func (r *recentSpans) add(id spanID) bool {
	if _, known := r.current[id]; known {
		return false
	}
	if _, known := r.previous[id]; known {
		return false
	}
	if len(r.current) >= r.max {
		r.previous, r.current = r.current, map[spanID]struct{}{}
	}
	r.current[id] = struct{}{}
	return true
}
