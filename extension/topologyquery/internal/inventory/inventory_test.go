package inventory

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
)

func pod(uid, owner, version string) *mesh.Workload {
	return &mesh.Workload{
		UID: uid, Name: uid, Namespace: "shop", ClusterID: "k", TunnelProtocol: "HBONE",
		Naming: mesh.Naming{WorkloadName: owner, WorkloadType: "deployment", CanonicalName: "app", CanonicalRevision: version},
	}
}

func names(list []*Workload) (out []string) {
	for _, w := range list {
		out = append(out, w.Name.Name)
	}
	return out
}

func come(inv *Inventory, entities ...mesh.Entity) {
	for _, e := range entities {
		inv.Apply(mesh.Event{Entity: e})
	}
}

func leave(inv *Inventory, at pcommon.Timestamp, e mesh.Entity) {
	inv.Apply(mesh.Event{Entity: e, Deleted: true, Time: at})
}

func TestPodsAreRolledUp(t *testing.T) {
	inv := New(10)
	version := inv.Version()
	come(inv, pod("b-2", "b", "v1"), pod("b-1", "b", "v1"), pod("a-1", "a", "v2"))
	assert.Greater(t, inv.Version(), version)
	list := inv.Workloads()
	require.Equal(t, []string{"a", "b"}, names(list))
	b := list[1]
	assert.Equal(t, [5]string{"app", "v1", "k", "deployment", "b-1"}, [5]string{b.App, b.Version, b.Cluster, b.Kind, b.Pods[0].Name})
	assert.True(t, b.InMesh)
	assert.Len(t, b.Pods, 2)
	assert.Same(t, b, inv.Workloads()[1], "nothing changed")

	// A pod that moves to another owner leaves the first.
	come(inv, pod("b-2", "c", "v1"))
	assert.Equal(t, []string{"a", "b", "c"}, names(inv.Workloads()))
	assert.Len(t, inv.ByName()[Name{"shop", "b"}].Pods, 1)
}

func TestWhatIsGoneIsRemembered(t *testing.T) {
	inv := New(2)
	come(inv, pod("a-1", "a", "v1"), &mesh.Policy{Name: "p", Namespace: "shop"})
	leave(inv, 1, pod("a-1", "", ""))
	assert.Empty(t, inv.Workloads())
	gone := inv.ByName()[Name{"shop", "a"}]
	require.NotNil(t, gone)
	assert.True(t, gone.Gone)
	assert.Equal(t, "app", gone.App)
	assert.Empty(t, gone.Pods)

	_, present := inv.Policy("shop/p")
	assert.True(t, present)
	leave(inv, 2, &mesh.Policy{Name: "p", Namespace: "shop"})
	policy, present := inv.Policy("shop/p")
	assert.NotNil(t, policy)
	assert.False(t, present)

	// What went last is remembered.
	for i := range 5 {
		name := fmt.Sprint("w", i)
		come(inv, pod(name, name, ""))
		leave(inv, pcommon.Timestamp(i+10), pod(name, "", ""))
	}
	byName := inv.ByName()
	assert.Len(t, byName, 2)
	assert.Contains(t, byName, Name{"shop", "w3"})
	assert.Contains(t, byName, Name{"shop", "w4"})
	come(inv, pod("w4-again", "w4", ""))
	assert.False(t, inv.ByName()[Name{"shop", "w4"}].Gone)
}

func TestEventsMakeTheSame(t *testing.T) {
	inv, again := New(10), New(10)
	come(inv, pod("a-1", "a", "v1"), pod("b-1", "b", "v1"), &mesh.Service{Name: "s", Namespace: "shop", Hostname: "s.shop"},
		&mesh.Policy{Name: "p", Namespace: "shop"}, &mesh.Policy{Name: "q", Namespace: "shop"}, &mesh.Ztunnel{Node: "n"})
	leave(inv, 1, pod("a-1", "", ""))
	leave(inv, 2, &mesh.Policy{Name: "q", Namespace: "shop"})
	inv.Events(func(e mesh.Event) { again.Apply(e) })
	assert.Equal(t, inv.ByName(), again.ByName())
	assert.Equal(t, inv.Services(), again.Services())
	assert.Equal(t, inv.Policies(), again.Policies())
	assert.Equal(t, inv.Ztunnels(), again.Ztunnels())
	_, present := again.Policy("shop/q")
	assert.False(t, present)
	assert.NotNil(t, again.Service("shop", "s"))
	assert.NotNil(t, again.Service("shop", "s.shop"))
	assert.Nil(t, again.Service("other", "s"))
	assert.NotNil(t, again.Hostname("s.shop"))
	assert.NotNil(t, again.Pod("shop", "b-1"))
}

func TestEntitiesAreBounded(t *testing.T) {
	inv := New(2)
	for i := range 5 {
		name := fmt.Sprint("w", i)
		_, taken := inv.Apply(mesh.Event{Entity: pod(name, name, "")})
		assert.Equal(t, i < 2, taken)
	}
	assert.Len(t, inv.Workloads(), 2)
	assert.EqualValues(t, 3, inv.Rejected())
}

func TestSeveralClustersShareAWorkload(t *testing.T) {
	inv := New(10)
	for _, w := range []*mesh.Workload{
		{UID: "west-1", Name: "web-1", Namespace: "shop", ClusterID: "west", Naming: mesh.Naming{WorkloadName: "web"}},
		{UID: "east-1", Name: "web-2", Namespace: "shop", ClusterID: "east", Naming: mesh.Naming{WorkloadName: "web"}},
		{UID: "east-2", Name: "api-1", Namespace: "shop", ClusterID: "east", Naming: mesh.Naming{WorkloadName: "api"}},
		{UID: "east-3", Name: "redis-0", Namespace: "data", ClusterID: "east"},
	} {
		_, taken := inv.Apply(mesh.Event{Entity: w})
		require.True(t, taken)
	}
	byName := inv.ByName()
	assert.Empty(t, byName[Name{"shop", "web"}].Cluster, "it is no one cluster's")
	assert.True(t, byName[Name{"shop", "web"}].Spread)
	assert.Equal(t, "east", byName[Name{"shop", "api"}].Cluster)
	assert.True(t, inv.Spread("shop"))
	assert.False(t, inv.Spread("data"))
}
