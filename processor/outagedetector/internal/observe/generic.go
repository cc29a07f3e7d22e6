package observe

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/outage"
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
)

// Edges of other sources have no heartbeat: their own points drive time, and the distance between them is the interval.
// Until it is known, slots are a minute long.
const (
	genericSlot    = time.Minute
	maxGenericSlot = time.Hour
)

// genericTable are the series of other sources' edges, bounded by the edges that may be kept.
type genericTable struct {
	byKey map[genericKey]*series
	clock *Clock
	edges *Edges
	limit int
}

type genericKey struct{ client, clientNamespace, server, serverNamespace string }

func newGenericTable(clock *Clock, edges *Edges, limit int) *genericTable {
	return &genericTable{byKey: map[genericKey]*series{}, clock: clock, edges: edges, limit: limit}
}

// take takes over points of a metric of such a graph. It returns the newest time of one.
func (s *genericTable) take(name string, metric pmetric.Metric) (boundary int64) {
	switch name {
	case genericTotal, strings.TrimSuffix(genericTotal, "_total"):
		return s.requests(metric, Requests)
	case genericFailed, strings.TrimSuffix(genericFailed, "_total"):
		return s.requests(metric, RequestsFailed)
	case genericServer, genericServerSeconds:
		return s.durations(metric)
	}
	return 0
}

func (s *genericTable) requests(metric pmetric.Metric, lane Lane) (boundary int64) {
	list, delta := points(metric)
	return each(s.clock, list.All(), func(point pmetric.NumberDataPoint, t int64) {
		series := s.of(point.Attributes(), t)
		if series == nil || point.Flags().NoRecordedValue() {
			return
		}
		route := series.routeOf("")
		c := &route.requests
		if lane == RequestsFailed {
			c = &route.failed
		}
		s.edges.count(series.pair, t, lane, c.increment(point, delta, s.clock.fromZero(point.StartTimestamp(), t)))
	})
}

func (s *genericTable) durations(metric pmetric.Metric) (boundary int64) {
	seconds := unitSeconds(metric.Unit())
	switch metric.Type() {
	case pmetric.MetricTypeHistogram:
		histogram := metric.Histogram()
		delta := histogram.AggregationTemporality() == pmetric.AggregationTemporalityDelta
		return each(s.clock, histogram.DataPoints().All(), func(point pmetric.HistogramDataPoint, t int64) {
			if series := s.of(point.Attributes(), t); series != nil {
				s.edges.durations(series.pair, series.routeOf(""), fromExplicit(point, seconds), point.StartTimestamp(), t, delta)
			}
		})
	case pmetric.MetricTypeExponentialHistogram:
		histogram := metric.ExponentialHistogram()
		delta := histogram.AggregationTemporality() == pmetric.AggregationTemporalityDelta
		return each(s.clock, histogram.DataPoints().All(), func(point pmetric.ExponentialHistogramDataPoint, t int64) {
			if series := s.of(point.Attributes(), t); series != nil {
				s.edges.durations(series.pair, series.routeOf(""), fromExponential(point, seconds), point.StartTimestamp(), t, delta)
			}
		})
	}
	return 0
}

func (s *genericTable) of(attrs pcommon.Map, t int64) *series {
	key := genericKey{
		client: attr(attrs, labelClient), clientNamespace: attr(attrs, labelClientNamespace),
		server: attr(attrs, labelServer), serverNamespace: attr(attrs, labelServerNamespace),
	}
	if key.client == "" && key.server == "" {
		s.clock.drops.Malformed++
		return nil
	}
	found, ok := s.byKey[key]
	if !ok {
		if len(s.byKey) >= s.limit {
			s.clock.drops.Edges++
			return nil
		}
		key = genericKey{
			client: strings.Clone(key.client), clientNamespace: strings.Clone(key.clientNamespace),
			server: strings.Clone(key.server), serverNamespace: strings.Clone(key.serverNamespace),
		}
		p := s.edges.pair(outage.Name{Namespace: key.clientNamespace, Name: key.client},
			outage.Name{Namespace: key.serverNamespace, Name: key.server}, t, genericSlot)
		if p == nil {
			return nil
		}
		p.told.series++
		found = &series{pair: p, last: t}
		s.byKey[key] = found
	}
	// An edge that service_graph knows as well is counted from there.
	if found.pair.told.hasL7 {
		return nil
	}
	found.learnInterval(t)
	return found
}

// learnInterval sizes an edge's slots by the distance between its points. What came before is forgotten, once.
func (s *series) learnInterval(t int64) {
	gap := t - s.last
	if gap <= 0 {
		return
	}
	s.last = t
	p := s.pair
	length := min(max(MinSlot, time.Duration(gap)), maxGenericSlot)
	if !p.told.native && (!s.sized || 2*length <= p.Win.Length()) {
		p.reset(length, t)
	}
	s.sized = true
}

func (s *genericTable) sweep() {
	for key, series := range s.byKey {
		if s.clock.Now-series.last > max(forgetting, 12*series.pair.Win.length) {
			delete(s.byKey, key)
			series.pair.told.series--
		}
	}
}
