package edges

import (
	"cmp"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// overflowKey is the edge that takes what exceeds the bound on edges.
var overflowKey = edge.Key{
	Source:      edge.Party{Workload: "overflow"},
	Destination: edge.Party{Workload: "overflow"},
	Protocol:    semconv.ProtocolTCP,
	Security:    semconv.SecurityUnknown,
}

// Flow identifies an edge as ztunnels' own counters do, which know no port.
type Flow struct {
	Source, Destination edge.Party
	Service             string
	MutualTLS           bool
}

func flowOf(key edge.Key) Flow {
	return Flow{key.Source, key.Destination, key.Service, key.Security == semconv.SecurityMutualTLS}
}

// Family holds the edges of one flow in the order of their ports.
type Family struct{ edges []*Edge }

// Edges are the family's edges as of now; nil of no family.
func (f *Family) Edges() []*Edge {
	if f == nil {
		return nil
	}
	return f.edges
}

func (f *Family) add(e *Edge) {
	at, _ := slices.BinarySearchFunc(f.edges, int(e.Key.Port)+1, byPort)
	f.edges = slices.Insert(f.edges, at, e)
}

func (f *Family) remove(e *Edge) {
	at, _ := slices.BinarySearchFunc(f.edges, int(e.Key.Port), byPort)
	for ; at < len(f.edges); at++ {
		if f.edges[at] == e {
			f.edges = slices.Delete(f.edges, at, at+1)
			return
		}
	}
}

func byPort(e *Edge, port int) int { return cmp.Compare(int(e.Key.Port), port) }

// siblings identify edges that must agree on their protocol.
type siblings struct {
	source, destination edge.Party
	service             string
	port                uint16
}

func siblingsOf(key edge.Key) siblings {
	return siblings{key.Source, key.Destination, key.Service, key.Port}
}

type protocolUse struct {
	protocol string
	edges    int
}

// Table holds the edges, bounded by MaxEdges, and knows which changed.
type Table struct {
	cfg       *Config
	externals *naming.Externals
	telemetry *telemetry.Telemetry

	byKey     map[edge.Key]*Edge
	protocols map[siblings]protocolUse
	families  map[Flow]*Family
	dirty     []*Edge
	// order is the ring of all emitted edges, the one that was emitted longest ago first.
	order Edge
	last  uint64 // the newest ID
	// changed and gone are those to be recorded.
	changed changes[*Edge]
	gone    changes[uint64]
}

func newTable(cfg *Config, externals *naming.Externals, t *telemetry.Telemetry) *Table {
	table := &Table{
		cfg: cfg, externals: externals, telemetry: t,
		byKey:     map[edge.Key]*Edge{},
		protocols: map[siblings]protocolUse{},
		families:  map[Flow]*Family{},
	}
	table.order.newer, table.order.older = &table.order, &table.order
	return table
}

// Len is the number of edges.
func (t *Table) Len() int { return len(t.byKey) }

// Family is the family of a flow, nil if there is no edge of it.
func (t *Table) Family(flow Flow) *Family { return t.families[flow] }

// Changed are the edges with news since the last emission.
func (t *Table) Changed() []*Edge { return t.dirty }

// Find returns the edge of a key whose protocol is still to be decided: the siblings' if there are any, else the
// given one. It is created if need be, counting from start.
func (t *Table) Find(key edge.Key, protocol string, start pcommon.Timestamp) *Edge {
	if e := t.known(&key, protocol); e != nil {
		return e
	}
	if len(t.byKey) >= t.cfg.MaxEdges {
		t.telemetry.Overflowed(telemetry.BoundEdges)
		return t.Overflow(start)
	}
	if key.Port != 0 && len(t.families[flowOf(key)].Edges()) >= t.cfg.MaxPorts {
		t.telemetry.Overflowed(telemetry.BoundPorts)
		key.Port = 0
		if e := t.known(&key, protocol); e != nil {
			return e
		}
	}
	return t.create(key, start)
}

// known decides the protocol of a key and returns its edge, nil if there is none yet.
func (t *Table) known(key *edge.Key, protocol string) *Edge {
	if use, known := t.protocols[siblingsOf(*key)]; known {
		protocol = use.protocol
	}
	key.Protocol = cmp.Or(protocol, semconv.ProtocolTCP)
	return t.byKey[*key]
}

// Overflow returns the edge that takes what exceeds the bound on edges.
func (t *Table) Overflow(start pcommon.Timestamp) *Edge {
	if e, ok := t.byKey[overflowKey]; ok {
		return e
	}
	e := t.create(overflowKey, start)
	e.overflow = true
	return e
}

func (t *Table) create(key edge.Key, start pcommon.Timestamp) *Edge {
	t.last++
	e := &Edge{ID: t.last, Key: key, start: start}
	t.index(e)
	return e
}

func (t *Table) index(e *Edge) {
	t.byKey[e.Key] = e
	t.externals.Use(e.Key.Source)
	t.externals.Use(e.Key.Destination)
	family := siblingsOf(e.Key)
	t.protocols[family] = protocolUse{protocol: e.Key.Protocol, edges: t.protocols[family].edges + 1}
	flow := flowOf(e.Key)
	if t.families[flow] == nil {
		t.families[flow] = &Family{}
	}
	t.families[flow].add(e)
}

// remove forgets an edge that nothing leads to.
func (t *Table) remove(e *Edge) {
	e.unlink()
	delete(t.byKey, e.Key)
	t.externals.Release(e.Key.Source)
	t.externals.Release(e.Key.Destination)
	family := siblingsOf(e.Key)
	if use := t.protocols[family]; use.edges <= 1 {
		delete(t.protocols, family)
	} else {
		use.edges--
		t.protocols[family] = use
	}
	flow := flowOf(e.Key)
	if f := t.families[flow]; f != nil {
		if f.remove(e); len(f.edges) == 0 {
			delete(t.families, flow)
		}
	}
	t.gone.add(e.ID)
}

// Add counts connections that began at or after start on an edge.
func (t *Table) Add(e *Edge, c *Connections, start, now pcommon.Timestamp) {
	e.startsAt(start)
	e.Logged.Add(c)
	t.Touch(e, now)
}

// AddRequests counts requests of a route, beyond the bound on routes of one other, and gives its durations in seconds to add theirs to.
func (t *Table) AddRequests(e *Edge, name string, total, failed uint64, start, now pcommon.Timestamp) *exphist.Histogram {
	e.startsAt(start)
	r := t.route(e, name)
	r.total, r.failed, r.changed = r.total+total, r.failed+failed, true
	t.Touch(e, now)
	return &r.duration
}

// AddResponses counts n requests of an edge by what answered them.
func (t *Table) AddResponses(e *Edge, r responses.Response, n uint64, now pcommon.Timestamp) {
	if e.responses.Add(r, n); n > 0 {
		t.Touch(e, now)
	}
}

func (t *Table) route(e *Edge, name string) *route {
	for i := range e.routes {
		if e.routes[i].name == name {
			return &e.routes[i]
		}
	}
	if len(e.routes) >= t.cfg.MaxRoutes && name != otherRoute {
		t.telemetry.Overflowed(telemetry.BoundRoutes)
		return t.route(e, otherRoute)
	}
	e.routes = append(e.routes, route{name: naming.Intern(name)})
	return &e.routes[len(e.routes)-1]
}

// Touch notes that an edge changed.
func (t *Table) Touch(e *Edge, now pcommon.Timestamp) {
	e.seen = max(e.seen, now)
	if !e.dirty {
		e.dirty = true
		t.dirty = append(t.dirty, e)
	}
}

// Use notes that something leads to an edge, which stays as long as that does.
func (t *Table) Use(e *Edge) { e.users++ }

// Release takes back what Use noted.
func (t *Table) Release(e *Edge) {
	if e.users--; e.users == 0 && e.emitted == 0 && !e.dirty {
		t.remove(e)
	}
}

// Target is the edge that something leads to.
type Target struct{ Edge *Edge }

// Point leads a target to an edge.
func (t *Table) Point(target *Target, e *Edge) {
	t.Use(e)
	t.Clear(target)
	target.Edge = e
}

// Clear leads a target nowhere.
func (t *Table) Clear(target *Target) {
	if target.Edge != nil {
		t.Release(target.Edge)
		target.Edge = nil
	}
}

// moveToNewest puts an edge to the end of the order of emission.
func (t *Table) moveToNewest(e *Edge) {
	e.unlink()
	e.older, e.newer = t.order.older, &t.order
	e.older.newer, t.order.older = e, e
}

func (e *Edge) unlink() {
	if e.older == nil {
		return
	}
	e.older.newer, e.newer.older = e.newer, e.older
	e.older, e.newer = nil, nil
}

func (t *Table) emit(m *emission, now, refresh pcommon.Timestamp) {
	for _, e := range t.dirty {
		e.dirty = false
		t.emitEdge(m, e, now, false)
		t.changed.add(e)
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
	for e := t.order.newer; e != &t.order && e.emitted <= refresh; e = t.order.newer {
		if e.expired(now, t.cfg.Expiry) {
			t.remove(e)
			continue
		}
		t.emitEdge(m, e, now, true)
	}
}

func (t *Table) emitEdge(m *emission, e *Edge, now pcommon.Timestamp, all bool) {
	all = all || e.emitted == 0
	e.appendTo(m, now, all)
	e.emitted = now
	t.moveToNewest(e)
}
