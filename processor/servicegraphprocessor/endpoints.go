package servicegraphprocessor

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// endpoint holds the cumulative values of one destination pod, over all edges that lead to it.
type endpoint struct {
	id naming.Pod

	pod, workload, namespace, service, node string

	start          pcommon.Timestamp
	closed         uint64
	failed         []failedCount
	requests       uint64
	requestsFailed uint64

	seen, emitted pcommon.Timestamp
	dirty         bool
	gone          bool // forgotten: a later connection makes a new one
}

// endpointOf finds the endpoint of a pair's destination; nil if it is no pod, or the bound on endpoints is reached.
func (g *graph) endpointOf(p *pair, w *mesh.Workload) *endpoint {
	if w != nil {
		return g.podEndpoint(w)
	}
	if p.key.destination.pod == "" {
		return nil
	}
	e := g.endpoint(naming.Pod{Namespace: p.key.destination.namespace, Name: p.key.destination.pod})
	if e != nil && e.workload == "" {
		e.workload, e.namespace = p.destination.Workload, p.destination.Namespace
		e.service = p.destination.App
	}
	// A pod runs where the ztunnel is that serves it.
	if node := p.reporters[byDestination]; e != nil && node != "" {
		e.node = node
	}
	return e
}

func (g *graph) podEndpoint(w *mesh.Workload) *endpoint {
	e := g.endpoint(naming.Pod{Namespace: w.Namespace, Name: w.Name})
	if e != nil {
		e.workload, e.namespace, e.service, e.node = w.Owner(), w.Namespace, w.App(), w.Node
	}
	return e
}

func (g *graph) endpoint(id naming.Pod) *endpoint {
	if e, ok := g.endpoints[id]; ok {
		return e
	}
	if len(g.endpoints) >= g.cfg.MaxEntities {
		return nil
	}
	e := &endpoint{id: id, pod: id.Name, namespace: id.Namespace}
	g.endpoints[id] = e
	return e
}

func (g *graph) creditEndpoint(p *pair, c *flowCredit, start, now pcommon.Timestamp) {
	if p.endpoint != nil && p.endpoint.gone {
		p.endpoint = g.endpointOf(p, p.destinationPod)
		start = g.flushed
	}
	e := p.endpoint
	if e == nil || (c.closed == 0 && len(c.failed) == 0) {
		return
	}
	e.closed += c.closed
	for _, f := range c.failed {
		reason := f.Reason
		reason.Policy = ""
		e.failed = addFailed(e.failed, reason, f.n)
	}
	g.touchEndpoint(e, start, now)
}

func (g *graph) touchEndpoint(e *endpoint, start, now pcommon.Timestamp) {
	if e.start == 0 || (e.emitted == 0 && start < e.start) {
		e.start = start
	}
	e.seen = max(e.seen, now)
	if !e.dirty {
		e.dirty = true
		g.dirtyEndpoints = append(g.dirtyEndpoints, e)
	}
}

func (e *endpoint) putAttributes(attrs pcommon.Map) {
	attrs.EnsureCapacity(6)
	attrs.PutStr(semconv.LabelDestinationPod, e.pod)
	put(attrs, semconv.LabelDestinationWorkload, e.workload)
	put(attrs, semconv.LabelDestinationNamespace, e.namespace)
	put(attrs, semconv.LabelDestinationCanonicalService, e.service)
	put(attrs, semconv.LabelNode, e.node)
}

func (e *endpoint) appendTo(m *edgeMetrics, now pcommon.Timestamp) {
	if e.closed > 0 {
		e.point(m.endpointClosed, now, e.closed)
	}
	for _, f := range e.failed {
		e.point(m.endpointFailed, now, f.n).Attributes().PutStr(semconv.LabelErrorType, f.Type)
	}
	if e.requests > 0 {
		e.point(m.endpointRequests, now, e.requests)
	}
	if e.requestsFailed > 0 {
		e.point(m.endpointRequestsFailed, now, e.requestsFailed)
	}
}

func (e *endpoint) point(points pmetric.NumberDataPointSlice, now pcommon.Timestamp, value uint64) pmetric.NumberDataPoint {
	p := points.AppendEmpty()
	p.SetStartTimestamp(e.start)
	p.SetTimestamp(now)
	p.SetIntValue(int64(value))
	e.putAttributes(p.Attributes())
	return p
}

func put(attrs pcommon.Map, name, value string) {
	if value != "" {
		attrs.PutStr(name, value)
	}
}
