package servicegraphprocessor

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
)

// backlog is what a node sends of each second from one to another: of every connection in turn the source's or the destination's
// end.
func backlog(reporter string, from, to int) []pmetric.Metrics {
	var batches []pmetric.Metrics
	for second := from; second <= to; second++ {
		b := newBatch(second0(float64(second)))
		row := testRow(reporter)
		b.flow(row, values(uint64(second*second)))
		b.heartbeat(row.node)
		batches = append(batches, b.metrics)
	}
	return batches
}

// closedAt is what the edge's counter was at each of its times.
func closedAt(batches []pmetric.Metrics) []string {
	var all []string
	for _, md := range batches {
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					if m.Name() != semconv.MetricEdgeClosed {
						continue
					}
					for _, p := range m.Sum().DataPoints().All() {
						all = append(all, fmt.Sprintf("%s: %d", p.Timestamp().AsTime().Format("05"), p.IntValue()))
					}
				}
			}
		}
	}
	return all
}

func interruptible(t *testing.T) (p *pipelines, wall func(seconds float64)) {
	p = newPipelines(t, nil).known()
	g := p.graph()
	now := second0(0)
	g.mu.Lock()
	g.wall.now = func() time.Time { return now }
	g.mu.Unlock()
	return p, func(seconds float64) {
		g.mu.Lock()
		defer g.mu.Unlock()
		now = second0(seconds)
	}
}

// TestAnInterruptionChangesNothing cuts the graph off from two nodes and lets each send all it kept as fast as it can, the second
// long after the first: every emission is what it would have been.
func TestAnInterruptionChangesNothing(t *testing.T) {
	whole, wall := interruptible(t)
	source, destination := backlog(semconv.ReporterSource, 1, 50), backlog(semconv.ReporterDestination, 1, 50)
	for i := range source {
		wall(float64(i + 1))
		for _, b := range []pmetric.Metrics{source[i], destination[i]} {
			whole.consume(b)
		}
	}
	want := closedAt(whole.outMetrics.AllMetrics())
	require.Len(t, want, 50)

	cut, wall := interruptible(t)
	source, destination = backlog(semconv.ReporterSource, 1, 50), backlog(semconv.ReporterDestination, 1, 50)
	for i := range 10 {
		wall(float64(i + 1))
		cut.consume(source[i])
		cut.consume(destination[i])
	}
	wall(50)
	var senders sync.WaitGroup
	send := func(batches []pmetric.Metrics) {
		senders.Go(func() {
			for _, b := range batches {
				cut.consume(b)
			}
		})
	}
	send(source[10:])
	g := cut.graph()
	require.Eventually(t, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.clock.Announced("node-a") == pcommon.NewTimestampFromTime(second0(11))
	}, time.Minute, time.Millisecond, "the first waits for the second")
	send(destination[10:])
	senders.Wait()
	require.Equal(t, want, closedAt(cut.outMetrics.AllMetrics()))
}

// TestNobodyWaitsForever has one of two nodes not come back.
func TestNobodyWaitsForever(t *testing.T) {
	p, wall := interruptible(t)
	source, destination := backlog(semconv.ReporterSource, 1, 40), backlog(semconv.ReporterDestination, 1, 2)
	for i := range 2 {
		wall(float64(i + 1))
		p.consume(source[i])
		p.consume(destination[i])
	}
	wall(50)
	hurried, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.metrics.ConsumeMetrics(hurried, source[2]), context.Canceled, "who sends may give up, and comes again")
	wall(50 + datatime.CatchUpWindow.Seconds())
	for _, b := range source[2:] {
		p.consume(b)
	}
	require.Contains(t, closedAt(p.outMetrics.AllMetrics()), "40: 1600")
}

// TestStateAfterAnInterruption has a pod come while the graph is cut off: what was kept of it arrives before the mesh's state that names
// it.
func TestStateAfterAnInterruption(t *testing.T) {
	server2 := testPod("server-2", "server", "node-b", "10.0.2.2", "server")
	second := func(p *pipelines, at int, pod string) {
		p.step(float64(at), func(b *batch) {
			row := testRow(semconv.ReporterSource)
			row.dstPod = pod
			b.flow(row, values(uint64(at)))
		})
	}
	cutOff := func(t *testing.T) (p *pipelines, wall func(seconds float64)) {
		p, wall = interruptible(t)
		for at := 1; at <= 10; at++ {
			wall(float64(at))
			second(p, at, "server-1")
		}
		wall(60)
		for at := 11; at <= 59; at++ {
			second(p, at, "server-2")
		}
		for key := range p.edges() {
			require.Equal(t, testEdge(), key, "nothing is named yet")
		}
		return p, wall
	}
	t.Run("named", func(t *testing.T) {
		p, wall := cutOff(t)
		wall(75)
		p.learn(second0(75), server2)
		second(p, 76, "server-2")
		require.Len(t, p.edges(), 1)
		require.EqualValues(t, 10+76, p.edges()[testEdge()].Closed)
	})
	t.Run("never named", func(t *testing.T) {
		p, wall := cutOff(t)
		for at := 61; at <= 62+int(datatime.CatchUpWindow.Seconds()); at++ {
			wall(float64(at))
			second(p, at, "server-2")
		}
		require.Len(t, p.edges(), 2)
		own := testEdge()
		own.Destination = edge.Party{Workload: "server-2", Namespace: "shop", App: "server-2"}
		require.Contains(t, p.edges(), own)
	})
}

// gate holds up what comes until it is opened.
type gate struct {
	consumer.Metrics
	reached, opened chan struct{}
	once            sync.Once
}

func (g *gate) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	g.once.Do(func() { close(g.reached) })
	<-g.opened
	return g.Metrics.ConsumeMetrics(ctx, md)
}

// TestAppliesWhileItSends has the next consumer take its time: what comes meanwhile is taken over already, and leaves in order.
func TestAppliesWhileItSends(t *testing.T) {
	p, wall := interruptible(t)
	g := p.graph()
	door := &gate{Metrics: g.next.metrics, reached: make(chan struct{}), opened: make(chan struct{})}
	g.next.metrics = door
	batches := backlog(semconv.ReporterSource, 1, 5)
	wall(5)
	var senders sync.WaitGroup
	senders.Go(func() { p.consume(batches[0]) })
	<-door.reached
	senders.Go(func() { p.consume(batches[1]) })
	require.Eventually(t, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.store.Emitted() == pcommon.NewTimestampFromTime(second0(2))
	}, time.Minute, time.Millisecond)
	require.Empty(t, closedAt(p.outMetrics.AllMetrics()))
	close(door.opened)
	senders.Wait()
	for _, b := range batches[2:] {
		p.consume(b)
	}
	require.Equal(t, []string{"01: 1", "02: 4", "03: 9", "04: 16", "05: 25"}, closedAt(p.outMetrics.AllMetrics()))
}
