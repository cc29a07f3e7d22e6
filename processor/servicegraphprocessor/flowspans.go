package servicegraphprocessor

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// connectionKey is what both ends of a connection know of it.
type connectionKey struct {
	client         netip.Addr
	server         netip.AddrPort
	sent, received uint64
}

// flowSpan is one end's span of a connection, held until its counterpart and its request are known.
type flowSpan struct {
	span        ptrace.Span
	writer      *spanWriter
	outbound    bool
	start, end  pcommon.Timestamp
	deadline    pcommon.Timestamp // for the counterpart
	attachUntil pcommon.Timestamp // for the request
	node        string
	source      naming.Pod
	destination naming.Pod
	service     string
	server      netip.Addr
	mate        *flowSpan
}

// spanWriter is the resource and scope of held spans.
type spanWriter struct {
	resource pcommon.Resource
	scope    pcommon.InstrumentationScope
}

// waitingPair holds the spans of one connection key whose counterparts are missing.
type waitingPair struct{ outbound, inbound []*flowSpan }

// flowSpanTable joins the two spans of each connection and the request that used it.
type flowSpanTable struct {
	cfg     FlowSpansConfig
	waiting map[connectionKey]*waitingPair
	// attaching are clients' spans that wait for their request, with or without a counterpart.
	attaching []*flowSpan
	leaving   []*flowSpan
	held      int
	skews     map[nodePair]skew
	clients   clientIndex
	matches   []match
	outcomes  outcomes
}

// outcomes counts how flow spans left since the last record.
type outcomes struct{ paired, unpaired, single, evicted, attached, ambiguous int64 }

func newFlowSpanTable(cfg *Config) *flowSpanTable {
	return &flowSpanTable{
		cfg:     cfg.FlowSpans,
		waiting: map[connectionKey]*waitingPair{},
		skews:   map[nodePair]skew{},
		clients: newClientIndex(cfg),
	}
}

func (t *flowSpanTable) len() int { return t.held }

// apply takes over a flow span and tells whether it has to wait, which takes it out of its batch.
func (t *flowSpanTable) apply(g *graph, writer *spanWriter, node string, span ptrace.Span) bool {
	key, f := readFlowSpan(span)
	paired := key.client.IsValid() && key.server.IsValid()
	arrived := max(g.clock.time, f.end)
	f.deadline = arrived + pcommon.Timestamp(t.cfg.Wait)
	if f.outbound && t.clients.instrumented(f.source, arrived) {
		f.attachUntil = arrived + pcommon.Timestamp(t.cfg.ApplicationWait)
	}
	switch {
	case !paired && f.attachUntil == 0:
		t.outcomes.single++
		return false
	case t.held >= t.cfg.MaxSpans:
		t.outcomes.evicted++
		return false
	}
	t.held++
	f.writer, f.node = writer, node
	f.span = ptrace.NewSpan()
	span.MoveTo(f.span)
	if !paired {
		t.outcomes.single++
		t.attaching = append(t.attaching, f)
		return true
	}
	w, ok := t.waiting[key]
	if !ok {
		w = &waitingPair{}
		t.waiting[key] = w
	}
	if f.outbound {
		w.outbound = append(w.outbound, f)
	} else {
		w.inbound = append(w.inbound, f)
	}
	return true
}

func readFlowSpan(span ptrace.Span) (connectionKey, *flowSpan) {
	f := &flowSpan{
		outbound: span.Kind() == ptrace.SpanKindClient,
		start:    span.StartTimestamp(),
		end:      span.EndTimestamp(),
	}
	var key connectionKey
	var sent, received int64
	span.Attributes().Range(func(name string, value pcommon.Value) bool {
		switch name {
		case semconv.AttrSourceAddress:
			key.client = addressOf(value.Str())
		case semconv.AttrDestinationHBONE:
			if server, err := netip.ParseAddrPort(value.Str()); err == nil {
				key.server = netip.AddrPortFrom(server.Addr().Unmap(), server.Port())
			}
		case semconv.AttrDestinationAddress:
			f.server = addressOf(value.Str())
		case semconv.AttrBytesSent:
			sent = value.Int()
		case semconv.AttrBytesRecv:
			received = value.Int()
		case semconv.AttrSourcePod:
			f.source.Name = naming.Intern(value.Str())
		case semconv.AttrSourceNamespace:
			f.source.Namespace = naming.Intern(value.Str())
		case semconv.AttrDestinationPod:
			f.destination.Name = naming.Intern(value.Str())
		case semconv.AttrDestinationNamespace:
			f.destination.Namespace = naming.Intern(value.Str())
		case semconv.AttrDestinationService:
			f.service = naming.Intern(value.Str())
		}
		return true
	})
	if key.server.IsValid() {
		f.server = key.server.Addr()
	}
	key.sent, key.received = uint64(sent), uint64(received)
	if !f.outbound {
		key.sent, key.received = key.received, key.sent
	}
	return key, f
}

// flush joins what can be joined as of now and returns the spans that leave.
func (t *flowSpanTable) flush(g *graph, now pcommon.Timestamp, force bool) ptrace.Traces {
	for key, w := range t.waiting {
		t.match(w, now, force)
		w.outbound = t.settle(w.outbound, now, force)
		w.inbound = t.settle(w.inbound, now, force)
		if len(w.outbound) == 0 && len(w.inbound) == 0 {
			delete(t.waiting, key)
		}
	}
	t.attachAll(g, now, force)
	t.clients.expire(now)
	return t.leave()
}

// settle moves on the spans whose counterpart is found or is waited for no longer.
func (t *flowSpanTable) settle(spans []*flowSpan, now pcommon.Timestamp, force bool) []*flowSpan {
	left := spans[:0]
	for _, f := range spans {
		switch {
		case f.mate == nil && !force && f.deadline > now:
			left = append(left, f)
			continue
		case f.mate == nil:
			t.outcomes.unpaired++
		default:
			t.outcomes.paired++
		}
		switch {
		case f.outbound && f.attachUntil > 0:
			t.attaching = append(t.attaching, f)
		case f.outbound || f.mate == nil:
			f.done(t)
		}
		// A server's span leaves with its client's.
	}
	clear(spans[len(left):])
	return left
}

// done makes a span leave, a client's with its counterpart.
func (f *flowSpan) done(t *flowSpanTable) {
	t.leaving = append(t.leaving, f)
	if f.mate != nil {
		f.mate.span.SetTraceID(f.span.TraceID())
		f.mate.span.SetParentSpanID(f.span.SpanID())
		t.leaving = append(t.leaving, f.mate)
	}
}

// leave builds the batch of the spans that leave, those of one resource together.
func (t *flowSpanTable) leave() ptrace.Traces {
	traces := ptrace.NewTraces()
	if len(t.leaving) == 0 {
		return traces
	}
	slices.SortFunc(t.leaving, func(a, b *flowSpan) int {
		x, y := a.span.SpanID(), b.span.SpanID()
		return cmp.Or(cmp.Compare(a.end, b.end), bytes.Compare(x[:], y[:]))
	})
	scopes := map[*spanWriter]ptrace.SpanSlice{}
	for _, f := range t.leaving {
		spans, ok := scopes[f.writer]
		if !ok {
			resource := traces.ResourceSpans().AppendEmpty()
			f.writer.resource.CopyTo(resource.Resource())
			scope := resource.ScopeSpans().AppendEmpty()
			f.writer.scope.CopyTo(scope.Scope())
			spans = scope.Spans()
			scopes[f.writer] = spans
		}
		f.span.MoveTo(spans.AppendEmpty())
	}
	t.held -= len(t.leaving)
	clear(t.leaving)
	t.leaving = t.leaving[:0]
	return traces
}
