package edges

import (
	"iter"
	"maps"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/records"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
)

// Record writes what changed since it was called last, or everything.
func (s *Store) Record(j *journal.Journal, all bool) {
	if all {
		s.Edges.gone.reset()
	}
	record(&s.Edges.changed, all, maps.Values(s.Edges.byKey), func(e *Edge) { e.record(j) })
	record(&s.Edges.gone, false, nil, func(id uint64) { j.Record(records.EdgeGone).Uint(&id) })
	record(&s.Endpoints.changed, all, maps.Keys(s.Endpoints.byPod), func(id naming.Pod) { s.Endpoints.record(j, id) })
	record(&s.Services.changed, all, maps.Keys(s.Services.byKey), func(key ServiceKey) { s.Services.record(j, key) })
}

// record calls one for what changed, or for everything.
func record[T any](changed *changes[T], all bool, everything iter.Seq[T], one func(T)) {
	if !all {
		everything = slices.Values(changed.items)
	}
	for item := range everything {
		one(item)
	}
	changed.reset()
}

func (e *Edge) record(j *journal.Journal) {
	c := j.Record(records.Edge)
	c.Uint(&e.ID)
	e.code(c)
	if len(e.responses) > 0 {
		c := j.Record(records.Responses)
		c.Uint(&e.ID)
		e.responses.Code(c)
	}
	if e.shown.between != (connections{}) {
		c := j.Record(records.Between)
		c.Uint(&e.ID)
		e.shown.between.code(c)
	}
}

func (n *connections) code(c *journal.Coder) {
	records.Count(c, &n.total)
	records.Count(c, &n.failed)
}

// record writes an endpoint, or that it is gone.
func (t *Endpoints) record(j *journal.Journal, id naming.Pod) {
	e, ok := t.byPod[id]
	if !ok {
		id.Code(j.Record(records.EndpointGone))
		return
	}
	c := j.Record(records.Endpoint)
	id.Code(c)
	e.code(c)
}

// record writes an edge between services, or that it is gone.
func (t *Services) record(j *journal.Journal, key ServiceKey) {
	s, ok := t.byKey[key]
	if !ok {
		key.code(j.Record(records.ServiceGone))
		return
	}
	c := j.Record(records.Service)
	key.code(c)
	s.code(c)
}

// Restored is what a journal holds, the newest record of each thing, bounded by what was stored.
type Restored struct {
	edges     map[uint64]*Edge
	endpoints map[naming.Pod]*Endpoint
	services  map[ServiceKey]*Service
	last      uint64
}

// NewRestored returns the state of an empty journal.
func NewRestored() *Restored {
	return &Restored{edges: map[uint64]*Edge{}, endpoints: map[naming.Pod]*Endpoint{}, services: map[ServiceKey]*Service{}}
}

// Read takes up a record; false means that it is of none of these kinds.
func (r *Restored) Read(kind uint64, c *journal.Coder) bool {
	switch kind {
	case records.Edge:
		e := &Edge{}
		c.Uint(&e.ID)
		e.code(c)
		r.edges[e.ID] = e
		r.last = max(r.last, e.ID)
	case records.Responses:
		var id uint64
		var counts responses.Counts
		c.Uint(&id)
		counts.Code(c)
		if e := r.edges[id]; e != nil {
			e.responses = counts
		}
	case records.Between:
		var id uint64
		var between connections
		c.Uint(&id)
		between.code(c)
		if e := r.edges[id]; e != nil {
			e.shown.between = between
		}
	case records.EdgeGone:
		var id uint64
		c.Uint(&id)
		delete(r.edges, id)
	case records.Endpoint:
		e := &Endpoint{}
		e.pod.Code(c)
		e.code(c)
		r.endpoints[e.pod] = e
	case records.EndpointGone:
		var id naming.Pod
		id.Code(c)
		delete(r.endpoints, id)
	case records.Service, records.ServiceUntyped:
		s := &Service{}
		if s.key.codeUntyped(c); kind == records.Service {
			c.Text(&s.key.connection)
		}
		s.code(c)
		r.services[s.key] = s
	case records.ServiceGone, records.ServiceUntypedGone:
		var key ServiceKey
		if key.codeUntyped(c); kind == records.ServiceGone {
			c.Text(&key.connection)
		}
		delete(r.services, key)
	default:
		return false
	}
	return true
}

// Into makes the state the store's, as it was when the graph was last emitted. Everything leaves with the next emission:
// whether it left before is not known.
func (r *Restored) Into(s *Store, emitted pcommon.Timestamp) {
	s.emitted = emitted
	s.Edges.last = r.last
	for _, id := range slices.Sorted(maps.Keys(r.edges)) {
		e := r.edges[id]
		if s.Edges.byKey[e.Key] != nil || s.Edges.Len() >= s.cfg.MaxEdges && !e.overflow {
			delete(r.edges, id)
			continue
		}
		for i := range e.routes {
			e.routes[i].changed = true
		}
		s.Edges.index(e)
		s.Edges.Touch(e, e.seen)
	}
	for id, e := range r.endpoints {
		s.Endpoints.byPod[id] = e
		if e.start != 0 {
			s.Endpoints.touch(e, e.start, e.seen)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(r.services), ServiceKey.compare) {
		if one := r.services[key]; one.fits(len(s.Services.bounds) + 1) {
			s.Services.byKey[key] = one
			s.Services.touch(one, one.seen)
		}
	}
}

// Edge is a restored edge by its ID, nil if there is none or no room for it.
func (r *Restored) Edge(id uint64) *Edge { return r.edges[id] }
