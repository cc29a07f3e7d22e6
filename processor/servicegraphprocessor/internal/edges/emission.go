package edges

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadata"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metricbatch"
)

// emission builds the metrics of one emission (docs/data-model.md, section 4).
type emission struct {
	*metricbatch.Batch
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
	m := &emission{Batch: metricbatch.NewBatch(metadata.ScopeName, version)}
	reached := m.Gauge(semconv.MetricGraphTime, "The time before which the graph is complete, since 1970.", "s").AppendEmpty()
	reached.SetTimestamp(now)
	reached.SetDoubleValue(float64(now) / 1e9)
	c, r, p, s := &m.connections, &m.requests, &m.endpoints, &m.services
	c.opened = m.Sum(semconv.MetricEdgeOpened, "Connections that were attempted.", "{connection}")
	c.closed = m.Sum(semconv.MetricEdgeClosed, "Connections that ended, well or not.", "{connection}")
	c.failed = m.Sum(semconv.MetricEdgeFailed, "Connections that failed.", "{connection}")
	c.unanswered = m.Sum(semconv.MetricEdgeUnanswered, "Connections that carried bytes to the server and none back.", "{connection}")
	c.active = m.UpDown(semconv.MetricEdgeActive, "Connections that are open.", "{connection}")
	c.io = m.Sum(semconv.MetricEdgeIO, "Bytes carried, in the client's sense.", "By")
	c.duration = m.Exponential(semconv.MetricEdgeConnectionDuration, "How long connections lived.", "s")
	r.total = m.Sum(semconv.MetricEdgeRequests, "Requests that were answered.", "{request}")
	r.failed = m.Sum(semconv.MetricEdgeRequestsFailed, "Requests that were answered with an error.", "{request}")
	r.responses = m.Sum(semconv.MetricEdgeResponses, "Requests by what answered them.", "{request}")
	r.duration = m.Exponential(semconv.MetricEdgeRequestDuration, "How long the server took to answer.", "s")
	p.closed = m.Sum(semconv.MetricEndpointClosed, "Connections to a pod that ended, well or not.", "{connection}")
	p.failed = m.Sum(semconv.MetricEndpointFailed, "Connections to a pod that failed.", "{connection}")
	p.requests = m.Sum(semconv.MetricEndpointRequests, "Requests that a pod answered.", "{request}")
	p.requestsFailed = m.Sum(semconv.MetricEndpointRequestsFailed, "Requests that a pod answered with an error.", "{request}")
	s.requests = m.Sum(graphRequestTotal, "Requests between two services.", "")
	s.failed = m.Sum(graphRequestFailedTotal, "Requests between two services that failed.", "")
	s.server = m.Histogram(graphServerSeconds, "How long the server took to answer.", "s")
	s.client = m.Histogram(graphClientSeconds, "How long the client waited for the answer.", "s")
	return m
}

// appendTo adds the edge's points; of its routes only those that changed, unless all are asked for.
func (e *Edge) appendTo(m *emission, now pcommon.Timestamp, all bool) {
	e.appendConnections(m, now)
	for i := range e.responses {
		r := &e.responses[i]
		if all || r.Changed {
			r.Changed = false
			r.PutAttributes(e.point(m.requests.responses, now, r.N).Attributes())
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

func (e *Edge) point(to pmetric.NumberDataPointSlice, now pcommon.Timestamp, value uint64) pmetric.NumberDataPoint {
	p := metricbatch.Append(to, e.start, now, value)
	e.putAttributes(p.Attributes())
	return p
}

func (e *Edge) histogramPoint(to pmetric.ExponentialHistogramDataPointSlice, now pcommon.Timestamp, h *exphist.Histogram) pmetric.ExponentialHistogramDataPoint {
	p := to.AppendEmpty()
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
