package observe

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/outage"
)

// Edges of other sources have no heartbeat: their own points drive time, and the distance between them is the interval.
// Until it is known, slots are a minute long.
const (
	genericSlot    = time.Minute
	maxGenericSlot = time.Hour
)

func (s *Store) genericMetric(name string, metric pmetric.Metric) (boundary int64) {
	if metric.Type() == pmetric.MetricTypeHistogram {
		if name != genericServer && name != genericServerSeconds {
			return 0
		}
		histogram := metric.Histogram()
		delta := histogram.AggregationTemporality() == pmetric.AggregationTemporalityDelta
		for i := range histogram.DataPoints().Len() {
			point := histogram.DataPoints().At(i)
			t, ok := s.timeOf(point.Timestamp())
			if !ok {
				continue
			}
			boundary = max(boundary, t)
			series := s.genericSeries(point.Attributes(), t)
			if series == nil {
				continue
			}
			buckets := fromExplicit(point, unitSeconds(metric.Unit()))
			s.timings(series.pair, series.routeOf(""), &buckets, point.Count(), 0, point.StartTimestamp(), t, delta)
		}
		return boundary
	}
	if metric.Type() == pmetric.MetricTypeExponentialHistogram {
		return s.genericExponential(name, metric)
	}
	var lane Lane
	switch name {
	case genericTotal, strings.TrimSuffix(genericTotal, "_total"):
		lane = Requests
	case genericFailed, strings.TrimSuffix(genericFailed, "_total"):
		lane = RequestsFailed
	default:
		return 0
	}
	list, delta := points(metric)
	for i := range list.Len() {
		point := list.At(i)
		t, ok := s.timeOf(point.Timestamp())
		if !ok {
			continue
		}
		boundary = max(boundary, t)
		series := s.genericSeries(point.Attributes(), t)
		if series == nil || point.Flags().NoRecordedValue() {
			continue
		}
		route := series.routeOf("")
		c := &route.requests
		if lane == RequestsFailed {
			c = &route.failed
		}
		s.count(series.pair, t, lane, c.increment(point, delta, s.fromZero(point.StartTimestamp(), t)))
	}
	return boundary
}

func (s *Store) genericExponential(name string, metric pmetric.Metric) (boundary int64) {
	if name != genericServer && name != genericServerSeconds {
		return 0
	}
	histogram := metric.ExponentialHistogram()
	delta := histogram.AggregationTemporality() == pmetric.AggregationTemporalityDelta
	for i := range histogram.DataPoints().Len() {
		point := histogram.DataPoints().At(i)
		t, ok := s.timeOf(point.Timestamp())
		if !ok {
			continue
		}
		boundary = max(boundary, t)
		if series := s.genericSeries(point.Attributes(), t); series != nil {
			seconds := unitSeconds(metric.Unit())
			buckets := fromExponential(point, seconds)
			s.timings(series.pair, series.routeOf(""), &buckets, point.Count(), scaleOf(point.Scale(), seconds), point.StartTimestamp(), t, delta)
		}
	}
	return boundary
}

func (s *Store) genericSeries(attrs pcommon.Map, t int64) *series {
	s.began(t)
	key := genericKey{
		client: attr(attrs, labelClient), clientNamespace: attr(attrs, labelClientNamespace),
		server: attr(attrs, labelServer), serverNamespace: attr(attrs, labelServerNamespace),
	}
	if key.client == "" && key.server == "" {
		s.Drops.Malformed++
		return nil
	}
	found, ok := s.generic[key]
	if !ok {
		if len(s.generic) >= s.limits.Edges {
			s.Drops.Edges++
			return nil
		}
		key = genericKey{
			client: strings.Clone(key.client), clientNamespace: strings.Clone(key.clientNamespace),
			server: strings.Clone(key.server), serverNamespace: strings.Clone(key.serverNamespace),
		}
		p := s.pair(outage.Name{Namespace: key.clientNamespace, Name: key.client},
			outage.Name{Namespace: key.serverNamespace, Name: key.server}, t, genericSlot)
		if p == nil {
			return nil
		}
		p.keys++
		found = &series{pair: p, last: t}
		s.generic[key] = found
	}
	// An edge that service_graph knows as well is counted from there.
	if found.pair.hasL7 {
		return nil
	}
	s.learnInterval(found, t)
	return found
}

// learnInterval sizes an edge's slots by the distance between its points. What came before is forgotten, once.
func (s *Store) learnInterval(found *series, t int64) {
	gap := t - found.last
	if gap <= 0 {
		return
	}
	found.last = t
	p := found.pair
	length := min(max(MinSlot, time.Duration(gap)), maxGenericSlot)
	if !p.native && (!found.sized || 2*length <= p.Win.Length()) {
		p.Win.reset(length, t)
	}
	found.sized = true
}
