package xds

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
)

func TestUnion(t *testing.T) {
	u := NewUnion([]string{"east", "west"})
	const east, west = 0, 1
	stamp := pcommon.NewTimestampFromTime(at)
	is := func(entity mesh.Entity) mesh.Event { return mesh.Event{Time: stamp, Entity: entity} }
	gone := func(entity mesh.Entity) mesh.Event { return mesh.Event{Time: stamp, Entity: entity, Deleted: true} }
	apply := func(cluster int, event mesh.Event) []mesh.Event { return u.Apply(cluster, []mesh.Event{event}) }
	service := func(address string, ports ...uint32) *mesh.Service {
		s := &mesh.Service{Name: "catalog", Namespace: "shop", Hostname: "catalog.shop.svc.cluster.local", Addresses: []string{address}}
		for _, port := range ports {
			s.Ports = append(s.Ports, mesh.Port{ServicePort: port})
		}
		return s
	}

	// A service of both is one, and remains when one of them deletes it.
	assert.Equal(t, []mesh.Event{is(service("10.0.0.1", 80))}, apply(east, is(service("10.0.0.1", 80))))
	both := service("10.0.0.1", 80, 81)
	both.Addresses = append(both.Addresses, "10.1.0.1")
	assert.Equal(t, []mesh.Event{is(both)}, apply(west, is(service("10.1.0.1", 80, 81))))
	assert.Empty(t, apply(west, is(service("10.1.0.1", 80, 81))))
	assert.Equal(t, []mesh.Event{is(service("10.1.0.1", 80, 81))}, apply(east, gone(service("10.0.0.1", 80))))
	assert.Equal(t, []mesh.Event{gone(service("10.1.0.1", 80, 81))}, apply(west, gone(service("10.1.0.1", 80, 81))))
	assert.Empty(t, apply(west, gone(service("10.1.0.1", 80, 81))))

	// An istiod that tells of another's pod knows less of it.
	pod := func(healthy bool) *mesh.Workload {
		return &mesh.Workload{UID: "west//Pod/shop/a", Name: "a", Namespace: "shop", ClusterID: "west", Healthy: healthy}
	}
	assert.Len(t, apply(east, is(pod(true))), 1)
	assert.Equal(t, []mesh.Event{is(pod(false))}, apply(west, is(pod(false))))
	assert.Empty(t, apply(east, gone(pod(true))))
	assert.Empty(t, apply(east, is(pod(true))))
	assert.Equal(t, []mesh.Event{is(pod(true))}, apply(west, gone(pod(false))))

	// Of a policy the first is believed, and a deletion elsewhere deletes nothing.
	policy := func(rules string) *mesh.Policy { return &mesh.Policy{Name: "deny", Namespace: "shop", Rules: rules} }
	assert.Len(t, apply(west, is(policy("w"))), 1)
	assert.Equal(t, []mesh.Event{is(policy("e"))}, apply(east, is(policy("e"))))
	assert.Empty(t, apply(west, is(policy("x"))))
	assert.Len(t, u.Snapshot(at), 2)
	assert.Equal(t, []mesh.Event{is(policy("e")), is(pod(true))}, u.Snapshot(at))
	assert.Empty(t, apply(west, gone(policy("x"))))
	assert.Equal(t, []mesh.Event{gone(policy("e"))}, apply(east, gone(policy("e"))))
}

func TestUnionOfOne(t *testing.T) {
	u := NewUnion([]string{""})
	events := applyAll(t, NewMesh(0), readJSON(t, "policy-deny"))
	assert.Equal(t, events, u.Apply(0, events), "one istiod's word is passed on as it is")
	assert.Len(t, u.Snapshot(at), 23)
}
