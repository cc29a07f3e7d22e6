package outagedetector

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// grafana is a service graph of another source: one point per edge and five minutes, requests, failures and durations.
type grafana struct {
	*world
	delta bool
	total map[[2]string]*grafanaEdge
}

type grafanaEdge struct {
	requests, failed uint64
	counts           []uint64
}

var grafanaBounds = []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5}

type calls struct {
	client, server string
	n, failed      uint64
	took           time.Duration
}

func (g *grafana) tick(edges ...calls) {
	g.now = g.now.Add(5 * time.Minute)
	md := pmetric.NewMetrics()
	scope := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	scope.Scope().SetName("traces_service_graph")
	temporality := pmetric.AggregationTemporalityCumulative
	if g.delta {
		temporality = pmetric.AggregationTemporalityDelta
	}
	sum := func(name string) pmetric.NumberDataPointSlice {
		m := scope.Metrics().AppendEmpty()
		m.SetName(name)
		s := m.SetEmptySum()
		s.SetIsMonotonic(true)
		s.SetAggregationTemporality(temporality)
		return s.DataPoints()
	}
	requests, failed := sum("traces_service_graph_request_total"), sum("traces_service_graph_request_failed_total")
	m := scope.Metrics().AppendEmpty()
	m.SetName("traces_service_graph_request_server_seconds")
	m.SetUnit("s")
	histogram := m.SetEmptyHistogram()
	histogram.SetAggregationTemporality(temporality)
	for _, c := range edges {
		e, ok := g.total[[2]string{c.client, c.server}]
		if !ok || g.delta {
			e = &grafanaEdge{counts: make([]uint64, len(grafanaBounds)+1)}
			g.total[[2]string{c.client, c.server}] = e
		}
		e.requests += c.n
		e.failed += c.failed
		bucket := 0
		for bucket < len(grafanaBounds) && grafanaBounds[bucket] < c.took.Seconds() {
			bucket++
		}
		e.counts[bucket] += c.n
		for _, point := range []struct {
			points pmetric.NumberDataPointSlice
			value  uint64
		}{{requests, e.requests}, {failed, e.failed}} {
			p := point.points.AppendEmpty()
			p.SetTimestamp(g.stamp())
			p.SetStartTimestamp(pcommon.NewTimestampFromTime(begin.Add(-time.Hour)))
			p.SetIntValue(int64(point.value))
			c.put(p.Attributes())
		}
		p := histogram.DataPoints().AppendEmpty()
		p.SetTimestamp(g.stamp())
		p.SetStartTimestamp(pcommon.NewTimestampFromTime(begin.Add(-time.Hour)))
		p.SetCount(e.requests)
		p.ExplicitBounds().FromRaw(grafanaBounds)
		p.BucketCounts().FromRaw(append([]uint64(nil), e.counts...))
		c.put(p.Attributes())
	}
	require.NoError(g.t, g.metrics.ConsumeMetrics(context.Background(), md))
}

func (c calls) put(attrs pcommon.Map) {
	attrs.PutStr("client", c.client)
	attrs.PutStr("server", c.server)
	attrs.PutStr("client_service_namespace", "shop")
	attrs.PutStr("server_service_namespace", "shop")
}

// TestEdgesOfOtherSources holds outages to be found and rooted where nothing but plain service graphs arrives.
func TestEdgesOfOtherSources(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		bad        []calls
		root, kind string
	}{
		"errors": {
			bad:  []calls{{"web", "orders", 300, 60, 90 * ms}, {"orders", "billing", 100, 60, 30 * ms}, {"orders", "stock", 120, 0, 9 * ms}},
			root: "shop/billing", kind: "http_errors",
		},
		"slowness": {
			bad:  []calls{{"web", "orders", 300, 0, 900 * ms}, {"orders", "billing", 100, 0, 800 * ms}, {"orders", "stock", 120, 0, 9 * ms}},
			root: "shop/billing", kind: "latency",
		},
	} {
		for _, delta := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s delta %t", name, delta), func(t *testing.T) {
				g := &grafana{world: newWorld(t, nil), delta: delta, total: map[[2]string]*grafanaEdge{}}
				good := []calls{{"web", "orders", 300, 0, 90 * ms}, {"orders", "billing", 100, 0, 30 * ms}, {"orders", "stock", 120, 0, 9 * ms}}
				for range 12 {
					g.tick(good...)
				}
				require.Empty(t, g.outages())
				began := g.now
				for range 3 {
					g.tick(test.bad...)
				}
				require.Len(t, g.outages(), 1)
				o := g.outages()[0]
				assert.Equal(t, test.root, rootText(o.Root))
				assert.Equal(t, test.kind, o.Kind)
				assert.LessOrEqual(t, o.DetectedAt.Sub(began), 10*time.Minute)
				assert.Equal(t, outage.Name{Namespace: "shop", Name: "orders"}, o.Edges[0].Source)
				require.NotEmpty(t, o.Impact)
				for range 4 {
					g.tick(good...)
				}
				require.Len(t, g.outages(), 1)
				assert.Equal(t, semconv.OutageStateResolved, g.outages()[0].State)
				assert.Equal(t, began.Add(20*time.Minute), g.outages()[0].EndedAt.UTC())
			})
		}
	}
}

// TestScrapesMinutesApart holds outages to be found where heartbeats come every few seconds, but what tells of requests is
// scraped rarely.
func TestScrapesMinutesApart(t *testing.T) {
	const ms = time.Millisecond
	for _, apart := range []time.Duration{30 * time.Second, time.Minute, 5 * time.Minute} {
		for kind, bad := range map[string]struct {
			failed uint64
			took   time.Duration
		}{
			"http_errors": {failed: 60, took: 30 * ms},
			"latency":     {took: 700 * ms},
		} {
			t.Run(fmt.Sprintf("%s every %s", kind, apart), func(t *testing.T) {
				w := newWorld(t, nil)
				w.node("node-a")
				web, orders, stock := w.edge("shop/web", "shop/orders"), w.edge("shop/orders", "shop/billing"), w.edge("shop/orders", "shop/stock")
				scrape := func(times int, failed uint64, took time.Duration) {
					for range times {
						w.run(apart-w.interval, nil)
						w.run(w.interval, func() {
							web.answer(300, failed, 60*ms+took)
							orders.answer(100, failed, took)
							stock.answer(120, 0, 9*ms)
						})
					}
				}
				scrape(20, 0, 30*ms)
				require.Empty(t, w.outages())
				began := w.now
				scrape(3, bad.failed, bad.took)
				require.Len(t, w.outages(), 1)
				o := w.outages()[0]
				assert.Equal(t, "shop/billing", rootText(o.Root))
				assert.Equal(t, kind, o.Kind)
				assert.LessOrEqual(t, o.DetectedAt.Sub(began), 2*apart)
				scrape(3, 0, 30*ms)
				require.Len(t, w.outages(), 1)
				assert.Equal(t, semconv.OutageStateResolved, w.outages()[0].State)
			})
		}
	}
}
