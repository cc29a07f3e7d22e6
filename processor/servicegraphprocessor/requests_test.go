package servicegraphprocessor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// call is one request of a test.
type call struct {
	number         int
	at             float64
	clientPod      string // empty: no client span
	peer           string
	serverPod      string
	client         string // what the server saw
	attrs          map[string]any
	failed         bool
	service, owner string // resource attributes of a server outside the mesh
}

func (c call) trace() (id pcommon.TraceID) {
	id[0], id[1], id[15] = byte(c.number>>8), byte(c.number), 1
	return id
}

func (c call) span(of byte) (id pcommon.SpanID) {
	id[0], id[1], id[7] = byte(c.number>>8), byte(c.number), of
	return id
}

func newSpan(traces ptrace.Traces, pod string, resource map[string]any) ptrace.Span {
	r := traces.ResourceSpans().AppendEmpty()
	_ = r.Resource().Attributes().FromRaw(resource)
	if pod != "" {
		r.Resource().Attributes().PutStr(semconv.AttrPodName, pod)
		r.Resource().Attributes().PutStr(semconv.AttrNamespaceName, "shop")
	}
	return r.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
}

func (c call) clientSpan() ptrace.Traces {
	traces := ptrace.NewTraces()
	s := newSpan(traces, c.clientPod, map[string]any{"service.name": c.clientPod})
	s.SetKind(ptrace.SpanKindClient)
	s.SetTraceID(c.trace())
	s.SetSpanID(c.span(1))
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(second0(c.at)))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(second0(c.at + 0.030)))
	s.Attributes().PutStr("network.peer.address", c.peer)
	return traces
}

func (c call) serverSpan() ptrace.Traces {
	traces := ptrace.NewTraces()
	resource := map[string]any{}
	if c.service != "" {
		resource["service.name"], resource["service.namespace"] = c.service, "shop"
	}
	if c.owner != "" {
		resource["k8s.deployment.name"] = c.owner
	}
	s := newSpan(traces, c.serverPod, resource)
	s.SetKind(ptrace.SpanKindServer)
	s.SetTraceID(c.trace())
	s.SetSpanID(c.span(2))
	if c.clientPod != "" {
		s.SetParentSpanID(c.span(1))
	}
	s.SetName("GET /fallback")
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(second0(c.at + 0.005)))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(second0(c.at + 0.025)))
	_ = s.Attributes().FromRaw(c.attrs)
	if c.client != "" {
		s.Attributes().PutStr("client.address", c.client)
	}
	if c.failed {
		s.Status().SetCode(ptrace.StatusCodeError)
	}
	return traces
}

func TestRoutesAndErrors(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.Requests.MaxRoutes = 6 }).known()
	p.step(1, nil)
	for i, tt := range []struct {
		attrs  map[string]any
		failed bool
	}{
		{attrs: map[string]any{"http.route": "/a", "url.template": "/b"}},
		{attrs: map[string]any{"url.template": "/b", "http.response.status_code": 500}},
		{attrs: map[string]any{"rpc.service": "cart.Cart", "rpc.method": "Get", "rpc.system": "grpc", "rpc.grpc.status_code": 14}},
		{attrs: map[string]any{"rpc.service": "cart.Cart", "rpc.method": "Get", "rpc.grpc.status_code": 5}},
		{attrs: map[string]any{}, failed: true},
		{attrs: map[string]any{"http.route": "/a", "http.response.status_code": 404}},
		{attrs: map[string]any{"http.route": "/a", "http.status_code": "503"}},
		{attrs: map[string]any{"http.route": "/5"}},
		{attrs: map[string]any{"http.route": "/6"}},
		{attrs: map[string]any{"http.route": "/7"}},
		{attrs: map[string]any{"http.route": "/8"}},
	} {
		p.spans(call{number: i, at: 1.1, serverPod: "server-1", client: "10.0.1.1:4444", attrs: tt.attrs, failed: tt.failed}.serverSpan())
	}
	p.step(2, nil)
	e := p.edges()[testEdge()]
	require.NotNil(t, e)
	assert.Equal(t, map[string]uint64{"/a": 3, "/b": 1, "cart.Cart/Get": 2, "GET /fallback": 1, "/5": 1, "/6": 1, "other": 2}, e.Requests)
	assert.Equal(t, map[string]uint64{"/a": 1, "/b": 1, "cart.Cart/Get": 1, "GET /fallback": 1, "/5": 0, "/6": 0, "other": 0}, e.RequestsFailed)
	assert.Equal(t, e.Requests, e.Latencies)
	assert.Len(t, p.edges(), 1)
}

func TestRequestEndsBeforeItCounts(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, nil)
	p.spans(call{number: 1, at: 2.5, serverPod: "server-1", client: "10.0.1.1"}.serverSpan())
	p.step(2, nil)
	require.Empty(t, p.edges(), "it ends after 2")
	p.step(3, nil)
	require.EqualValues(t, 1, total(p.edges()[testEdge()].Requests))
}

// TestRequestOfHours counts where it ended, not over all of its hours.
func TestRequestOfHours(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(8000, nil)
	traces := call{number: 1, at: 8000.5, serverPod: "server-1", client: "10.0.1.1"}.serverSpan()
	traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).SetStartTimestamp(pcommon.NewTimestampFromTime(second0(500)))
	p.spans(traces)
	p.step(8002, nil)
	seen := false
	for _, metrics := range p.outMetrics.AllMetrics() {
		for _, rm := range metrics.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					if m.Name() == semconv.MetricEdgeRequests {
						seen = true
						assert.GreaterOrEqual(t, m.Sum().DataPoints().At(0).StartTimestamp(), pcommon.NewTimestampFromTime(second0(7990)))
					}
				}
			}
		}
	}
	assert.True(t, seen)
}

func TestSpanTwiceCountsOnce(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, nil)
	c := call{number: 1, at: 1.5, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1", client: "10.0.1.1"}
	for range 3 {
		p.spans(c.serverSpan())
		p.spans(c.clientSpan())
	}
	p.step(3, nil)
	require.EqualValues(t, 1, total(p.edges()[testEdge()].Requests))
}

func TestClientFoundBySpan(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, nil)
	c := call{number: 1, at: 1.5, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1"}
	p.spans(c.serverSpan())
	p.step(3, nil)
	require.Empty(t, p.edges(), "its client is still to come")
	p.spans(c.clientSpan())
	p.step(4, nil)
	require.EqualValues(t, 1, total(p.edges()[testEdge()].Requests))
}

func TestClientSpanThatComesLateTellsTheService(t *testing.T) {
	for name, serverFirst := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			p := newPipelines(t, nil).known()
			p.step(1, nil)
			c := call{number: 1, at: 1.5, clientPod: "client-1", peer: "10.0.2.1:8080", serverPod: "server-1", client: "10.0.1.1"}
			if serverFirst {
				p.spans(c.serverSpan())
				p.spans(c.clientSpan())
			} else {
				p.spans(c.clientSpan())
				p.spans(c.serverSpan())
			}
			p.step(3, nil)
			key := testEdge()
			key.Service = ""
			require.Len(t, p.edges(), 1)
			require.EqualValues(t, 1, total(p.edges()[key].Requests), "it called the pod's own address")
		})
	}
}

func TestClientThatNeverComes(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, nil)
	p.spans(call{number: 1, at: 1.5, clientPod: "gone", serverPod: "server-1"}.serverSpan())
	p.step(5, nil)
	require.Empty(t, p.edges())
	p.step(13, nil)
	key := testEdge()
	key.Source, key.Security = edge.Party{Workload: naming.Unknown}, semconv.SecurityUnknown
	require.EqualValues(t, 1, total(p.edges()[key].Requests))
}

func TestRequestThroughWaypoint(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
	p.step(1, func(b *batch) { b.istioRequests(0.5, 0.5, "", "200", 0) })
	for n := range 3 {
		c := call{number: n, at: 1.5, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1", client: "10.0.2.9", attrs: map[string]any{"http.route": "/a"}}
		p.spans(c.serverSpan())
		p.spans(c.clientSpan())
	}
	p.step(6, func(b *batch) {
		b.flow(toWaypoint(), values(3))
		b.istioRequests(5.5, 0.5, "", "200", 5)
	})
	for at := 7.0; at < 30; at++ {
		p.step(at, nil)
	}
	key := testEdge()
	key.Waypoint = "shop/waypoint"
	require.Len(t, p.edges(), 1)
	e := p.edges()[key]
	assert.Equal(t, map[string]uint64{"/a": 3, "": 2}, e.Requests, "the waypoint saw two requests that no span told")
	assert.EqualValues(t, 5, total(e.Latencies))
}

// waypointSpan is the span of a waypoint between the client's span and the server's, whose parent it is.
func (c call) waypointSpan(status, flags string) ptrace.Traces {
	traces := ptrace.NewTraces()
	s := newSpan(traces, "", map[string]any{"service.name": "waypoint.shop"})
	s.SetKind(ptrace.SpanKindServer)
	s.SetTraceID(c.trace())
	s.SetSpanID(c.span(3))
	s.SetParentSpanID(c.span(1))
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(second0(c.at + 0.002)))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(second0(c.at + 0.028)))
	s.Status().SetCode(ptrace.StatusCodeError)
	s.Attributes().PutStr("component", "proxy")
	s.Attributes().PutStr("response_flags", flags)
	s.Attributes().PutStr("http.status_code", status)
	s.Attributes().PutStr("upstream_cluster", "inbound-vip|80|http|server.shop.svc")
	s.Attributes().PutStr("node_id", "waypoint~10.0.2.9~waypoint-1.shop~shop.svc.cluster.local")
	return traces
}

func TestSpansOfAWaypointAreNoWorkload(t *testing.T) {
	for seed := range uint64(12) {
		p := newPipelines(t, nil)
		p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
		c := call{number: 1, at: 1.5, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1", client: "10.0.2.9", attrs: map[string]any{"http.route": "/a"}}
		server := c.serverSpan()
		server.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).SetParentSpanID(c.span(3))
		spans := []ptrace.Traces{c.clientSpan(), c.waypointSpan("200", "-"), server}
		rand.New(rand.NewPCG(seed, 7)).Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
		for _, s := range spans {
			p.spans(s)
		}
		for at := 1.0; at < 30; at++ {
			p.step(at, nil)
		}
		key := testEdge()
		key.Waypoint = "shop/waypoint"
		require.Len(t, p.edges(), 1, "seed %d", seed)
		require.Equal(t, map[string]uint64{"/a": 1}, p.edges()[key].Requests, "seed %d", seed)
		require.Zero(t, total(p.edges()[key].RequestsFailed), "seed %d", seed)
	}
}

// What a waypoint could not reach has no span: the waypoint's own tells that the request failed.
func TestWaypointAnswersForItsServer(t *testing.T) {
	for seed := range uint64(6) {
		p := newPipelines(t, nil)
		p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
		c := call{number: 1, at: 1.5, clientPod: "client-1", peer: "10.96.0.1:80"}
		spans := []ptrace.Traces{c.clientSpan(), c.waypointSpan("503", "UC")}
		rand.New(rand.NewPCG(seed, 7)).Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
		for _, s := range spans {
			p.spans(s)
		}
		late := c
		late.serverPod, late.client = "server-1", "10.0.2.9"
		server := late.serverSpan()
		server.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).SetParentSpanID(c.span(3))
		p.spans(server)
		for at := 1.0; at < 30; at++ {
			p.step(at, nil)
		}
		key := testEdge()
		key.Waypoint = "shop/waypoint"
		require.Len(t, p.edges(), 1, "seed %d", seed)
		require.Equal(t, map[string]uint64{"": 1}, p.edges()[key].Requests, "seed %d", seed)
		require.Equal(t, map[string]uint64{"": 1}, p.edges()[key].RequestsFailed, "seed %d", seed)
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	var calls []call
	for n := range 60 {
		c := call{number: n, at: 1 + float64(n)/100, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1", client: "10.0.1.1:999"}
		if n%3 == 0 {
			c.client = ""
		}
		if n%7 == 0 {
			c.clientPod = ""
		}
		calls = append(calls, c)
	}
	var want map[edge.Key]*edgeValues
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 5))
		p := newPipelines(t, nil)
		steps := []func(){func() { p.learn(epoch, clientPod, serverPod, serverSvc) }}
		for _, c := range calls {
			steps = append(steps, func() { p.spans(c.serverSpan()) })
			if c.clientPod != "" {
				steps = append(steps, func() { p.spans(c.clientSpan()) })
			}
		}
		random.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		for i, step := range steps {
			if i%20 == 0 {
				p.step(1+float64(i)/50, nil)
			}
			step()
		}
		p.step(5, nil)
		p.step(30, nil)
		got := p.edges()
		if want == nil {
			want = got
			require.Len(t, want, 2)
		}
		require.Equal(t, want, got, "seed %d", seed)
	}
}

func TestWithoutAnyMesh(t *testing.T) {
	p := newPipelines(t, nil)
	p.step(1, nil)
	c := call{number: 1, at: 1.5, clientPod: "web-1", peer: "203.0.113.5:80", service: "orders", owner: "orders-v2"}
	p.spans(c.serverSpan())
	p.spans(c.clientSpan())
	p.step(30, nil)
	key := edge.Key{
		Source:      edge.Party{Workload: "web-1", Namespace: "shop", App: "web-1"},
		Destination: edge.Party{Workload: "orders-v2", Namespace: "shop", App: "orders"},
		Protocol:    semconv.ProtocolHTTP, Security: semconv.SecurityUnknown,
	}
	require.Contains(t, p.edges(), key)
}

func TestGrafanasSeries(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, nil)
	for n := range 4 {
		c := call{number: n, at: 1.5, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1", client: "10.0.1.1", failed: n == 0}
		p.spans(c.serverSpan())
		p.spans(c.clientSpan())
	}
	p.step(3, nil)
	got := map[string]any{}
	for _, m := range p.outMetrics.AllMetrics() {
		for _, r := range m.ResourceMetrics().All() {
			for _, s := range r.ScopeMetrics().All() {
				for _, metric := range s.Metrics().All() {
					switch metric.Name() {
					case "traces_service_graph_request_total", "traces_service_graph_request_failed_total":
						point := metric.Sum().DataPoints().At(0)
						got[metric.Name()] = point.IntValue()
						assert.Equal(t, map[string]any{
							"client": "client", "server": "server", "client_service_namespace": "shop", "server_service_namespace": "shop", "connection_type": "",
						}, point.Attributes().AsRaw())
					case "traces_service_graph_request_server_seconds", "traces_service_graph_request_client_seconds":
						assert.Equal(t, "s", metric.Unit())
						point := metric.Histogram().DataPoints().At(0)
						got[metric.Name()] = fmt.Sprintf("%d %.3f", point.Count(), point.Sum())
						assert.Equal(t, point.ExplicitBounds().Len()+1, point.BucketCounts().Len())
						assert.Equal(t, pmetric.AggregationTemporalityCumulative, metric.Histogram().AggregationTemporality())
					}
				}
			}
		}
	}
	assert.Equal(t, map[string]any{
		"traces_service_graph_request_total": int64(4), "traces_service_graph_request_failed_total": int64(1),
		"traces_service_graph_request_server_seconds": "4 0.080", "traces_service_graph_request_client_seconds": "4 0.120",
	}, got)
}

func TestRequestsAreBounded(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.Requests.MaxSpans = 10 })
	p.step(1, nil)
	for n := range 1000 {
		c := call{number: n, at: 1.5, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1"}
		p.spans(c.serverSpan())
	}
	g := p.graph()
	servers, clients := g.requests.Held()
	require.LessOrEqual(t, clients, 10)
	require.LessOrEqual(t, servers, 2*10)
	p.step(30, nil)
	var sum uint64
	for _, e := range p.edges() {
		sum += total(e.Requests)
	}
	require.EqualValues(t, 1000, sum, "what does not fit is counted with what is known")
}

func TestWallClockDrivesWhereNoHeartbeatComes(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.FlushInterval = time.Hour }).known()
	g := p.graph()
	now := epoch.Add(time.Minute)
	g.mu.Lock()
	g.wall.now = func() time.Time { return now }
	g.wall.beat = now
	g.mu.Unlock()
	p.spans(call{number: 1, at: 1.5, serverPod: "server-1", client: "10.0.1.1"}.serverSpan())
	require.NoError(t, tick(g))
	require.Empty(t, p.edges(), "the first heartbeat may still come")
	now = now.Add(quiet)
	require.NoError(t, tick(g))
	require.EqualValues(t, 1, total(p.edges()[testEdge()].Requests))
}

func TestWallClockTakesOverWhenHeartbeatsStop(t *testing.T) {
	p := newPipelines(t, nil).known()
	g := p.graph()
	now := epoch
	g.mu.Lock()
	g.wall.now = func() time.Time { return now }
	g.mu.Unlock()
	p.step(1, nil)
	p.spans(call{number: 1, at: 1.5, serverPod: "server-1", client: "10.0.1.1"}.serverSpan())
	now = epoch.Add(5 * time.Second)
	require.NoError(t, tick(g))
	require.Empty(t, p.edges(), "heartbeats may just be late")
	now = epoch.Add(40 * time.Second)
	require.NoError(t, tick(g))
	require.Empty(t, p.edges(), "it may be the graph that is cut off")
	now = epoch.Add(100 * time.Second)
	require.NoError(t, tick(g))
	require.EqualValues(t, 1, total(p.edges()[testEdge()].Requests))
}

func tick(g *graph) error {
	return g.emitLocked(context.Background(), g.tick, pmetric.NewMetrics())
}

func TestOnePipelineOfEachSignal(t *testing.T) {
	p := newPipelines(t, nil)
	m := p.metrics.(*metricsProcessor).member
	_, err := newMetricsProcessor(m, p.outMetrics)
	require.Error(t, err)
	_, err = newTracesProcessor(m, p.outTraces)
	require.Error(t, err)
	require.Same(t, p.graph(), p.traces.(*tracesProcessor).Component())
	require.Same(t, p.graph(), p.logs.(*logsProcessor).Component())
}
