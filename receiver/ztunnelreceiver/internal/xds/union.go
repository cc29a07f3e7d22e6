package xds

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
)

// Union joins what the istiods of several clusters say to one mesh's state. As in Istio's meshes of several clusters, a namespace and
// a name mean the same in all of them: a service that several clusters have is one with all their addresses and ports; of a policy or
// a workload that several istiods tell of, the first that has it is believed, of a workload its own cluster's before others. An entity
// is gone when no istiod has it any more. Not safe for use by several goroutines.
type Union struct {
	clusters []string
	held     map[entityKey][]mesh.Entity // by cluster, nil for one that does not have it; bounded by what the clusters hold
}

type entityKey struct {
	kind mesh.EntityType
	key  string
}

// NewUnion returns the union of the clusters with those ids, in the order in which they are believed.
func NewUnion(clusters []string) *Union {
	return &Union{clusters: clusters, held: map[entityKey][]mesh.Entity{}}
}

// Apply takes over what a cluster's istiod says and returns what that changes.
func (u *Union) Apply(cluster int, events []mesh.Event) []mesh.Event {
	changes := make([]mesh.Event, 0, len(events))
	for _, event := range events {
		key := entityKey{event.Entity.Type(), event.Entity.Key()}
		members := u.held[key]
		before := u.merged(members)
		if members == nil {
			if event.Deleted {
				continue
			}
			members = make([]mesh.Entity, len(u.clusters))
			u.held[key] = members
		}
		if members[cluster] = event.Entity; event.Deleted {
			members[cluster] = nil
		}
		after := u.merged(members)
		switch {
		case after == nil:
			delete(u.held, key)
			if before != nil {
				changes = append(changes, mesh.Event{Time: event.Time, Entity: before, Deleted: true})
			}
		case before == nil || !reflect.DeepEqual(before, after):
			changes = append(changes, mesh.Event{Time: event.Time, Entity: after})
		}
	}
	return changes
}

// Snapshot is the whole state as events, ordered by type and key.
func (u *Union) Snapshot(at time.Time) []mesh.Event {
	keys := make([]entityKey, 0, len(u.held))
	for key := range u.held {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b entityKey) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key)) })
	events := make([]mesh.Event, 0, len(keys))
	for _, key := range keys {
		events = append(events, mesh.Event{Time: pcommon.NewTimestampFromTime(at), Entity: u.merged(u.held[key])})
	}
	return events
}

// merged is an entity by all that is said of it; nil if nobody has it.
func (u *Union) merged(members []mesh.Entity) mesh.Entity {
	var first mesh.Entity
	for i, member := range members {
		if member == nil {
			continue
		}
		switch entity := member.(type) {
		case *mesh.Workload:
			if entity.ClusterID == u.clusters[i] {
				return entity
			}
		case *mesh.Service:
			if before, ok := first.(*mesh.Service); ok {
				first = joined(before, entity)
			}
		}
		if first == nil {
			first = member
		}
	}
	return first
}

// joined is a service of two clusters.
func joined(a, b *mesh.Service) *mesh.Service {
	out := *a
	out.Addresses, out.Ports = slices.Clone(a.Addresses), slices.Clone(a.Ports)
	for _, address := range b.Addresses {
		if !slices.Contains(out.Addresses, address) {
			out.Addresses = append(out.Addresses, address)
		}
	}
	for _, port := range b.Ports {
		if !slices.ContainsFunc(out.Ports, func(p mesh.Port) bool { return p.ServicePort == port.ServicePort }) {
			out.Ports = append(out.Ports, port)
		}
	}
	out.Waypoint = cmp.Or(a.Waypoint, b.Waypoint)
	return &out
}
