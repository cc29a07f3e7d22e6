package servicegraphprocessor

import (
	"hash/maphash"
	"math"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/expo"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

// waypointSeries is one istio_requests_total or istio_request_duration_milliseconds series.
type waypointSeries struct {
	edge    *edgeState
	failed  bool
	total   cumulative
	buckets []uint64
	sum     float64
	weight  naming.WeightKey
}

// waypointRequests reconciles the requests that waypoints and application spans tell of one edge: both may know all of
// them, or either only some.
type waypointRequests struct {
	total, failed, durations reconcile.Lead
	// held are increments that wait for the spans of the same requests, which know their routes.
	held    []waypointIncrement
	pending bool
	spans   bool // application spans were seen on the edge
}

type waypointIncrement struct {
	at            pcommon.Timestamp
	total, failed uint64
	duration      expo.Histogram
}

// applyWaypointMetric takes over istio_requests_total and istio_request_duration_milliseconds.
func (g *graph) applyWaypointMetric(source *metricSource, metric pmetric.Metric) {
	switch strings.TrimSuffix(metric.Name(), "_total") {
	case "istio_requests":
		if metric.Type() != pmetric.MetricTypeSum {
			return
		}
		points := metric.Sum().DataPoints()
		for i := range points.Len() {
			point := points.At(i)
			value, ok := pointValue(point)
			if !ok {
				continue
			}
			s, target := g.waypointSeries(source, "requests", point.Attributes(), point.StartTimestamp(), point.Timestamp())
			if s == nil {
				continue
			}
			if n := s.advance(target, point.StartTimestamp(), point.Timestamp(), value); n > 0 {
				g.addWaypointRequests(s, n)
			}
		}
	case "istio_request_duration_milliseconds":
		if metric.Type() != pmetric.MetricTypeHistogram {
			return
		}
		points := metric.Histogram().DataPoints()
		for i := range points.Len() {
			point := points.At(i)
			if point.Flags().NoRecordedValue() || point.Count() > maxCount {
				continue
			}
			s, target := g.waypointSeries(source, "duration", point.Attributes(), point.StartTimestamp(), point.Timestamp())
			if s != nil {
				g.addWaypointDurations(s, target, point)
			}
		}
	}
}

// waypointSeries finds or creates a series; nil if it is not a waypoint's or the bound on series is reached.
func (g *graph) waypointSeries(source *metricSource, kind string, attrs pcommon.Map, start, at pcommon.Timestamp) (*waypointSeries, *scrapeTarget) {
	target := g.scrapes.target(source)
	if target == nil {
		g.dropped("flow_limit", 1)
		return nil, nil
	}
	target.begin(at)
	id := g.scrapes.hash(counterNone, attrs) ^ maphash.String(g.scrapes.seed, kind)
	if s, ok := target.waypoints[id]; ok {
		return s, target
	}
	labels := readLabels(attrs)
	if labels.reporter != semconv.ReporterWaypoint && labels.reporter != semconv.ReporterDestination && labels.reporter != semconv.ReporterSource {
		return nil, nil
	}
	// A gateway or sidecar that reports as source sees the same requests as the server's side.
	if labels.reporter == semconv.ReporterSource || !told(labels.destination.Workload) {
		return nil, nil
	}
	if g.scrapes.series >= g.scrapes.max {
		g.dropped("flow_limit", 1)
		return nil, nil
	}
	flow := labels.flow()
	if !told(flow.source.Workload) {
		flow.source = edge.Party{Workload: naming.Unknown}
	}
	key := edge.Key{Source: flow.source, Destination: flow.destination, Service: flow.service, Security: semconv.SecurityMutualTLS}
	if labels.security != "" && labels.security != semconv.SecurityMutualTLS {
		key.Security = semconv.SecurityNone
	}
	key.Port, _ = g.directory.OnlyPort(flow.service)
	if labels.reporter == semconv.ReporterWaypoint {
		key.Waypoint = g.directory.WaypointOf(flow.service, naming.Intern(source.waypoint))
	}
	protocol := g.directory.Protocol(key.Service, key.Port)
	if protocol == "" {
		protocol = semconv.ProtocolHTTP
		if strings.HasPrefix(labels.protocol, "grpc") {
			protocol = semconv.ProtocolGRPC
		}
	}
	if start == 0 || start >= at {
		start = max(g.flushed, 1)
	}
	s := &waypointSeries{
		edge:   g.edges.find(key, protocol, start),
		failed: failedRequest(&labels),
		weight: naming.WeightKey{Source: flow.source, Service: flow.service, Destination: flow.destination},
	}
	s.edge.users++
	target.waypoints[id] = s
	g.scrapes.series++
	return s, target
}

func failedRequest(l *istioLabels) bool {
	if code, err := strconv.Atoi(l.code); err == nil && (code >= 500 || code == 0) {
		return true
	}
	code, err := strconv.ParseInt(l.grpcStatus, 10, 64)
	return err == nil && serverFault(code)
}

// advance returns what came on top; what a series had when its target was first seen is a baseline.
func (s *waypointSeries) advance(target *scrapeTarget, start, at pcommon.Timestamp, value uint64) uint64 {
	known := s.total.known
	n := s.total.advance(start, at, value)
	if !known && (start < target.first || start >= at || start == 0) {
		return 0
	}
	return n
}

func (g *graph) addWaypointRequests(s *waypointSeries, n uint64) {
	g.directory.Weigh(s.weight, n, g.clock.time)
	held := g.heldRequests(s.edge)
	held.total += n
	if s.failed {
		held.failed += n
	}
}

func (g *graph) addWaypointDurations(s *waypointSeries, target *scrapeTarget, point pmetric.HistogramDataPoint) {
	counts, bounds := point.BucketCounts(), point.ExplicitBounds()
	if counts.Len() != bounds.Len()+1 || counts.Len() > 1000 {
		g.dropped("invalid_point", 1)
		return
	}
	began := point.StartTimestamp() > s.total.start && point.StartTimestamp() < point.Timestamp()
	fresh := !s.total.known || began || point.Count() < s.total.value || len(s.buckets) != counts.Len()
	n := s.advance(target, point.StartTimestamp(), point.Timestamp(), point.Count())
	if fresh {
		s.sum = 0
		s.buckets = append(s.buckets[:0], make([]uint64, counts.Len())...)
	}
	if n > 0 {
		h := &g.heldRequests(s.edge).duration
		before := h.Sum
		for i := range counts.Len() {
			if c := counts.At(i); c > s.buckets[i] && c <= maxCount {
				h.Observe(middle(bounds, i)/1000, c-s.buckets[i])
			}
		}
		if sum := point.Sum() - s.sum; sum >= 0 && !math.IsInf(sum, 0) {
			h.Sum = before + sum/1000
		}
	}
	s.sum = point.Sum()
	for i := range counts.Len() {
		s.buckets[i] = counts.At(i)
	}
}

// middle is the value that stands for an explicit bucket.
func middle(bounds pcommon.Float64Slice, i int) float64 {
	switch {
	case bounds.Len() == 0:
		return 0
	case i == 0:
		return bounds.At(0) / 2
	case i == bounds.Len():
		return bounds.At(i - 1)
	}
	low, high := bounds.At(i-1), bounds.At(i)
	if low <= 0 {
		return high / 2
	}
	return math.Sqrt(low * high)
}

// heldRequests returns where a waypoint's increments of an edge gather until the next flush.
func (g *graph) heldRequests(e *edgeState) *waypointIncrement {
	if e.waypoint == nil {
		e.waypoint = &waypointRequests{spans: len(e.routes) > 0}
	}
	w := e.waypoint
	if !w.pending {
		w.pending = true
		g.waypointEdges = append(g.waypointEdges, e)
	}
	if n := len(w.held); n > 0 && w.held[n-1].at == g.clock.time {
		return &w.held[n-1]
	}
	w.held = append(w.held, waypointIncrement{at: g.clock.time})
	return &w.held[len(w.held)-1]
}

// settleWaypoints counts the requests that waypoints told, beyond those that spans told.
func (g *graph) settleWaypoints(now pcommon.Timestamp, force bool) {
	left := g.waypointEdges[:0]
	for _, e := range g.waypointEdges {
		w := e.waypoint
		due := 0
		for due < len(w.held) && (force || !w.spans || since(w.held[due].at, now, g.cfg.Requests.Wait)) {
			g.countWaypoint(e, &w.held[due], now)
			due++
		}
		w.held = append(w.held[:0], w.held[due:]...)
		if w.pending = len(w.held) > 0; w.pending {
			left = append(left, e)
		}
	}
	clear(g.waypointEdges[len(left):])
	g.waypointEdges = left
}

func (g *graph) countWaypoint(e *edgeState, inc *waypointIncrement, now pcommon.Timestamp) {
	w := e.waypoint
	_, total := w.total.Apply(now, 0, inc.total, g.limits)
	_, failed := w.failed.Apply(now, 0, inc.failed, g.limits)
	_, durations := w.durations.Apply(now, 0, inc.duration.Count, g.limits)
	if total == 0 && failed == 0 && durations == 0 {
		return
	}
	route := g.edges.route(e, "")
	route.total += total
	route.failed += failed
	inc.duration.DropLowest(inc.duration.Count - durations)
	route.duration.Add(&inc.duration)
	route.changed = true
	g.edges.touch(e, now)
	if s := g.services.find(serviceKeyOf(e.key.Source, e.key.Destination), e.start); s != nil {
		s.total += total
		s.failed += failed
		inc.duration.Each(func(value float64, n uint64) { s.server.observe(g.services.bounds, value, n) })
		g.services.touch(s, now)
	}
}

// bySpan tells how much of a request that a span tells is not counted from a waypoint's metrics already.
func (w *waypointRequests) bySpan(now pcommon.Timestamp, failed bool, limits reconcile.Limits) (total, failures, durations uint64) {
	if w == nil {
		total, durations = 1, 1
		if failed {
			failures = 1
		}
		return total, failures, durations
	}
	w.spans = true
	total, _ = w.total.Apply(now, 1, 0, limits)
	durations, _ = w.durations.Apply(now, 1, 0, limits)
	if failed {
		failures, _ = w.failed.Apply(now, 1, 0, limits)
	}
	return total, failures, durations
}

// sweepWaypoint forgets a target's requests series that are silent for long.
func (g *graph) sweepWaypoint(target *scrapeTarget, now pcommon.Timestamp, expiry time.Duration) {
	for id, s := range target.waypoints {
		if since(s.total.time, now, expiry) {
			s.edge.users--
			delete(target.waypoints, id)
			g.scrapes.series--
		}
	}
}
