// Package proxylog joins the requests that waypoints and gateways logged to the edges of the graph, and passes their records on with
// the names of both ends.
//
// A request is told by its log's line, by the waypoint's metrics and by spans. The log knows most and counts at once; the others wait for
// it where there is one, and count what it has not told (Beyond): a log may be filtered, or end. A request that a gateway and then a
// waypoint logged is the waypoint's.
package proxylog

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/xpdata"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
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
	tellings
	namer

	cfg       Config
	telemetry *telemetry.Telemetry

	held    []held // bounded by MaxRequests
	settled pcommon.Timestamp
	// seen are the requests that a waypoint logged, by the gateway that sent them.
	seen   hops
	packer packer
	out    plog.Logs
	// last is whose the last record of out is.
	last passed
	// read is the request that is being read, attrs what is written of it.
	read  request
	attrs xpdata.MapBuilder
}

// held is a request that waits.
type held struct {
	proxy        *Proxy
	record       packed
	end, arrived pcommon.Timestamp
	// hop is what it may have in common with the record of the waypoint that it was sent to; 0 before that is known.
	hop hopID
}

// passed is whose a record is that was passed on.
type passed struct {
	proxy   string
	gateway bool
}

// NewTable returns a table that adds to the edges of a store.
func NewTable(cfg Config, names *naming.Directory, store *edges.Store, t *telemetry.Telemetry) *Table {
	return &Table{
		tellings: newTellings(store, cfg.MaxRequests), namer: namer{names, t}, cfg: cfg, telemetry: t, seen: newHops(cfg.MaxRequests), out: plog.NewLogs(),
	}
}

// Len is the number of requests that are held.
func (t *Table) Len() int { return len(t.held) }

// Take takes over the records of requests among logs and gives the others. Logs stay as they are: without such records, which is
// common, they are what it gives. What need not wait can be had with Passed.
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
			t.apply(t.reading(&proxy, record, false, record.Timestamp(), arrival), arrival)
			return true
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

// Apply takes over a record of a request. The record is the table's from then on.
func (t *Table) Apply(proxy *Proxy, record plog.LogRecord, arrival moment.Arrival) {
	t.apply(t.reading(proxy, record, true, record.Timestamp(), arrival), arrival)
}

// apply takes over a request. One that ended before what was settled last, as most do where much is read at once, need not wait. One that there
// is no room for does not wait either: it is counted as far as is known now.
func (t *Table) apply(r *request, arrival moment.Arrival) {
	if r.end < arrival.Now && (t.names.Known() || t.names.Meshless(arrival.Now)) {
		e := t.endsOf(r)
		if hop := t.hopOf(r, &e); hop == 0 || t.seen.has(hop) {
			t.settle(r, &e, r.arrived)
			return
		}
	}
	if len(t.held) < t.cfg.MaxRequests {
		t.held = append(t.held, held{proxy: r.proxy, record: t.packer.pack(r.record.LogRecord), end: r.end, arrived: r.arrived})
		return
	}
	t.telemetry.Dropped(telemetry.DroppedRequestLimit, 1)
	e := t.endsOf(r)
	t.settle(r, &e, r.arrived)
}

// reading reads a record into the request that is being read; its own is what may be passed on as it is.
func (t *Table) reading(proxy *Proxy, record plog.LogRecord, own bool, end pcommon.Timestamp, arrival moment.Arrival) *request {
	t.read = request{proxy: proxy, record: entry{LogRecord: record, own: own}, end: arrival.End(end), arrived: arrival.Of(end)}
	t.read.read()
	return &t.read
}

// maxLate is how many records that had to wait for something else than the clock leave at once.
const maxLate = 10_000

// Settle counts the requests that ended before now, and gives the records that are ready to go on.
func (t *Table) Settle(m moment.Moment) plog.Logs {
	waits := !m.Final && !t.names.Known() && !t.names.Meshless(m.Now)
	var gateways []held
	left, late := t.held[:0], 0
	for _, h := range t.held {
		if h.end < t.settled {
			late++
		}
		switch {
		case !m.Final && (h.end >= m.Now || waits && !m.Past(h.arrived, t.cfg.ResolveHold) || late > maxLate && h.end < t.settled):
			left = append(left, h)
		case h.proxy.gateway:
			gateways = append(gateways, h)
		default:
			r := t.unpacked(&h)
			e := t.endsOf(r)
			t.settle(r, &e, m.Now)
		}
	}
	// After the waypoints' records, which may tell the same requests.
	for _, h := range gateways {
		if !t.settleGateway(&h, m) {
			left = append(left, h)
		}
	}
	clear(t.held[len(left):])
	t.held = left
	t.settled = m.Now
	t.seen.expire(m, 2*t.cfg.Wait)
	return t.Passed()
}

// settleGateway settles a gateway's request; false means that it waits for the waypoint behind it.
func (t *Table) settleGateway(h *held, m moment.Moment) bool {
	waits := !m.Final && !m.Past(h.arrived, t.cfg.Wait)
	if waits && h.hop != 0 && !t.seen.has(h.hop) {
		return false
	}
	r := t.unpacked(h)
	e := t.endsOf(r)
	if h.hop = t.hopOf(r, &e); waits && h.hop != 0 && !t.seen.has(h.hop) {
		return false
	}
	t.settle(r, &e, m.Now)
	return true
}

func (t *Table) unpacked(h *held) *request {
	return t.reading(h.proxy, t.packer.unpack(h.record), true, h.end, moment.Arrival{Now: h.arrived, Latest: h.end})
}

// Passed gives the records that went on since it was asked last.
func (t *Table) Passed() plog.Logs {
	out := t.out
	t.out = plog.NewLogs()
	return out
}

// hopOf is what a gateway's request has in common with the record of the waypoint that it was sent to; 0 if there is none to come.
func (t *Table) hopOf(r *request, e *ends) hopID {
	if !e.toWaypoint {
		return 0
	}
	return t.seen.of(e.key.Source, r.id)
}

// settle counts a request and passes its record on.
func (t *Table) settle(r *request, e *ends, now pcommon.Timestamp) {
	hop := t.hopOf(r, e)
	repeated := e.known && hop != 0 && t.seen.has(hop)
	switch {
	case !e.known || repeated:
	case e.foreign:
		t.telemetry.Dropped(telemetry.DroppedForeign, 1)
	default:
		t.count(r, e, now)
	}
	if e.throughWaypoint {
		t.hear(e.key.Waypoint, now)
		if e.client != nil {
			t.seen.add(t.seen.of(e.key.Source, r.id), now)
		}
	}
	t.pass(r, e, repeated)
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
	t.note(at, r.response.Code, now)
	var failed, durations uint64
	if r.failed {
		failed = 1
	}
	if r.duration >= 0 {
		durations = 1
	}
	r.response.Source = semconv.RequestSourceWaypointLog
	if !e.throughWaypoint {
		r.response.Source = semconv.RequestSourceGatewayLog
	}
	t.store.Edges.AddResponses(at, r.response, 1, now)
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

// maxOwn is how many attributes a record gets at most that is passed on.
const maxOwn = 20

// pass puts a record on its way, under the name that its proxy has in the mesh.
func (t *Table) pass(r *request, e *ends, repeated bool) {
	from, to := r.record, t.slot(r.proxy, e.proxy)
	to.SetTimestamp(from.Timestamp())
	to.SetObservedTimestamp(from.ObservedTimestamp())
	to.SetSeverityNumber(from.SeverityNumber())
	to.SetSeverityText(from.SeverityText())
	to.SetEventName(from.EventName())
	to.SetTraceID(from.TraceID())
	to.SetSpanID(from.SpanID())
	to.SetFlags(from.Flags())
	to.SetDroppedAttributesCount(from.DroppedAttributesCount())
	if from.Body().Type() != pcommon.ValueTypeEmpty {
		from.Body().CopyTo(to.Body())
	}
	t.attrs.EnsureCapacity(from.Attributes().Len() + maxOwn)
	for name, value := range from.Attributes().All() {
		switch {
		case from.own:
			value.MoveTo(t.attrs.AppendEmpty(name))
		default:
			value.CopyTo(t.attrs.AppendEmpty(name))
		}
	}
	if e.known && !from.named {
		e.appendTo(&t.attrs)
	}
	if repeated {
		t.attrs.AppendEmpty(semconv.AttrRepeated).SetBool(true)
	}
	t.attrs.UnsafeIntoMap(to.Attributes())
}

// slot is a new record of a proxy in what goes on.
func (t *Table) slot(of *Proxy, name string) plog.LogRecord {
	resources := t.out.ResourceLogs()
	n := resources.Len()
	if n == 0 || t.last != (passed{name, of.gateway}) {
		t.last = passed{name, of.gateway}
		added := resources.AppendEmpty()
		of.resource.CopyTo(added.Resource())
		label := semconv.AttrWaypoint
		if of.gateway {
			label = semconv.AttrGateway
		}
		added.Resource().Attributes().PutStr(label, name)
		added.ScopeLogs().AppendEmpty().Scope().SetName(semconv.ScopeReceiver)
		n++
	}
	return resources.At(n - 1).ScopeLogs().At(0).LogRecords().AppendEmpty()
}

// Rewind takes note that the graph's clock went back to a time: nothing arrived later.
func (t *Table) Rewind(now pcommon.Timestamp) {
	for i := range t.held {
		h := &t.held[i]
		h.end, h.arrived = min(h.end, now), min(h.arrived, now)
	}
	t.settled = min(t.settled, now)
	t.seen.rewind(now)
	t.rewind(now)
}

// Sweep forgets the edges and waypoints of which no log told anything for long.
func (t *Table) Sweep(now pcommon.Timestamp) { t.sweep(now, t.cfg.Expiry) }
