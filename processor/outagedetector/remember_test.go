package outagedetector

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// silentAgent is a mesh of three nodes; node-a, on which nothing is called, falls silent after five minutes.
func silentAgent(t *testing.T) (w *world, calls func()) {
	w = newWorld(t, nil)
	w.node("node-a", "node-b", "node-c")
	w.pod("shop/web", "web-1", "node-b")
	api := w.pod("shop/api", "api-1", "node-c")
	w.pod("shop/idle", "idle-1", "node-a")
	e := w.edge("shop/web", "shop/api")
	calls = func() { e.ok(6, api) }
	w.run(5*time.Minute, calls)
	w.nodes["node-a"].mute = true
	return w, calls
}

// lost is the newest outage of lost telemetry.
func (w *world) lost() *outage.Outage {
	var lost *outage.Outage
	for _, o := range w.outages() {
		if o.Kind == rules.KindTelemetryLost {
			lost = o
		}
	}
	require.NotNil(w.t, lost)
	return lost
}

// TestSilentAgentIsNotWell holds the outage of an agent that stays dead to be open for a day, and then stale: nobody saw it do well.
func TestSilentAgentIsNotWell(t *testing.T) {
	w, calls := silentAgent(t)
	w.run(5*time.Minute, calls)
	require.Equal(t, semconv.OutageStateOpen, w.lost().State)
	// Boundaries that are a minute apart are enough to wait for a day.
	w.interval = time.Minute
	w.run(23*time.Hour, calls)
	require.Equal(t, semconv.OutageStateOpen, w.lost().State)
	w.run(2*time.Hour, calls)
	assert.Equal(t, semconv.OutageStateStale, w.lost().State)
	assert.Contains(t, w.lost().Summary, "No data from node-a since 02:55:00 (its agent stopped). Nothing has been heard of it since.")
}

// TestAgentThatLeft holds the outage of an agent to end when its ztunnel is told to be gone.
func TestAgentThatLeft(t *testing.T) {
	w, calls := silentAgent(t)
	w.run(2*time.Hour, calls)
	require.Equal(t, semconv.OutageStateOpen, w.lost().State)
	w.entity(&mesh.Ztunnel{Node: "node-a", Name: "ztunnel-a", Namespace: "istio-system"}, true)
	w.run(time.Minute, calls)
	assert.Equal(t, semconv.OutageStateResolved, w.lost().State)
}

// TestSilentAgentOverARestart holds the outage of an agent that stays dead not to end because the detector began anew.
func TestSilentAgentOverARestart(t *testing.T) {
	id := component.MustNewID("memory")
	host := hostWith{extensions: map[component.ID]component.Component{id: &memoryStorage{values: map[string][]byte{}}}}
	w, calls := silentAgent(t)
	w.stop()
	cfg := createDefaultConfig().(*Config)
	cfg.Storage = &id
	w.start(cfg, host)
	w.nodes["node-a"].mute = false
	w.run(5*time.Minute, calls)
	w.nodes["node-a"].mute = true
	w.run(5*time.Minute, calls)
	opened := w.lost()
	require.Equal(t, semconv.OutageStateOpen, opened.State)
	w.stop()
	again := createDefaultConfig().(*Config)
	again.Storage = &id
	w.start(again, host)
	w.run(again.QuietTimeout-time.Minute, calls)
	assert.Empty(t, w.outages(), "it is still open, and nothing about it changed")
	w.run(2*time.Minute, calls)
	assert.Equal(t, opened.ID, w.lost().ID)
	assert.Equal(t, semconv.OutageStateStale, w.lost().State)
}

// TestWarningsOfANodeWithoutHeartbeat holds what a ztunnel's log said to be remembered also where no heartbeat comes.
func TestWarningsOfANodeWithoutHeartbeat(t *testing.T) {
	w := newWorld(t, nil)
	w.node("node-b")
	e := w.edge("shop/web", "shop/api")
	warned := 0
	w.run(25*time.Minute, func() {
		e.ok(5)
		if w.now.Sub(begin)%(15*time.Second) == 0 {
			warned++
			w.message("node-a", "identity::manager", "certificate fetch failed: connection refused", plog.SeverityNumberWarn)
		}
	})
	require.Len(t, w.outages(), 1)
	assert.Equal(t, semconv.OutageStateOpen, w.outages()[0].State)
	n := w.metrics.(*metricsProcessor).Component().store.Nodes.ByName["node-a"]
	assert.EqualValues(t, warned, n.Certificates.Count, "no sweep forgot a part of them")
}

// TestRenewalsThatFail holds what several ztunnels tell at info of renewals that failed to be one outage, of who signs certificates.
func TestRenewalsThatFail(t *testing.T) {
	w := newWorld(t, nil)
	w.node("node-a", "node-b")
	e := w.edge("shop/web", "shop/api")
	w.run(2*time.Minute, func() {
		e.ok(5)
		for _, node := range []string{"node-a", "node-b"} {
			if w.now.Sub(begin)%(15*time.Second) == 0 {
				w.message(node, "identity::manager", "certificate renewal failed (signing gRPC error); retaining existing valid certificate", plog.SeverityNumberInfo)
			}
		}
	})
	require.Len(t, w.outages(), 1)
	assert.Equal(t, rules.KindIdentityError, w.outages()[0].Kind)
	assert.Equal(t, "istiod", w.outages()[0].Root.Name)
}

// TestCertificatesThatAreNotSigned holds connections of several apps that fail on several nodes because no certificate is signed to be one
// outage, of who signs, and those of one app or one node not to be.
func TestCertificatesThatAreNotSigned(t *testing.T) {
	for name, tc := range map[string]struct {
		callers [2]string
		nodes   [2]string
		text    string
		root    string
	}{
		"several apps and nodes": {[2]string{"shop/web", "shop/cart"}, [2]string{"node-a", "node-b"}, "identity error: signing gRPC error (Unavailable): connect", "istiod"},
		"one node":               {[2]string{"shop/web", "shop/cart"}, [2]string{"node-a", "node-a"}, "identity error: signing gRPC error (Unavailable): connect", ""},
		"another identity":       {[2]string{"shop/web", "shop/cart"}, [2]string{"node-a", "node-b"}, "identity verification error: peer did not present the expected identity", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.node("node-a", "node-b", "node-c")
			api, stock := w.pod("shop/api", "api-1", "node-c"), w.pod("shop/stock", "stock-1", "node-c")
			web, cart := w.pod(tc.callers[0], "web-1", tc.nodes[0]), w.pod(tc.callers[1], "cart-1", tc.nodes[1])
			calls := []*worldEdge{w.edge(tc.callers[0], "shop/api"), w.edge(tc.callers[1], "shop/stock")}
			w.run(2*time.Minute, func() {
				calls[0].ok(5, api)
				calls[1].ok(5, stock)
			})
			w.run(time.Minute, func() {
				for i, e := range calls {
					e.fail(5, semconv.ErrorTypeIdentityError, "")
					w.flow(tc.nodes[i], []*worldPod{web, cart}[i].name, []*worldPod{api, stock}[i].name, semconv.DirectionOutbound, semconv.ErrorTypeIdentityError, "", tc.text)
				}
			})
			require.NotEmpty(t, w.outages())
			for _, o := range w.outages() {
				assert.Equal(t, rules.KindIdentityError, o.Kind)
				assert.Equal(t, tc.root != "", o.Root.Name == "istiod")
			}
			assert.Equal(t, tc.root != "", len(w.outages()) == 1)
		})
	}
}

// TestSharesOfFailuresAlone opens no outage where ztunnels tell of failures only, unless their metrics tell of the rest.
func TestSharesOfFailuresAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		metrics bool
		levels  [2]string
		want    int
	}{
		"successes are told":          {want: 1},
		"one end tells of failures":   {levels: [2]string{semconv.ProblemLevelTooLow, ""}, want: 1},
		"both ends tell of failures":  {levels: [2]string{semconv.ProblemLevelTooLow, semconv.ProblemLevelTooLow}, want: 0},
		"and metrics tell of all":     {levels: [2]string{semconv.ProblemLevelTooLow, semconv.ProblemLevelTooLow}, metrics: true, want: 1},
		"what is not understood, too": {levels: [2]string{semconv.ProblemNotUnderstood, semconv.ProblemNotUnderstood}, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.node("node-a", "node-b")
			w.pod("shop/web", "web-1", "node-a")
			w.pod("shop/api", "api-1", "node-b")
			for i, node := range []string{"node-a", "node-b"} {
				w.nodes[node].problem, w.nodes[node].sources[semconv.SourceMetrics], w.nodes[node].scrape = tc.levels[i], tc.metrics, tc.metrics
			}
			e := w.edge("shop/web", "shop/api")
			w.run(time.Minute, func() { e.ok(5) })
			w.run(2*time.Minute, func() { e.fail(5, semconv.ErrorTypeConnectionRefused, "") })
			got := 0
			for _, o := range w.outages() {
				if o.Kind == rules.KindConnectionRefused {
					got++
				}
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

// TestClockThatIsAhead holds a heartbeat that is far ahead of the wall clock not to move the detector's time.
func TestClockThatIsAhead(t *testing.T) {
	w := newWorld(t, nil)
	w.now = time.Now().Truncate(time.Second).Add(-10 * time.Minute)
	w.node("node-a", "node-b")
	e := w.edge("shop/web", "shop/api")
	w.run(5*time.Minute, func() { e.ok(10) })
	now, other := w.now, w.nodes["node-a"]
	w.now = time.Now().Add(3 * time.Hour)
	delete(w.nodes, "node-a")
	w.tick()
	w.now, w.nodes["node-a"] = now, other
	w.run(time.Minute, func() { e.fail(10, semconv.ErrorTypeConnectionRefused, "") })
	require.Len(t, w.outages(), 1)
	assert.Equal(t, rules.KindConnectionRefused, w.outages()[0].Kind)
}

// TestManyExpiringCertificates holds each of many identities near its end to its owner; looking for them is no work at every boundary.
func TestManyExpiringCertificates(t *testing.T) {
	const identities = 4000
	w := newWorld(t, func(c *Config) { c.MaxOutages = 2 * identities })
	w.node("node-a")
	z := &mesh.Ztunnel{Node: "node-a", Name: "ztunnel-a", Namespace: "istio-system"}
	for i := range identities {
		app := fmt.Sprintf("app-%04d", i)
		w.entity(&mesh.Workload{
			UID: app, Name: app + "-1", Namespace: "shop", Node: "node-a", Naming: mesh.Naming{WorkloadName: app, CanonicalName: app}, Identity: mesh.Identity{ServiceAccount: "sa-" + app},
		}, false)
		z.Certificates = append(z.Certificates, mesh.Certificate{
			Identity: "spiffe://cluster.local/ns/shop/sa/sa-" + app, State: "Available",
			NotBefore: begin.Add(-23 * time.Hour), NotAfter: begin.Add(time.Hour),
		})
	}
	w.entity(z, false)
	w.run(2*w.interval, nil)
	d := w.metrics.(*metricsProcessor).Component()
	first := &d.judge.Certificates.All[0]
	require.Len(t, d.judge.Certificates.All, identities)
	assert.Equal(t, outage.Subject{Type: "workload", Namespace: "shop", Name: "app-0000"}, first.Root)
	fired := first.Fault.Fired
	w.run(2*w.interval, nil)
	assert.Equal(t, fired, d.judge.Certificates.All[0].Fault.Fired, "they are not looked for at every boundary")
	assert.Equal(t, d.store.Now, d.judge.Certificates.All[0].Fault.LastBad)
	w.run(30*time.Second, nil)
	assert.Greater(t, d.judge.Certificates.All[0].Fault.Fired, fired)
}
