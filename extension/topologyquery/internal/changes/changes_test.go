package changes

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
)

var origin = time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)

func change(name string, after time.Duration) Change {
	return Change{Time: origin.Add(after), Kind: "Pod", Namespace: "shop", Name: name, Reason: "restarted"}
}

func names(list []Change) (out []string) {
	for _, c := range list {
		out = append(out, c.Name)
	}
	return out
}

func TestListPagesFromTheNewest(t *testing.T) {
	s := New(10)
	for _, c := range []Change{change("a", 0), change("c", 2*time.Second), change("b", time.Second), change("c2", 2*time.Second)} {
		s.Add(c)
	}
	var pages [][]string
	var after *Cursor
	for {
		list, total, next := s.List(Filter{}, after, 3)
		assert.Equal(t, 4, total)
		pages = append(pages, names(list))
		if after = next; after == nil {
			break
		}
	}
	assert.Equal(t, [][]string{{"c2", "c", "b"}, {"a"}}, pages)
	list, total, next := s.List(Filter{}, nil, 4)
	assert.Len(t, list, 4)
	assert.Equal(t, 4, total)
	assert.Nil(t, next, "nothing follows the last page")
}

func TestAPageStaysWhereItIsWhileNewOnesCome(t *testing.T) {
	s := New(10)
	s.Add(change("a", 0))
	s.Add(change("b", time.Second))
	_, _, next := s.List(Filter{}, nil, 1)
	s.Add(change("c", 2*time.Second))
	list, _, _ := s.List(Filter{}, next, 10)
	assert.Equal(t, []string{"a"}, names(list))
}

func TestTheOldestLeave(t *testing.T) {
	s := New(2)
	for i, name := range []string{"a", "b", "c"} {
		s.Add(change(name, time.Duration(i)*time.Second))
	}
	list, _, _ := s.List(Filter{}, nil, 10)
	assert.Equal(t, []string{"c", "b"}, names(list))
	assert.Equal(t, Stats{Changes: 2, Dropped: 1}, s.Stats())
}

func TestWhatIsToldAgainIsOneChange(t *testing.T) {
	s := New(10)
	s.Add(change("a", 0))
	again := New(10)
	for _, c := range s.Snapshot() {
		again.Add(c)
	}
	version := again.Version()
	repeated := change("a", 0)
	repeated.Observed = origin.Add(time.Hour)
	again.Add(repeated)
	assert.Equal(t, Stats{Changes: 1}, again.Stats())
	assert.Equal(t, version, again.Version())
	other := change("a", 0)
	other.Reason = "oom_killed"
	again.Add(other)
	assert.Equal(t, 2, again.Stats().Changes)
}

func TestFilter(t *testing.T) {
	pod := Change{Time: origin, Kind: "Pod", Namespace: "shop", Name: "catalog-v1-abc", Workload: "catalog-v1", App: "catalog", Node: "node-a"}
	stranger := Change{Time: origin, Kind: "Pod", Namespace: "shop", Name: "catalog-v2-abc"}
	node := Change{Time: origin, Kind: "Node", Name: "node-a", Node: "node-a"}
	for _, test := range []struct {
		name   string
		filter Filter
		change Change
		want   bool
	}{
		{"everything", Filter{}, pod, true},
		{"the object", Filter{Namespace: "shop", Name: "catalog-v1-abc"}, pod, true},
		{"its workload", Filter{Namespace: "shop", Name: "catalog-v1"}, pod, true},
		{"its app", Filter{Namespace: "shop", Name: "catalog"}, pod, true},
		{"its node", Filter{Name: "node-a"}, pod, true},
		{"the node itself", Filter{Name: "node-a"}, node, true},
		{"a workload called as a node is", Filter{Namespace: "shop", Name: "node-a"}, pod, false},
		{"another namespace", Filter{Namespace: "data", Name: "catalog"}, pod, false},
		{"another workload", Filter{Namespace: "shop", Name: "catalog-v2"}, pod, false},
		{"a pod that the mesh never knew", Filter{Namespace: "shop", Name: "catalog-v2"}, stranger, true},
		{"a name that is only begun alike", Filter{Namespace: "shop", Name: "cat"}, stranger, false},
		{"from its time on", Filter{Start: origin}, pod, true},
		{"until its time", Filter{End: origin}, pod, false},
	} {
		t.Run(test.name, func(t *testing.T) { assert.Equal(t, test.want, test.filter.match(&test.change)) })
	}
}

func TestFromKubernetes(t *testing.T) {
	got := FromKubernetes(mesh.Change{
		Observed: pcommon.NewTimestampFromTime(origin), Reason: mesh.ChangeRollout, Kind: "Deployment", Namespace: "shop", Name: "catalog-v1",
		App: "catalog", Text: strings.Repeat("ü", maxText), Warning: true,
	}, "east", "")
	assert.LessOrEqual(t, len(got.Text), maxText)
	got.Text = ""
	assert.Equal(t, Change{
		Time: origin, Observed: origin, Source: SourceKubernetes, Severity: "warning", Reason: "rollout",
		Kind: "Deployment", Namespace: "shop", Name: "catalog-v1", Workload: "catalog-v1", App: "catalog", Cluster: "east",
	}, got)
}

func TestMeshTellsWhatIsDifferent(t *testing.T) {
	inv := mesh.NewState(10)
	var m Mesh
	apply := func(after time.Duration, entity mesh.Entity, deleted bool) (told []string) {
		event := mesh.Event{Time: pcommon.NewTimestampFromTime(origin.Add(after)), Entity: entity, Deleted: deleted}
		previous, _ := inv.Apply(event)
		for _, c := range m.Compare(previous, event) {
			assert.Equal(t, SourceMesh, c.Source)
			assert.Equal(t, origin.Add(after), c.Time)
			told = append(told, c.Severity+" "+c.Reason+": "+c.Text)
		}
		return told
	}
	pod := func(uid string, healthy bool, policies ...string) *mesh.Workload {
		return &mesh.Workload{UID: uid, Name: uid, Namespace: "billing", Naming: mesh.Naming{WorkloadName: "payment-v1"}, Healthy: healthy, Policies: policies}
	}
	policy := func(rules string) *mesh.Policy {
		return &mesh.Policy{Namespace: "billing", Name: "no-checkout", Action: "DENY", Rules: rules}
	}
	assert.Empty(t, apply(0, pod("a", true), false), "it was there before")
	assert.Empty(t, apply(0, policy("1"), false))
	assert.Empty(t, apply(time.Minute, policy("1"), false))
	assert.Equal(t, []string{"info changed: AuthorizationPolicy billing/no-checkout was changed"}, apply(time.Minute, policy("2"), false))
	assert.Equal(t, []string{"info applied: AuthorizationPolicy billing/no-checkout applies to billing/payment-v1"}, apply(time.Minute, pod("a", true, "billing/no-checkout"), false))
	assert.Equal(t, []string{"info lifted: AuthorizationPolicy billing/no-checkout no longer applies to billing/payment-v1"}, apply(time.Minute, pod("a", true), false))
	assert.Equal(t, []string{"info deleted: AuthorizationPolicy billing/no-checkout was deleted"}, apply(time.Minute, &mesh.Policy{Namespace: "billing", Name: "no-checkout"}, true))
	assert.Empty(t, apply(time.Minute, &mesh.Policy{Namespace: "billing", Name: "no-checkout"}, true))
	assert.Equal(t, []string{"info created: AuthorizationPolicy billing/no-checkout was created"}, apply(time.Minute, policy("1"), false))
	assert.Equal(t, []string{"info created: pod billing/b of payment-v1 came"}, apply(time.Minute, pod("b", false), false))
	assert.Equal(t, []string{"info ready: pod billing/b is ready"}, apply(time.Minute, pod("b", true), false))
	assert.Equal(t, []string{"warning not_ready: pod billing/b is no longer ready"}, apply(time.Minute, pod("b", false), false))
	assert.Equal(t, []string{"info deleted: pod billing/b of payment-v1 went"}, apply(time.Minute, &mesh.Workload{UID: "b"}, true))
	assert.Empty(t, apply(time.Minute, &mesh.Service{Hostname: "payment"}, false))
}

func TestPodsOfOneWorkloadTellOfAPolicyOnce(t *testing.T) {
	s := New(10)
	var m Mesh
	m.Compare(nil, mesh.Event{Time: pcommon.NewTimestampFromTime(origin), Entity: &mesh.Policy{}})
	for _, uid := range []string{"a", "b"} {
		before := &mesh.Workload{UID: uid, Name: uid, Namespace: "billing", Naming: mesh.Naming{WorkloadName: "payment-v1"}, Healthy: true}
		after := *before
		after.Policies = []string{"billing/no-checkout"}
		for _, c := range m.Compare(before, mesh.Event{Time: pcommon.NewTimestampFromTime(origin.Add(time.Minute)), Entity: &after}) {
			s.Add(c)
		}
	}
	assert.Equal(t, Stats{Changes: 1}, s.Stats())
}
