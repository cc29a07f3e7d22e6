package servicegraphprocessor

import (
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/expo"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadata"
)

// edgeMetrics are the data points of one emission, by metric (docs/data-model.md, section 4).
type edgeMetrics struct {
	time, opened, closed, failed, active, io, requests, requestsFailed       pmetric.NumberDataPointSlice
	endpointClosed, endpointFailed, endpointRequests, endpointRequestsFailed pmetric.NumberDataPointSlice
	graphRequests, graphFailed                                               pmetric.NumberDataPointSlice
	duration, requestDuration                                                pmetric.ExponentialHistogramDataPointSlice
	graphServer, graphClient                                                 pmetric.HistogramDataPointSlice

	scope pmetric.ScopeMetrics
}

func newEdgeMetrics(version string) (pmetric.Metrics, *edgeMetrics) {
	metrics := pmetric.NewMetrics()
	scope := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(metadata.ScopeName)
	scope.Scope().SetVersion(version)
	m := &edgeMetrics{scope: scope}
	m.time = m.gauge(semconv.MetricGraphTime, "The time before which the graph is complete, since 1970.", "s")
	m.opened = m.sum(semconv.MetricEdgeOpened, "Connections that were attempted.", "{connection}")
	m.closed = m.sum(semconv.MetricEdgeClosed, "Connections that ended, well or not.", "{connection}")
	m.failed = m.sum(semconv.MetricEdgeFailed, "Connections that failed.", "{connection}")
	m.active = m.gauge(semconv.MetricEdgeActive, "Connections that are open.", "{connection}")
	m.io = m.sum(semconv.MetricEdgeIO, "Bytes carried, in the client's sense.", "By")
	m.duration = m.exponential(semconv.MetricEdgeConnectionDuration, "How long connections lived.", "s")
	m.requests = m.sum(semconv.MetricEdgeRequests, "Requests that were answered.", "{request}")
	m.requestsFailed = m.sum(semconv.MetricEdgeRequestsFailed, "Requests that were answered with an error.", "{request}")
	m.requestDuration = m.exponential(semconv.MetricEdgeRequestDuration, "How long the server took to answer.", "s")
	m.endpointClosed = m.sum(semconv.MetricEndpointClosed, "Connections to a pod that ended, well or not.", "{connection}")
	m.endpointFailed = m.sum(semconv.MetricEndpointFailed, "Connections to a pod that failed.", "{connection}")
	m.endpointRequests = m.sum(semconv.MetricEndpointRequests, "Requests that a pod answered.", "{request}")
	m.endpointRequestsFailed = m.sum(semconv.MetricEndpointRequestsFailed, "Requests that a pod answered with an error.", "{request}")
	m.graphRequests = m.sum(graphRequestTotal, "Requests between two services.", "")
	m.graphFailed = m.sum(graphRequestFailedTotal, "Requests between two services that failed.", "")
	m.graphServer = m.histogram(graphServerSeconds, "How long the server took to answer.", "s")
	m.graphClient = m.histogram(graphClientSeconds, "How long the client waited for the answer.", "s")
	return metrics, m
}

func (m *edgeMetrics) metric(name, description, unit string) pmetric.Metric {
	metric := m.scope.Metrics().AppendEmpty()
	metric.SetName(name)
	metric.SetDescription(description)
	metric.SetUnit(unit)
	return metric
}

func (m *edgeMetrics) sum(name, description, unit string) pmetric.NumberDataPointSlice {
	sum := m.metric(name, description, unit).SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return sum.DataPoints()
}

func (m *edgeMetrics) gauge(name, description, unit string) pmetric.NumberDataPointSlice {
	return m.metric(name, description, unit).SetEmptyGauge().DataPoints()
}

func (m *edgeMetrics) exponential(name, description, unit string) pmetric.ExponentialHistogramDataPointSlice {
	histogram := m.metric(name, description, unit).SetEmptyExponentialHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return histogram.DataPoints()
}

func (m *edgeMetrics) histogram(name, description, unit string) pmetric.HistogramDataPointSlice {
	histogram := m.metric(name, description, unit).SetEmptyHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return histogram.DataPoints()
}

// trim removes the metrics without points.
func (m *edgeMetrics) trim() {
	m.scope.Metrics().RemoveIf(func(metric pmetric.Metric) bool {
		switch metric.Type() {
		case pmetric.MetricTypeSum:
			return metric.Sum().DataPoints().Len() == 0
		case pmetric.MetricTypeGauge:
			return metric.Gauge().DataPoints().Len() == 0
		case pmetric.MetricTypeExponentialHistogram:
			return metric.ExponentialHistogram().DataPoints().Len() == 0
		case pmetric.MetricTypeHistogram:
			return metric.Histogram().DataPoints().Len() == 0
		}
		return true
	})
}

// emit builds the metrics of what changed since the last emission and of what was silent for the refresh interval, and tells
// how far the graph is.
func (g *graph) emit(now pcommon.Timestamp) pmetric.Metrics {
	refresh := now - min(now, pcommon.Timestamp(g.cfg.RefreshInterval))
	metrics, m := newEdgeMetrics(g.version)
	reached := m.time.AppendEmpty()
	reached.SetTimestamp(now)
	reached.SetDoubleValue(float64(now) / 1e9)
	for _, e := range g.edges.dirty {
		e.dirty = false
		g.emitEdge(m, e, now, false)
		g.saved.edge(e)
	}
	clear(g.edges.dirty)
	g.edges.dirty = g.edges.dirty[:0]
	for e := g.edges.oldest; e != nil && e.emitted <= refresh; e = g.edges.oldest {
		if e.expired(now, g.cfg.EdgeExpiry) {
			g.edges.remove(e)
			g.saved.edgeGone(e)
			continue
		}
		g.emitEdge(m, e, now, true)
	}
	for _, e := range g.dirtyEndpoints {
		e.dirty = false
		e.emitted = now
		e.appendTo(m, now)
		g.saved.endpoint(e.id)
	}
	clear(g.dirtyEndpoints)
	g.dirtyEndpoints = g.dirtyEndpoints[:0]
	for _, s := range g.services.dirty {
		s.dirty = false
		s.emitted = now
		s.appendTo(m, g.services.bounds, now)
		g.saved.service(s.key)
	}
	clear(g.services.dirty)
	g.services.dirty = g.services.dirty[:0]
	if g.refreshed <= refresh {
		g.refreshed = now
		g.refreshRest(m, now, refresh)
	}
	m.trim()
	return metrics
}

// refreshRest repeats the series beside the edges that did not change, and forgets those that are silent for long.
func (g *graph) refreshRest(m *edgeMetrics, now, refresh pcommon.Timestamp) {
	for id, e := range g.endpoints {
		switch {
		case since(e.seen, now, g.cfg.EdgeExpiry):
			delete(g.endpoints, id)
			e.gone = true
			g.saved.endpoint(id)
		case e.emitted <= refresh && e.emitted > 0:
			e.emitted = now
			e.appendTo(m, now)
		}
	}
	for id, s := range g.services.byKey {
		switch {
		case since(s.seen, now, g.cfg.EdgeExpiry):
			delete(g.services.byKey, id)
			g.saved.service(id)
		case s.emitted <= refresh && s.emitted > 0:
			s.emitted = now
			s.appendTo(m, g.services.bounds, now)
		}
	}
}

func (g *graph) emitEdge(m *edgeMetrics, e *edgeState, now pcommon.Timestamp, all bool) {
	all = all || e.emitted == 0
	e.appendTo(m, now, all)
	e.emitted = now
	g.edges.moveToNewest(e)
}

// appendTo adds the edge's points; of its routes only those that changed, unless all are asked for.
func (e *edgeState) appendTo(m *edgeMetrics, now pcommon.Timestamp, all bool) {
	e.appendConnections(m, now)
	for i := range e.routes {
		r := &e.routes[i]
		if !all && !r.changed {
			continue
		}
		r.changed = false
		e.requestPoint(m.requests, now, r.route, r.total)
		e.requestPoint(m.requestsFailed, now, r.route, r.failed)
		if r.duration.Count > 0 {
			p := e.histogramPoint(m.requestDuration, now, &r.duration)
			put(p.Attributes(), semconv.LabelHTTPRoute, r.route)
		}
	}
}

func (e *edgeState) appendConnections(m *edgeMetrics, now pcommon.Timestamp) {
	e.show()
	shown := &e.shown
	if shown.opened == 0 && shown.sent == 0 && shown.received == 0 && e.scraped == nil {
		return
	}
	e.point(m.opened, now, shown.opened)
	e.point(m.closed, now, shown.closed)
	for _, f := range shown.failed {
		attrs := e.point(m.failed, now, f.n).Attributes()
		put(attrs, semconv.LabelErrorType, f.Type)
		put(attrs, semconv.LabelPolicy, f.Policy)
	}
	if e.scraped != nil {
		p := e.point(m.active, now, e.scraped.active)
		p.SetStartTimestamp(0)
	}
	e.point(m.io, now, shown.sent).Attributes().PutStr(semconv.LabelDirection, semconv.DirectionSent)
	e.point(m.io, now, shown.received).Attributes().PutStr(semconv.LabelDirection, semconv.DirectionReceived)
	if e.duration.Count > 0 {
		e.histogramPoint(m.duration, now, &e.duration)
	}
}

func (e *edgeState) point(points pmetric.NumberDataPointSlice, now pcommon.Timestamp, value uint64) pmetric.NumberDataPoint {
	p := points.AppendEmpty()
	p.SetStartTimestamp(e.start)
	p.SetTimestamp(now)
	p.SetIntValue(int64(value))
	e.putAttributes(p.Attributes())
	return p
}

func (e *edgeState) requestPoint(points pmetric.NumberDataPointSlice, now pcommon.Timestamp, route string, value uint64) {
	put(e.point(points, now, value).Attributes(), semconv.LabelHTTPRoute, route)
}

func (e *edgeState) histogramPoint(points pmetric.ExponentialHistogramDataPointSlice, now pcommon.Timestamp, h *expo.Histogram) pmetric.ExponentialHistogramDataPoint {
	p := points.AppendEmpty()
	p.SetStartTimestamp(e.start)
	p.SetTimestamp(now)
	h.CopyTo(p)
	e.putAttributes(p.Attributes())
	return p
}

func (e *edgeState) putAttributes(attrs pcommon.Map) {
	e.key.PutAttributes(attrs)
	if e.overflow {
		attrs.PutBool(semconv.LabelOverflow, true)
	}
}

// sweep forgets flow series that are silent for long; their edges may then expire.
func (g *graph) sweep(now pcommon.Timestamp) {
	interval := max(g.cfg.EdgeExpiry/8, time.Minute)
	if !since(g.swept, now, interval) {
		return
	}
	g.swept = now
	g.sweepScrapes(now, g.cfg.EdgeExpiry)
	g.directory.Sweep(now, g.cfg.EdgeExpiry)
	for key, series := range g.flows.series {
		if !since(series.seen, now, g.cfg.EdgeExpiry) {
			continue
		}
		delete(g.flows.series, key)
		p := series.pair
		p.series = slices.DeleteFunc(p.series, func(other *flowSeries) bool { return other == series })
		if p.users--; p.users == 0 && !p.waits && !p.touched {
			for i := range p.ways {
				g.release(&p.ways[i].target)
			}
			delete(g.flows.pairs, p.key)
			g.saved.pairGone(p)
		} else {
			g.saved.pair(p)
		}
	}
}
