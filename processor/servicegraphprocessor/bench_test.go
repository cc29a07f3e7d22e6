package servicegraphprocessor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/exposition"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadata"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
)

// loadedGraph has a mesh of so many edges, each told by both reporters, and a batch that tells all of them again.
type loadedGraph struct {
	*graph
	batch pmetric.Metrics
	at    time.Time
}

func newLoadedGraph(tb testing.TB, edges int) *loadedGraph {
	tb.Helper()
	cfg := createDefaultConfig().(*Config)
	g, err := newGraph(processortest.NewNopSettings(metadata.Type), cfg)
	require.NoError(tb, err)
	g.next.metrics = consumertest.NewNop()
	g.next.traces = consumertest.NewNop()
	tb.Cleanup(func() { require.NoError(tb, g.Shutdown(context.Background())) })
	l := &loadedGraph{graph: g, at: epoch.Add(time.Second)}
	const servers = 200
	clients := (edges + servers - 1) / servers
	var entities []mesh.Entity
	for i := range clients {
		entities = append(entities, testPod(fmt.Sprintf("client%d-1", i), fmt.Sprintf("client%d", i), "node-a", fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)))
	}
	for i := range servers {
		name := fmt.Sprintf("server%d", i)
		entities = append(entities, testPod(name+"-1", name, "node-b", fmt.Sprintf("10.2.%d.%d", i/250, i%250+1), name), testService(name, fmt.Sprintf("10.96.%d.%d", i/250, i%250+1), ""))
	}
	g.learn(entityEvents(tb, epoch, false, entities...), false, netip.Addr{})
	b := newBatch(l.at)
	for i := range edges {
		client, server := i/servers, i%servers
		v := &flowValues{start: pcommon.NewTimestampFromTime(epoch), closed: 1, sent: 10, received: 100, failed: map[[2]string]uint64{}}
		v.duration.Add(exphist.Default, 0.01, 1)
		row := flowRow{
			node: "node-a", reporter: semconv.ReporterSource, srcPod: fmt.Sprintf("client%d-1", client), srcNS: "shop", srcIP: fmt.Sprintf("10.1.%d.%d", client/250, client%250+1),
			dstPod: fmt.Sprintf("server%d-1", server), dstNS: "shop", dstIP: fmt.Sprintf("10.2.%d.%d", server/250, server%250+1),
			port: 8080, service: fmt.Sprintf("server%d.shop.svc", server), security: semconv.SecurityMutualTLS,
		}
		b.flow(row, v)
		row.node, row.reporter = "node-b", semconv.ReporterDestination
		b.flow(row, v)
	}
	l.batch = b.metrics
	return l
}

// advance moves every point of the batch on by one connection.
func (l *loadedGraph) advance() {
	l.at = l.at.Add(time.Second)
	at := pcommon.NewTimestampFromTime(l.at)
	for _, r := range l.batch.ResourceMetrics().All() {
		for _, s := range r.ScopeMetrics().All() {
			for _, m := range s.Metrics().All() {
				if m.Type() == pmetric.MetricTypeExponentialHistogram {
					p := m.ExponentialHistogram().DataPoints().At(0)
					p.SetTimestamp(at)
					p.SetCount(p.Count() + 1)
					p.SetSum(p.Sum() + 0.01)
					p.Positive().BucketCounts().SetAt(0, p.Positive().BucketCounts().At(0)+1)
					continue
				}
				points := m.Sum().DataPoints()
				for i := range points.Len() {
					points.At(i).SetTimestamp(at)
					points.At(i).SetIntValue(points.At(i).IntValue() + 1)
				}
			}
		}
	}
}

func (l *loadedGraph) apply() (points int) {
	for _, r := range l.batch.ResourceMetrics().All() {
		source := exposition.SourceOf(r.Resource())
		for _, s := range r.ScopeMetrics().All() {
			for _, m := range s.Metrics().All() {
				l.applyMetric(&source, m, moment.Arrival{Now: l.clock.Now(), Latest: pcommon.NewTimestampFromTime(l.at)})
				if m.Type() == pmetric.MetricTypeSum {
					points += m.Sum().DataPoints().Len()
				} else {
					points += m.ExponentialHistogram().DataPoints().Len()
				}
			}
		}
	}
	return points
}

func TestApplyAllocatesNothingPerPoint(t *testing.T) {
	l := newLoadedGraph(t, 500)
	points := 0
	run := func() {
		l.advance()
		points = l.apply()
		l.clock.Set(pcommon.NewTimestampFromTime(l.at))
		l.flows.Settle(moment.Moment{Now: l.clock.Now()})
	}
	run()
	run()
	require.Equal(t, 500, l.store.Edges.Len())
	// Changing the points allocates their values; only what is beyond that is the processor's.
	allocs := testing.AllocsPerRun(20, run) - testing.AllocsPerRun(20, l.advance)
	require.Less(t, allocs/float64(points), 0.01, "%g allocations for %d points", allocs, points)
}

// BenchmarkApply takes over a batch in which each of 20,000 edges changed, told by both reporters.
func BenchmarkApply(b *testing.B) {
	l := newLoadedGraph(b, 20_000)
	points := l.apply()
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		l.advance()
		b.StartTimer()
		l.apply()
		l.clock.Set(pcommon.NewTimestampFromTime(l.at))
		l.flows.Settle(moment.Moment{Now: l.clock.Now()})
	}
	b.ReportMetric(float64(points)*float64(b.N)/b.Elapsed().Seconds(), "points/s")
}

// BenchmarkEmit emits 20,000 edges, all changed.
func BenchmarkEmit(b *testing.B) {
	l := newLoadedGraph(b, 20_000)
	l.apply()
	l.clock.Set(pcommon.NewTimestampFromTime(l.at))
	l.flows.Settle(moment.Moment{Now: l.clock.Now(), Final: true})
	all := slices.Clone(l.store.Edges.Changed())
	b.ReportAllocs()
	b.ResetTimer()
	now := l.clock.Now()
	for b.Loop() {
		now += pcommon.Timestamp(time.Second)
		for _, e := range all {
			l.store.Edges.Touch(e, now)
		}
		l.store.Emit(now)
	}
	b.ReportMetric(float64(20_000)*float64(b.N)/b.Elapsed().Seconds(), "edges/s")
}

// BenchmarkJournal records and commits what changed: all of 20,000 edges and the pairs that lead to them.
func BenchmarkJournal(b *testing.B) {
	l := newLoadedGraph(b, 20_000)
	l.cfg.Storage = &storageID
	store := &memory{values: map[string][]byte{}}
	require.NoError(b, l.open(b.Context(), storageHost{storageID: store}))
	change := func() {
		l.advance()
		l.apply()
		l.clock.Set(pcommon.NewTimestampFromTime(l.at))
		l.flush(true)
	}
	bytes := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		change()
		before := l.saved.journal.Size()
		b.StartTimer()
		l.commit(b.Context(), l.saved.record(l.graph))
		bytes = l.saved.journal.Size() - before
	}
	b.ReportMetric(float64(bytes)/20_000, "B/edge")
}

// BenchmarkQuietFlush flushes a graph of 20,000 edges of which none changed.
func BenchmarkQuietFlush(b *testing.B) {
	l := newLoadedGraph(b, 20_000)
	l.apply()
	l.clock.Set(pcommon.NewTimestampFromTime(l.at))
	l.flush(true)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		l.clock.Set(l.clock.Now() + pcommon.Timestamp(time.Millisecond))
		l.schedule.due = 0
		l.flush(false)
	}
}

// BenchmarkSpans counts requests from pairs of application spans.
func BenchmarkSpans(b *testing.B) {
	l := newLoadedGraph(b, 200)
	const pairs = 1000
	build := func(round int) []ptrace.Traces {
		var batches []ptrace.Traces
		for n := range pairs {
			c := call{number: n, at: float64(round), clientPod: "client0-1", peer: "10.96.0.1:80", serverPod: fmt.Sprintf("server%d-1", n%200), client: "10.1.0.1:5"}
			for _, traces := range []ptrace.Traces{c.serverSpan(), c.clientSpan()} {
				span := traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
				id := span.TraceID()
				id[8], id[9], id[10] = byte(round>>16), byte(round>>8), byte(round)
				span.SetTraceID(id)
				batches = append(batches, traces)
			}
		}
		return batches
	}
	b.ReportAllocs()
	round := 0
	for b.Loop() {
		b.StopTimer()
		round++
		batches := build(round)
		b.StartTimer()
		for _, traces := range batches {
			l.applyTraces(traces, netip.Addr{})
		}
		l.clock.Set(pcommon.NewTimestampFromTime(second0(float64(round + 1))))
		l.flush(false)
	}
	b.ReportMetric(float64(2*pairs)*float64(b.N)/b.Elapsed().Seconds(), "spans/s")
}
