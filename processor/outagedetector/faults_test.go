package outagedetector

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// fails makes all calls of a link fail in one way; whoever calls through it fails with it.
func (s *shop) fails(broken link, fault func(link) func(*worldEdge)) {
	s.broken[broken.edge] = fault(broken)
	for at := broken.source; ; {
		found := false
		for _, l := range s.links() {
			if l.destination == at {
				s.broken[l.edge] = func(e *worldEdge) { e.ok(l.calls, l.pods...).answer(l.calls, broken.calls, l.took, l.pods...) }
				at, found = l.source, true
			}
		}
		if !found {
			return
		}
	}
}

func reason(errorType string) func(link) func(*worldEdge) {
	return func(l link) func(*worldEdge) {
		return func(e *worldEdge) { e.fail(l.calls, errorType, "", l.pods...) }
	}
}

// TestEveryEdgeEveryFault moves each fault to each edge of the shop: the root is what is called there, and whoever calls it through
// others is impact.
func TestEveryEdgeEveryFault(t *testing.T) {
	for kind, fault := range map[string]func(link) func(*worldEdge){
		rules.KindConnectionRefused: reason(semconv.ErrorTypeConnectionRefused),
		rules.KindConnectionTimeout: reason(semconv.ErrorTypeConnectionTimeout),
		rules.KindConnectionReset:   reason(semconv.ErrorTypeConnectionReset),
		rules.KindNoHealthyUpstream: reason(semconv.ErrorTypeNoHealthyUpstream),
		rules.KindTLSFailure:        reason(semconv.ErrorTypeTLSFailure),
		rules.KindPolicyDenied:      reason(semconv.ErrorTypePolicyDenied),
		rules.KindHTTPErrors: func(l link) func(*worldEdge) {
			return func(e *worldEdge) { e.ok(l.calls, l.pods...).answer(l.calls, l.calls, l.took, l.pods...) }
		},
	} {
		for _, broken := range newShop(t, nil).links() {
			if kind == rules.KindHTTPErrors && !broken.http {
				continue
			}
			t.Run(kind+" "+broken.edge, func(t *testing.T) {
				s := newShop(t, nil)
				s.health()
				began := s.now
				s.fails(broken, fault)
				s.fault()
				ended := s.now
				s.recovery()
				outages := s.outages()
				require.Len(t, outages, 1)
				o := outages[0]
				assert.Equal(t, broken.destination, rootText(o.Root))
				assert.Equal(t, kind, o.Kind)
				assert.Equal(t, semconv.OutageStateResolved, o.State)
				assert.LessOrEqual(t, o.DetectedAt.Sub(began), 10*time.Second)
				require.NotNil(t, o.EndedAt)
				assert.WithinDuration(t, ended, *o.EndedAt, 30*time.Second)
				require.Len(t, o.Edges, 1)
				assert.Equal(t, outage.Edge{Source: name(broken.source), Destination: name(broken.destination), Failed: o.Edges[0].Failed, Total: o.Edges[0].Total}, o.Edges[0])
				assert.Positive(t, o.Edges[0].Failed)
				if broken.edge != toFrontend {
					assert.NotEmpty(t, o.Impact)
				}
			})
		}
	}
}

// TestOutsideParty is a party outside the mesh that cannot be reached: it is known by its address only.
func TestOutsideParty(t *testing.T) {
	s := newShop(t, nil)
	e := s.edge("shop/checkout", "/203.0.113.9")
	s.run(2*time.Minute, func() { s.live(); e.ok(5) })
	s.run(time.Minute, func() { s.live(); e.fail(5, semconv.ErrorTypeConnectionTimeout, "") })
	s.run(time.Minute, func() { s.live(); e.ok(5) })
	outages := s.outages()
	require.Len(t, outages, 1)
	assert.Equal(t, "/203.0.113.9", rootText(outages[0].Root))
	assert.Equal(t, rules.KindConnectionTimeout, outages[0].Kind)
	assert.Equal(t, semconv.OutageStateResolved, outages[0].State)
}

// TestFailuresAreNotTheUsualDuration lets the first requests of an edge fail, at once: those that succeed later take longer, and
// are not slow.
func TestFailuresAreNotTheUsualDuration(t *testing.T) {
	s := newShop(t, nil)
	e := s.edge("shop/checkout", "shop/quotes")
	quotes := s.pod("shop/quotes", "quotes-1", "node-c")
	s.run(time.Minute, func() { s.live(); e.ok(8, quotes).answer(8, 8, time.Millisecond, quotes) })
	s.run(3*time.Minute, func() { s.live(); e.ok(8, quotes).answer(8, 0, 20*time.Millisecond, quotes) })
	for _, o := range s.outages() {
		assert.Equal(t, rules.KindHTTPErrors, o.Kind, o.Summary)
	}
}

// kept lets frontend keep its connections to cart: few come and go, requests flow.
func (s *shop) kept(e *worldEdge) {
	e.answer(40, 0, 7*time.Millisecond, s.cart...)
	e.sent += 4000
}

// often lets intervals of a second pass, of which each holds the same as one of five otherwise.
func (s *shop) often() *shop {
	s.interval = time.Second
	return s
}

// TestKeptConnections are connections that stay open: cut once they are opened anew and nothing is wrong; cut again and again they are.
func TestKeptConnections(t *testing.T) {
	start := func() *shop {
		s := newShop(t, nil).often()
		s.broken[toCart] = func(e *worldEdge) { e.open(8); s.kept(e); s.broken[toCart] = s.kept }
		s.run(5*time.Minute, s.live)
		return s
	}
	t.Run("cut once", func(t *testing.T) {
		s := start()
		s.broken[toCart] = func(e *worldEdge) {
			e.fail(8, semconv.ErrorTypeConnectionReset, "", s.cart...)
			s.kept(e)
			s.broken[toCart] = s.kept
		}
		s.run(3*time.Minute, s.live)
		assert.Empty(t, s.outages())
	})
	t.Run("cut again and again", func(t *testing.T) {
		s := start()
		s.broken[toCart] = func(e *worldEdge) {
			e.fail(12, semconv.ErrorTypeConnectionReset, "", s.cart...).answer(12, 12, 7*time.Millisecond, s.cart...)
		}
		s.fault()
		s.broken[toCart] = s.kept
		s.run(time.Minute, s.live)
		require.Len(t, s.outages(), 1)
		assert.Equal(t, "shop/cart", rootText(s.outages()[0].Root))
		assert.Equal(t, rules.KindConnectionReset, s.outages()[0].Kind)
		assert.Equal(t, semconv.OutageStateResolved, s.outages()[0].State)
	})
}

// TestQuickRestart is a ztunnel that is restarted within seconds: what runs there fails for less long than an outage takes to be one.
func TestQuickRestart(t *testing.T) {
	s := newShop(t, nil).often()
	s.health()
	s.loseNode()
	s.run(3*time.Second, s.live)
	s.nodes["node-b"].sources[semconv.SourceMetrics] = true
	s.heal()
	s.run(3*time.Minute, s.live)
	assert.Empty(t, s.outages())
}

// TestNodeRootsWhatItRuns sets a node that is down against a policy and a workload that fail beside it.
func TestNodeRootsWhatItRuns(t *testing.T) {
	s := newShop(t, nil)
	batch := s.edge("legacy/batch", "shop/cart")
	s.pod("legacy/batch", "batch-1", "node-c")
	s.run(2*time.Minute, func() { s.live(); batch.ok(5, s.cart...) })
	s.loseNode()
	p := &mesh.Policy{Name: "no-batch", Namespace: "shop", Scope: "WORKLOAD_SELECTOR", Action: "DENY", Rules: "[{}]"}
	s.entity(p, false)
	s.run(time.Minute, func() { s.live(); batch.fail(5, semconv.ErrorTypePolicyDenied, p.Key(), s.cart...) })
	found := map[string]string{}
	for _, o := range s.outages() {
		found[rootText(o.Root)] = o.Kind
	}
	assert.Equal(t, map[string]string{"node/node-b": rules.KindNodeDown, "shop/cart": rules.KindPolicyDenied}, found)
}
