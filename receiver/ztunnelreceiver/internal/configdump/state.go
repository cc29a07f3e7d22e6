package configdump

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
)

// State follows the mesh's state through dumps that were read with Options.State, and says what changed: a dump lists what
// is there, not what is gone. All ztunnels of a mesh are told the same state, so that one of them is followed; another one
// takes its place once it has not been heard for a while of the dumps' own time. Not safe for use by several goroutines.
type State struct {
	patience time.Duration
	followed string
	heard    time.Time
	held     map[key]mesh.Entity // bounded by maxHeld
}

// maxHeld bounds a state that cannot tell what is gone, since its dumps do not fit their bounds.
const maxHeld = 3 * DefaultMaxEntities

type key struct {
	kind mesh.EntityType
	key  string
}

// NewState returns a state that leaves the ztunnel it follows once a dump is that much newer than its last one.
func NewState(patience time.Duration) *State {
	return &State{patience: patience, held: map[key]mesh.Entity{}}
}

// Apply takes over a dump and returns its ztunnel and, if it comes from the ztunnel that is followed, what changed in
// the mesh: new and changed entities in the order of the dump, then the deleted ones by type and key.
func (s *State) Apply(dump Dump) []mesh.Event {
	when := pcommon.NewTimestampFromTime(dump.Time)
	events := []mesh.Event{{Time: when, Entity: dump.Ztunnel}}
	if !dump.HasState {
		return events
	}
	node := dump.Ztunnel.Node
	if s.followed != "" && s.followed != node && dump.Time.Sub(s.heard) <= s.patience {
		return events
	}
	s.followed, s.heard = node, dump.Time
	listed := make(map[key]mesh.Entity, len(s.held))
	dump.each(func(entity mesh.Entity) {
		if entity.Type() == mesh.TypeZtunnel {
			return
		}
		k := key{entity.Type(), entity.Key()}
		if !reflect.DeepEqual(s.held[k], entity) {
			events = append(events, mesh.Event{Time: when, Entity: entity})
		}
		listed[k] = entity
	})
	// What did not fit into a dump may still be there.
	if dump.Dropped > 0 {
		for k, entity := range s.held {
			if _, ok := listed[k]; !ok && len(listed) < maxHeld {
				listed[k] = entity
			}
		}
	}
	var gone []key
	for k := range s.held {
		if _, ok := listed[k]; !ok {
			gone = append(gone, k)
		}
	}
	slices.SortFunc(gone, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key))
	})
	for _, k := range gone {
		events = append(events, mesh.Event{Time: when, Entity: s.held[k], Deleted: true})
	}
	s.held = listed
	return events
}
