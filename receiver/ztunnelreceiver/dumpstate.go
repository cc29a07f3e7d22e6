package ztunnelreceiver

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/configdump"
)

// dumpState makes of the mesh's state that every ztunnel dumps what changes in it, for a mesh whose istiod is not heard. An
// entity is gone when no ztunnel's newest dump has it.
type dumpState struct {
	entities map[entityKey]*dumped
	// listed are the entities of each node's newest dump.
	listed map[string]map[entityKey]struct{}
}

type entityKey struct {
	kind mesh.EntityType
	key  string
}

type dumped struct {
	entity mesh.Entity
	nodes  int
}

func newDumpState() *dumpState {
	return &dumpState{entities: map[entityKey]*dumped{}, listed: map[string]map[entityKey]struct{}{}}
}

// events are the dump's ztunnel and, if the dump has the mesh's state, what is new in it.
func (s *dumpState) events(node string, dump configdump.Dump) []mesh.Event {
	if !dump.HasState {
		return dump.Events()
	}
	var events []mesh.Event
	before, now := s.listed[node], map[entityKey]struct{}{}
	for _, event := range dump.Events() {
		if event.Entity.Type() == mesh.TypeZtunnel {
			events = append(events, event)
			continue
		}
		key := entityKey{event.Entity.Type(), event.Entity.Key()}
		if _, twice := now[key]; twice {
			continue
		}
		now[key] = struct{}{}
		known := s.entities[key]
		if known == nil {
			known = &dumped{}
			s.entities[key] = known
		}
		if _, had := before[key]; !had {
			known.nodes++
		}
		if !reflect.DeepEqual(known.entity, event.Entity) {
			known.entity = event.Entity
			events = append(events, event)
		}
	}
	when := pcommon.NewTimestampFromTime(dump.Time)
	gone := slices.SortedFunc(maps.Keys(before), func(a, b entityKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key))
	})
	for _, key := range gone {
		if _, still := now[key]; still {
			continue
		}
		known := s.entities[key]
		if known.nodes--; known.nodes == 0 {
			delete(s.entities, key)
			events = append(events, mesh.Event{Time: when, Entity: known.entity, Deleted: true})
		}
	}
	s.listed[node] = now
	return events
}
