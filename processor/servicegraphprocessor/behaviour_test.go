package servicegraphprocessor

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

var epoch = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

func second0(n float64) time.Time { return epoch.Add(time.Duration(n * float64(time.Second))) }

func testPod(name, owner, node, ip string, services ...string) *mesh.Workload {
	w := &mesh.Workload{
		UID: "Kubernetes//Pod/shop/" + name, Name: name, Namespace: "shop", Node: node, Naming: mesh.Naming{WorkloadName: owner, CanonicalName: owner, CanonicalRevision: "v1"}, ClusterID: "Kubernetes", TunnelProtocol: "HBONE", Healthy: true, Addresses: []string{ip},
		Services: map[string][]mesh.Port{},
	}
	for _, s := range services {
		w.Services["shop/"+s+".shop.svc"] = []mesh.Port{{ServicePort: 80, TargetPort: 8080}}
	}
	return w
}

func testService(name, vip, waypoint string) *mesh.Service {
	return &mesh.Service{
		Name: name, Namespace: "shop", Hostname: name + ".shop.svc", Addresses: []string{vip},
		Ports: []mesh.Port{{ServicePort: 80, TargetPort: 8080, AppProtocol: "HTTP11"}}, Waypoint: waypoint,
	}
}

var (
	clientPod = testPod("client-1", "client", "node-a", "10.0.1.1")
	serverPod = testPod("server-1", "server", "node-b", "10.0.2.1", "server")
	serverSvc = testService("server", "10.96.0.1", "")
)

func party(owner string) edge.Party {
	return edge.Party{Workload: owner, Namespace: "shop", App: owner, Version: "v1", Cluster: "Kubernetes"}
}

func testEdge() edge.Key {
	return edge.Key{
		Source: party("client"), Destination: party("server"), Service: "server.shop.svc", Port: 8080,
		Protocol: semconv.ProtocolHTTP, Security: semconv.SecurityMutualTLS,
	}
}

func testRow(reporter string) flowRow {
	node := "node-a"
	if reporter == semconv.ReporterDestination {
		node = "node-b"
	}
	return flowRow{
		node: node, reporter: reporter, srcPod: "client-1", srcNS: "shop", srcIP: "10.0.1.1",
		dstPod: "server-1", dstNS: "shop", dstIP: "10.0.2.1", port: 8080, service: "server.shop.svc", security: semconv.SecurityMutualTLS,
	}
}

func values(closed uint64) *flowValues {
	return &flowValues{start: pcommon.NewTimestampFromTime(epoch), closed: closed, sent: closed * 10, received: closed * 100}
}

// step sends one batch: what fill adds, and every node's heartbeat.
func (p *pipelines) step(at float64, fill func(*batch)) {
	b := newBatch(second0(at))
	if fill != nil {
		fill(b)
	}
	b.heartbeat("node-a", "node-b")
	p.consume(b.metrics)
}

func (p *pipelines) edges() map[edge.Key]*edgeValues {
	return readEdges(p.t, p.outMetrics.AllMetrics())
}

func TestHoldsForMeshState(t *testing.T) {
	t.Run("named when the state comes", func(t *testing.T) {
		p := newPipelines(t, nil)
		p.step(1, func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(3)) })
		p.step(5, nil)
		require.Empty(t, p.edges())
		p.learn(second0(5), clientPod, serverPod, serverSvc)
		p.step(6, nil)
		assert.EqualValues(t, 3, p.edges()[testEdge()].Closed)
		assert.Len(t, p.edges(), 1)
	})
	t.Run("named by the pod when it does not", func(t *testing.T) {
		p := newPipelines(t, nil)
		p.step(1, func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(3)) })
		p.step(12, nil)
		key := edge.Key{
			Source:      edge.Party{Workload: "client-1", Namespace: "shop", App: "client-1"},
			Destination: edge.Party{Workload: "server-1", Namespace: "shop", App: "server-1"},
			Service:     "server.shop.svc", Port: 8080, Protocol: semconv.ProtocolTCP, Security: semconv.SecurityMutualTLS,
		}
		require.EqualValues(t, 3, p.edges()[key].Closed)
		p.learn(second0(13), clientPod, serverPod, serverSvc)
		p.step(14, func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(5)) })
		assert.EqualValues(t, 3, p.edges()[key].Closed, "what was told stays")
		assert.EqualValues(t, 2, p.edges()[testEdge()].Closed, "what is new goes where it belongs")
	})
	t.Run("also after the pod is gone", func(t *testing.T) {
		p := newPipelines(t, nil)
		p.learn(epoch, clientPod, serverPod, serverSvc)
		require.NoError(t, p.logs.ConsumeLogs(context.Background(), entityEvents(t, second0(1), true, serverPod)))
		p.step(2, func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(1)) })
		assert.EqualValues(t, 1, p.edges()[testEdge()].Closed)
	})
}

func TestServersGuessOfTheServiceDoesNotCount(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, serverSvc)
	source := testRow(semconv.ReporterSource)
	source.service = "" // the client called the pod itself
	p.step(1, func(b *batch) { b.flow(testRow(semconv.ReporterDestination), values(3)) })
	p.step(2, func(b *batch) { b.flow(source, values(4)) })
	p.step(3, func(b *batch) { b.flow(testRow(semconv.ReporterDestination), values(4)) })
	key := testEdge()
	key.Service, key.Protocol = "", semconv.ProtocolTCP
	require.Len(t, p.edges(), 1)
	assert.EqualValues(t, 4, p.edges()[key].Closed)
	assert.EqualValues(t, 40, p.edges()[key].Sent)
}

func TestRestartedReporterContinues(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, serverSvc)
	p.step(1, func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(10)) })
	p.step(2, func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(10)) })
	p.step(3, func(b *batch) {
		v := values(4)
		v.start = pcommon.NewTimestampFromTime(second0(2))
		b.flow(testRow(semconv.ReporterSource), v)
	})
	assert.EqualValues(t, 14, p.edges()[testEdge()].Closed)
}

// A receiver that was killed while its disk was full takes up an older state and reads again what came since.
func TestReporterThatGoesBackIsNoReset(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, serverSvc)
	for n, closed := range []uint64{8, 10, 8, 9, 10, 13} {
		p.step(float64(n+1), func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(closed)) })
	}
	edge := p.edges()[testEdge()]
	assert.EqualValues(t, 13, edge.Closed)
	assert.EqualValues(t, 130, edge.Sent)
}

func TestMovedPodIsNoReset(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, serverSvc)
	before, after := testRow(semconv.ReporterSource), testRow(semconv.ReporterSource)
	before.node, after.node = "node-b", "node-a"
	for n := range 4 {
		p.step(float64(n+1), func(b *batch) {
			b.flow(before, values(10))
			b.flow(after, values(uint64(n+1)))
		})
	}
	assert.EqualValues(t, 14, p.edges()[testEdge()].Closed)
}

func TestPartiesOutsideTheMesh(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.MaxExternal = 2 })
	p.learn(epoch, clientPod, serverPod, serverSvc)
	p.step(1, func(b *batch) {
		for _, ip := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"} {
			row := testRow(semconv.ReporterDestination)
			row.srcPod, row.srcNS, row.srcIP, row.security = "", "", ip, semconv.SecurityNone
			b.flow(row, values(1))
		}
	})
	sources := map[string]uint64{}
	for key, v := range p.edges() {
		require.Empty(t, key.Source.Namespace)
		sources[key.Source.Workload] = v.Closed
	}
	assert.Equal(t, map[string]uint64{"192.0.2.1": 1, "192.0.2.2": 1, "external": 2}, sources)
}

func TestBoundOnEdges(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.MaxEdges = 1 })
	p.learn(epoch, clientPod, serverPod, serverSvc)
	p.step(1, func(b *batch) {
		for _, port := range []uint16{8080, 8081, 8082} {
			row := testRow(semconv.ReporterSource)
			row.port = port
			b.flow(row, values(2))
		}
	})
	edges := p.edges()
	require.Len(t, edges, 2)
	assert.EqualValues(t, 4, edges[edge.Key{
		Source: edge.Party{Workload: "overflow"}, Destination: edge.Party{Workload: "overflow"},
		Protocol: semconv.ProtocolTCP, Security: semconv.SecurityUnknown,
	}].Closed)
	assert.EqualValues(t, 2, edges[testEdge()].Closed)
}

func TestRefreshAndExpiry(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.EdgeExpiry = 10 * time.Minute })
	p.learn(epoch, clientPod, serverPod, serverSvc)
	p.step(1, func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(1)) })
	count := func() int {
		n := 0
		for _, m := range p.outMetrics.AllMetrics() {
			for _, r := range m.ResourceMetrics().All() {
				for _, s := range r.ScopeMetrics().All() {
					for _, metric := range s.Metrics().All() {
						if metric.Name() == semconv.MetricEdgeClosed {
							n++
						}
					}
				}
			}
		}
		return n
	}
	require.Equal(t, 1, count())
	for at := 2.0; at <= 61; at++ {
		p.step(at, nil)
	}
	require.Equal(t, 2, count(), "once more after a minute of silence")
	for at := 120.0; at <= 3600; at += 60 {
		p.step(at, nil)
	}
	after := count()
	for at := 3660.0; at <= 4200; at += 60 {
		p.step(at, nil)
	}
	require.Equal(t, after, count(), "gone after the expiry")
	start := pcommon.NewTimestampFromTime(second0(4200))
	p.step(4201, func(b *batch) {
		v := values(1)
		v.start = start
		b.flow(testRow(semconv.ReporterSource), v)
	})
	require.Equal(t, after+1, count())
}

func TestLaggingNodeHoldsTheClockBriefly(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, serverSvc)
	send := func(node string, at float64, closed uint64) {
		b := newBatch(second0(at))
		b.heartbeat(node)
		if closed > 0 {
			b.flow(testRow(semconv.ReporterSource), values(closed))
		}
		p.consume(b.metrics)
	}
	send("node-b", 1, 0)
	send("node-a", 1, 1)
	send("node-a", 2, 2)
	require.Empty(t, p.edges(), "node-b may still have something to say about before 2")
	send("node-b", 2, 0)
	require.EqualValues(t, 2, p.edges()[testEdge()].Closed)
	for at := 3.0; at <= 8; at++ {
		send("node-a", at, uint64(at))
	}
	require.EqualValues(t, 8, p.edges()[testEdge()].Closed, "but is not waited for longer than max_lateness")
}

func TestPassesEverythingElse(t *testing.T) {
	p := newPipelines(t, nil)
	p.step(1, func(b *batch) {
		b.flow(testRow(semconv.ReporterSource), values(1))
		b.gauge("node-a", "some_gauge", b.at, 7, nil)
	})
	names := map[string]int{}
	for _, m := range p.outMetrics.AllMetrics() {
		for _, r := range m.ResourceMetrics().All() {
			for _, s := range r.ScopeMetrics().All() {
				for _, metric := range s.Metrics().All() {
					names[metric.Name()]++
				}
			}
		}
	}
	assert.Equal(t, map[string]int{"some_gauge": 1, semconv.MetricSourceUp: 2, semconv.MetricGraphTime: 1}, names)

	logs := plog.NewLogs()
	logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body().SetStr("hello")
	require.NoError(t, p.logs.ConsumeLogs(context.Background(), logs))
	require.Len(t, p.outLogs.AllLogs(), 1)
}

func TestBadPointsAreDropped(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, serverSvc)
	b := newBatch(second0(1))
	b.flow(testRow(semconv.ReporterSource), values(1))
	closed := b.sum("node-a", semconv.MetricConnectionsClosed)
	for _, change := range []func(pmetric.NumberDataPoint){
		func(p pmetric.NumberDataPoint) { p.SetIntValue(-5) },
		func(p pmetric.NumberDataPoint) { p.SetDoubleValue(1e300) },
		func(p pmetric.NumberDataPoint) { p.Attributes().Clear() },
		func(p pmetric.NumberDataPoint) { p.Attributes().PutStr(semconv.LabelReporter, "nobody") },
		func(p pmetric.NumberDataPoint) { p.SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true)) },
	} {
		point := closed.AppendEmpty()
		closed.At(0).CopyTo(point)
		change(point)
	}
	delta := b.scope("node-a").Metrics().AppendEmpty()
	delta.SetName(semconv.MetricConnectionsClosed)
	delta.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	delta.Sum().DataPoints().AppendEmpty().SetIntValue(4)
	gauge := b.scope("node-a").Metrics().AppendEmpty()
	gauge.SetName(semconv.MetricConnectionsFailed)
	gauge.SetEmptyGauge().DataPoints().AppendEmpty().SetIntValue(4)
	b.heartbeat("node-a")
	p.consume(b.metrics)
	require.Len(t, p.edges(), 1)
	assert.EqualValues(t, 1, p.edges()[testEdge()].Closed)
}

func TestEndpoints(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, serverSvc)
	p.step(1, func(b *batch) {
		v := values(5)
		v.failed = map[[2]string]uint64{{semconv.ErrorTypePolicyDenied, "shop/no"}: 2}
		b.flow(testRow(semconv.ReporterDestination), v)
	})
	p.step(4, nil)
	got := map[string]int64{}
	for _, m := range p.outMetrics.AllMetrics() {
		for _, r := range m.ResourceMetrics().All() {
			for _, s := range r.ScopeMetrics().All() {
				for _, metric := range s.Metrics().All() {
					if metric.Name() != semconv.MetricEndpointClosed && metric.Name() != semconv.MetricEndpointFailed {
						continue
					}
					for _, point := range metric.Sum().DataPoints().All() {
						attrs := point.Attributes().AsRaw()
						name := metric.Name()
						if kind, ok := attrs[semconv.LabelErrorType]; ok {
							name += " " + kind.(string)
							delete(attrs, semconv.LabelErrorType)
						}
						require.Equal(t, map[string]any{
							semconv.LabelDestinationPod: "server-1", semconv.LabelDestinationWorkload: "server",
							semconv.LabelDestinationNamespace: "shop", semconv.LabelDestinationCanonicalService: "server", semconv.LabelNode: "node-b",
						}, attrs)
						got[name] = point.IntValue()
					}
				}
			}
		}
	}
	assert.Equal(t, map[string]int64{semconv.MetricEndpointClosed: 5, semconv.MetricEndpointFailed + " policy_denied": 2}, got)
}
