package judge

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observetest"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// court is a mesh and who judges it.
type court struct {
	*observetest.Mesh
	*Judge
}

func newCourt() court {
	m := observetest.New()
	return court{m, New(m.Store)}
}

// sit lets intervals pass and judges each.
func (c court) sit(intervals int, happens func()) {
	for range intervals {
		if happens != nil {
			happens()
		}
		c.Tick()
		c.Round()
	}
}

// TestShareOfFailures holds the failures of an edge to a least count, to a share and to chance.
func TestShareOfFailures(t *testing.T) {
	for name, test := range map[string]struct {
		past      int // intervals of 20 calls
		ok, fails uint64
		intervals int
		wrong     bool
	}{
		"1 of 1 at night":              {fails: 1, intervals: 1},
		"2 of 2":                       {fails: 2, intervals: 1},
		"3 of 3":                       {fails: 3, intervals: 1, wrong: true},
		"1 of 1 after a past":          {past: 30, fails: 1, intervals: 1},
		"3 of 20 after a past":         {past: 30, ok: 17, fails: 3, intervals: 1},
		"1 of 20 again and again":      {past: 30, ok: 19, fails: 1, intervals: 4},
		"a quarter":                    {past: 30, ok: 15, fails: 5, intervals: 2, wrong: true},
		"all":                          {past: 30, fails: 20, intervals: 1, wrong: true},
		"few of very many":             {past: 30, ok: 997, fails: 3, intervals: 5},
		"a tenth of many, for a while": {past: 30, ok: 90, fails: 10, intervals: 3, wrong: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCourt()
			e := c.Edge("shop/web", "shop/api")
			c.sit(test.past, func() { e.OK(20) })
			c.sit(test.intervals, func() {
				e.OK(test.ok)
				e.Fail(test.fails, semconv.ErrorTypeConnectionRefused, "")
			})
			f := &c.Pair("shop/web", "shop/api").Faults[observe.Connections]
			assert.Equal(t, test.wrong, f.On)
			if test.wrong {
				assert.Equal(t, rules.KindConnectionRefused, f.Kind)
			}
		})
	}
}

// TestFailuresAsEver holds an edge that always fails now and then to its own past.
func TestFailuresAsEver(t *testing.T) {
	c := newCourt()
	e := c.Edge("shop/web", "shop/api")
	p := func() *observe.Pair { return c.Pair("shop/web", "shop/api") }
	n := 0
	c.sit(200, func() {
		n++
		bad := uint64(1)
		if n%10 == 0 {
			bad = 3
		}
		e.OK(50 - bad)
		e.Fail(bad, semconv.ErrorTypeConnectionReset, "")
		if n > 1 {
			require.False(t, p().Wrong(), "interval %d", n)
		}
	})
	c.sit(4, func() { e.OK(38); e.Fail(12, semconv.ErrorTypeConnectionReset, "") })
	assert.True(t, p().Wrong(), "much more than ever")
}

// TestRecovery holds a fault to end by what goes well, the sooner the more it failed before, and not by silence.
func TestRecovery(t *testing.T) {
	c := newCourt()
	e := c.Edge("shop/web", "shop/api")
	c.sit(30, func() { e.OK(10) })
	c.sit(6, func() { e.Fail(10, semconv.ErrorTypeConnectionRefused, "") })
	f := &c.Pair("shop/web", "shop/api").Faults[observe.Connections]
	require.True(t, f.On)
	assert.EqualValues(t, 60, f.Failed)
	assert.EqualValues(t, 60, f.Total)
	c.sit(12, nil)
	assert.True(t, f.On, "nothing is tried")
	assert.True(t, f.Quiet)
	c.sit(4, func() { e.OK(10) })
	assert.False(t, f.On)
	assert.Positive(t, f.Recovered)
	c.sit(10, func() { e.OK(10) })
	assert.False(t, c.Pair("shop/web", "shop/api").Wrong())
}

// TestDenials tells a denial that always was from one that a policy brought, and names the rule by what was told.
func TestDenials(t *testing.T) {
	c := newCourt()
	always, fresh := c.Edge("shop/spy", "shop/api"), c.Edge("shop/web", "shop/api")
	c.sit(30, func() {
		always.Fail(5, semconv.ErrorTypePolicyDenied, "shop/no-spies")
		fresh.OK(10)
	})
	assert.False(t, c.Pair("shop/spy", "shop/api").Wrong())
	assert.True(t, c.Pair("shop/spy", "shop/api").Barred)
	// The client's side only knows that its tunnel was refused.
	c.sit(3, func() {
		always.Fail(5, semconv.ErrorTypePolicyDenied, "shop/no-spies")
		fresh.Fail(10, semconv.ErrorTypeConnectFailed, "")
		fresh.Fail(5, semconv.ErrorTypePolicyDenied, "shop/no-web")
	})
	p := c.Pair("shop/web", "shop/api")
	require.True(t, p.Faults[observe.Connections].On)
	assert.Equal(t, rules.KindPolicyDenied, p.Faults[observe.Connections].Kind)
	assert.Equal(t, "shop/no-web", p.Faults[observe.Connections].Policy)
	assert.False(t, c.Pair("shop/spy", "shop/api").Wrong())
}

// TestDenialsBehindAWaypoint holds a denial to be new where a waypoint's clients got through before it made the first connection that is told.
func TestDenialsBehindAWaypoint(t *testing.T) {
	for name, before := range map[string]int{"new": 10, "as ever": 0} {
		t.Run(name, func(t *testing.T) {
			c := newCourt()
			client := c.Edge("shop/web", "shop/api").Through("shop/waypoint")
			hop := c.Edge("shop/waypoint", "shop/api").Through("shop/waypoint")
			c.sit(before, func() { client.OK(10) })
			c.sit(4, func() {
				client.OK(10)
				hop.Fail(10, semconv.ErrorTypePolicyDenied, "")
			})
			p := c.Pair("shop/waypoint", "shop/api")
			assert.Equal(t, before > 0, p.Faults[observe.Connections].On)
			assert.Equal(t, before == 0, p.Barred)
		})
	}
}

// TestOnePod holds a pod that fails among many that do not to be blamed on the edges to it.
func TestOnePod(t *testing.T) {
	c := newCourt()
	e := c.Edge("shop/web", "shop/api")
	good, bad := c.Pod("shop/api", "api-1", "node-a"), c.Pod("shop/api", "api-2", "node-b")
	c.sit(30, func() { e.OK(50, good, bad) })
	c.sit(6, func() {
		e.OK(60, good)
		e.Fail(2, semconv.ErrorTypeConnectionRefused, "", bad)
	})
	p := c.Pair("shop/web", "shop/api")
	require.True(t, p.Faults[observe.Connections].On)
	assert.Equal(t, rules.PartialOutage, p.Faults[observe.Connections].Rule.ID)
}

// TestAfterwards holds what failed while an app did not to speak against it, or against one of its pods, once that is over: neither as
// a partial outage nor as a new way to fail.
func TestAfterwards(t *testing.T) {
	c := newCourt()
	e := c.Edge("shop/web", "shop/api")
	pods := []*observetest.Pod{c.Pod("shop/api", "api-1", "node-a"), c.Pod("shop/api", "api-2", "node-b")}
	c.sit(30, func() { e.OK(60, pods...) })
	c.sit(4, func() { e.Fail(60, semconv.ErrorTypeConnectionRefused, "", pods...) })
	p := c.Pair("shop/web", "shop/api")
	require.True(t, p.Faults[observe.Connections].On)
	c.sit(4, func() { e.OK(60, pods...) })
	require.False(t, p.Wrong())
	c.sit(4, func() {
		e.OK(60, pods...)
		e.Fail(1, semconv.ErrorTypeConnectionRefused, "", pods[0])
		assert.False(t, p.Wrong())
	})
	assert.False(t, p.Wrong())
}

// TestNodes tells a node that is down from one whose telemetry alone is lost.
func TestNodes(t *testing.T) {
	start := func() (c court, e *observetest.Edge, pods []*observetest.Pod) {
		c = newCourt()
		c.Scraped["node-a"], c.Scraped["node-b"] = true, true
		e = c.Edge("shop/web", "shop/api")
		pods = []*observetest.Pod{c.Pod("shop/api", "api-1", "node-b"), c.Pod("shop/api", "api-2", "node-b")}
		c.sit(30, func() { e.OK(10, pods...) })
		c.Scraped["node-b"] = false
		return c, e, pods
	}
	c, e, pods := start()
	c.sit(8, func() { e.Fail(10, semconv.ErrorTypeConnectionRefused, "", pods...) })
	assert.True(t, c.Nodes.ByName["node-b"].Down.On)
	assert.False(t, c.Nodes.ByName["node-b"].Lost.On)
	assert.False(t, c.Nodes.ByName["node-a"].Down.On || c.Nodes.ByName["node-a"].Lost.On)

	c, e, pods = start()
	c.sit(1, func() { e.OK(10, pods...) })
	c.Scraped["node-b"] = true
	c.sit(20, func() { e.OK(10, pods...) })
	assert.False(t, c.Nodes.ByName["node-b"].Down.On || c.Nodes.ByName["node-b"].Lost.On, "one scrape")

	c, e, pods = start()
	c.sit(8, func() { e.OK(10, pods...) })
	assert.False(t, c.Nodes.ByName["node-b"].Down.On)
	assert.True(t, c.Nodes.ByName["node-b"].Lost.On)
}

// TestOnlyWhatChanged holds a round to look at what changed: an edge that stands still costs nothing.
func TestOnlyWhatChanged(t *testing.T) {
	c := newCourt()
	busy, still := c.Edge("shop/web", "shop/api"), c.Edge("shop/web", "shop/cart")
	still.OK(5)
	busy.OK(5)
	c.Tick()
	assert.Equal(t, 2, c.Round())
	for range 5 {
		busy.OK(5)
		c.Tick()
		assert.Equal(t, 1, c.Round())
	}
	c.Tick()
	assert.Zero(t, c.Round())
}

// TestMoments holds what varies like independent events to be counted as such, and what comes in bursts as fewer.
func TestMoments(t *testing.T) {
	var even, bursty moments
	for i := range 60 {
		even.add(float64(9 + i%3))
		burst := 0.0
		if i%20 == 0 {
			burst = 200
		}
		bursty.add(burst)
	}
	assert.InDelta(t, mostEvents, even.events(), 1e-9)
	assert.Less(t, bursty.events(), 0.1)
	assert.Zero(t, (&moments{}).events())
}
