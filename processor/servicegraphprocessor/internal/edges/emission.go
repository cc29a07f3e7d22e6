package edges

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadata"
)

// emission builds the metrics of one emission (docs/data-model.md, section 4).
type emission struct {
	metrics     pmetric.Metrics
	scope       pmetric.ScopeMetrics
	connections struct {
		opened, closed, failed, unanswered, active, io pmetric.NumberDataPointSlice
		duration                                       pmetric.ExponentialHistogramDataPointSlice
	}
	requests struct {
		total, failed, responses pmetric.NumberDataPointSlice
		duration                 pmetric.ExponentialHistogramDataPointSlice
	}
	endpoints struct{ closed, failed, requests, requestsFailed pmetric.NumberDataPointSlice }
	services  struct {
		requests, failed pmetric.NumberDataPointSlice
		server, client   pmetric.HistogramDataPointSlice
	}
}

func newEmission(version string, now pcommon.Timestamp) *emission {
	m := &emission{metrics: pmetric.NewMetrics()}
	m.scope = m.metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	m.scope.Scope().SetName(metadata.ScopeName)
	m.scope.Scope().SetVersion(version)
	reached := m.gauge(semconv.MetricGraphTime, "The time before which the graph is complete, since 1970.", "s").AppendEmpty()
	reached.SetTimestamp(now)
	reached.SetDoubleValue(float64(now) / 1e9)
	c, r, p, s := &m.connections, &m.requests, &m.endpoints, &m.services
	c.opened = m.sum(semconv.MetricEdgeOpened, "Connections that were attempted.", "{connection}")
	c.closed = m.sum(semconv.MetricEdgeClosed, "Connections that ended, well or not.", "{connection}")
	c.failed = m.sum(semconv.MetricEdgeFailed, "Connections that failed.", "{connection}")
	c.unanswered = m.sum(semconv.MetricEdgeUnanswered, "Connections that carried bytes to the server and none back.", "{connection}")
	c.active = m.upDown(semconv.MetricEdgeActive, "Connections that are open.", "{connection}")
	c.io = m.sum(semconv.MetricEdgeIO, "Bytes carried, in the client's sense.", "By")
	c.duration = m.exponential(semconv.MetricEdgeConnectionDuration, "How long connections lived.", "s")
	r.total = m.sum(semconv.MetricEdgeRequests, "Requests that were answered.", "{request}")
	r.failed = m.sum(semconv.MetricEdgeRequestsFailed, "Requests that were answered with an error.", "{request}")
	r.responses = m.sum(semconv.MetricEdgeResponses, "Requests by what answered them.", "{request}")
	r.duration = m.exponential(semconv.MetricEdgeRequestDuration, "How long the server took to answer.", "s")
	p.closed = m.sum(semconv.MetricEndpointClosed, "Connections to a pod that ended, well or not.", "{connection}")
	p.failed = m.sum(semconv.MetricEndpointFailed, "Connections to a pod that failed.", "{connection}")
	p.requests = m.sum(semconv.MetricEndpointRequests, "Requests that a pod answered.", "{request}")
	p.requestsFailed = m.sum(semconv.MetricEndpointRequestsFailed, "Requests that a pod answered with an error.", "{request}")
	s.requests = m.sum(graphRequestTotal, "Requests between two services.", "")
	s.failed = m.sum(graphRequestFailedTotal, "Requests between two services that failed.", "")
	s.server = m.histogram(graphServerSeconds, "How long the server took to answer.", "s")
	s.client = m.histogram(graphClientSeconds, "How long the client waited for the answer.", "s")
	return m
}

func (m *emission) metric(name, description, unit string) pmetric.Metric {
	metric := m.scope.Metrics().AppendEmpty()
	metric.SetName(name)
	metric.SetDescription(description)
	metric.SetUnit(unit)
	return metric
}

func (m *emission) sum(name, description, unit string) pmetric.NumberDataPointSlice {
	sum := m.metric(name, description, unit).SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return sum.DataPoints()
}

func (m *emission) upDown(name, description, unit string) pmetric.NumberDataPointSlice {
	sum := m.metric(name, description, unit).SetEmptySum()
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return sum.DataPoints()
}

func (m *emission) gauge(name, description, unit string) pmetric.NumberDataPointSlice {
	return m.metric(name, description, unit).SetEmptyGauge().DataPoints()
}

func (m *emission) exponential(name, description, unit string) pmetric.ExponentialHistogramDataPointSlice {
	histogram := m.metric(name, description, unit).SetEmptyExponentialHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return histogram.DataPoints()
}

func (m *emission) histogram(name, description, unit string) pmetric.HistogramDataPointSlice {
	histogram := m.metric(name, description, unit).SetEmptyHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return histogram.DataPoints()
}

// trimmed are the metrics that have points.
func (m *emission) trimmed() pmetric.Metrics {
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
	return m.metrics
}

// appendTo adds the edge's points; of its routes only those that changed, unless all are asked for.
func (e *Edge) appendTo(m *emission, now pcommon.Timestamp, all bool) {
	e.appendConnections(m, now)
	for i := range e.responses {
		r := &e.responses[i]
		if all || r.Changed {
			r.Changed = false
			attrs := e.point(m.requests.responses, now, r.N).Attributes()
			attrs.PutStr(semconv.LabelResponseCode, r.CodeText())
			put(attrs, semconv.LabelResponseFlags, r.Flags)
			attrs.PutStr(semconv.LabelRequestSource, r.Source)
		}
	}
	for i := range e.routes {
		r := &e.routes[i]
		if !all && !r.changed {
			continue
		}
		r.changed = false
		put(e.point(m.requests.total, now, r.total).Attributes(), semconv.LabelHTTPRoute, r.name)
		put(e.point(m.requests.failed, now, r.failed).Attributes(), semconv.LabelHTTPRoute, r.name)
		if r.duration.Count > 0 {
			put(e.histogramPoint(m.requests.duration, now, &r.duration).Attributes(), semconv.LabelHTTPRoute, r.name)
		}
	}
}

func (e *Edge) appendConnections(m *emission, now pcommon.Timestamp) {
	e.Show()
	s := &e.shown
	if s.opened == 0 && s.sent == 0 && s.received == 0 && !e.open.told {
		return
	}
	c := &m.connections
	e.point(c.opened, now, s.opened)
	e.point(c.closed, now, s.closed)
	if len(s.failed) == 0 {
		e.point(c.failed, now, 0) // so that there is a series before it says anything
	}
	for _, f := range s.failed {
		attrs := e.point(c.failed, now, f.N).Attributes()
		put(attrs, semconv.LabelErrorType, f.Type)
		put(attrs, semconv.LabelPolicy, f.Policy)
	}
	if e.Logged.Unanswered > 0 {
		e.point(c.unanswered, now, e.Logged.Unanswered)
	}
	if e.open.told {
		e.point(c.active, now, e.open.active)
	}
	e.point(c.io, now, s.sent).Attributes().PutStr(semconv.LabelDirection, semconv.DirectionSent)
	e.point(c.io, now, s.received).Attributes().PutStr(semconv.LabelDirection, semconv.DirectionReceived)
	if e.Logged.Duration.Count > 0 {
		e.histogramPoint(c.duration, now, &e.Logged.Duration)
	}
}

func appendPoint(points pmetric.NumberDataPointSlice, start, now pcommon.Timestamp, value uint64) pmetric.NumberDataPoint {
	p := points.AppendEmpty()
	p.SetStartTimestamp(start)
	p.SetTimestamp(now)
	p.SetIntValue(int64(value))
	return p
}

func (e *Edge) point(points pmetric.NumberDataPointSlice, now pcommon.Timestamp, value uint64) pmetric.NumberDataPoint {
	p := appendPoint(points, e.start, now, value)
	e.putAttributes(p.Attributes())
	return p
}

func (e *Edge) histogramPoint(points pmetric.ExponentialHistogramDataPointSlice, now pcommon.Timestamp, h *exphist.Histogram) pmetric.ExponentialHistogramDataPoint {
	p := points.AppendEmpty()
	p.SetStartTimestamp(e.start)
	p.SetTimestamp(now)
	h.CopyTo(p)
	e.putAttributes(p.Attributes())
	return p
}

func (e *Edge) putAttributes(attrs pcommon.Map) {
	e.Key.PutAttributes(attrs)
	if e.overflow {
		attrs.PutBool(semconv.LabelOverflow, true)
	}
}

func put(attrs pcommon.Map, name, value string) {
	if value != "" {
		attrs.PutStr(name, value)
	}
}
