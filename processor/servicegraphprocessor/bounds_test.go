package servicegraphprocessor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadatatest"
)

const year = 365 * 24 * 3600 // seconds

// One application's clock is a year ahead, for one client span.
func TestOneFutureSpanDoesNotStopTheJoin(t *testing.T) {
	p := newPipelines(t, func(c *Config) {
		c.Requests.MaxSpans = 20
		c.Requests.Wait = 2 * time.Second
		c.FlowSpans.ApplicationWait = time.Second
	}).known()
	p.step(1, nil)
	p.spans(call{number: 9999, at: year, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1"}.clientSpan())
	for i := range 200 {
		at := 2 + float64(i)
		c := call{number: i, at: at, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1"}
		p.spans(c.clientSpan())
		p.spans(c.serverSpan())
		p.step(at+1, nil)
	}
	_, clients := p.graph().requests.Held()
	assert.LessOrEqual(t, clients, 10)
	require.Len(t, p.edges(), 1)
	assert.EqualValues(t, 200, total(p.edges()[testEdge()].Requests))
}

// What says it ended in the future waits for no more than the lateness, and within max_spans.
func TestFutureServerSpansAreBounded(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.Requests.MaxSpans = 20 }).known()
	p.step(1, nil)
	for i := range 5000 {
		p.spans(call{number: i, at: year, serverPod: "server-1", client: "10.0.1.1"}.serverSpan())
	}
	p.step(2, nil)
	servers, _ := p.graph().requests.Held()
	assert.LessOrEqual(t, servers, 20)
	p.step(10, nil)
	servers, _ = p.graph().requests.Held()
	assert.Zero(t, servers)
	assert.EqualValues(t, 5000, total(p.edges()[testEdge()].Requests), "each is counted, sooner or later")
}

// A node is cut off for longer than edge_expiry and comes back with the same series, while another keeps the edge.
func TestNodeCutOffForLongCountsOnce(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.EdgeExpiry = 10 * time.Minute })
	second := testPod("client-2", "client", "node-c", "10.0.3.1")
	p.learn(epoch, clientPod, second, serverPod, serverSvc)
	cut, stays := testRow(semconv.ReporterSource), testRow(semconv.ReporterSource)
	stays.node, stays.srcPod, stays.srcIP = "node-c", "client-2", "10.0.3.1"
	beat := func(at float64, nodes []string, fill func(*batch)) {
		b := newBatch(second0(at))
		fill(b)
		b.heartbeat(nodes...)
		p.consume(b.metrics)
	}
	both := []string{"node-a", "node-c"}
	beat(1, both, func(b *batch) { b.flow(cut, values(100)); b.flow(stays, values(1)) })
	for s := 60.0; s <= 2400; s += 60 {
		beat(s, both[1:], func(b *batch) { b.flow(stays, values(1)) })
	}
	require.EqualValues(t, 101, p.edges()[testEdge()].Closed)
	for s := 2401.0; s < 2500; s++ {
		beat(s, both, func(b *batch) { b.flow(cut, values(101)); b.flow(stays, values(1)) })
	}
	assert.EqualValues(t, 102, p.edges()[testEdge()].Closed)
}

// A node that left the cluster is not waited for, and what it told is forgotten like anything else.
func TestNodeThatLeftIsForgotten(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.EdgeExpiry = 10 * time.Minute }).known()
	row := testRow(semconv.ReporterSource)
	p.step(1, func(b *batch) { b.flow(row, values(1)) })
	left := &mesh.Ztunnel{Node: row.node, Name: "ztunnel-1", Namespace: "istio-system"}
	beats := func(from, to float64) {
		for s := from; s <= to; s += 60 {
			b := newBatch(second0(s))
			b.heartbeat("node-c")
			p.consume(b.metrics)
		}
	}
	p.learn(second0(2), left)
	beats(60, 3600)
	require.Equal(t, 1, p.graph().flows.Len(), "it may be cut off")
	require.NoError(t, p.logs.ConsumeLogs(t.Context(), entityEvents(t, second0(3600), true, left)))
	beats(3660, 3900)
	require.Zero(t, p.graph().flows.Len())
}

// A node's clock is ten minutes ahead, for one heartbeat, and then for all of them.
func TestOneClockAheadDoesNotFreezeTheGraph(t *testing.T) {
	for name, beats := range map[string]int{"once": 1, "for ever": 500} {
		t.Run(name, func(t *testing.T) {
			p, wall := interruptible(t)
			emitted := 0
			for s := 1; s < 500; s++ {
				wall(float64(s))
				if s > 1 && beats > 0 {
					beats--
					b := newBatch(second0(float64(600 + s)))
					b.heartbeat("node-z")
					p.consume(b.metrics)
				}
				before := p.graph().store.Emitted()
				p.step(float64(s), func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(uint64(s))) })
				if p.graph().store.Emitted() > before {
					emitted++
				}
			}
			assert.Equal(t, 499, emitted)
			assert.EqualValues(t, 499, p.edges()[testEdge()].Closed)
			assert.NotZero(t, p.graph().clock.Count(datatime.Ahead))
		})
	}
}

// The graph's own clock was ahead, and what it stored then is read when it is right again.
func TestStateFromTheFutureDoesNotFreezeTheGraph(t *testing.T) {
	store := &memory{values: map[string][]byte{}}
	p := newStoredPipelines(t, store)
	setWall := func(seconds float64) {
		g := p.graph()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.wall.now = func() time.Time { return second0(seconds) }
	}
	p.known()
	setWall(3 * 24 * 3600)
	p.step(3*24*3600, func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(7)) })
	p.kill()
	p.known()
	for s := 1; s < 100; s++ {
		setWall(float64(s))
		p.step(float64(s), func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(uint64(7+s))) })
	}
	assert.Equal(t, second0(99), p.graph().store.Emitted().AsTime())
	last := p.outMetrics.AllMetrics()[len(p.outMetrics.AllMetrics())-1:]
	assert.EqualValues(t, 7+99, readEdges(t, last)[testEdge()].Closed)
}

// The clocks of the node and of the collector are set back by an hour.
func TestClockSetBack(t *testing.T) {
	p, wall := interruptible(t)
	n := 0
	second := func(at float64) {
		wall(at)
		n++
		c := call{number: n, at: at - 0.5, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1"}
		p.spans(c.clientSpan())
		p.spans(c.serverSpan())
		p.step(at, func(b *batch) {
			b.flow(testRow(semconv.ReporterSource), values(uint64(n)))
			b.tcp(at-0.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: int64(n) + 1, closed: int64(n)})
		})
	}
	for at := 3601.0; at <= 3620; at++ {
		second(at)
	}
	before := len(p.outMetrics.AllMetrics())
	for at := 1.0; at <= 120; at++ {
		second(at)
	}
	assert.Equal(t, second0(120), p.graph().store.Emitted().AsTime())
	// Of each series, what left after the clock was set back.
	e := readEdges(t, p.outMetrics.AllMetrics()[before+1:])[testEdge()]
	require.NotNil(t, e)
	assert.EqualValues(t, 140, e.Closed)
	assert.EqualValues(t, 1, e.Active)
	assert.InDelta(t, 140, total(e.Requests), 1)
	servers, clients := p.graph().requests.Held()
	assert.LessOrEqual(t, servers+clients, 30)
}

// A waypoint becomes known after its edge was drawn from the counters: its open connections are the merged edge's from then on.
func TestMergedEdgeKeepsNoOpenConnections(t *testing.T) {
	p := newPipelines(t, nil)
	plain := *frontedSvc
	plain.Waypoint = ""
	p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, &plain)
	scrape := func(at float64, opened, closed int64) {
		p.step(at, func(b *batch) {
			b.tcp(at-0.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: opened, closed: closed, waypoint: true})
		})
	}
	scrape(1, 7, 2)
	require.Len(t, p.edges(), 1)
	for _, v := range p.edges() {
		require.EqualValues(t, 5, v.Active)
	}
	p.learn(second0(2), frontedSvc)
	scrape(6, 8, 3)
	merged := testEdge()
	merged.Waypoint = "shop/waypoint"
	for key, v := range p.edges() {
		if key == merged {
			assert.EqualValues(t, 5, v.Active)
		} else {
			assert.Zero(t, v.Active)
		}
	}
	scrape(11, 8, 8)
	for s := 12.0; s < 300; s += 5 {
		scrape(s, 8, 8)
	}
	for key, v := range p.edges() {
		assert.Zero(t, v.Active, "%v", key)
	}
}

func TestExternalsAreForgottenWithTheirEdges(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.MaxExternal = 2; c.EdgeExpiry = 2 * time.Minute; c.RefreshInterval = time.Minute })
	p.learn(epoch, clientPod, serverPod, serverSvc)
	call := func(at float64, ip string) {
		p.step(at, func(b *batch) {
			row := testRow(semconv.ReporterDestination)
			row.srcPod, row.srcNS, row.srcIP, row.security = "", "", ip, semconv.SecurityNone
			v := values(1)
			v.start = pcommon.NewTimestampFromTime(second0(at - 1))
			b.flow(row, v)
		})
	}
	call(1, "192.0.2.1")
	call(2, "192.0.2.2")
	for s := 60.0; s < 24*3600; s += 60 {
		p.step(s, nil)
	}
	require.Zero(t, p.graph().store.Edges.Len())
	require.True(t, p.graph().flows.Empty())
	call(24*3600+1, "192.0.2.3")
	sources := map[string]bool{}
	for key := range p.edges() {
		sources[key.Source.Workload] = true
	}
	assert.Equal(t, map[string]bool{"192.0.2.1": true, "192.0.2.2": true, "192.0.2.3": true}, sources)
}

// A reporter that lost its state begins anew with a start before the last one: it is another counter.
func TestReporterWithAnEarlierStartCounts(t *testing.T) {
	p := newPipelines(t, nil).known()
	report := func(at, start float64, n uint64) {
		p.step(at, func(b *batch) {
			v := values(n)
			v.start = pcommon.NewTimestampFromTime(second0(start))
			b.flow(testRow(semconv.ReporterSource), v)
		})
	}
	report(20, 10, 100)
	report(21, 9, 5)
	report(22, 9, 7)
	assert.EqualValues(t, 107, p.edges()[testEdge()].Closed)
}

// A pair whose last series goes while it still waits for a name is forgotten once it is named.
func TestPairThatWaitsIsForgotten(t *testing.T) {
	p := newPipelines(t, func(c *Config) {
		c.EdgeExpiry, c.RefreshInterval, c.ResolveHold = 2*time.Minute, time.Minute, time.Hour
	})
	p.learn(epoch, serverPod, serverSvc)
	p.step(1, func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(3)) })
	for s := 60.0; s < 600; s += 60 {
		p.step(s, nil)
	}
	g := p.graph()
	require.Zero(t, g.flows.Len())
	require.False(t, g.flows.Empty())
	p.learn(second0(600), clientPod)
	p.step(601, nil)
	assert.EqualValues(t, 3, p.edges()[testEdge()].Closed)
	assert.True(t, g.flows.Empty())
}

// A pod scans another one's ports.
func TestPortsOfOnePairAreBounded(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.MaxPortsPerPair = 16 }).known()
	for s := 1; s <= 10; s++ {
		p.step(float64(s), func(b *batch) {
			for n := range 100 {
				row := testRow(semconv.ReporterSource)
				row.service, row.port = "", uint16(60_000-100*s-n)
				b.flow(row, values(1))
			}
		})
	}
	edges := p.edges()
	assert.Len(t, edges, 17)
	var sum uint64
	for key, v := range edges {
		sum += v.Closed
		if key.Port == 0 {
			assert.EqualValues(t, 1000-16, v.Closed)
		}
	}
	assert.EqualValues(t, 1000, sum)
}

// A batch processor between the receiver and the graph reorders batches.
func TestReorderedBatchesAreCounted(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	defer func() { require.NoError(t, telemetry.Shutdown(t.Context())) }()
	g, err := newGraph(metadatatest.NewSettings(telemetry), createDefaultConfig().(*Config))
	require.NoError(t, err)
	defer func() { require.NoError(t, g.Shutdown(t.Context())) }()
	for _, sequence := range []uint64{1, 2, 4, 3, 6, 5, 7} {
		b := newBatch(second0(float64(sequence)))
		datatime.Write(b.scope("node-a"), &datatime.Beat{
			Time: b.at, Start: pcommon.NewTimestampFromTime(epoch), Sequence: sequence,
			Sources: []datatime.Source{{Name: semconv.SourceAccessLog, Up: true}},
		})
		require.NoError(t, g.consumeMetrics(t.Context(), b.metrics))
	}
	metadatatest.AssertEqualServiceGraphHeartbeatProblems(t, telemetry, []metricdata.DataPoint[int64]{{
		Value: 2, Attributes: attribute.NewSet(attribute.String("problem", "out_of_order")),
	}}, metricdatatest.IgnoreTimestamp())
	assert.True(t, g.wall.reordered)
}

// Points that come after newer ones are ignored, and counted as such.
func TestLatePointsAreCounted(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	defer func() { require.NoError(t, telemetry.Shutdown(t.Context())) }()
	g, err := newGraph(metadatatest.NewSettings(telemetry), createDefaultConfig().(*Config))
	require.NoError(t, err)
	defer func() { require.NoError(t, g.Shutdown(t.Context())) }()
	apply := func(at float64, n uint64) pmetric.Metrics {
		b := newBatch(second0(at))
		b.flow(testRow(semconv.ReporterSource), values(n))
		return b.metrics
	}
	require.NoError(t, g.consumeMetrics(t.Context(), apply(5, 3)))
	require.NoError(t, g.consumeMetrics(t.Context(), apply(4, 2)))
	metadatatest.AssertEqualServiceGraphDropped(t, telemetry, []metricdata.DataPoint[int64]{{
		Value: 3, Attributes: attribute.NewSet(attribute.String("reason", "late_point")),
	}}, metricdatatest.IgnoreTimestamp())
}
