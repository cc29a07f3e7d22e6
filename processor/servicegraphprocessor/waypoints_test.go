package servicegraphprocessor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/semconv"
)

// TestWaypointAnswersItself has what a waypoint answered before it had chosen a pod: its metrics name no destination, and no server's span tells.
func TestWaypointAnswersItself(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
	unknown := func(b *batch, at float64, n int64) {
		b.istioRequests(at, 0.5, "", "403", n)
		for _, sm := range b.metrics.ResourceMetrics().At(0).ScopeMetrics().All() {
			for _, name := range []string{semconv.LabelDestinationWorkload, semconv.LabelDestinationNamespace, semconv.LabelDestinationCanonicalService, semconv.LabelDestinationCluster} {
				sm.Metrics().At(0).Sum().DataPoints().At(0).Attributes().PutStr(name, "unknown")
				sm.Metrics().At(1).Histogram().DataPoints().At(0).Attributes().PutStr(name, "unknown")
			}
		}
	}
	p.step(1, func(b *batch) { unknown(b, 0.5, 0) })
	p.step(6, func(b *batch) { unknown(b, 5.5, 4) })
	key := testEdge()
	key.Waypoint = "shop/waypoint"
	require.Contains(t, p.edges(), key)
	assert.Equal(t, map[string]uint64{"": 4}, p.edges()[key].Requests)
	assert.Zero(t, total(p.edges()[key].RequestsFailed))
}

// TestDeniedCallOfASpan has the span of a client whom a waypoint denied, of a server that sends spans.
func TestDeniedCallOfASpan(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
	p.step(1, nil)
	served := call{number: 1, at: 1.5, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1", client: "10.0.2.9"}
	p.spans(served.serverSpan())
	p.spans(served.clientSpan())
	for n, status := range []int64{403, 404} {
		denied := call{number: 2 + n, at: 1.6, clientPod: "client-1", peer: "10.96.0.1:80"}.clientSpan()
		denied.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes().PutInt("http.response.status_code", status)
		p.spans(denied)
	}
	for at := 2.0; at < 60; at++ {
		p.step(at, nil)
	}
	key := testEdge()
	key.Waypoint = "shop/waypoint"
	require.Len(t, p.edges(), 1)
	assert.EqualValues(t, 2, total(p.edges()[key].Requests), "404 is the server's own answer, whose span is missing")
}

// TestWaypointTellsOfAnUnknownClient has the server's span of a request whose client sends none, behind a waypoint that tells it.
func TestWaypointTellsOfAnUnknownClient(t *testing.T) {
	for _, scraped := range []bool{true, false} {
		p := newPipelines(t, nil)
		p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
		scrape := func(at float64, n int64) func(b *batch) {
			if !scraped {
				return nil
			}
			return func(b *batch) { b.istioRequests(at, 0.5, "", "200", n) }
		}
		p.step(1, scrape(0.5, 0))
		p.step(6, scrape(5.5, 0))
		c := call{number: 1, at: 7, serverPod: "server-1", client: "10.0.2.9"}
		p.spans(c.serverSpan())
		for at := 8.0; at < 30; at++ {
			p.step(at, scrape(at-0.5, 1))
		}
		key := testEdge()
		key.Waypoint = "shop/waypoint"
		require.Len(t, p.edges(), 1)
		for k, e := range p.edges() {
			assert.Equal(t, scraped, k == key, "%+v", k)
			assert.Equal(t, "shop/waypoint", k.Waypoint)
			assert.EqualValues(t, 1, total(e.Requests))
		}
	}
}

// TestWaypointThatBeganLately has the first scrape of a waypoint that began after the graph did: all that it counted is new, but for what spans told.
func TestWaypointThatBeganLately(t *testing.T) {
	for start, want := range map[float64]uint64{2.5: 5, 0.2: 2} {
		p := newPipelines(t, nil)
		p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
		p.step(1, nil)
		p.step(2, nil)
		for n := range 2 {
			c := call{number: 1 + n, at: 3, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1", client: "10.0.2.9"}
			p.spans(c.serverSpan())
			p.spans(c.clientSpan())
		}
		for at := 4.0; at < 30; at++ {
			p.step(at, func(b *batch) { b.istioRequests(at-0.5, start, "", "200", 5) })
		}
		key := testEdge()
		key.Waypoint = "shop/waypoint"
		require.Contains(t, p.edges(), key)
		assert.Equal(t, want, total(p.edges()[key].Requests), "the waypoint began at %v", start)
	}
}
