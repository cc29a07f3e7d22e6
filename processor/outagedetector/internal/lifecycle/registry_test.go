package lifecycle

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/cause"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observetest"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

var settings = Settings{Confirm: 4 * time.Second, Flap: 2 * time.Minute, Quiet: 10 * time.Minute, MaxOpen: 2}

// office keeps a registry of a mesh.
type office struct {
	*observetest.Mesh
	judge    *judge.Judge
	finder   *cause.Finder
	registry *Registry
	told     []Transition
}

func newOffice(s Settings) *office {
	m := observetest.New()
	j := judge.New(m.Store)
	f := cause.New(m.Store, j)
	return &office{Mesh: m, judge: j, finder: f, registry: New(s, m.Store, f)}
}

func (o *office) pass(intervals int, happens func()) {
	for range intervals {
		if happens != nil {
			happens()
		}
		o.Tick()
		o.judge.Round()
		o.told = append(o.told, o.registry.Round(o.finder.Explain())...)
	}
}

func (o *office) count(transition string) (n int) {
	for _, t := range o.told {
		if t.Name == transition {
			n++
		}
	}
	return n
}

func (o *office) last() *outage.Outage { return o.told[len(o.told)-1].Outage }

// TestLife follows an outage from its opening, by growing, to its end, and holds what was sent not to change afterwards.
func TestLife(t *testing.T) {
	o := newOffice(settings)
	web, job := o.Edge("shop/web", "shop/api"), o.Edge("shop/job", "shop/api")
	o.pass(30, func() { web.OK(10); job.OK(10) })
	require.Empty(t, o.told)
	o.pass(3, func() { web.Fail(10, semconv.ErrorTypeConnectionRefused, ""); job.OK(10) })
	require.Equal(t, 1, o.count(semconv.TransitionOpened))
	opened := o.told[0].Outage
	assert.Len(t, opened.Edges, 1)
	assert.False(t, opened.DetectedAt.Before(opened.StartedAt.Add(settings.Confirm)))
	o.pass(6, func() {
		web.Fail(10, semconv.ErrorTypeConnectionRefused, "")
		job.Fail(10, semconv.ErrorTypeConnectionRefused, "")
	})
	assert.Len(t, opened.Edges, 1, "a snapshot")
	assert.Len(t, o.last().Edges, 2)
	assert.Positive(t, o.count(semconv.TransitionChanged))
	o.pass(8, func() { web.OK(10); job.OK(10) })
	assert.Equal(t, 1, o.count(semconv.TransitionClosed))
	assert.Equal(t, 1, o.count(semconv.TransitionOpened))
	assert.Empty(t, o.registry.Open())
	end := o.last()
	assert.Equal(t, opened.ID, end.ID)
	assert.Equal(t, semconv.OutageStateResolved, end.State)
	assert.EqualValues(t, 90, end.Edges[0].Failed)
	require.NotNil(t, end.EndedAt)
	require.GreaterOrEqual(t, len(end.Timeline), 3)
	assert.Equal(t, "ended", end.Timeline[len(end.Timeline)-1].Text)
}

// TestFlap holds the same fault soon after to be the same outage, and later to be another.
func TestFlap(t *testing.T) {
	o := newOffice(settings)
	e := o.Edge("shop/web", "shop/api")
	trouble := func(pause int) {
		o.pass(4, func() { e.Fail(10, semconv.ErrorTypeConnectionRefused, "") })
		o.pass(pause, func() { e.OK(10) })
	}
	o.pass(30, func() { e.OK(10) })
	trouble(10)
	trouble(10)
	assert.Equal(t, 1, o.count(semconv.TransitionOpened))
	assert.Equal(t, 2, o.count(semconv.TransitionClosed))
	first := o.last().ID
	o.pass(60, func() { e.OK(10) })
	trouble(10)
	assert.Equal(t, 2, o.count(semconv.TransitionOpened))
	assert.NotEqual(t, first, o.last().ID)
}

// TestIdentity holds the id to depend on what and roughly when it is, not on who finds it.
func TestIdentity(t *testing.T) {
	r := newOffice(settings).registry
	e := cause.Explanation{
		Diagnosis: cause.Diagnosis{Root: outage.Subject{Type: "workload", Namespace: "shop", Name: "api"}, Kind: rules.KindLatency},
		Period:    cause.Period{Since: int64(100*time.Minute + 20*time.Second)},
	}
	id := r.identity(&e)
	assert.Len(t, id, 16)
	near, far, other := e, e, e
	near.Since += int64(700 * time.Millisecond)
	far.Since += int64(5 * time.Minute)
	other.Root.Name = "cart"
	assert.Equal(t, id, newOffice(settings).registry.identity(&near))
	assert.NotEqual(t, id, r.identity(&far))
	assert.NotEqual(t, id, r.identity(&other))
}

// TestSave holds a registry that is read again to go on with its outages.
func TestSave(t *testing.T) {
	o := newOffice(settings)
	e := o.Edge("shop/web", "shop/api")
	o.pass(30, func() { e.OK(10) })
	o.pass(4, func() { e.Fail(10, semconv.ErrorTypeConnectionRefused, "") })
	saved, err := o.registry.Save()
	require.NoError(t, err)
	before := *o.registry.Open()[0]

	after := newOffice(settings)
	after.Mesh = o.Mesh // the edge is seen again
	require.NoError(t, after.registry.Load(saved))
	require.Len(t, after.registry.Open(), 1)
	assert.Equal(t, before, *after.registry.Open()[0])

	require.NoError(t, after.registry.Load([]byte(`{"Version":0,"Open":[{}]}`)))
	assert.Len(t, after.registry.Open(), 1, "another version is passed over")
	require.ErrorContains(t, after.registry.Load([]byte(`{`)), "decoding outages")
}

// TestTooMany holds the outages that are open to a bound, and counts what is beyond.
func TestTooMany(t *testing.T) {
	o := newOffice(settings)
	edges := []*observetest.Edge{o.Edge("a/a", "a/b"), o.Edge("b/a", "b/b"), o.Edge("c/a", "c/b")}
	o.pass(30, func() {
		for _, e := range edges {
			e.OK(10)
		}
	})
	o.pass(4, func() {
		for _, e := range edges {
			e.Fail(10, semconv.ErrorTypeConnectionRefused, "")
		}
	})
	assert.Len(t, o.registry.Open(), settings.MaxOpen)
	assert.Positive(t, o.registry.Overflowed)
}

// TestSilenceMakesStale holds outages of which nothing is heard to be stale, by data time where nothing is tried and at once where
// nothing arrives at all.
func TestSilenceMakesStale(t *testing.T) {
	start := func() *office {
		o := newOffice(Settings{Confirm: settings.Confirm, Flap: settings.Flap, Quiet: time.Minute, MaxOpen: 5})
		e, live := o.Edge("shop/web", "shop/api"), o.Edge("shop/web", "shop/cart")
		o.pass(30, func() { e.OK(10); live.OK(10) })
		o.pass(4, func() { e.Fail(10, semconv.ErrorTypeConnectionRefused, ""); live.OK(10) })
		require.Len(t, o.registry.Open(), 1)
		return o
	}
	o := start()
	live := o.Edge("shop/web", "shop/cart")
	o.pass(30, func() { live.OK(10) })
	assert.Empty(t, o.registry.Open())
	assert.Equal(t, 1, o.count(semconv.TransitionStale))
	assert.Equal(t, semconv.OutageStateStale, o.last().State)

	o = start()
	told := o.registry.Silence(o.Now + int64(time.Hour))
	require.Len(t, told, 1)
	assert.Equal(t, semconv.TransitionStale, told[0].Name)
	assert.Contains(t, told[0].Outage.Summary, "Nothing has been heard of it since.")
	assert.Empty(t, o.registry.Open())
}

// TestSummary holds sentences to what a person would write.
func TestSummary(t *testing.T) {
	ended := time.Date(2026, 3, 2, 3, 2, 11, 0, time.UTC)
	edge := func(source, destination string, failed, total uint64) outage.Edge {
		return outage.Edge{Source: observetest.Name(source), Destination: observetest.Name(destination), Failed: failed, Total: total}
	}
	at := time.Date(2026, 3, 2, 2, 51, 7, 0, time.UTC).UnixNano()
	for want, o := range map[string]*entry{
		"checkout → payment fails since 02:51:07: AuthorizationPolicy billing/no-checkout denies it (58 of 58). frontend and 2 more depend on it.": {
			Rule: rules.PolicyDenied, Since: at,
			Outage: outage.Outage{
				State: semconv.OutageStateOpen, Kind: rules.KindPolicyDenied, Policy: "billing/no-checkout",
				Root: outage.Subject{Namespace: "billing", Name: "payment"}, Edges: []outage.Edge{edge("shop/checkout", "billing/payment", 58, 58)},
				Findings: outage.Findings{Impact: []outage.Impact{
					{Name: observetest.Name("shop/checkout")},
					{Name: observetest.Name("shop/frontend")},
					{Name: observetest.Name("load/loadgen")},
					{Name: observetest.Name("shop/web")},
				}},
			},
		},
		"web → api and 1 other edge failed from 02:51:07 to 03:02:11: api refused connections (12 of 20).": {
			Rule: rules.Refused, Since: at,
			Outage: outage.Outage{
				State: semconv.OutageStateResolved, EndedAt: &ended, Kind: rules.KindConnectionRefused, Root: outage.Subject{Namespace: "shop", Name: "api"},
				Edges: []outage.Edge{edge("shop/web", "shop/api", 9, 10), edge("shop/job", "shop/api", 3, 10)},
			},
		},
		"node-b is down since 02:51:07: nothing is heard of its ztunnel and of what runs there.": {
			Rule: rules.NodeDown, Since: at,
			Outage: outage.Outage{State: semconv.OutageStateOpen, Kind: rules.KindNodeDown, Root: outage.Subject{Type: "node", Name: "node-b"}},
		},
		"api is in trouble since 02:51:07: http errors (3 of 9).": {
			Since: at, Counts: Counts{Failed: 3, Total: 9},
			Outage: outage.Outage{State: semconv.OutageStateOpen, Kind: rules.KindHTTPErrors, Root: outage.Subject{Name: "api"}},
		},
	} {
		assert.Equal(t, want, summary(o))
	}
}

// TestBehindAWaypoint holds what a server denies to a waypoint to be its clients' outage, shared by their connections, and what it
// merely dropped to be none.
func TestBehindAWaypoint(t *testing.T) {
	for _, test := range []struct {
		reason string
		opened int
	}{{semconv.ErrorTypePolicyDenied, 1}, {semconv.ErrorTypeConnectionReset, 0}} {
		o := newOffice(settings)
		web, job := o.Edge("shop/web", "shop/api").Through("shop/waypoint"), o.Edge("shop/job", "shop/api").Through("shop/waypoint")
		other, behind := o.Edge("shop/other", "shop/api"), o.Edge("shop/waypoint", "shop/api").Through("shop/waypoint")
		o.pass(30, func() { web.OK(30); job.OK(10); other.OK(10); behind.OK(4) })
		o.pass(6, func() {
			web.OK(30)
			job.OK(10)
			other.OK(10)
			behind.Fail(20, test.reason, "")
		})
		require.Equal(t, test.opened, o.count(semconv.TransitionOpened), test.reason)
		if test.opened == 0 {
			continue
		}
		found := o.last()
		assert.Equal(t, "api", found.Root.Name)
		require.Len(t, found.Edges, 2)
		assert.Equal(t, []string{"web", "job"}, []string{found.Edges[0].Source.Name, found.Edges[1].Source.Name})
		assert.InDelta(t, 3, float64(found.Edges[0].Failed)/float64(found.Edges[1].Failed), 0.2)
		assert.Contains(t, found.Summary, "web → api and 1 other edge fail since")
		assert.Contains(t, found.Summary, "The traffic comes through the waypoint shop/waypoint, whose identity is not admitted.")
		for _, felt := range found.Impact {
			assert.NotEqual(t, "waypoint", felt.Name.Name)
		}
	}
}

// TestCutByDenial holds connections that are cut for a waypoint's client to be those that the server denies to the waypoint.
func TestCutByDenial(t *testing.T) {
	o := newOffice(settings)
	web, behind := o.Edge("shop/web", "shop/api").Through("shop/waypoint"), o.Edge("shop/waypoint", "shop/api").Through("shop/waypoint")
	o.pass(30, func() { web.OK(10); behind.OK(10) })
	o.pass(6, func() {
		web.Fail(10, semconv.ErrorTypeConnectionReset, "")
		behind.Fail(10, semconv.ErrorTypePolicyDenied, "shop/callers-only")
	})
	require.Equal(t, 1, o.count(semconv.TransitionOpened))
	found := o.last()
	assert.Equal(t, rules.KindPolicyDenied, found.Kind)
	assert.Equal(t, "shop/callers-only", found.Policy)
	require.Len(t, found.Edges, 1)
	assert.Equal(t, "web", found.Edges[0].Source.Name)
}
