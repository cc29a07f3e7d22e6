// Package proxylog joins the requests that waypoints and gateways logged to the edges of the graph, and passes their records on with
// the names of both ends.
//
// A request is told by its log's line, by the waypoint's metrics and by spans. The log knows most and counts at once; the others wait for
// it where there is one, and count what it has not told (Beyond): a log may be filtered, or end. A request that a gateway and then a
// waypoint logged is the waypoint's.
package proxylog

import (
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// Config bounds what is held and says what is waited for.
type Config struct {
	// MaxRequests bounds the requests that wait.
	MaxRequests int
	// Wait is how long a gateway's request waits for the record of the waypoint behind it.
	Wait time.Duration
	// ResolveHold is how long the mesh's state is waited for that names the ends.
	ResolveHold time.Duration
	// Expiry is after how long an edge is forgotten of which no log told anything.
	Expiry time.Duration
}

// Table holds requests until they are settled.
type Table struct {
	cfg       Config
	names     *naming.Directory
	store     *edges.Store
	telemetry *telemetry.Telemetry

	held []*request            // bounded by MaxRequests
	told map[*edges.Edge]*told // bounded by the edges
	// at are those of told by where their requests went, in the order in which they came. Bounded by the edges.
	at map[place][]*told
	// heard are the waypoints whose logs are read; bounded by the mesh's state and MaxRequests.
	heard map[string]pcommon.Timestamp
	// seen are the requests that a waypoint logged, by the gateway that sent them. Bounded by MaxRequests.
	seen  map[hop]pcommon.Timestamp
	order []hop
	out   plog.Logs
	// last is whose the last record of out is.
	last passed
}

// passed is whose a record is that was passed on.
type passed struct {
	proxy   string
	gateway bool
}

// place is a party behind a waypoint.
type place struct {
	edge.Party
	waypoint string
}

// told is what logs told of an edge.
type told struct {
	// recent was told lately and not by others yet; bounded by the emissions of remember and the codes in each.
	recent []recent
	last   pcommon.Timestamp
}

// recent are requests of one code that logs told at a time.
type recent struct {
	at   pcommon.Timestamp
	code uint16
	n    uint64
}

// remember is how long others may come after a log with what it told: a scrape a minute, and some.
const remember = 3 * time.Minute

// hop is a request between a gateway and a waypoint.
type hop struct {
	gateway edge.Party
	id      string
}

// NewTable returns a table that adds to the edges of a store.
func NewTable(cfg Config, names *naming.Directory, store *edges.Store, t *telemetry.Telemetry) *Table {
	return &Table{
		cfg: cfg, names: names, store: store, telemetry: t,
		told: map[*edges.Edge]*told{}, at: map[place][]*told{}, heard: map[string]pcommon.Timestamp{}, seen: map[hop]pcommon.Timestamp{}, out: plog.NewLogs(),
	}
}

// Len is the number of requests that are held.
func (t *Table) Len() int { return len(t.held) }

// Take takes over the records of requests among logs and gives the others. Logs stay as they are: without such records, which is
// common, they are what it gives.
func (t *Table) Take(logs plog.Logs, arrival moment.Arrival) plog.Logs {
	if !tellRequests(logs) {
		return logs
	}
	return Without(logs, func(resource plog.ResourceLogs) func(plog.ScopeLogs, plog.LogRecord) bool {
		proxy := ProxyOf(resource.Resource())
		return func(scope plog.ScopeLogs, record plog.LogRecord) bool {
			if scope.Scope().Name() != semconv.ScopeReceiver || record.EventName() != semconv.EventRequest {
				return false
			}
			own := plog.NewLogRecord()
			record.CopyTo(own)
			return t.Apply(&proxy, own, arrival)
		}
	})
}

// Without gives logs without the records that are taken over: of tells for each resource which. Logs stay as they are.
func Without(logs plog.Logs, of func(resource plog.ResourceLogs) (take func(scope plog.ScopeLogs, record plog.LogRecord) bool)) plog.Logs {
	others := plog.NewLogs()
	for _, resource := range logs.ResourceLogs().All() {
		take := of(resource)
		var left plog.ResourceLogs
		kept := false
		for _, scope := range resource.ScopeLogs().All() {
			var records plog.LogRecordSlice
			begun := false
			for _, record := range scope.LogRecords().All() {
				if take(scope, record) {
					continue
				}
				if !kept {
					left, kept = others.ResourceLogs().AppendEmpty(), true
					resource.Resource().CopyTo(left.Resource())
					left.SetSchemaUrl(resource.SchemaUrl())
				}
				if !begun {
					to := left.ScopeLogs().AppendEmpty()
					scope.Scope().CopyTo(to.Scope())
					to.SetSchemaUrl(scope.SchemaUrl())
					records, begun = to.LogRecords(), true
				}
				record.CopyTo(records.AppendEmpty())
			}
		}
	}
	return others
}

func tellRequests(logs plog.Logs) bool {
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			if scope.Scope().Name() != semconv.ScopeReceiver {
				continue
			}
			for _, record := range scope.LogRecords().All() {
				if record.EventName() == semconv.EventRequest {
					return true
				}
			}
		}
	}
	return false
}

// Apply takes a record over and tells whether it did: one that there is no room for stays where it is, and is not counted.
func (t *Table) Apply(proxy *Proxy, record plog.LogRecord, arrival moment.Arrival) bool {
	if record.EventName() != semconv.EventRequest {
		return false
	}
	if len(t.held) >= t.cfg.MaxRequests {
		t.telemetry.Dropped(telemetry.DroppedRequestLimit, 1)
		return false
	}
	r := &request{proxy: *proxy, record: plog.NewLogRecord()}
	record.MoveTo(r.record)
	read(r)
	r.end, r.arrived = arrival.End(r.record.Timestamp()), arrival.Of(r.record.Timestamp())
	t.held = append(t.held, r)
	return true
}

// Settle counts the requests that ended before now, and gives the records that are ready to go on.
func (t *Table) Settle(m moment.Moment) plog.Logs {
	waits := !m.Final && !t.names.Known() && !t.names.Meshless(m.Now)
	var gateways []*request
	left := t.held[:0]
	for _, r := range t.held {
		switch {
		case !m.Final && (r.end >= m.Now || waits && !m.Past(r.arrived, t.cfg.ResolveHold)):
			left = append(left, r)
		case r.proxy.gateway:
			gateways = append(gateways, r)
		default:
			t.settle(r, m)
		}
	}
	// After the waypoints' records, which may tell the same requests.
	for _, r := range gateways {
		if !t.settle(r, m) {
			left = append(left, r)
		}
	}
	clear(t.held[len(left):])
	t.held = left
	t.expire(m)
	out := t.out
	t.out = plog.NewLogs()
	return out
}

// settle counts a request and passes its record on; false means that it waits for the waypoint behind it.
func (t *Table) settle(r *request, m moment.Moment) bool {
	e := t.endsOf(r, m.Now)
	repeated := false
	if e.toWaypoint {
		repeated = t.repeated(r, &e)
		if !repeated && !m.Final && !m.Past(r.arrived, t.cfg.Wait) {
			return false
		}
	}
	if e.known {
		e.key.PutAttributes(r.record.Attributes())
		t.putPods(r, &e)
		switch {
		case repeated:
			r.record.Attributes().PutBool(semconv.AttrRepeated, true)
		case e.foreign:
			t.telemetry.Dropped(telemetry.DroppedForeign, 1)
		default:
			t.count(r, &e, m.Now)
		}
	}
	if name := e.key.Waypoint; e.throughWaypoint && name != "" && len(t.heard) < t.cfg.MaxRequests {
		t.heard[name] = m.Now
	}
	if e.throughWaypoint && e.client != nil && r.id != "" {
		t.see(hop{e.key.Source, r.id}, m.Now)
	}
	t.pass(r, e.proxy)
	return true
}

// repeated tells whether a waypoint logged what a gateway sent to it.
func (t *Table) repeated(r *request, e *ends) bool {
	_, ok := t.seen[hop{e.key.Source, r.id}]
	return ok && r.id != ""
}

func (t *Table) see(h hop, now pcommon.Timestamp) {
	if len(t.seen) >= t.cfg.MaxRequests {
		return
	}
	if _, known := t.seen[h]; !known {
		h.id = naming.Intern(h.id)
		t.order = append(t.order, h)
	}
	t.seen[h] = now
}

// expire forgets what no gateway's record waits for any more.
func (t *Table) expire(m moment.Moment) {
	n := 0
	for n < len(t.order) && m.Past(t.seen[t.order[n]], 2*t.cfg.Wait) {
		delete(t.seen, t.order[n])
		n++
	}
	t.order = append(t.order[:0], t.order[n:]...)
}

// longest is how far before the end of a request its edge may begin, in seconds: a stream of hours counts where it ended, not over all of them.
const longest = 10.0

// count adds a request to its edge, unless others told it before.
func (t *Table) count(r *request, e *ends, now pcommon.Timestamp) {
	start := min(r.end, now)
	if r.duration > 0 {
		start -= min(start, pcommon.Timestamp(min(r.duration, longest)*1e9))
	}
	at := t.store.Edges.Find(e.key, t.protocolOf(r, e), start)
	t.note(at, r.code, now)
	var failed, durations uint64
	if r.failed {
		failed = 1
	}
	if r.duration >= 0 {
		durations = 1
	}
	source := semconv.RequestSourceWaypointLog
	if !e.throughWaypoint {
		source = semconv.RequestSourceGatewayLog
	}
	t.store.Edges.AddResponses(at, responses.Response{Code: r.code, Flags: r.flags, Source: source}, 1, now)
	t.store.Edges.AddRequests(at, "", 1, failed, start, now).Add(exphist.Default, r.duration, durations)
	if e.pod != nil {
		t.names.Weights.Add(naming.WeightKey{Source: e.key.Source, Service: e.key.Service, Destination: e.key.Destination}, 1, now)
		if p := t.store.Endpoints.OfWorkload(e.pod); p != nil {
			t.store.Endpoints.AddRequest(p, r.failed, start, now)
		}
	}
	services := t.store.Services
	if s := services.Find(edges.ServiceKeyOf(e.key.Source, e.key.Destination), start); s != nil {
		services.Add(s, 1, failed, now)
		services.ObserveServer(s, max(r.duration, 0), durations)
	}
}

// note remembers what a log told of an edge.
func (t *Table) note(e *edges.Edge, code uint16, now pcommon.Timestamp) {
	l := t.told[e]
	if l == nil {
		l = &told{}
		t.told[e] = l
		to := placeOf(e)
		t.at[to] = append(t.at[to], l)
		t.store.Edges.Use(e)
	}
	l.last = now
	for i := len(l.recent) - 1; i >= 0 && l.recent[i].at == now; i-- {
		if l.recent[i].code == code {
			l.recent[i].n++
			return
		}
	}
	l.forget(now)
	l.recent = append(l.recent, recent{now, code, 1})
}

// forget forgets what no other will tell any more.
func (l *told) forget(now pcommon.Timestamp) {
	n := 0
	for n < len(l.recent) && (l.recent[n].n == 0 || moment.Since(l.recent[n].at, now, remember)) {
		n++
	}
	l.recent = append(l.recent[:0], l.recent[n:]...)
}

// take takes up to n of what the log told, of one code or of any.
func (l *told) take(n uint64, code uint16, anyCode bool) (taken uint64) {
	for i := range l.recent {
		r := &l.recent[i]
		if taken == n {
			break
		}
		if anyCode || r.code == code {
			some := min(r.n, n-taken)
			r.n -= some
			taken += some
		}
	}
	return taken
}

// Tells implements requests.Logs.
func (t *Table) Tells(e *edges.Edge) bool {
	if t.told[e] != nil {
		return true
	}
	return t.Hears(e.Key.Waypoint)
}

// Hears implements requests.Logs.
func (t *Table) Hears(waypoint string) bool {
	_, heard := t.heard[waypoint]
	return heard
}

// Claim implements requests.Logs. One of the same code is taken if there is one.
func (t *Table) Claim(to edge.Party, waypoint string, code uint16, now pcommon.Timestamp) bool {
	clients := t.at[place{to, waypoint}]
	for _, anyCode := range [...]bool{false, true} {
		for _, l := range clients {
			l.forget(now)
			if l.take(1, code, anyCode) > 0 {
				return true
			}
		}
	}
	return false
}

func placeOf(e *edges.Edge) place { return place{e.Key.Destination, e.Key.Waypoint} }

// Beyond implements requests.Logs. What the log told of the same code is what it told; what is left of other codes may be the same
// requests, too: a server has answered what its client no longer waited for.
func (t *Table) Beyond(e *edges.Edge, now pcommon.Timestamp, total, failed, durations uint64, of responses.Counts) (uint64, uint64, uint64) {
	if l := t.told[e]; l != nil {
		l.forget(now)
		left := total
		for i := range of {
			n := l.take(min(of[i].N, left), of[i].Code, false)
			of[i].N -= n
			left -= n
		}
		left -= l.take(left, 0, true)
		total, failed, durations = left, min(failed, left), min(durations, left)
	}
	left := total
	for _, r := range of {
		n := min(r.N, left)
		t.store.Edges.AddResponses(e, r.Response, n, now)
		left -= n
	}
	return total, failed, durations
}

// pass puts a record on its way, under the name that its proxy has in the mesh.
func (t *Table) pass(r *request, proxy string) {
	resources := t.out.ResourceLogs()
	n := resources.Len()
	if n == 0 || t.last != (passed{proxy, r.proxy.gateway}) {
		t.last = passed{proxy, r.proxy.gateway}
		added := resources.AppendEmpty()
		r.proxy.resource.CopyTo(added.Resource())
		name := semconv.AttrWaypoint
		if r.proxy.gateway {
			name = semconv.AttrGateway
		}
		added.Resource().Attributes().PutStr(name, proxy)
		added.ScopeLogs().AppendEmpty().Scope().SetName(semconv.ScopeReceiver)
		n++
	}
	r.record.MoveTo(resources.At(n - 1).ScopeLogs().At(0).LogRecords().AppendEmpty())
}

// Rewind takes note that the graph's clock went back to a time: nothing arrived later.
func (t *Table) Rewind(now pcommon.Timestamp) {
	for _, r := range t.held {
		r.end, r.arrived = min(r.end, now), min(r.arrived, now)
	}
	for h, at := range t.seen {
		t.seen[h] = min(at, now)
	}
	for _, l := range t.told {
		l.last = min(l.last, now)
		for i := range l.recent {
			l.recent[i].at = min(l.recent[i].at, now)
		}
	}
	for name, at := range t.heard {
		t.heard[name] = min(at, now)
	}
}

// Sweep forgets the edges and waypoints of which no log told anything for long.
func (t *Table) Sweep(now pcommon.Timestamp) {
	for e, l := range t.told {
		if moment.Since(l.last, now, t.cfg.Expiry) {
			delete(t.told, e)
			to := placeOf(e)
			if t.at[to] = slices.DeleteFunc(t.at[to], func(of *told) bool { return of == l }); len(t.at[to]) == 0 {
				delete(t.at, to)
			}
			t.store.Edges.Release(e)
		}
	}
	for name, at := range t.heard {
		if moment.Since(at, now, t.cfg.Expiry) {
			delete(t.heard, name)
		}
	}
}
