package outagedetector

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/metadata"
)

// crowd is a mesh of many edges, each with L4 and L7 points, whose batch is changed in place.
type crowd struct {
	metrics pmetric.Metrics
	now     time.Time
	at      processor.Metrics
}

func newCrowd(b *testing.B, edges int) *crowd {
	w := &world{
		t: b, now: begin, interval: 5 * time.Second, nodes: map[string]*worldNode{}, pods: map[string]*worldPod{},
		byName: map[[2]outage.Name]*worldEdge{},
	}
	for n := range 50 {
		w.node(fmt.Sprintf("node-%d", n))
	}
	apps := edges / 20
	for n := range edges {
		source, destination := n%apps, (n%apps+1+n/apps*7)%apps
		e := w.edge(fmt.Sprintf("ns-%d/app-%d", source%10, source), fmt.Sprintf("ns-%d/app-%d", destination%10, destination))
		e.ok(10).answer(10, 0, 20*time.Millisecond)
	}
	c := &crowd{metrics: pmetric.NewMetrics(), now: begin}
	w.heartbeats(c.metrics)
	w.edgePoints(c.metrics)
	var err error
	c.at, err = NewFactory().CreateMetrics(context.Background(), processortest.NewNopSettings(metadata.Type), createDefaultConfig(), consumertest.NewNop())
	require.NoError(b, err)
	require.NoError(b, c.at.Start(context.Background(), componenttest.NewNopHost()))
	b.Cleanup(func() { require.NoError(b, c.at.Shutdown(context.Background())) })
	return c
}

// tick lets five seconds pass in which every edge's values grow by ten, and measures what the detector makes of it.
func (c *crowd) tick(b *testing.B) time.Duration {
	b.StopTimer()
	c.now = c.now.Add(5 * time.Second)
	stamp := pcommon.NewTimestampFromTime(c.now)
	for _, resource := range c.metrics.ResourceMetrics().All() {
		for _, m := range resource.ScopeMetrics().At(0).Metrics().All() {
			switch m.Type() {
			case pmetric.MetricTypeGauge:
				for _, p := range m.Gauge().DataPoints().All() {
					p.SetTimestamp(stamp)
				}
			case pmetric.MetricTypeSum:
				failed := m.Name() == semconv.MetricEdgeRequestsFailed
				for _, p := range m.Sum().DataPoints().All() {
					p.SetTimestamp(stamp)
					if !failed {
						p.SetIntValue(p.IntValue() + 10)
					}
				}
			case pmetric.MetricTypeExponentialHistogram:
				for _, p := range m.ExponentialHistogram().DataPoints().All() {
					p.SetTimestamp(stamp)
					p.SetCount(p.Count() + 10)
					counts := p.Positive().BucketCounts()
					for i := range counts.Len() {
						if counts.At(i) > 0 {
							counts.SetAt(i, counts.At(i)+10)
						}
					}
				}
			}
		}
	}
	b.StartTimer()
	began := time.Now()
	require.NoError(b, c.at.ConsumeMetrics(context.Background(), c.metrics))
	return time.Since(began)
}

// only leaves one of so many edges in the batch: the service graph sends those that changed. 0 leaves none.
func (c *crowd) only(oneOf int) {
	n := 0
	drop := func() bool {
		n++
		return oneOf == 0 || n%oneOf != 0
	}
	for _, resource := range c.metrics.ResourceMetrics().All() {
		scope := resource.ScopeMetrics().At(0)
		if scope.Scope().Name() != semconv.ScopeServiceGraph {
			continue
		}
		scope.Metrics().RemoveIf(func(m pmetric.Metric) bool {
			n = 0
			switch m.Type() {
			case pmetric.MetricTypeSum:
				m.Sum().DataPoints().RemoveIf(func(pmetric.NumberDataPoint) bool { return drop() })
				return m.Sum().DataPoints().Len() == 0
			case pmetric.MetricTypeExponentialHistogram:
				m.ExponentialHistogram().DataPoints().RemoveIf(func(pmetric.ExponentialHistogramDataPoint) bool { return drop() })
				return m.ExponentialHistogram().DataPoints().Len() == 0
			}
			return false
		})
	}
}

// BenchmarkRound measures one boundary of 20,000 edges: of those that are busy in it, all or one in a hundred or none.
func BenchmarkRound(b *testing.B) {
	const edges = 20_000
	for _, test := range []struct {
		name  string
		oneOf int
	}{{"all", 1}, {"hundredth", 100}, {"none", 0}} {
		b.Run("busy="+test.name, func(b *testing.B) {
			c := newCrowd(b, edges)
			for range 70 {
				c.tick(b)
			}
			c.only(test.oneOf)
			for range 70 {
				c.tick(b)
			}
			b.ReportAllocs()
			var busy time.Duration
			for b.Loop() {
				busy += c.tick(b)
			}
			b.ReportMetric(100*busy.Seconds()/float64(b.N)/5, "%core")
		})
	}
}

// BenchmarkMemory reports what 20,000 edges hold.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := newCrowd(b, 20_000)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range 70 {
			c.tick(b)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		runtime.KeepAlive(c)
	}
}
