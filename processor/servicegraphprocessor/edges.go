package servicegraphprocessor

import (
	"cmp"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/expo"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

const otherRoute = "other"

// overflowKey is the edge that takes what exceeds the bound on edges.
var overflowKey = edge.Key{
	Source:      edge.Party{Workload: "overflow"},
	Destination: edge.Party{Workload: "overflow"},
	Protocol:    semconv.ProtocolTCP,
	Security:    semconv.SecurityUnknown,
}

// failedCount is a cumulative number of failures of one reason.
type failedCount struct {
	reconcile.Reason
	n uint64
}

// routeCounts are the requests of one route of an edge.
type routeCounts struct {
	route    string
	total    uint64
	failed   uint64
	duration expo.Histogram
	changed  bool
}

// edgeState holds an edge's cumulative values.
type edgeState struct {
	id    uint64 // for what is stored
	key   edge.Key
	start pcommon.Timestamp

	closed   uint64
	sent     uint64
	received uint64
	failed   []failedCount
	duration expo.Histogram
	routes   []routeCounts
	overflow bool

	// scraped is what ztunnels' own counters say of the edge, nil if nothing.
	scraped *scrapedEdge
	// waypoint reconciles what waypoints tell of the edge with what spans tell, nil if they tell nothing.
	waypoint *waypointRequests
	// shown are the values that left last; those that draw on several sources never go back.
	shown shownCounts

	seen         pcommon.Timestamp // the last news
	emitted      pcommon.Timestamp
	dirty        bool
	newer, older *edgeState // in the order of emission
	inList       bool
	users        int // flows that lead here
}

type shownCounts struct {
	edgeCounts
	failed []failedCount
}

type edgeCounts struct{ opened, closed, sent, received uint64 }

// siblings identify edges that must agree on their protocol.
type siblings struct {
	source, destination edge.Party
	service             string
	port                uint16
}

// edgeTable holds the edges, bounded, and knows which changed.
type edgeTable struct {
	max       int
	maxRoutes int
	byKey     map[edge.Key]*edgeState
	protocols map[siblings]protocolUse
	byFlow    map[scrapedFlow][]*edgeState
	dirty     []*edgeState
	// oldest and newest are the ends of the list of all emitted edges in the order of emission.
	oldest, newest *edgeState
	overflowed     func(bound string)
	externals      *naming.Externals
}

type protocolUse struct {
	protocol string
	edges    int
}

func newEdgeTable(cfg *Config, externals *naming.Externals, overflowed func(bound string)) *edgeTable {
	return &edgeTable{
		max:        cfg.MaxEdges,
		maxRoutes:  cfg.Requests.MaxRoutes,
		byKey:      map[edge.Key]*edgeState{},
		protocols:  map[siblings]protocolUse{},
		byFlow:     map[scrapedFlow][]*edgeState{},
		overflowed: overflowed,
		externals:  externals,
	}
}

// find returns the edge of a key whose protocol is still to be decided: the siblings' if there are any, else the
// given one. It is created if need be, counting from start.
func (t *edgeTable) find(key edge.Key, protocol string, start pcommon.Timestamp) *edgeState {
	family := siblings{key.Source, key.Destination, key.Service, key.Port}
	use, known := t.protocols[family]
	if known {
		protocol = use.protocol
	}
	if protocol == "" {
		protocol = semconv.ProtocolTCP
	}
	key.Protocol = protocol
	if e, ok := t.byKey[key]; ok {
		return e
	}
	if len(t.byKey) >= t.max {
		t.overflowed("edges")
		return t.overflow(start)
	}
	t.protocols[family] = protocolUse{protocol: protocol, edges: use.edges + 1}
	return t.create(key, start)
}

func (t *edgeTable) overflow(start pcommon.Timestamp) *edgeState {
	if e, ok := t.byKey[overflowKey]; ok {
		return e
	}
	e := t.create(overflowKey, start)
	e.overflow = true
	return e
}

func (t *edgeTable) create(key edge.Key, start pcommon.Timestamp) *edgeState {
	e := &edgeState{key: key, start: start}
	t.index(e)
	return e
}

func (t *edgeTable) index(e *edgeState) {
	t.externals.Use(e.key.Source)
	t.externals.Use(e.key.Destination)
	t.byKey[e.key] = e
	flow := scrapedFlowOf(e.key)
	edges := append(slices.Clone(t.byFlow[flow]), e)
	slices.SortFunc(edges, func(a, b *edgeState) int { return cmp.Compare(a.key.Port, b.key.Port) })
	t.byFlow[flow] = edges
}

// adopt takes up an edge from before a restart.
func (t *edgeTable) adopt(e *edgeState) {
	if !e.overflow {
		family := siblings{e.key.Source, e.key.Destination, e.key.Service, e.key.Port}
		t.protocols[family] = protocolUse{protocol: e.key.Protocol, edges: t.protocols[family].edges + 1}
	}
	t.index(e)
}

func scrapedFlowOf(key edge.Key) scrapedFlow {
	return scrapedFlow{key.Source, key.Destination, key.Service, key.Security == semconv.SecurityMutualTLS}
}

// touch notes that an edge changed.
func (t *edgeTable) touch(e *edgeState, now pcommon.Timestamp) {
	e.seen = max(e.seen, now)
	if !e.dirty {
		e.dirty = true
		t.dirty = append(t.dirty, e)
	}
}

// moveToNewest puts an edge to the end of the order of emission.
func (t *edgeTable) moveToNewest(e *edgeState) {
	if t.newest == e {
		return
	}
	t.unlink(e)
	e.older = t.newest
	if t.newest != nil {
		t.newest.newer = e
	} else {
		t.oldest = e
	}
	t.newest = e
	e.inList = true
}

func (t *edgeTable) unlink(e *edgeState) {
	if !e.inList {
		return
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		t.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		t.newest = e.older
	}
	e.older, e.newer, e.inList = nil, nil, false
}

// expired tells whether an edge may be forgotten: nothing leads to it and there was no news of it for long.
func (e *edgeState) expired(now pcommon.Timestamp, expiry time.Duration) bool {
	return e.users == 0 && !e.dirty && e.seen+pcommon.Timestamp(expiry) <= now
}

func (t *edgeTable) remove(e *edgeState) {
	t.unlink(e)
	t.externals.Release(e.key.Source)
	t.externals.Release(e.key.Destination)
	delete(t.byKey, e.key)
	flow := scrapedFlowOf(e.key)
	edges := slices.DeleteFunc(slices.Clone(t.byFlow[flow]), func(other *edgeState) bool { return other == e })
	if len(edges) > 0 {
		t.byFlow[flow] = edges
	} else {
		delete(t.byFlow, flow)
	}
	family := siblings{e.key.Source, e.key.Destination, e.key.Service, e.key.Port}
	if use, ok := t.protocols[family]; ok {
		if use.edges--; use.edges <= 0 {
			delete(t.protocols, family)
		} else {
			t.protocols[family] = use
		}
	}
}

// route returns the counts of one of an edge's routes; beyond the bound, those of otherRoute.
func (t *edgeTable) route(e *edgeState, route string) *routeCounts {
	for i := range e.routes {
		if e.routes[i].route == route {
			return &e.routes[i]
		}
	}
	if len(e.routes) >= t.maxRoutes && route != otherRoute {
		t.overflowed("routes")
		return t.route(e, otherRoute)
	}
	e.routes = append(e.routes, routeCounts{route: naming.Intern(route)})
	return &e.routes[len(e.routes)-1]
}

func addFailed(counts []failedCount, reason reconcile.Reason, n uint64) []failedCount {
	for i := range counts {
		if counts[i].Reason == reason {
			counts[i].n += n
			return counts
		}
	}
	return append(counts, failedCount{reason, n})
}
