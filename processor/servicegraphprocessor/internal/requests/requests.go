// Package requests counts each request once: from the spans of the applications, and from what waypoints' own metrics tell
// beyond those.
package requests

import (
	"cmp"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// Config bounds what is held and says how long.
type Config struct {
	// Wait is how long a server span waits for its client span where its address does not tell the client, and a waypoint's
	// count for the spans of the same requests.
	Wait time.Duration
	// MaxSpans bounds the client spans remembered, the server spans waiting, and the requests whose end is still to come, each.
	MaxSpans int
	// ConnectionWait is how long a connection's span waits for the request that used it; with 0 none does.
	ConnectionWait time.Duration
}

// Exchange is one request as its two spans tell it, by the client span's id; either side may come first or never.
type Exchange struct {
	id        spanID
	arrived   pcommon.Timestamp
	client    clientSpan
	server    serverSpan
	ends      pcommon.Timestamp // when the server's span ended, as far as that can be right
	hasClient bool
	hasServer bool
	counted   bool
	waits     bool
	between   *edges.Service // where the client's duration belongs, once the request is counted
	behind    *Exchange      // that of the span of a waypoint which passed the request on
}

// Client is when the client's span began and ended.
func (x *Exchange) Client() (start, end pcommon.Timestamp) { return x.client.start, x.client.end }

// Answered is the pod that answered; the zero Pod if that is not known.
func (x *Exchange) Answered() naming.Pod {
	if !x.hasServer || x.server.origin.pod == "" {
		return naming.Pod{}
	}
	return naming.Pod{Namespace: x.server.origin.namespace, Name: x.server.origin.pod}
}

// Span is the client's span.
func (x *Exchange) Span() (pcommon.TraceID, pcommon.SpanID) {
	return pcommon.TraceID(x.id[:16]), pcommon.SpanID(x.id[16:])
}

// meshKnowledge is what decides whether a request has to wait for the mesh's state.
type meshKnowledge struct {
	version  uint64
	meshless bool
}

// request is one that is counted once the graph's clock has passed its end.
type request struct {
	key      edge.Key
	pod      *mesh.Workload
	exchange *Exchange
	end      pcommon.Timestamp
	guessed  bool // the service, without what the client's span tells
}

// Table joins the two spans of a request and holds those that cannot be counted yet.
type Table struct {
	// Sent are the requests by who sent them.
	Sent *Sent

	cfg       Config
	names     *naming.Directory
	store     *edges.Store
	waypoints *Waypoints
	telemetry *telemetry.Telemetry

	byClient map[spanID]*Exchange // bounded by MaxSpans
	// order holds the exchanges in the order of arrival, waiting those whose server span is not counted.
	order   queue[*Exchange]
	waiting queue[*Exchange]
	ready   []request
	recent  recentSpans
	// triedAt is what was known of the mesh when all that wait were last looked at.
	triedAt meshKnowledge
}

// NewTable returns an empty table that adds to the edges of a store what waypoints do not tell already.
func NewTable(cfg Config, names *naming.Directory, store *edges.Store, waypoints *Waypoints, t *telemetry.Telemetry) *Table {
	return &Table{
		Sent: newSent(cfg.MaxSpans, cfg.ConnectionWait),
		cfg:  cfg, names: names, store: store, waypoints: waypoints, telemetry: t,
		byClient: map[spanID]*Exchange{},
		recent:   recentSpans{max: cfg.MaxSpans, current: map[spanID]struct{}{}},
	}
}

// Held are the server spans that wait, for their client or for the clock, and the client spans that are remembered.
func (t *Table) Held() (servers, clients int) {
	return t.waiting.len() + len(t.ready), len(t.byClient)
}

// Apply takes over an application's span.
func (t *Table) Apply(o *Origin, span ptrace.Span, arrival moment.Arrival) {
	if isWaypointSpan(span) {
		t.applyWaypointSpan(span, arrival)
		return
	}
	switch span.Kind() {
	case ptrace.SpanKindClient:
		x := t.exchange(idOf(span.TraceID(), span.SpanID()), arrival.Of(span.EndTimestamp()))
		if x == nil || x.hasClient {
			return
		}
		x.client, x.hasClient = readClientSpan(o, span), true
		if t.cfg.ConnectionWait > 0 {
			t.Sent.add(t.names, x)
		}
		if x.hasServer {
			t.meet(x, arrival.Now)
		}
		t.passOn(x, arrival.Now)
	case ptrace.SpanKindServer:
		if !t.recent.add(idOf(span.TraceID(), span.SpanID())) {
			t.telemetry.Dropped(telemetry.DroppedDuplicate, 1)
			return
		}
		t.applyServer(o, span, arrival)
	}
}

func (t *Table) applyServer(o *Origin, span ptrace.Span, arrival moment.Arrival) {
	server := readServerSpan(o, span)
	arrived, ends := arrival.Of(server.end), arrival.End(server.end)
	var x *Exchange
	if !span.ParentSpanID().IsEmpty() {
		x = t.exchange(idOf(span.TraceID(), span.ParentSpanID()), arrived)
	}
	if x != nil && x.hasServer && x.server.backend != nil {
		return // a waypoint has answered already
	}
	if x == nil || x.hasServer {
		// No parent, no room, or a second answer to one request (a retry below the client's span): a request by itself.
		alone := &Exchange{arrived: arrived, server: server, ends: ends, hasServer: true}
		if x != nil {
			alone.client, alone.hasClient = x.client, x.hasClient
		}
		x = alone
	} else {
		x.server, x.ends, x.hasServer = server, ends, true
	}
	t.answered(x, arrival.Now)
}

// answered counts a request whose server's word has come, or lets it wait for its client's.
func (t *Table) answered(x *Exchange, now pcommon.Timestamp) {
	switch {
	case x.id != spanID{} && x.hasClient:
		t.meet(x, now)
	case !t.count(x, now, false):
		t.wait(x, now)
	}
}

// wait keeps an uncounted request until more is known, or counts it if there is no room.
func (t *Table) wait(x *Exchange, now pcommon.Timestamp) {
	if t.waiting.len() >= t.cfg.MaxSpans {
		t.telemetry.Dropped(telemetry.DroppedSpanLimit, 1)
		t.count(x, now, true)
		return
	}
	x.waits = true
	t.waiting.push(x)
}

// meet counts a request whose two spans are known, if it was not counted on the server's word alone.
func (t *Table) meet(x *Exchange, now pcommon.Timestamp) {
	switch {
	case x.counted:
		t.observeClient(x, now)
	case !t.count(x, now, false) && !x.waits:
		t.wait(x, now)
	}
}

func (t *Table) observeClient(x *Exchange, now pcommon.Timestamp) {
	if x.between == nil || !x.hasClient || x.client.end <= x.client.start {
		return
	}
	t.store.Services.ObserveClient(x.between, time.Duration(x.client.end-x.client.start).Seconds(), now)
	x.between = nil
}

// exchange finds or creates the exchange of a client span; nil if there is no room.
func (t *Table) exchange(id spanID, at pcommon.Timestamp) *Exchange {
	if x, ok := t.byClient[id]; ok {
		return x
	}
	if len(t.byClient) >= t.cfg.MaxSpans {
		t.telemetry.Dropped(telemetry.DroppedSpanLimit, 1)
		return nil
	}
	x := &Exchange{id: id, arrived: at}
	t.byClient[id] = x
	t.order.push(x)
	return x
}

// count decides between whom a request was and readies it; false means that it is worth waiting. With final nothing is
// waited for.
func (t *Table) count(x *Exchange, now pcommon.Timestamp, final bool) bool {
	pod := t.podOf(&x.server.origin)
	server := cmp.Or(x.server.backend, pod)
	if server == nil && !final && t.mayAppear(&x.server.origin, now) {
		return false
	}
	client, ok := t.clientOf(x, now, final)
	if !ok {
		return false
	}
	key := edge.Key{Source: client.party, Destination: t.partyOf(server, &x.server.origin)}
	key.Service, key.Port, ok = t.serviceOf(x, server, final)
	if !ok {
		return false
	}
	key.Security = predictSecurity(&client, server)
	if w := t.names.Holder(x.server.client); w != nil && client.by == byClientSpan && t.names.IsWaypoint(w) {
		key.Waypoint = naming.WaypointName(w)
	}
	x.counted = true
	t.telemetry.Request(client.by)
	r := request{key: key, pod: pod, exchange: x, end: x.ends, guessed: !x.hasClient}
	if len(t.ready) < t.cfg.MaxSpans {
		t.ready = append(t.ready, r)
		return true
	}
	t.telemetry.Dropped(telemetry.DroppedSpanLimit, 1)
	t.add(&r, now)
	return true
}

// protocolOf is what the mesh's state says of a request's protocol, else what its span does.
func (t *Table) protocolOf(r *request) string {
	switch {
	case r.exchange.server.grpc:
		return cmp.Or(t.names.Protocol(r.key.Service, r.key.Port), semconv.ProtocolGRPC)
	default:
		return cmp.Or(t.names.Protocol(r.key.Service, r.key.Port), semconv.ProtocolHTTP)
	}
}

// What told a request's client.
const (
	byUnknown    = "unknown"
	byAddress    = "address"
	byClientSpan = "client_span"
)

// client is who sent a request.
type client struct {
	party edge.Party
	pod   *mesh.Workload
	by    string
}

// clientOf names the client of a request. The address that the server saw comes first: it is the connection's own, so
// that the request lands on the connection's edge. A waypoint in between is looked through by the client's span.
func (t *Table) clientOf(x *Exchange, now pcommon.Timestamp, final bool) (client, bool) {
	if w := t.names.Holder(x.server.client); w != nil && !t.names.IsWaypoint(w) {
		return client{naming.PartyOf(w), w, byAddress}, true
	}
	if x.hasClient {
		w := t.podOf(&x.client.origin)
		if w != nil || final || !t.mayAppear(&x.client.origin, now) {
			return client{t.partyOf(w, &x.client.origin), w, byClientSpan}, true
		}
		return client{}, false
	}
	if !final && (x.id != spanID{} || !t.names.Known()) {
		return client{}, false
	}
	if x.server.client.IsValid() {
		party, ok := t.names.Externals.Name(x.server.client.String())
		if !ok {
			t.telemetry.Overflowed(telemetry.BoundExternal)
		}
		return client{party, nil, byAddress}, true
	}
	return client{edge.Party{Workload: naming.Unknown}, nil, byUnknown}, true
}

// serviceOf tells which service and port of the server's workload a request was for: what the client addressed, else
// the only one that the workload offers.
func (t *Table) serviceOf(x *Exchange, server *mesh.Workload, final bool) (string, uint16, bool) {
	if server == nil {
		return "", x.server.port, true
	}
	if x.hasClient && x.client.peer.IsValid() {
		addr := x.client.peer.Addr().Unmap()
		if service := t.names.Called(addr); service != nil {
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
func predictSecurity(c *client, server *mesh.Workload) string {
	switch {
	case server == nil || c.by == byUnknown:
		return semconv.SecurityUnknown
	case server.InMesh() && c.pod != nil && c.pod.InMesh():
		return semconv.SecurityMutualTLS
	}
	return semconv.SecurityNone
}

// podOf finds the workload that wrote a span.
func (t *Table) podOf(o *Origin) *mesh.Workload {
	if w := t.names.Pod(o.anyNamespace(), o.pod); w != nil {
		return w
	}
	return t.names.HolderOf(o.podIP)
}

// mayAppear tells whether a span's writer may be named later by the mesh's state.
func (t *Table) mayAppear(o *Origin, now pcommon.Timestamp) bool {
	return (!t.names.Known() && !t.names.Meshless(now)) || (o.pod != "" && t.names.Known())
}

func (t *Table) partyOf(w *mesh.Workload, o *Origin) edge.Party {
	if w != nil {
		return naming.PartyOf(w)
	}
	return edge.Party{Workload: o.name(), Namespace: o.anyNamespace(), App: o.service}
}

// Retry looks again at the requests that wait, and gives up on those that waited long enough.
func (t *Table) Retry(m moment.Moment) {
	q := &t.waiting
	asOf := meshKnowledge{t.names.Version(), t.names.Meshless(m.Now)}
	if m.Final || asOf != t.triedAt {
		t.triedAt = asOf
		for n := q.len(); n > 0; n-- {
			if x := q.pop(); !x.counted && !t.count(x, m.Now, m.Final) {
				q.push(x)
			}
		}
	}
	for q.len() > 0 && (q.first().counted || m.Past(q.first().arrived, t.cfg.Wait)) {
		if x := q.pop(); !x.counted {
			t.count(x, m.Now, true)
		}
	}
	keep := max(t.cfg.Wait, t.cfg.ConnectionWait)
	for q := &t.order; q.len() > 0; {
		x := q.first()
		if !m.Final && !m.Past(x.arrived, keep) {
			break
		}
		q.pop()
		if x.hasClient && !x.hasServer && x.behind == nil {
			t.telemetry.ClientSpanExpired()
		}
		delete(t.byClient, x.id)
	}
}

// Rewind takes note that the graph's clock went back to a time: nothing arrived later.
func (t *Table) Rewind(now pcommon.Timestamp) {
	for _, q := range [...]*queue[*Exchange]{&t.order, &t.waiting} {
		for x := range q.all() {
			(*x).arrived = min((*x).arrived, now)
		}
	}
	for i := range t.ready {
		t.ready[i].end = min(t.ready[i].end, now)
	}
	t.Sent.rewind(now)
}

// Settle adds the requests that ended before now to their edges.
func (t *Table) Settle(m moment.Moment) {
	left := t.ready[:0]
	for i := range t.ready {
		r := &t.ready[i]
		if r.end >= m.Now && !m.Final {
			left = append(left, *r)
			continue
		}
		t.add(r, m.Now)
	}
	clear(t.ready[len(left):])
	t.ready = left
}

func (t *Table) add(r *request, now pcommon.Timestamp) {
	if r.guessed && r.exchange.hasClient {
		// The client's span came after it had been counted.
		r.key.Service, r.key.Port, _ = t.serviceOf(r.exchange, cmp.Or(r.exchange.server.backend, r.pod), true)
	}
	server, start := &r.exchange.server, min(r.exchange.server.start, r.end)
	if now > 0 {
		start = min(start, now)
	}
	e := t.store.Edges.Find(r.key, t.protocolOf(r), start)
	seconds := server.duration().Seconds()
	total, failed, durations := t.waypoints.bySpan(e, now, server.failed)
	byLog := total
	total, failed, durations = t.waypoints.logs.Beyond(e, now, total, failed, durations)
	byLog -= total
	if server.status != 0 {
		t.waypoints.logs.AddResponses(e, now, total, responses.Counts{{Response: server.response(), N: 1}})
	}
	if total+failed+durations > 0 {
		t.store.Edges.AddRequests(e, server.route, total, failed, start, now).Add(exphist.Default, seconds, durations)
	}
	if r.pod != nil && byLog == 0 { // the log has named the pod
		if p := t.store.Endpoints.OfWorkload(r.pod); p != nil {
			t.store.Endpoints.AddRequest(p, server.failed, start, now)
		}
	}
	services := t.store.Services
	if s := services.Find(edges.ServiceKeyOf(r.key.Source, r.key.Destination), start); s != nil {
		services.Add(s, total, failed, now)
		services.ObserveServer(s, seconds, durations)
		r.exchange.between = s
		t.observeClient(r.exchange, now)
	}
}

// recentSpans remembers at least the last max span ids.
type recentSpans struct {
	max               int
	current, previous map[spanID]struct{} // bounded by max
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
