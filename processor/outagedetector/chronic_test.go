package outagedetector

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// chronics are all chronic conditions that were told of, in that order.
func (w *world) chronics() (all []*outage.Chronic) {
	for _, logs := range w.outLogs.AllLogs() {
		for _, resource := range logs.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					if record.EventName() != semconv.EventChronic {
						continue
					}
					c, err := outage.ChronicFromBody(record.Body())
					require.NoError(w.t, err)
					all = append(all, c)
				}
			}
		}
	}
	return all
}

// chronicGauge is what the gauge of chronic conditions told last, -1 if nothing.
func (w *world) chronicGauge() float64 {
	last := -1.0
	for _, metrics := range w.outMetrics.AllMetrics() {
		for _, resource := range metrics.ResourceMetrics().All() {
			for _, scope := range resource.ScopeMetrics().All() {
				for _, m := range scope.Metrics().All() {
					if m.Name() == semconv.MetricChronic {
						for _, point := range m.Gauge().DataPoints().All() {
							last = point.DoubleValue()
						}
					}
				}
			}
		}
	}
	return last
}

// TestChronicRequests is a service that fails one of five requests from the first data on: an outage at first, since nobody knows it
// otherwise, then how it is. More of it is an outage, and once it does well the condition is over.
func TestChronicRequests(t *testing.T) {
	w := newWorld(t, nil)
	w.node("node-a")
	api := w.pod("shop/api", "api-1", "node-a")
	e := w.edge("shop/web", "shop/api")
	failing := func(of10 uint64) func() {
		return func() { e.ok(10, api).answer(10, of10, 20*time.Millisecond, api) }
	}
	w.run(20*time.Minute, failing(2))
	require.Len(t, w.outages(), 1, "it is said once")
	first := w.outages()[0]
	assert.Equal(t, semconv.OutageStateResolved, first.State)
	assert.Contains(t, first.Timeline[len(first.Timeline)-1].Text, "goes on as a chronic condition")
	require.NotEmpty(t, w.chronics())
	c := w.chronics()[0]
	assert.Equal(t, rules.KindHTTPErrors, c.Kind)
	assert.Equal(t, [2]outage.Name{name("shop/web"), name("shop/api")}, [2]outage.Name{c.Source, c.Destination})
	assert.Equal(t, "web → api: 120 of 600 requests failed in the last 5m0s, as always.", c.Summary)
	assert.InDelta(t, 0.2, w.chronicGauge(), 1e-9)

	w.run(time.Minute, failing(6))
	w.run(2*time.Minute, failing(2))
	require.Len(t, w.outages(), 2, "a change for the worse is an outage")
	assert.Equal(t, semconv.OutageStateResolved, w.outages()[1].State)

	w.run(3*time.Minute, failing(0))
	last := w.chronics()[len(w.chronics())-1]
	require.NotNil(t, last.EndedAt)
	assert.Equal(t, c.ID, last.ID)
	assert.Zero(t, w.chronicGauge())

	told := len(w.chronics())
	w.run(3*time.Minute, failing(2))
	assert.Len(t, w.outages(), 3, "what has healed is not normal any more")
	assert.Len(t, w.chronics(), told)
}

// TestChronicDenial is an edge that a policy always denied: no outage, but told.
func TestChronicDenial(t *testing.T) {
	s := newShop(t, nil)
	s.deny()
	s.heal()
	s.broken[toPayment] = func(e *worldEdge) { e.fail(6, semconv.ErrorTypePolicyDenied, "billing/no-checkout", s.payment...) }
	s.now = s.now.Add(10 * time.Minute) // the policy is older than what was seen
	s.run(5*time.Minute, s.live)
	for _, o := range s.outages() {
		assert.NotEqual(t, rules.KindPolicyDenied, o.Kind)
	}
	require.NotEmpty(t, s.chronics())
	assert.Equal(t, "billing/no-checkout", s.chronics()[0].Policy)
	s.heal()
	s.run(3*time.Minute, s.live)
	assert.NotNil(t, s.chronics()[len(s.chronics())-1].EndedAt)
}

// TestChronicPointsFarApart is a service of which points tell every five minutes and that always fails for some: never an outage.
func TestChronicPointsFarApart(t *testing.T) {
	g := &grafana{world: newWorld(t, nil), total: map[[2]string]*grafanaEdge{}}
	failing := func(n uint64) calls {
		return calls{client: "front", server: "lambda", n: 100, failed: n, took: 30 * time.Millisecond}
	}
	for range 30 {
		g.tick(failing(8))
	}
	assert.Empty(t, g.outages())
	require.NotEmpty(t, g.chronics())
	assert.Equal(t, "lambda", g.chronics()[0].Destination.Name)
	for range 4 {
		g.tick(failing(60))
	}
	require.Len(t, g.outages(), 1)
	for range 30 {
		g.tick(failing(0))
	}
	assert.NotNil(t, g.chronics()[len(g.chronics())-1].EndedAt)
}

// TestNothingChronic are a healthy mesh, and an outage that lasts.
func TestNothingChronic(t *testing.T) {
	s := newShop(t, nil)
	s.health()
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.run(30*time.Minute, s.live)
	s.recovery()
	require.Len(t, s.outages(), 1)
	assert.Empty(t, s.chronics())
	assert.InDelta(t, -1, s.chronicGauge(), 1e-9)
}
