package servicegraphprocessor

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

const (
	// attachSlack is how far apart a request and the connection made for it begin and end, on one node's clock.
	attachSlack = 5 * time.Millisecond
	// instrumentedFor is how long a pod counts as instrumented after its last client span.
	instrumentedFor = 5 * time.Minute
)

// clientBucket is where a client's requests of one second are found.
type clientBucket struct {
	pod    naming.Pod
	target string // the service's host name, or the address that was called
	second int64
}

// clientIndex finds the requests that a pod sent, by target and time.
type clientIndex struct {
	max     int
	keep    time.Duration
	byTime  map[clientBucket][]*exchange
	order   queue[indexedBucket]
	pods    map[naming.Pod]pcommon.Timestamp
	indexed int
}

type indexedBucket struct {
	clientBucket
	at pcommon.Timestamp
}

func newClientIndex(cfg *Config) clientIndex {
	return clientIndex{
		max:    cfg.Requests.MaxSpans,
		keep:   2*cfg.FlowSpans.ApplicationWait + 2*time.Second,
		byTime: map[clientBucket][]*exchange{},
		pods:   map[naming.Pod]pcommon.Timestamp{},
	}
}

// instrumented tells whether a pod's requests are known from its own spans.
func (c *clientIndex) instrumented(pod naming.Pod, now pcommon.Timestamp) bool {
	last, ok := c.pods[pod]
	return ok && !since(last, now, instrumentedFor)
}

// application takes over a request's client span.
func (t *flowSpanTable) application(g *graph, x *exchange) {
	c := &t.clients
	pod := naming.Pod{Namespace: x.client.origin.namespace, Name: x.client.origin.pod}
	if pod.Name == "" || !x.client.peer.IsValid() || t.cfg.ApplicationWait == 0 {
		return
	}
	if _, known := c.pods[pod]; known || len(c.pods) < c.max {
		c.pods[pod] = max(c.pods[pod], x.arrived)
	}
	if c.indexed >= c.max {
		return
	}
	addr := x.client.peer.Addr().Unmap()
	target := addr.String()
	if service := g.directory.Called(addr); service != nil {
		target = service.Hostname
	}
	id := clientBucket{pod, naming.Intern(target), second(x.client.start)}
	if len(c.byTime[id]) == 0 {
		c.order.push(indexedBucket{id, x.arrived})
	}
	c.byTime[id] = append(c.byTime[id], x)
	c.indexed++
}

func second(at pcommon.Timestamp) int64 { return int64(at) / int64(time.Second) }

func (c *clientIndex) expire(now pcommon.Timestamp) {
	for c.order.len() > 0 && since(c.order.first().at, now, c.keep) {
		id := c.order.pop().clientBucket
		c.indexed -= len(c.byTime[id])
		delete(c.byTime, id)
	}
	for pod, last := range c.pods {
		if since(last, now, instrumentedFor) {
			delete(c.pods, pod)
		}
	}
}

// attachAll looks for the requests of the connections whose time has come, and makes them leave.
func (t *flowSpanTable) attachAll(g *graph, now pcommon.Timestamp, force bool) {
	left := t.attaching[:0]
	for _, f := range t.attaching {
		if !force && f.attachUntil > now {
			left = append(left, f)
			continue
		}
		if x := t.requestOf(g, f); x != nil {
			t.outcomes.attached++
			f.span.SetTraceID(pcommon.TraceID(x.id[:16]))
			f.span.SetParentSpanID(pcommon.SpanID(x.id[16:]))
		}
		f.done(t)
	}
	clear(t.attaching[len(left):])
	t.attaching = left
}

// requestOf finds the one request that a connection was made for: nil if there is none, or more than one could be it.
func (t *flowSpanTable) requestOf(g *graph, f *flowSpan) *exchange {
	var found *exchange
	targets := [2]string{f.service, ""}
	if f.server.IsValid() {
		targets[1] = f.server.String()
	}
	for _, target := range targets {
		if target == "" {
			continue
		}
		for at := second(f.start) - 1; at <= second(f.start)+1; at++ {
			for _, x := range t.clients.byTime[clientBucket{f.source, target, at}] {
				if !madeFor(g.directory, f, x) {
					continue
				}
				if found != nil {
					return nil
				}
				found = x
			}
		}
	}
	return found
}

// madeFor tells whether a connection began and ended with a request and went to the pod that answered it.
func madeFor(d *naming.Directory, f *flowSpan, x *exchange) bool {
	if absolute(signed(f.start, x.client.start)) > attachSlack+rounding || absolute(signed(f.end, x.client.end)) > attachSlack {
		return false
	}
	if !x.hasServer || x.server.origin.pod == "" || f.destination.Name == "" {
		return true
	}
	answered := naming.Pod{Namespace: x.server.origin.namespace, Name: x.server.origin.pod}
	return answered == f.destination || d.IsWaypoint(d.Pod(f.destination.Namespace, f.destination.Name))
}

// applyFlowSpans takes the flow spans that have to wait out of a batch.
func (g *graph) applyFlowSpans(resource pcommon.Resource, scope ptrace.ScopeSpans) {
	node := sourceOf(resource).node
	var writer *spanWriter
	scope.Spans().RemoveIf(func(span ptrace.Span) bool {
		if writer == nil {
			writer = &spanWriter{resource: pcommon.NewResource(), scope: pcommon.NewInstrumentationScope()}
			resource.CopyTo(writer.resource)
			scope.Scope().CopyTo(writer.scope)
		}
		return g.flowSpans.apply(g, writer, naming.Intern(node), span)
	})
}
