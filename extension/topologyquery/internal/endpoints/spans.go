package endpoints

import (
	"cmp"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/semconv"
)

const (
	// maxJoined bounds the spans that are remembered until the other one of their request comes.
	maxJoined = 20_000
	// joinedFor is how long they are, in nanoseconds of data time.
	joinedFor = pcommon.Timestamp(60e9)
)

// spanID identifies a span: trace id and span id.
type spanID [24]byte

func idOf(trace pcommon.TraceID, span pcommon.SpanID) (id spanID) {
	copy(id[:16], trace[:])
	copy(id[16:], span[:])
	return id
}

// Joiner counts the requests that applications' spans tell of. The server's span tells of a request, the client's, its parent, who called.
// A request is counted at once; its caller is told when the client's span comes. Its methods may be called from several goroutines.
type Joiner struct {
	catalogue *Catalogue
	mesh      Mesh

	mu sync.Mutex
	// callers are who wrote client spans, passed which span a proxy's is the child of, waiting the requests whose client is not known.
	callers *expiry.Table[spanID, Name]
	passed  *expiry.Table[spanID, spanID]
	waiting *expiry.Table[spanID, *Request]
}

// NewJoiner returns a joiner that counts in a catalogue.
func NewJoiner(c *Catalogue, m Mesh) *Joiner {
	return &Joiner{
		catalogue: c, mesh: m,
		callers: expiry.New[spanID, Name](maxJoined, nil),
		passed:  expiry.New[spanID, spanID](maxJoined, nil),
		waiting: expiry.New[spanID, *Request](maxJoined, nil),
	}
}

// Add takes spans over.
func (j *Joiner) Add(td ptrace.Traces) {
	now := pcommon.Timestamp(j.catalogue.Now()) * 1e6
	j.mu.Lock()
	defer j.mu.Unlock()
	if now > joinedFor {
		j.callers.Sweep(now - joinedFor)
		j.passed.Sweep(now - joinedFor)
		j.waiting.Sweep(now - joinedFor)
	}
	for _, rs := range td.ResourceSpans().All() {
		resource := rs.Resource().Attributes()
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				j.add(resource, span, now)
			}
		}
	}
}

func (j *Joiner) add(resource pcommon.Map, span ptrace.Span, now pcommon.Timestamp) {
	id, parent := idOf(span.TraceID(), span.SpanID()), idOf(span.TraceID(), span.ParentSpanID())
	_, ofZtunnel := span.Attributes().Get(semconv.AttrDirection)
	_, ofProxy := span.Attributes().Get(attrProxyNode)
	switch {
	case ofZtunnel || ofProxy && span.ParentSpanID().IsEmpty():
	case ofProxy:
		j.passed.Put(id, parent, now)
		if r, ok := j.waiting.Get(id); ok {
			j.waiting.Delete(id)
			j.wait(r, parent, now)
		}
	case span.Kind() == ptrace.SpanKindClient:
		caller := writerOf(j.mesh, resource)
		j.callers.Put(id, caller, now)
		if r, ok := j.waiting.Get(id); ok {
			j.waiting.Delete(id)
			j.catalogue.tell(r, caller)
		}
	default:
		r, ok := FromSpan(j.mesh, resource, span)
		if !ok {
			return
		}
		if !span.ParentSpanID().IsEmpty() {
			if before, ok := j.passed.Get(parent); ok {
				parent = before
			}
			if caller, ok := j.callers.Get(parent); ok {
				r.Caller = caller
			}
		}
		j.catalogue.Add(&r)
		if r.Caller.Name == "" && !span.ParentSpanID().IsEmpty() {
			r.Path, r.Route, r.Method = strings.Clone(r.Path), strings.Clone(r.Route), strings.Clone(r.Method)
			j.waiting.Put(parent, &r, now)
		}
	}
}

// wait lets a request wait for another span, unless that has come.
func (j *Joiner) wait(r *Request, id spanID, now pcommon.Timestamp) {
	if caller, ok := j.callers.Get(id); ok {
		j.catalogue.tell(r, caller)
		return
	}
	j.waiting.Put(id, r, now)
}

// writerOf is the workload that wrote a span.
func writerOf(m Mesh, resource pcommon.Map) Name {
	namespace := cmp.Or(textOf(resource, semconv.AttrNamespaceName), textOf(resource, semconv.AttrServiceNamespace))
	if pod := m.Pod(namespace, textOf(resource, semconv.AttrPodName)); pod != nil {
		return Name{pod.Namespace, pod.Owner()}
	}
	return Name{strings.Clone(namespace), strings.Clone(textOf(resource, semconv.AttrServiceName))}
}

// tell names the caller of a request that was counted without one.
func (c *Catalogue) tell(r *Request, caller Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.services.Get(r.Service)
	if !ok || caller.Name == "" {
		return
	}
	counts := &s.endpoint(r).counts[r.Source]
	c.bytes -= counts.bytes()
	counts.tell(r, s.caller(caller))
	c.bytes += counts.bytes()
}

// tell moves a request from nobody who is known to its caller.
func (s *series) tell(r *Request, caller uint32) {
	for i := len(s.slots) - 1; i >= 0; i-- {
		one := &s.slots[i]
		if r.Time < one.start || r.Time >= one.start+int64(one.width) {
			continue
		}
		failed := one32(r.Failed)
		for k := range one.cells {
			if of := &one.cells[k]; of.caller == 0 && of.code == r.Code && of.requests > 0 && of.failed >= failed {
				of.requests--
				of.failed -= failed
				if of.requests == 0 {
					one.cells = append(one.cells[:k], one.cells[k+1:]...)
				}
				s.size -= one.bytes()
				one.count(cell{caller: caller, code: r.Code, requests: 1, failed: failed})
				one.changed = true
				s.size += one.bytes()
				return
			}
		}
		return
	}
}
