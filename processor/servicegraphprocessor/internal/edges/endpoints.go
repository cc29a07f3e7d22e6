package edges

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metricbatch"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/records"
)

// Endpoint holds the cumulative values of one destination pod, over all edges that lead to it.
type Endpoint struct {
	pod                                naming.Pod
	workload, namespace, service, node string

	start                    pcommon.Timestamp
	closed                   uint64
	failed                   []FailedCount
	requests, requestsFailed uint64

	seen, emitted pcommon.Timestamp
	dirty         bool
	gone          bool
}

// Gone tells that the endpoint is forgotten: a later connection makes a new one. It is false of nil.
func (e *Endpoint) Gone() bool { return e != nil && e.gone }

// Endpoints are the pods that edges lead to, bounded by max.
type Endpoints struct {
	max     int
	byPod   map[naming.Pod]*Endpoint
	dirty   []*Endpoint
	changed changes[naming.Pod]
}

func newEndpoints(limit int) *Endpoints {
	return &Endpoints{max: limit, byPod: map[naming.Pod]*Endpoint{}}
}

// OfWorkload finds or creates a workload's endpoint; nil if the bound is reached.
func (t *Endpoints) OfWorkload(w *mesh.Workload) *Endpoint {
	e := t.find(naming.Pod{Namespace: w.Namespace, Name: w.Name})
	if e != nil {
		e.workload, e.namespace, e.service, e.node = w.Owner(), w.Namespace, w.App(), w.Node
	}
	return e
}

// OfPod finds or creates the endpoint of a pod that the mesh's state does not know: it is shown as a party, on the node of the
// ztunnel that serves it, if that is known. It is nil if the bound is reached.
func (t *Endpoints) OfPod(id naming.Pod, party edge.Party, node string) *Endpoint {
	e := t.find(id)
	if e != nil && e.workload == "" {
		e.workload, e.namespace, e.service = party.Workload, party.Namespace, party.App
	}
	if e != nil && node != "" {
		e.node = node
	}
	return e
}

// Known is the endpoint of a pod, nil if there is none.
func (t *Endpoints) Known(id naming.Pod) *Endpoint { return t.byPod[id] }

func (t *Endpoints) find(id naming.Pod) *Endpoint {
	if e, ok := t.byPod[id]; ok {
		return e
	}
	if len(t.byPod) >= t.max {
		return nil
	}
	e := &Endpoint{pod: id, namespace: id.Namespace}
	t.byPod[id] = e
	return e
}

// Add counts connections to an endpoint.
func (t *Endpoints) Add(e *Endpoint, c *Connections, start, now pcommon.Timestamp) {
	if c.Closed == 0 && len(c.Failed) == 0 {
		return
	}
	e.closed += c.Closed
	for _, f := range c.Failed {
		reason := f.Reason
		reason.Policy = ""
		e.failed = AddFailed(e.failed, reason, f.N)
	}
	t.touch(e, start, now)
}

// AddRequest counts a request that an endpoint answered.
func (t *Endpoints) AddRequest(e *Endpoint, failed bool, start, now pcommon.Timestamp) {
	e.requests++
	if failed {
		e.requestsFailed++
	}
	t.touch(e, start, now)
}

func (t *Endpoints) touch(e *Endpoint, start, now pcommon.Timestamp) {
	if e.start == 0 || (e.emitted == 0 && start < e.start) {
		e.start = start
	}
	e.seen = max(e.seen, now)
	if !e.dirty {
		e.dirty = true
		t.dirty = append(t.dirty, e)
	}
}

func (t *Endpoints) emit(m *emission, now pcommon.Timestamp) {
	for _, e := range t.dirty {
		e.dirty = false
		e.appendTo(m, now)
		t.changed.add(e.pod)
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
}

// refresh repeats those that did not change, and forgets those that are silent for long.
func (t *Endpoints) refresh(m *emission, now, refresh pcommon.Timestamp, expiry time.Duration) {
	for id, e := range t.byPod {
		switch {
		case moment.Since(e.seen, now, expiry):
			delete(t.byPod, id)
			e.gone = true
			t.changed.add(id)
		case e.emitted <= refresh && e.emitted > 0:
			e.appendTo(m, now)
		}
	}
}

func (e *Endpoint) appendTo(m *emission, now pcommon.Timestamp) {
	e.emitted = now
	if e.closed > 0 {
		e.point(m.endpoints.closed, now, e.closed)
	}
	for _, f := range e.failed {
		e.point(m.endpoints.failed, now, f.N).Attributes().PutStr(semconv.LabelErrorType, f.Type)
	}
	if e.requests > 0 {
		e.point(m.endpoints.requests, now, e.requests)
	}
	if e.requestsFailed > 0 {
		e.point(m.endpoints.requestsFailed, now, e.requestsFailed)
	}
}

func (e *Endpoint) point(points pmetric.NumberDataPointSlice, now pcommon.Timestamp, value uint64) pmetric.NumberDataPoint {
	p := metricbatch.Append(points, e.start, now, value)
	attrs := p.Attributes()
	attrs.EnsureCapacity(6)
	attrs.PutStr(semconv.LabelDestinationPod, e.pod.Name)
	put(attrs, semconv.LabelDestinationWorkload, e.workload)
	put(attrs, semconv.LabelDestinationNamespace, e.namespace)
	put(attrs, semconv.LabelDestinationCanonicalService, e.service)
	put(attrs, semconv.LabelNode, e.node)
	return p
}

func (e *Endpoint) code(c *journal.Coder) {
	pod := e.pod.Name // which the record names before, too
	records.Texts(c, &pod, &e.workload, &e.namespace, &e.service, &e.node)
	records.Time(c, &e.start)
	records.Time(c, &e.seen)
	records.Time(c, &e.emitted)
	records.Count(c, &e.closed)
	codeFailed(c, &e.failed)
	records.Count(c, &e.requests)
	records.Count(c, &e.requestsFailed)
}
