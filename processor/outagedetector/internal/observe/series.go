package observe

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
)

// series is the state of one edge key's counters.
type series struct {
	pair     *Pair
	last     int64
	sized    bool // a generic edge's interval is known
	behind   bool // a waypoint's own connections
	opened   counter
	closed   counter
	sent     counter
	received counter
	active   int64
	failed   []reasonCounter
	// unanswered are connections that got nothing back, lifetime how long connections lasted.
	unanswered counter
	lifetime   lifetime
	lives      *timing // how long connections last, where nothing tells how long requests take
	routes     []routeSeries
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

// seriesTable are the series of the service graph's edges, bounded by four for each edge that may be kept.
type seriesTable struct {
	byKey map[edge.Key]*series
	clock *Clock
	edges *Edges
	mesh  *Mesh
	limit int
}

func newSeriesTable(clock *Clock, edges *Edges, mesh *Mesh, limit int) *seriesTable {
	return &seriesTable{byKey: map[edge.Key]*series{}, clock: clock, edges: edges, mesh: mesh, limit: limit}
}

// of finds the series of an edge, nil where there is none: what exceeds a bound of the graph is nobody's.
func (s *seriesTable) of(attrs pcommon.Map, t int64) *series {
	if _, overflow := attrs.Get(semconv.LabelOverflow); overflow {
		return nil
	}
	key := edge.KeyOf(attrs)
	if key.Teller != "" {
		return nil // Others than ztunnels tell of it, and nobody says when they are silent.
	}
	if found, ok := s.byKey[key]; ok {
		found.last = t
		return found
	}
	if len(s.byKey) >= s.limit {
		s.clock.drops.Edges++
		return nil
	}
	p := s.edges.pair(s.mesh.partyName(&key.Source, ""), s.mesh.partyName(&key.Destination, key.Service), t, s.clock.slotLength())
	if p == nil {
		return nil
	}
	p.told.series++
	p.told.native = true
	p.Tunnelled = p.Tunnelled || key.Security == semconv.SecurityMutualTLS
	found := &series{pair: p, last: t, behind: key.BehindWaypoint()}
	p.Behind = p.Behind || found.behind
	key = cloneKey(key)
	if key.Waypoint != "" {
		p.Waypoint = key.Waypoint
	}
	s.byKey[key] = found
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

// take takes over points of a mesh.edge metric. It returns the newest time of one.
func (s *seriesTable) take(name string, metric pmetric.Metric) (boundary int64) {
	if metric.Type() == pmetric.MetricTypeExponentialHistogram {
		if name == semconv.MetricEdgeConnectionDuration {
			return s.lifetimes(metric)
		}
		if name != semconv.MetricEdgeRequestDuration {
			return 0
		}
		histogram, seconds := metric.ExponentialHistogram(), unitSeconds(metric.Unit())
		delta := histogram.AggregationTemporality() == pmetric.AggregationTemporalityDelta
		return each(s.clock, histogram.DataPoints().All(), func(point pmetric.ExponentialHistogramDataPoint, t int64) {
			series := s.of(point.Attributes(), t)
			if series == nil {
				return
			}
			if route := series.routeOf(attr(point.Attributes(), semconv.LabelHTTPRoute)); route != nil {
				s.edges.durations(series.pair, route, fromExponential(point, seconds), point.StartTimestamp(), t, delta)
			}
		})
	}
	list, delta := points(metric)
	return each(s.clock, list.All(), func(point pmetric.NumberDataPoint, t int64) {
		if point.Flags().NoRecordedValue() {
			return
		}
		if series := s.of(point.Attributes(), t); series != nil {
			s.count(name, series, point, t, delta)
		}
	})
}

func (s *seriesTable) count(name string, series *series, point pmetric.NumberDataPoint, t int64, delta bool) {
	p := series.pair
	attrs := point.Attributes()
	zero := s.clock.fromZero(point.StartTimestamp(), t)
	switch name {
	case semconv.MetricEdgeOpened:
		s.edges.count(p, t, Opened, series.opened.increment(point, delta, zero))
	case semconv.MetricEdgeClosed:
		s.edges.count(p, t, Closed, series.closed.increment(point, delta, zero))
	case semconv.MetricEdgeUnanswered:
		s.edges.count(p, t, Unanswered, series.unanswered.increment(point, delta, zero))
	case semconv.MetricEdgeActive:
		now := int64(cumulative.Number(point))
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
				s.edges.active(p, t)
			}
		}
	case semconv.MetricEdgeFailed:
		c := counterOf(&series.failed, attr(attrs, semconv.LabelErrorType), attr(attrs, semconv.LabelPolicy))
		if c == nil {
			s.clock.drops.Malformed++
			return
		}
		if n := c.increment(point, delta, zero); n > 0 && counts(c.errorType) && (!series.behind || reasons.Decisive(c.errorType)) {
			s.edges.count(p, t, Failed, n)
			reasonIn(&p.Reasons, c.errorType, c.policy, t).add(t, p.Win.length, n)
		}
	case semconv.MetricEdgeRequests, semconv.MetricEdgeRequestsFailed:
		route := series.routeOf(attr(attrs, semconv.LabelHTTPRoute))
		if route == nil {
			return
		}
		p.told.hasL7 = true
		if name == semconv.MetricEdgeRequests {
			s.edges.count(p, t, Requests, route.requests.increment(point, delta, zero))
		} else {
			s.edges.count(p, t, RequestsFailed, route.failed.increment(point, delta, zero))
		}
	}
}

// lifetime follows how long connections lasted.
type lifetime struct {
	count cumulative.Counter[uint64]
	sum   cumulative.Counter[float64]
}

// lifetimes takes over how long connections lasted.
func (s *seriesTable) lifetimes(metric pmetric.Metric) (boundary int64) {
	histogram := metric.ExponentialHistogram()
	delta := histogram.AggregationTemporality() == pmetric.AggregationTemporalityDelta
	return each(s.clock, histogram.DataPoints().All(), func(point pmetric.ExponentialHistogramDataPoint, t int64) {
		series := s.of(point.Attributes(), t)
		if series == nil {
			return
		}
		n, seconds := point.Count(), point.Sum()
		if !delta {
			n, _ = series.lifetime.count.Advance(point.StartTimestamp(), point.Timestamp(), n)
			seconds, _ = series.lifetime.sum.Advance(point.StartTimestamp(), point.Timestamp(), seconds)
		}
		if n > 0 && seconds >= 0 {
			p := series.pair
			p.Lasted = seconds / float64(n)
			p.Win.Add(t, Lasted, n)
			p.Win.Add(t, Lifetime, uint64(min(seconds/LifetimeUnit.Seconds(), mostAdded)))
			if p.told.timed {
				series.lives = nil
				return
			}
			if series.lives == nil {
				series.lives = &timing{}
			}
			s.edges.lived(p, series.lives, fromExponential(point, 1), point.StartTimestamp(), t, delta)
		}
	})
}

func unitSeconds(unit string) float64 {
	if unit == "ms" {
		return 1e-3
	}
	return 1
}

func (s *seriesTable) sweep() {
	for key, series := range s.byKey {
		if s.clock.Now-series.last > forgetting {
			delete(s.byKey, key)
			series.pair.told.series--
		}
	}
}
