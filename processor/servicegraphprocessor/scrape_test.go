package servicegraphprocessor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// tcp is the counters of one edge as a ztunnel exposes them; start is when they began to be followed.
type tcp struct {
	node, reporter, flags  string
	start                  float64
	opened, closed, failed int64
	clientSent, serverSent int64
	waypoint               bool // the connections lead to the server's waypoint
	behind                 bool // the connections are that waypoint's
	noService              bool // the client called the server's own address
}

func (b *batch) tcp(at float64, s tcp) {
	when := pcommon.NewTimestampFromTime(second0(at))
	source, destination := "client", "server"
	if s.waypoint {
		destination = "waypoint"
	}
	if s.behind {
		source = "waypoint"
	}
	service := "server.shop.svc"
	if s.noService {
		service = "unknown"
	}
	add := func(name, flags string, value int64) {
		p := b.sum(s.node, name).AppendEmpty()
		p.SetStartTimestamp(pcommon.NewTimestampFromTime(second0(s.start)))
		p.SetTimestamp(when)
		p.SetDoubleValue(float64(value))
		for name, value := range map[string]string{
			"reporter": s.reporter, "response_flags": flags, "request_protocol": "tcp",
			"source_workload": source, "source_workload_namespace": "shop", "source_canonical_service": source,
			"source_canonical_revision": "v1", "source_cluster": "Kubernetes",
			"destination_workload": destination, "destination_workload_namespace": "shop", "destination_canonical_service": destination,
			"destination_canonical_revision": "v1", "destination_cluster": "Kubernetes", "destination_service": service,
			"connection_security_policy": "mutual_tls",
		} {
			p.Attributes().PutStr(name, value)
		}
	}
	flags := s.flags
	if flags == "" {
		flags = "-"
	}
	add("istio_tcp_connections_opened_total", "-", s.opened)
	add("istio_tcp_connections_closed_total", flags, s.closed)
	add("istio_tcp_received_bytes_total", "-", s.clientSent)
	add("istio_tcp_sent_bytes_total", "-", s.serverSent)
	if s.failed > 0 {
		add("istio_tcp_connections_failed_total", flags, s.failed)
	}
	b.gauge(s.node, semconv.MetricUp, when, 1, nil)
}

func (p *pipelines) known() *pipelines {
	p.learn(epoch, clientPod, serverPod, serverSvc)
	return p
}

func TestOpenConnectionsShow(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, func(b *batch) {
		b.tcp(0.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 7, closed: 5, clientSent: 900})
	})
	e := p.edges()[testEdge()]
	require.NotNil(t, e, "an edge with nothing but open connections")
	assert.EqualValues(t, 2, e.Active)
	assert.EqualValues(t, 2, e.Opened, "what was before counts only as far as it is open")
	assert.Zero(t, e.Closed)
	assert.Zero(t, e.Sent, "the counters' first values are a baseline")

	p.step(6, func(b *batch) {
		b.tcp(5.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 8, closed: 5, clientSent: 1000, serverSent: 50})
		b.tcp(5.6, tcp{node: "node-b", reporter: "destination", start: 5.6, opened: 3, closed: 0, clientSent: 1000, serverSent: 50})
	})
	e = p.edges()[testEdge()]
	assert.EqualValues(t, 3, e.Active)
	assert.EqualValues(t, 3, e.Opened)
	assert.EqualValues(t, 100, e.Sent)
	assert.EqualValues(t, 50, e.Received)

	// One closes; the log tells more bytes than the counters did.
	p.step(8, func(b *batch) {
		v := values(1)
		v.sent, v.received = 950, 50
		b.flow(testRow(semconv.ReporterSource), v)
	})
	p.step(11, func(b *batch) {
		b.tcp(10.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 8, closed: 6, clientSent: 1000, serverSent: 50})
	})
	e = p.edges()[testEdge()]
	assert.EqualValues(t, 2, e.Active)
	assert.EqualValues(t, 3, e.Opened)
	assert.EqualValues(t, 1, e.Closed)
	assert.EqualValues(t, 950, e.Sent)
	assert.Len(t, p.edges(), 1)
}

func TestNodeWithoutAccessLogCounts(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, func(b *batch) { b.tcp(0.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 1, closed: 1}) })
	p.step(6, func(b *batch) {
		b.tcp(5.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 11, closed: 11})
		b.tcp(5.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 11, closed: 4, failed: 4, flags: "CONNECT"})
	})
	p.step(9, nil)
	e := p.edges()[testEdge()]
	require.NotNil(t, e)
	assert.EqualValues(t, 10+4, e.Closed)
	assert.Equal(t, map[string]uint64{semconv.ErrorTypeConnectFailed: 4}, e.Failed)
}

// Until 1.28 a ztunnel has no counter of what failed: response_flags of what was closed tell it.
func TestFlagsOfClosedConnectionsTellWhatFailed(t *testing.T) {
	p := newPipelines(t, nil).known()
	scrape := func(at float64, closed, denied, failed int64) {
		p.step(at, func(b *batch) {
			b.tcp(at-0.5, tcp{node: "node-b", reporter: "destination", start: 0.5, opened: closed + denied, closed: closed})
			b.tcp(at-0.5, tcp{node: "node-b", reporter: "destination", start: 0.5, opened: closed + denied, closed: denied, failed: failed, flags: "DENY"})
		})
	}
	scrape(1, 0, 0, 0)
	scrape(6, 20, 10, 0)
	scrape(11, 20, 36, 0)
	p.step(60, nil)
	e := p.edges()[testEdge()]
	require.NotNil(t, e)
	assert.EqualValues(t, 56, e.Closed)
	assert.Equal(t, map[string]uint64{semconv.ErrorTypePolicyDenied: 36}, e.Failed)

	scrape(66, 20, 40, 40) // the newer ztunnel tells the same twice
	p.step(120, nil)
	assert.Equal(t, map[string]uint64{semconv.ErrorTypePolicyDenied: 40}, p.edges()[testEdge()].Failed)
}

func TestLogIsNotOvertakenByCounters(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, func(b *batch) {
		b.tcp(0.5, tcp{node: "node-a", reporter: "source", start: 0.5})
		b.tcp(0.5, tcp{node: "node-a", reporter: "source", start: 0.5, failed: 0, flags: "CONNECT"})
	})
	// The failure is held for the server's word when the counters tell it.
	p.step(2, func(b *batch) {
		v := values(1)
		v.failed = map[[2]string]uint64{{semconv.ErrorTypeConnectFailed, ""}: 1}
		b.flow(testRow(semconv.ReporterSource), v)
	})
	p.step(3, func(b *batch) {
		b.tcp(2.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 1, closed: 1, failed: 1, flags: "CONNECT"})
		v := values(1)
		v.failed = map[[2]string]uint64{{semconv.ErrorTypePolicyDenied, "shop/no"}: 1}
		b.flow(testRow(semconv.ReporterDestination), v)
	})
	for at := 4.0; at < 60; at++ {
		p.step(at, nil)
	}
	e := p.edges()[testEdge()]
	assert.EqualValues(t, 1, e.Closed)
	assert.EqualValues(t, 1, e.Opened)
	assert.Equal(t, map[string]uint64{"policy_denied shop/no": 1}, e.Failed)
}

// TestAnotherScraperContinues lets the agent that scrapes a ztunnel restart: it cannot know since when the ztunnel
// counts, and says so by a start that is the time of its first scrape.
func TestAnotherScraperContinues(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, func(b *batch) { b.tcp(0.5, tcp{node: "node-a", reporter: "source", start: 0.5}) })
	p.step(6, func(b *batch) {
		b.tcp(5.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 12, closed: 10, clientSent: 100})
	})
	p.step(11, func(b *batch) {
		b.tcp(10.5, tcp{node: "node-a", reporter: "source", start: 10.5, opened: 15, closed: 13, clientSent: 130})
	})
	p.step(16, func(b *batch) {
		b.tcp(15.5, tcp{node: "node-a", reporter: "source", start: 10.5, opened: 18, closed: 16, clientSent: 160})
	})
	p.step(19, nil)
	e := p.edges()[testEdge()]
	assert.EqualValues(t, 16, e.Closed)
	assert.EqualValues(t, 18, e.Opened)
	assert.EqualValues(t, 2, e.Active)
	assert.EqualValues(t, 160, e.Sent)

	// The ztunnel was restarted as well, before the new agent looked.
	p.step(21, func(b *batch) {
		b.tcp(20.5, tcp{node: "node-a", reporter: "source", start: 20.5, opened: 4, closed: 4, clientSent: 40})
	})
	p.step(24, nil)
	e = p.edges()[testEdge()]
	assert.EqualValues(t, 20, e.Closed)
	assert.Zero(t, e.Active)
}

func TestScrapedGuessOfTheServiceDoesNotCount(t *testing.T) {
	for name, order := range map[string][]string{
		"the client's first": {"source", "destination"},
		"the server's first": {"destination", "source"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipelines(t, nil).known()
			scrape := func(at float64, n int64) {
				p.step(at, func(b *batch) {
					for _, reporter := range order {
						s := tcp{node: "node-a", reporter: reporter, start: 0.5, opened: n + 1, closed: n, flags: "CONNECT", noService: true}
						if reporter == "destination" {
							s.node, s.flags, s.noService = "node-b", "DENY", false
						}
						b.tcp(at-0.5, s)
					}
				})
			}
			scrape(1, 5)
			scrape(21, 9)
			scrape(41, 9)
			key := testEdge()
			key.Service, key.Port, key.Protocol = "", 0, semconv.ProtocolTCP
			require.Len(t, p.edges(), 1, "the service is the client's to know")
			e := p.edges()[key]
			require.NotNil(t, e)
			assert.EqualValues(t, 4, e.Closed)
			assert.EqualValues(t, 1, e.Active)
			assert.Equal(t, map[string]uint64{"policy_denied": 4}, e.Failed, "the reason is the server's")
		})
	}
}

func TestRestartedZtunnelHasNothingOpen(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, func(b *batch) { b.tcp(0.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 7, closed: 2}) })
	require.EqualValues(t, 5, p.edges()[testEdge()].Active)
	p.step(6, func(b *batch) {
		b.gauge("node-a", semconv.MetricUp, pcommon.NewTimestampFromTime(second0(5.5)), 0, nil)
	})
	require.EqualValues(t, 5, p.edges()[testEdge()].Active, "a failed scrape is not a zero")
	p.step(11, func(b *batch) { b.tcp(10.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 1, closed: 1}) })
	e := p.edges()[testEdge()]
	assert.Zero(t, e.Active)
	assert.EqualValues(t, 6, e.Opened)
}

// waypointPod is the waypoint of service server.
var (
	waypointPod = testPod("waypoint-1", "waypoint", "node-b", "10.0.2.9", "waypoint")
	waypointSvc = testService("waypoint", "10.96.0.9", "")
	frontedSvc  = testService("server", "10.96.0.1", "shop/waypoint.shop.svc")
)

func toWaypoint() flowRow {
	row := testRow(semconv.ReporterSource)
	row.dstPod, row.dstIP, row.port = "waypoint-1", "10.96.0.1", 80
	return row
}

func fromWaypoint(pod, ip string) flowRow {
	row := testRow(semconv.ReporterDestination)
	row.srcPod, row.srcIP, row.dstPod, row.dstIP = "waypoint-1", "10.0.2.9", pod, ip
	return row
}

func TestWaypointIsFolded(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
	p.step(1, func(b *batch) {
		b.flow(toWaypoint(), values(4))
		b.flow(fromWaypoint("server-1", "10.0.2.1"), values(2))
	})
	key := testEdge()
	key.Waypoint = "shop/waypoint"
	behind := key
	behind.Source = edge.Party{Workload: "waypoint", Namespace: "shop", App: "waypoint", Version: "v1", Cluster: "Kubernetes"}
	edges := p.edges()
	require.Len(t, edges, 2)
	require.Contains(t, edges, key)
	assert.EqualValues(t, 4, edges[key].Closed, "the client's connections, not the waypoint's")
	require.Contains(t, edges, behind)
	assert.True(t, behind.BehindWaypoint())
	assert.EqualValues(t, 2, edges[behind].Closed)
}

// ztunnel counts what a waypoint closes first as failed.
func TestWhatAWaypointClosedDidNotFail(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
	scrape := func(at float64, n, failed, received int64) {
		p.step(at, func(b *batch) {
			b.tcp(at-0.5, tcp{
				node: "node-a", reporter: "source", start: 0.5, opened: n, closed: n, failed: failed, serverSent: received, flags: "CONNECT", waypoint: true,
			})
		})
	}
	key := testEdge()
	key.Waypoint = "shop/waypoint"
	scrape(1, 0, 0, 0)
	scrape(6, 4, 4, 400)
	scrape(11, 9, 8, 900)
	scrape(16, 10, 8, 1000)
	scrape(21, 10, 9, 1000) // it received something before
	p.step(24, nil)
	require.NotNil(t, p.edges()[key])
	assert.EqualValues(t, 10, p.edges()[key].Closed)
	assert.Empty(t, p.edges()[key].Failed)

	scrape(26, 15, 14, 1000)
	p.step(60, nil)
	assert.Equal(t, map[string]uint64{semconv.ErrorTypeConnectFailed: 5}, p.edges()[key].Failed, "nothing was received")
}

// Where nothing but counters tell of a waypoint's connections, their failures count as those that a log tells.
func TestCountersTellWhatFailsBehindAWaypoint(t *testing.T) {
	key := testEdge()
	key.Waypoint = "shop/waypoint"
	key.Source = edge.Party{Workload: "waypoint", Namespace: "shop", App: "waypoint", Version: "v1", Cluster: "Kubernetes"}
	for name, test := range map[string]struct {
		flags  string
		steps  [][4]int64 // opened, closed, failed, answered with bytes
		failed map[string]uint64
	}{
		"denied":                   {"DENY", [][4]int64{{4, 0, 0, 100}, {9, 5, 5, 200}}, map[string]uint64{semconv.ErrorTypePolicyDenied: 5}},
		"refused":                  {"CONNECT", [][4]int64{{4, 0, 0, 100}, {9, 5, 5, 100}}, map[string]uint64{semconv.ErrorTypeConnectFailed: 5}},
		"some refused":             {"CONNECT", [][4]int64{{4, 0, 0, 100}, {9, 2, 2, 200}}, map[string]uint64{semconv.ErrorTypeConnectFailed: 2}},
		"pool let go":              {"CONNECT", [][4]int64{{4, 0, 0, 100}, {4, 4, 4, 200}}, map[string]uint64{}},
		"pool let go and refilled": {"CONNECT", [][4]int64{{4, 0, 0, 100}, {5, 4, 4, 200}}, map[string]uint64{semconv.ErrorTypeConnectFailed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipelines(t, nil)
			p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
			at := 1.0
			for _, s := range append([][4]int64{{}}, test.steps...) {
				p.step(at, func(b *batch) {
					b.tcp(at-0.5, tcp{
						node: "node-b", reporter: "destination", start: 0.5, behind: true, flags: test.flags,
						opened: s[0], closed: s[1], failed: s[2], serverSent: s[3],
					})
				})
				at += 5
			}
			p.step(at+60, nil)
			require.NotNil(t, p.edges()[key])
			assert.Equal(t, test.failed, p.edges()[key].Failed)
		})
	}
}

func TestTheLogKnowsBetterWhatFailed(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, func(b *batch) {
		b.tcp(0.5, tcp{node: "node-a", reporter: "source", start: 0.5})
		b.flow(testRow(semconv.ReporterSource), values(0))
	})
	p.step(6, func(b *batch) {
		b.tcp(5.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 5, closed: 5, failed: 5, flags: "CONNECT"})
		b.flow(testRow(semconv.ReporterSource), values(3))
	})
	p.step(60, nil)
	p.step(80, nil)
	e := p.edges()[testEdge()]
	assert.EqualValues(t, 5, e.Closed)
	assert.Equal(t, map[string]uint64{semconv.ErrorTypeConnectFailed: 2}, e.Failed, "the log told three of the five, and that they did not fail")
}

func (b *batch) istioRequests(at, start float64, version, code string, n int64) {
	b.waypointRequests("recorded", at, start, version, code, n)
}

// waypointRequests is what a waypoint tells of requests to service server.
func (b *batch) waypointRequests(waypoint string, at, start float64, version, code string, n int64) {
	r := b.metrics.ResourceMetrics().AppendEmpty()
	r.Resource().Attributes().PutStr(semconv.AttrServiceName, semconv.ServiceNameWaypoint)
	r.Resource().Attributes().PutStr(semconv.AttrWaypoint, waypoint)
	r.Resource().Attributes().PutStr(semconv.AttrServiceInstanceID, "waypoint")
	s := r.ScopeMetrics().AppendEmpty()
	labels := func(attrs pcommon.Map) {
		for name, value := range map[string]string{
			"reporter": "waypoint", "response_code": code, "request_protocol": "http",
			"source_workload": "client", "source_workload_namespace": "shop", "source_canonical_service": "client",
			"source_canonical_revision": "v1", "source_cluster": "Kubernetes",
			"destination_workload": "server" + version, "destination_workload_namespace": "shop", "destination_canonical_service": "server" + version,
			"destination_canonical_revision": "v1", "destination_cluster": "Kubernetes", "destination_service": "server.shop.svc",
			"connection_security_policy": "mutual_tls",
		} {
			attrs.PutStr(name, value)
		}
	}
	m := s.Metrics().AppendEmpty()
	m.SetName("istio_requests_total")
	sum := m.SetEmptySum()
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := sum.DataPoints().AppendEmpty()
	p.SetStartTimestamp(pcommon.NewTimestampFromTime(second0(start)))
	p.SetTimestamp(pcommon.NewTimestampFromTime(second0(at)))
	p.SetDoubleValue(float64(n))
	labels(p.Attributes())
	m = s.Metrics().AppendEmpty()
	m.SetName("istio_request_duration_milliseconds")
	histogram := m.SetEmptyHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	h := histogram.DataPoints().AppendEmpty()
	h.SetStartTimestamp(pcommon.NewTimestampFromTime(second0(start)))
	h.SetTimestamp(pcommon.NewTimestampFromTime(second0(at)))
	h.ExplicitBounds().FromRaw([]float64{1, 10, 100})
	h.BucketCounts().FromRaw([]uint64{0, uint64(n), 0, 0})
	h.SetCount(uint64(n))
	h.SetSum(float64(n) * 5)
	labels(h.Attributes())
}

func TestWaypointsRequests(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc)
	p.step(1, func(b *batch) { b.istioRequests(0.5, 0.5, "", "200", 100) })
	p.step(6, func(b *batch) {
		b.istioRequests(5.5, 0.5, "", "200", 110)
		b.istioRequests(5.5, 0.5, "", "503", 3)
		b.flow(toWaypoint(), values(2))
	})
	key := testEdge()
	key.Waypoint = "shop/waypoint"
	edges := p.edges()
	require.Len(t, edges, 1)
	require.Contains(t, edges, key)
	assert.Equal(t, map[string]uint64{"": 13}, edges[key].Requests)
	assert.Equal(t, map[string]uint64{"": 3}, edges[key].RequestsFailed)
	assert.Equal(t, map[string]uint64{"": 13}, edges[key].Latencies)
	assert.EqualValues(t, 2, edges[key].Closed)
}

func TestWaypointsSpeakForTheirServicesOnly(t *testing.T) {
	known := []mesh.Entity{clientPod, serverPod, waypointPod, waypointSvc, frontedSvc}
	for _, test := range []struct {
		name, waypoint string
		knows          []mesh.Entity
		want           uint64
	}{
		{"its waypoint", "shop/waypoint", known, 10},
		{"another waypoint of the namespace", "shop/other", known, 0},
		{"a pod of another namespace that is labelled as a waypoint", "evil/waypoint", known, 0},
		{"one whose name begins alike", "shop/way", known, 0},
		{"a service without a waypoint", "shop/waypoint", []mesh.Entity{clientPod, serverPod, serverSvc}, 0},
		{"without the mesh's state, of its namespace", "shop/waypoint", nil, 10},
		{"without the mesh's state, of another namespace", "evil/waypoint", nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPipelines(t, nil)
			p.learn(epoch, test.knows...)
			p.step(1, func(b *batch) { b.waypointRequests(test.waypoint, 0.5, 0.5, "", "200", 0) })
			p.step(6, func(b *batch) {
				b.waypointRequests(test.waypoint, 5.5, 0.5, "", "503", 10)
				// Nor does it tell of connections.
				r := b.metrics.ResourceMetrics()
				b.tcp(5.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 50, closed: 50})
				r.At(r.Len()-1).Resource().Attributes().PutStr(semconv.AttrWaypoint, test.waypoint)
			})
			p.step(90, nil)
			var requests, opened uint64
			for _, e := range p.edges() {
				requests += e.Requests[""]
				opened += e.Opened
			}
			assert.Equal(t, test.want, requests)
			assert.Zero(t, opened)
		})
	}
}

func TestSeveralBackendsShareByRequests(t *testing.T) {
	p := newPipelines(t, nil)
	one, two := testPod("server1-1", "server1", "node-b", "10.0.2.1", "server"), testPod("server2-1", "server2", "node-b", "10.0.2.2", "server")
	p.learn(epoch, clientPod, one, two, waypointPod, waypointSvc, frontedSvc)
	p.step(1, func(b *batch) {
		b.istioRequests(0.5, 0.5, "1", "200", 0)
		b.istioRequests(0.5, 0.5, "2", "200", 0)
	})
	for n := 1; n <= 100; n++ {
		p.step(float64(n+1), func(b *batch) {
			b.istioRequests(float64(n)+0.5, 0.5, "1", "200", int64(3*n))
			b.istioRequests(float64(n)+0.5, 0.5, "2", "200", int64(n))
			b.flow(toWaypoint(), values(uint64(n)))
			b.flow(fromWaypoint("server1-1", "10.0.2.1"), values(uint64(n)))
		})
	}
	closed := map[string]uint64{}
	for key, v := range p.edges() {
		require.Equal(t, "shop/waypoint", key.Waypoint, "%+v", key)
		if key.BehindWaypoint() {
			continue
		}
		closed[key.Destination.Workload] = v.Closed
	}
	assert.EqualValues(t, 100, closed["server1"]+closed["server2"])
	assert.InDelta(t, 75, closed["server1"], 1)
}

func TestWaypointOfUnknownBackendsKeepsItsHops(t *testing.T) {
	p := newPipelines(t, nil)
	one, two := testPod("server1-1", "server1", "node-b", "10.0.2.1", "server"), testPod("server2-1", "server2", "node-b", "10.0.2.2", "server")
	p.learn(epoch, clientPod, one, two, waypointPod, waypointSvc, frontedSvc)
	p.step(1, func(b *batch) {
		b.flow(toWaypoint(), values(4))
		b.flow(fromWaypoint("server1-1", "10.0.2.1"), values(3))
	})
	p.step(4, nil)
	hops := map[edge.Party]edge.Party{}
	for key := range p.edges() {
		hops[key.Source] = key.Destination
	}
	assert.Equal(t, map[edge.Party]edge.Party{party("client"): party("waypoint"), party("waypoint"): party("server1")}, hops)
}
