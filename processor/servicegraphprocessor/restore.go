package servicegraphprocessor

import (
	"fmt"
	"maps"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// restored is the state that a journal holds, the newest record of each thing.
type restored struct {
	time, flushed pcommon.Timestamp
	edges         map[uint64]*edgeState
	pairs         map[uint64]*pair
	endpoints     map[naming.Pod]*endpoint
	services      map[serviceKey]*serviceEdge
	directory     *naming.Directory
	nodes         map[string]pcommon.Timestamp

	lastEdge, lastPair uint64
}

func newRestored(directory *naming.Directory) *restored {
	return &restored{
		edges: map[uint64]*edgeState{}, pairs: map[uint64]*pair{}, endpoints: map[naming.Pod]*endpoint{},
		services: map[serviceKey]*serviceEdge{}, directory: directory,
		nodes: map[string]pcommon.Timestamp{},
	}
}

// read takes over one record.
func (r *restored) read(kind uint64, c *journal.Coder) {
	switch kind {
	case recordClock:
		codeTime(c, &r.time)
		codeTime(c, &r.flushed)
	case recordEdge:
		e := &edgeState{}
		c.Uint(&e.id)
		e.code(c)
		r.edges[e.id] = e
		r.lastEdge = max(r.lastEdge, e.id)
	case recordPair:
		p := &pair{}
		c.Uint(&p.id)
		p.code(c)
		r.pairs[p.id] = p
		r.lastPair = max(r.lastPair, p.id)
	case recordEndpoint:
		var id naming.Pod
		id.Code(c)
		e := &endpoint{id: id}
		e.code(c)
		r.endpoints[id] = e
	case recordService:
		s := &serviceEdge{}
		s.key.code(c)
		s.code(c)
		r.services[s.key] = s
	case recordNode:
		var node string
		var at pcommon.Timestamp
		c.Text(&node)
		codeTime(c, &at)
		if _, known := r.nodes[node]; known || len(r.nodes) < maxNodes {
			r.nodes[node] = at
		}
	case recordEdgeGone:
		var id uint64
		c.Uint(&id)
		delete(r.edges, id)
	case recordPairGone:
		var id uint64
		c.Uint(&id)
		delete(r.pairs, id)
	case recordEndpointGone:
		var id naming.Pod
		id.Code(c)
		delete(r.endpoints, id)
	case recordServiceGone:
		var key serviceKey
		key.code(c)
		delete(r.services, key)
	default:
		if r.directory.Read(kind, c) {
			return
		}
		c.Fail(fmt.Errorf("unknown kind of record %d", kind))
	}
}

// into makes the state the graph's. Everything leaves with the next flush: whether it left before is not known.
func (r *restored) into(g *graph) {
	g.clock.time, g.flushed = r.time, r.flushed
	for node, at := range r.nodes {
		g.clock.restore(node, at)
	}
	for _, id := range slices.Sorted(maps.Keys(r.edges)) {
		e := r.edges[id]
		if len(g.edges.byKey) >= g.edges.max && !e.overflow {
			delete(r.edges, id)
			continue
		}
		for i := range e.routes {
			e.routes[i].changed = true
		}
		g.edges.adopt(e)
		g.edges.touch(e, e.seen)
	}
	for id, e := range r.endpoints {
		g.endpoints[id] = e
		if e.start != 0 {
			g.touchEndpoint(e, e.start, e.seen)
		}
	}
	for key, s := range r.services {
		if buckets := len(g.services.bounds) + 1; len(s.server.counts) != buckets && s.server.counts != nil ||
			len(s.client.counts) != buckets && s.client.counts != nil {
			continue
		}
		g.services.byKey[key] = s
		g.services.touch(s, s.seen)
	}
	g.directory.Restored(r.time)
	for _, id := range slices.Sorted(maps.Keys(r.pairs)) {
		r.adoptPair(g, r.pairs[id])
	}
}

func (r *restored) adoptPair(g *graph, p *pair) {
	if !p.resolved {
		p.first = max(p.first, r.time)
	}
	g.flows.pairs[p.key] = p
	for _, s := range p.series {
		s.pair = p
		p.reporters[s.key.side] = s.key.node
		g.flows.series[*s.key] = s
	}
	p.users = len(p.series)
	// What was pending is settled with the next flush, and what was not does no harm.
	p.touched = true
	g.flows.touched = append(g.flows.touched, p)
	p.waits = p.failures.Held() > 0
	for i := range p.ways {
		w := &p.ways[i]
		if e := r.edges[w.saved]; e != nil {
			g.use(&w.target, e)
		}
		p.waits = p.waits || !w.credit.empty()
	}
	if p.waits {
		g.flows.waiting = append(g.flows.waiting, p)
	}
	if e, ok := g.endpoints[naming.Pod{Namespace: p.key.destination.namespace, Name: p.key.destination.pod}]; ok && p.resolved {
		p.endpoint = e
	}
}
