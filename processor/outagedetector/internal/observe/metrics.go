package observe

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Series of Grafana's service graphs, as they arrive over OTLP and out of a Prometheus scrape.
const (
	genericTotal         = "traces_service_graph_request_total"
	genericFailed        = "traces_service_graph_request_failed_total"
	genericServer        = "traces_service_graph_request_server"
	genericServerSeconds = "traces_service_graph_request_server_seconds"

	labelClient          = "client"
	labelServer          = "server"
	labelClientNamespace = "client_service_namespace"
	labelServerNamespace = "server_service_namespace"

	metricXDSTerminations = "istio_xds_connection_terminations_total"
	metricXDSMessages     = "istio_xds_message_total"
	labelReason           = "reason"
)

// series is the state of one edge key's counters.
type series struct {
	pair     *Pair
	last     int64
	sized    bool // a generic edge's interval is known
	opened   counter
	closed   counter
	sent     counter
	received counter
	active   int64
	failed   []reasonCounter
	routes   []routeSeries
}

type routeSeries struct {
	route    string
	requests counter
	failed   counter
	timing   *timing
}

// maxRoutes and maxFailures bound what one edge key may bring; the rest shares the last place.
const (
	maxRoutes   = 32
	maxFailures = 32
)

func (s *series) routeOf(name string) *routeSeries {
	for i := range s.routes {
		if s.routes[i].route == name {
			return &s.routes[i]
		}
	}
	if len(s.routes) >= maxRoutes {
		return nil
	}
	s.routes = append(s.routes, routeSeries{route: strings.Clone(name)})
	return &s.routes[len(s.routes)-1]
}

func counterOf(list *[]reasonCounter, errorType, policy string) *reasonCounter {
	for i := range *list {
		if r := &(*list)[i]; r.errorType == errorType && r.policy == policy {
			return r
		}
	}
	if len(*list) >= maxFailures {
		return nil
	}
	*list = append(*list, reasonCounter{errorType: strings.Clone(errorType), policy: strings.Clone(policy)})
	return &(*list)[len(*list)-1]
}

// Metrics takes over a batch. Boundary is the time that the service graph has reached; where it does not say, the newest
// heartbeat so far or, where there are no heartbeats, the batch's newest edge point; 0 if there is none. Edges tells whether
// the batch brings that boundary's edges: they come after its heartbeats.
func (s *Store) Metrics(batch pmetric.Metrics) (boundary int64, edges bool) {
	resources := batch.ResourceMetrics()
	before := s.reached
	for i := range resources.Len() {
		resource := resources.At(i)
		attrs := resource.Resource().Attributes()
		origin := origin{node: attr(attrs, semconv.AttrNodeName), ztunnel: attr(attrs, semconv.AttrServiceName) == semconv.ServiceNameZtunnel}
		for j := range resource.ScopeMetrics().Len() {
			scope := resource.ScopeMetrics().At(j)
			ours := scope.Scope().Name() == semconv.ScopeServiceGraph
			for k := range scope.Metrics().Len() {
				metric := scope.Metrics().At(k)
				boundary = max(boundary, s.metric(metric, origin, ours))
			}
		}
	}
	switch edges = boundary > 0; {
	case s.reached > 0:
		return s.reached, s.reached > before
	case s.newestBeat > 0:
		boundary = s.newestBeat
	}
	return boundary, edges
}

// origin is whose resource a metric belongs to.
type origin struct {
	node    string
	ztunnel bool
}

func (s *Store) metric(metric pmetric.Metric, from origin, ours bool) int64 {
	name := metric.Name()
	switch {
	case strings.HasPrefix(name, "mesh.edge."):
		return s.edgeMetric(name, metric)
	case strings.HasPrefix(name, "mesh.endpoint."):
		return s.endpointMetric(name, metric)
	case strings.HasPrefix(name, "ztunnel.source."), from.ztunnel && (name == semconv.MetricUp || strings.HasPrefix(name, "istio_xds_")):
		s.nodeMetric(name, metric, from.node)
	case name == semconv.MetricReplayPosition:
		s.replayPosition(metric)
	case name == semconv.MetricGraphTime:
		list, _ := points(metric)
		for i := range list.Len() {
			if t, ok := s.timeOf(list.At(i).Timestamp()); ok {
				s.reached = max(s.reached, t)
			}
		}
	case !ours && strings.HasPrefix(name, "traces_service_graph_request_"):
		return s.genericMetric(name, metric)
	}
	return 0
}

// points returns a metric's number points and whether they are increments already.
func points(metric pmetric.Metric) (pmetric.NumberDataPointSlice, bool) {
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		return metric.Sum().DataPoints(), metric.Sum().AggregationTemporality() == pmetric.AggregationTemporalityDelta
	case pmetric.MetricTypeGauge:
		return metric.Gauge().DataPoints(), false
	}
	return pmetric.NewNumberDataPointSlice(), false
}

func number(point pmetric.NumberDataPoint) float64 {
	if point.ValueType() == pmetric.NumberDataPointValueTypeInt {
		return float64(point.IntValue())
	}
	return point.DoubleValue()
}

func (s *Store) began(t int64) {
	if s.Begin == 0 || t < s.Begin {
		s.Begin = t
	}
}

// ahead is how much newer than the heartbeats a point may be.
const ahead = int64(time.Minute)

// No telemetry of an ambient mesh was made before or will be made after; also what times are computed with stays in range.
var (
	firstTime = pcommon.NewTimestampFromTime(time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC))
	lastTime  = pcommon.NewTimestampFromTime(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
)

// timeOf is when a point or record was made; ok is false, and it is counted, if that cannot be.
func (s *Store) timeOf(stamp pcommon.Timestamp) (t int64, ok bool) {
	if stamp < firstTime || stamp > lastTime {
		s.Drops.Implausible++
		return 0, false
	}
	return int64(stamp), true
}

// graphTime is the time of a point of the service graph. Where heartbeats drive time nothing can be much newer than they are:
// such a point was stamped by another clock and counts as of now.
func (s *Store) graphTime(stamp pcommon.Timestamp) (int64, bool) {
	t, ok := s.timeOf(stamp)
	if !ok {
		return 0, false
	}
	if s.newestBeat > 0 && t > s.newestBeat+ahead {
		t = s.newestBeat
	}
	s.began(t)
	return t, true
}

// firstMinute is the time within which every series that exists has been reported once.
const firstMinute = int64(65 * time.Second)

// fromZero tells whether a series' first point counts from zero: it began under our eyes.
func (s *Store) fromZero(start pcommon.Timestamp, t int64) bool {
	return t-s.Begin > firstMinute || start != 0 && int64(start) >= s.Begin-max(s.Interval, int64(10*time.Second))
}

func (s *Store) seriesOf(attrs pcommon.Map, t int64) *series {
	key := edge.KeyOf(attrs)
	if found, ok := s.series[key]; ok {
		found.last = t
		return found
	}
	if len(s.series) >= 4*s.limits.Edges {
		s.Drops.Edges++
		return nil
	}
	p := s.pair(s.partyName(&key.Source, ""), s.partyName(&key.Destination, key.Service), t, s.slotLength())
	if p == nil {
		return nil
	}
	p.keys++
	p.native = true
	p.Tunnelled = p.Tunnelled || key.Security == semconv.SecurityMutualTLS
	found := &series{pair: p, last: t}
	key = cloneKey(key)
	if key.Waypoint != "" {
		p.Waypoint = key.Waypoint
	}
	s.series[key] = found
	return found
}

// A key must not keep the batch alive that it came with.
func cloneKey(key edge.Key) edge.Key {
	for _, text := range []*string{
		&key.Source.Workload, &key.Source.Namespace, &key.Source.App, &key.Source.Version, &key.Source.Cluster,
		&key.Destination.Workload, &key.Destination.Namespace, &key.Destination.App, &key.Destination.Version, &key.Destination.Cluster,
		&key.Service, &key.Protocol, &key.Security, &key.Waypoint,
	} {
		*text = strings.Clone(*text)
	}
	return key
}

func attr(attrs pcommon.Map, name string) string {
	v, _ := attrs.Get(name)
	return v.Str()
}

func (s *Store) edgeMetric(name string, metric pmetric.Metric) (boundary int64) {
	if metric.Type() == pmetric.MetricTypeExponentialHistogram {
		if name != semconv.MetricEdgeRequestDuration {
			return 0
		}
		histogram := metric.ExponentialHistogram()
		delta := histogram.AggregationTemporality() == pmetric.AggregationTemporalityDelta
		for i := range histogram.DataPoints().Len() {
			point := histogram.DataPoints().At(i)
			t, ok := s.graphTime(point.Timestamp())
			if !ok {
				continue
			}
			boundary = max(boundary, t)
			series := s.seriesOf(point.Attributes(), t)
			if series == nil {
				continue
			}
			route := series.routeOf(attr(point.Attributes(), semconv.LabelHTTPRoute))
			if route == nil {
				continue
			}
			seconds := unitSeconds(metric.Unit())
			buckets := fromExponential(point, seconds)
			s.timings(series.pair, route, &buckets, point.Count(), scaleOf(point.Scale(), seconds), point.StartTimestamp(), t, delta)
		}
		return boundary
	}
	list, delta := points(metric)
	for i := range list.Len() {
		point := list.At(i)
		t, ok := s.graphTime(point.Timestamp())
		if !ok {
			continue
		}
		boundary = max(boundary, t)
		if point.Flags().NoRecordedValue() {
			continue
		}
		if series := s.seriesOf(point.Attributes(), t); series != nil {
			s.edgePoint(name, series, point, t, delta)
		}
	}
	return boundary
}

func (s *Store) edgePoint(name string, series *series, point pmetric.NumberDataPoint, t int64, delta bool) {
	p := series.pair
	attrs := point.Attributes()
	zero := s.fromZero(point.StartTimestamp(), t)
	switch name {
	case semconv.MetricEdgeOpened:
		s.count(p, t, Opened, series.opened.increment(point, delta, zero))
	case semconv.MetricEdgeClosed:
		s.count(p, t, Closed, series.closed.increment(point, delta, zero))
	case semconv.MetricEdgeActive:
		now := int64(number(point))
		p.Connections += now - series.active
		series.active = now
	case semconv.MetricEdgeIO:
		c := &series.received
		if attr(attrs, semconv.LabelDirection) == semconv.DirectionSent {
			c = &series.sent
		}
		// The bytes that come with a connection's end are no sign of new life.
		if n := c.increment(point, delta, zero); n > 0 {
			p.Win.Add(t, Bytes, n)
			if p.Win.Slot(t, Closed) == 0 {
				s.active(p, t)
			}
		}
	case semconv.MetricEdgeFailed:
		c := counterOf(&series.failed, attr(attrs, semconv.LabelErrorType), attr(attrs, semconv.LabelPolicy))
		if c == nil {
			s.Drops.Malformed++
			return
		}
		if n := c.increment(point, delta, zero); n > 0 && counts(c.errorType) {
			s.count(p, t, Failed, n)
			p.reason(c.errorType, c.policy, t).add(t, p.Win.length, n)
		}
	case semconv.MetricEdgeRequests, semconv.MetricEdgeRequestsFailed:
		route := series.routeOf(attr(attrs, semconv.LabelHTTPRoute))
		if route == nil {
			return
		}
		p.hasL7 = true
		if name == semconv.MetricEdgeRequests {
			s.count(p, t, Requests, route.requests.increment(point, delta, zero))
		} else {
			s.count(p, t, RequestsFailed, route.failed.increment(point, delta, zero))
		}
	}
}

func (s *Store) active(p *Pair, t int64) {
	if !p.Win.Add(t, Active, 1) {
		s.Drops.Late++
		return
	}
	p.alive(t)
	s.touch(p)
}

func (s *Store) count(p *Pair, t int64, lane Lane, n uint64) {
	if n == 0 {
		return
	}
	if lane == Opened || lane == Closed || lane == Requests {
		s.pace(p, t, n)
	}
	if !p.Win.Add(t, lane, n) {
		s.Drops.Late++
		return
	}
	if lane != Closed || p.Win.Ever(Opened) == 0 {
		s.active(p, t)
	}
	s.touch(p)
	if lane == Failed || lane == RequestsFailed || lane == Slow {
		p.counted(lane, t-min(s.Interval, p.Win.length), t)
	}
	for _, b := range p.Destination.Budgets {
		b.add(t, lane, n)
	}
}

// pastDurations is how many durations are remembered at full weight as an edge's usual ones.
const pastDurations = 20000

func (s *Store) timings(p *Pair, r *routeSeries, b *bucketed, count uint64, scale int32, start pcommon.Timestamp, t int64, delta bool) {
	if r.timing == nil {
		r.timing = &timing{}
	}
	if !r.timing.increment(b, count, scale, start, delta, s.fromZero(start, t)) {
		return
	}
	limit := r.timing.slowAbove(p.Rules)
	var all, slow uint64
	for bucket, n := range b {
		if n == 0 {
			continue
		}
		all += uint64(n)
		if limit > 0 && bucket > limit {
			slow += uint64(n)
		}
	}
	for _, budget := range p.Destination.Budgets {
		budget.addDurations(t, b, all)
	}
	if limit > 0 {
		s.count(p, t, Timed, all)
		s.count(p, t, Slow, slow)
	}
	// While an edge is slow its durations are not what is usual.
	if !p.Faults[Latency].On && (all == 0 || slow*2 < all) {
		if r.timing.Usual.Total() > pastDurations {
			r.timing.Usual.Scale(0.5)
		}
		for bucket, n := range b {
			if n > 0 {
				r.timing.Usual.Add(bucket, float32(n))
			}
		}
	}
}

func unitSeconds(unit string) float64 {
	if unit == "ms" {
		return 1e-3
	}
	return 1
}

func (s *Store) replayPosition(metric pmetric.Metric) {
	list, _ := points(metric)
	for i := range list.Len() {
		s.Replaying = true
		if semconv.ReplayEnded(attr(list.At(i).Attributes(), semconv.LabelState)) {
			s.ReplayDone = true
		}
	}
}

func (s *Store) endpointMetric(name string, metric pmetric.Metric) (boundary int64) {
	list, delta := points(metric)
	for i := range list.Len() {
		point := list.At(i)
		t, ok := s.graphTime(point.Timestamp())
		if !ok {
			continue
		}
		boundary = max(boundary, t)
		attrs := point.Attributes()
		namespace, pod := attr(attrs, semconv.LabelDestinationNamespace), attr(attrs, semconv.LabelDestinationPod)
		if pod == "" {
			continue
		}
		e, ok := s.endpoints[endpointKey{namespace, pod}]
		if !ok {
			app := attr(attrs, semconv.LabelDestinationCanonicalService)
			if app == "" {
				app = attr(attrs, semconv.LabelDestinationWorkload)
			}
			name := outage.Name{Namespace: namespace, Name: app}
			if app == "" || app == pod {
				name = s.podName(namespace, pod)
			}
			e = s.endpoint(namespace, pod, s.app(name), attr(attrs, semconv.LabelNode), t)
			if e == nil {
				continue
			}
		}
		s.endpointPoint(name, e, point, t, delta)
	}
	return boundary
}

func (s *Store) endpointPoint(name string, e *Endpoint, point pmetric.NumberDataPoint, t int64, delta bool) {
	zero := s.fromZero(point.StartTimestamp(), t)
	var lane Lane
	var n uint64
	switch name {
	case semconv.MetricEndpointClosed:
		lane, n = Closed, e.closed.increment(point, delta, zero)
	case semconv.MetricEndpointRequests:
		lane, n = Requests, e.requests.increment(point, delta, zero)
	case semconv.MetricEndpointRequestsFailed:
		lane, n = RequestsFailed, e.errors.increment(point, delta, zero)
	case semconv.MetricEndpointFailed:
		c := counterOf(&e.failed, attr(point.Attributes(), semconv.LabelErrorType), "")
		if c == nil {
			return
		}
		if lane, n = Failed, c.increment(point, delta, zero); !counts(c.errorType) {
			return
		}
		if n > 0 && (e.Reason == "" || c.errorType != semconv.ErrorTypeConnectFailed) {
			e.Reason, e.LastReason = c.errorType, t
		}
	default:
		return
	}
	if n > 0 && e.Win.Add(t, lane, n) {
		s.touchEndpoint(e)
	}
}
