package main

import (
	"math/rand/v2"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

const (
	// refresh is how often, in seconds, a series that does not change is repeated.
	refresh = 60
	// failing is one in how many connections fails.
	failing = 200
	// buckets and scale are of the connections' durations: 1 to 16 ms.
	buckets, scale = 16, 2
)

// counts is what one edge carried so far; both ends say the same of it.
type counts struct {
	closed, failed, sent, received uint64
	durations                      [buckets]uint64
	sum                            float64
	since                          pcommon.Timestamp
}

// end is one edge as one reporter tells of it.
type end struct {
	edge     int
	reporter string
	flow     pcommon.Map // the flow key
	scraped  pcommon.Map // the labels of ztunnel's own counters; made when they are needed
	told     int         // the second in which it left last
	opened   uint64      // what the last scrape that told of it counted
}

// fleet is all agents.
type fleet struct {
	mesh   *mesh
	rate   int
	scrape int
	random *rand.Rand
	counts []counts
	ends   [][]end // of each node
	of     [][2]int
	owed   float64
	// Connections that were made so far, and points that left.
	connections, points int
}

func newFleet(m *mesh, rate, scrape int) *fleet {
	f := &fleet{
		mesh: m, rate: rate, scrape: scrape, random: rand.New(rand.NewPCG(3, 4)),
		counts: make([]counts, len(m.edges)), ends: make([][]end, len(m.nodes)), of: make([][2]int, len(m.edges)),
	}
	for i, e := range m.edges {
		for by, reporter := range []string{semconv.ReporterSource, semconv.ReporterDestination} {
			node := m.pods[[2]int{e.from, e.to}[by]].nodeIndex
			f.of[i][by] = len(f.ends[node])
			f.ends[node] = append(f.ends[node], end{edge: i, reporter: reporter, flow: m.flow(i, reporter), told: -refresh})
		}
	}
	return f
}

// flow is the key of an edge's flow aggregates.
func (m *mesh) flow(i int, reporter string) pcommon.Map {
	from, to := &m.pods[m.edges[i].from], &m.pods[m.edges[i].to]
	attrs := pcommon.NewMap()
	attrs.PutStr(semconv.LabelReporter, reporter)
	attrs.PutStr(semconv.LabelSourcePod, from.name)
	attrs.PutStr(semconv.LabelSourceNamespace, from.namespace)
	attrs.PutStr(semconv.LabelSourceAddress, from.address.String())
	attrs.PutStr(semconv.LabelSourceCluster, "Kubernetes")
	attrs.PutStr(semconv.LabelDestinationPod, to.name)
	attrs.PutStr(semconv.LabelDestinationNamespace, to.namespace)
	attrs.PutStr(semconv.LabelDestinationAddress, to.address.String())
	attrs.PutInt(semconv.LabelDestinationPort, port)
	attrs.PutStr(semconv.LabelDestinationService, to.service)
	attrs.PutStr(semconv.LabelDestinationCluster, "Kubernetes")
	attrs.PutStr(semconv.LabelSecurityPolicy, semconv.SecurityMutualTLS)
	return attrs
}

// labels are those of ztunnel's own counters.
func (m *mesh) labels(i int, reporter string) pcommon.Map {
	from, to := &m.pods[m.edges[i].from], &m.pods[m.edges[i].to]
	attrs := pcommon.NewMap()
	for _, label := range [...][2]string{
		{"reporter", reporter},
		{"source_workload", from.app},
		{"source_canonical_service", from.app},
		{"source_canonical_revision", "v1"},
		{"source_workload_namespace", from.namespace},
		{"source_principal", "spiffe://cluster.local/ns/" + from.namespace + "/sa/" + from.app},
		{"source_app", from.app},
		{"source_version", "v1"},
		{"source_cluster", "Kubernetes"},
		{"destination_service", to.service},
		{"destination_service_namespace", to.namespace},
		{"destination_service_name", to.app},
		{"destination_workload", to.app},
		{"destination_canonical_service", to.app},
		{"destination_canonical_revision", "v1"},
		{"destination_workload_namespace", to.namespace},
		{"destination_principal", "spiffe://cluster.local/ns/" + to.namespace + "/sa/" + to.app},
		{"destination_app", to.app},
		{"destination_version", "v1"},
		{"destination_cluster", "Kubernetes"},
		{"request_protocol", "tcp"},
		{"response_flags", "-"},
		{"connection_security_policy", "mutual_tls"},
		{"source_region", "eu-west"},
		{"source_zone", "eu-west-1a"},
		{"destination_region", "eu-west"},
		{"destination_zone", "eu-west-1a"},
	} {
		attrs.PutStr(label[0], label[1])
	}
	return attrs
}

// second makes the connections of one second and returns what each agent sends at its end.
func (f *fleet) second(number int, at time.Time) []pmetric.Metrics {
	touched := map[int]bool{}
	f.owed += float64(f.rate)
	n := int(f.owed)
	f.owed -= float64(n)
	for range n {
		f.connect(f.mesh.pick(f.random), at, touched)
	}
	return f.tell(number, at, touched)
}

// first makes one connection of every so manieth edge and returns what each agent sends.
func (f *fleet) first(number, part, parts int, at time.Time) []pmetric.Metrics {
	touched := map[int]bool{}
	for i := part; i < len(f.mesh.edges); i += parts {
		f.connect(i, at, touched)
	}
	return f.tell(number, at, touched)
}

func (f *fleet) connect(i int, at time.Time, touched map[int]bool) {
	c := &f.counts[i]
	if c.since == 0 {
		c.since = pcommon.NewTimestampFromTime(at.Add(-time.Second))
	}
	c.closed++
	c.sent += 400
	c.received += 4000
	c.durations[f.random.IntN(buckets)]++
	c.sum += 0.005
	if f.random.IntN(failing) == 0 {
		c.failed++
	}
	f.connections++
	touched[i] = true
}

// tell is what agents send: the edges that changed and those that they were silent of for long.
func (f *fleet) tell(number int, at time.Time, touched map[int]bool) []pmetric.Metrics {
	stamp := pcommon.NewTimestampFromTime(at)
	changed := make([][]int, len(f.mesh.nodes))
	for i := range touched {
		for by, pod := range [2]int{f.mesh.edges[i].from, f.mesh.edges[i].to} {
			node := f.mesh.pods[pod].nodeIndex
			changed[node] = append(changed[node], f.of[i][by])
		}
	}
	batches := make([]pmetric.Metrics, len(f.mesh.nodes))
	for node := range batches {
		for j := range f.ends[node] {
			if e := &f.ends[node][j]; f.counts[e.edge].closed > 0 && number-e.told >= refresh && !touched[e.edge] {
				changed[node] = append(changed[node], j)
			}
		}
		slices.Sort(changed[node])
		batches[node] = f.batch(node, changed[node], number, stamp)
	}
	return batches
}

func (f *fleet) batch(node int, changed []int, number int, stamp pcommon.Timestamp) pmetric.Metrics {
	md := pmetric.NewMetrics()
	resource := md.ResourceMetrics().AppendEmpty()
	resource.Resource().Attributes().PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
	resource.Resource().Attributes().PutStr(semconv.AttrNodeName, f.mesh.nodes[node])
	scope := resource.ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	closed, failed := sum(scope, semconv.MetricConnectionsClosed), sum(scope, semconv.MetricConnectionsFailed)
	bytes := sum(scope, semconv.MetricIO)
	duration := scope.Metrics().AppendEmpty()
	duration.SetName(semconv.MetricConnectionDuration)
	duration.SetUnit("s")
	histogram := duration.SetEmptyExponentialHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for _, j := range changed {
		e := &f.ends[node][j]
		c := &f.counts[e.edge]
		e.told = number
		point := func(points pmetric.NumberDataPointSlice, value uint64) pcommon.Map {
			p := points.AppendEmpty()
			p.SetStartTimestamp(c.since)
			p.SetTimestamp(stamp)
			p.SetIntValue(int64(value))
			e.flow.CopyTo(p.Attributes())
			return p.Attributes()
		}
		point(closed, c.closed)
		point(bytes, c.sent).PutStr(semconv.LabelDirection, semconv.DirectionSent)
		point(bytes, c.received).PutStr(semconv.LabelDirection, semconv.DirectionReceived)
		if c.failed > 0 {
			point(failed, c.failed).PutStr(semconv.LabelErrorType, semconv.ErrorTypeConnectionReset)
		}
		h := histogram.DataPoints().AppendEmpty()
		h.SetStartTimestamp(c.since)
		h.SetTimestamp(stamp)
		h.SetCount(c.closed)
		h.SetSum(c.sum)
		h.SetScale(scale)
		h.Positive().SetOffset(-40) // 2^-10 s
		h.Positive().BucketCounts().FromRaw(c.durations[:])
		e.flow.CopyTo(h.Attributes())
	}
	f.heartbeats(scope, stamp)
	if f.scrape > 0 && (number+node)%f.scrape == 0 {
		f.addScrape(md, node, stamp, (number+node)%refresh < f.scrape)
	}
	f.points += md.DataPointCount()
	return md
}

func sum(scope pmetric.ScopeMetrics, name string) pmetric.NumberDataPointSlice {
	m := scope.Metrics().AppendEmpty()
	m.SetName(name)
	s := m.SetEmptySum()
	s.SetIsMonotonic(true)
	s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return s.DataPoints()
}

func (f *fleet) heartbeats(scope pmetric.ScopeMetrics, stamp pcommon.Timestamp) {
	up, seen := scope.Metrics().AppendEmpty(), scope.Metrics().AppendEmpty()
	up.SetName(semconv.MetricSourceUp)
	seen.SetName(semconv.MetricSourceLastSeen)
	for _, source := range []string{semconv.SourceAccessLog, semconv.SourceMetrics} {
		for m, value := range map[*pmetric.Metric]float64{&up: 1, &seen: float64(stamp) / 1e9} {
			if m.Type() == pmetric.MetricTypeEmpty {
				m.SetEmptyGauge()
			}
			p := m.Gauge().DataPoints().AppendEmpty()
			p.SetTimestamp(stamp)
			p.SetDoubleValue(value)
			p.Attributes().PutStr(semconv.LabelSource, source)
		}
	}
}

// addScrape adds what an agent tells of a scrape of its node: the edges' counters that changed, and all each minute.
func (f *fleet) addScrape(md pmetric.Metrics, node int, stamp pcommon.Timestamp, whole bool) {
	resource := md.ResourceMetrics().AppendEmpty()
	attrs := resource.Resource().Attributes()
	attrs.PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
	attrs.PutStr(semconv.AttrNodeName, f.mesh.nodes[node])
	attrs.PutStr(semconv.AttrServiceInstanceID, f.mesh.nodes[node]+":15020")
	scope := resource.ScopeMetrics().AppendEmpty()
	opened, closed := sum(scope, "istio_tcp_connections_opened_total"), sum(scope, "istio_tcp_connections_closed_total")
	sent, received := sum(scope, "istio_tcp_sent_bytes_total"), sum(scope, "istio_tcp_received_bytes_total")
	up := scope.Metrics().AppendEmpty()
	up.SetName(semconv.MetricUp)
	alive := up.SetEmptyGauge().DataPoints().AppendEmpty()
	alive.SetTimestamp(stamp)
	alive.SetDoubleValue(1)
	for j := range f.ends[node] {
		e := &f.ends[node][j]
		c := &f.counts[e.edge]
		if c.closed == 0 || !whole && c.closed == e.opened {
			continue
		}
		e.opened = c.closed
		if e.scraped == (pcommon.Map{}) {
			e.scraped = f.mesh.labels(e.edge, e.reporter)
		}
		for points, value := range map[*pmetric.NumberDataPointSlice]uint64{&opened: c.closed, &closed: c.closed, &sent: c.received, &received: c.sent} {
			p := points.AppendEmpty()
			p.SetStartTimestamp(c.since)
			p.SetTimestamp(stamp)
			p.SetDoubleValue(float64(value))
			e.scraped.CopyTo(p.Attributes())
		}
	}
}
