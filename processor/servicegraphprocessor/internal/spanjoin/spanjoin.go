package spanjoin

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/appspan"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/requests"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
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
	side
	resource pcommon.Resource
	scope    pcommon.InstrumentationScope
}

// waitingPair holds the spans of one connection key whose counterparts are missing.
type waitingPair struct{ outbound, inbound []*flowSpan }

// Config bounds what is held and says how long.
type Config struct {
	// Wait is how long a span waits for its counterpart, RequestWait for the request that used the connection.
	Wait, RequestWait time.Duration
	MaxSpans          int
	// MaxSkew bounds the difference between two nodes' clocks.
	MaxSkew time.Duration
}

// Table joins the two spans of each connection and the request that used it.
type Table struct {
	cfg       Config
	names     *naming.Directory
	sent      *requests.Sent
	telemetry *telemetry.Telemetry

	waiting map[connectionKey]*waitingPair // bounded by MaxSpans
	// attaching are clients' spans that wait for their request, with or without a counterpart.
	attaching []*flowSpan
	leaving   []*flowSpan
	held      int
	skews     *expiry.Table[nodePair, time.Duration]
	matches   []match
}

// NewTable returns an empty table that looks for requests among those that were sent.
func NewTable(cfg Config, names *naming.Directory, sent *requests.Sent, t *telemetry.Telemetry) *Table {
	return &Table{
		cfg: cfg, names: names, sent: sent, telemetry: t,
		waiting: map[connectionKey]*waitingPair{},
		skews:   expiry.New[nodePair, time.Duration](maxSkews, nil),
	}
}

// Len is the number of spans held.
func (t *Table) Len() int { return t.held }

// Apply takes the flow spans that have to wait out of a batch.
func (t *Table) Apply(resource pcommon.Resource, scope ptrace.ScopeSpans, arrival moment.Arrival) {
	var writer *spanWriter
	scope.Spans().RemoveIf(func(span ptrace.Span) bool {
		if writer == nil {
			writer = &spanWriter{side: sideOf(resource), resource: pcommon.NewResource(), scope: pcommon.NewInstrumentationScope()}
			resource.CopyTo(writer.resource)
			scope.Scope().CopyTo(writer.scope)
		}
		return t.apply(writer, span, arrival)
	})
	if writer != nil && scope.Spans().Len() > 0 {
		t.nameSide(&writer.side, arrival.Now, resource.Attributes())
	}
}

// apply takes over a flow span and tells whether it has to wait, which takes it out of its batch.
func (t *Table) apply(writer *spanWriter, span ptrace.Span, arrival moment.Arrival) bool {
	key, f := readFlowSpan(span)
	f.writer, f.node = writer, writer.node
	paired := key.client.IsValid() && key.server.IsValid()
	arrived := arrival.Of(f.end)
	f.deadline = arrived + pcommon.Timestamp(t.cfg.Wait)
	if f.outbound && t.sent.Instrumented(f.source, arrived) || !paired && t.mayBeNamed(&writer.side, arrival.Now) {
		f.attachUntil = arrived + pcommon.Timestamp(t.cfg.RequestWait)
	}
	switch {
	case !paired && f.attachUntil == 0:
		t.telemetry.FlowSpan(telemetry.FlowSpanSingle)
		t.namePeer(f, span)
		return false
	case t.held >= t.cfg.MaxSpans:
		t.telemetry.FlowSpan(telemetry.FlowSpanEvicted)
		t.namePeer(f, span)
		return false
	}
	t.held++
	f.span = ptrace.NewSpan()
	span.MoveTo(f.span)
	if !paired {
		t.telemetry.FlowSpan(telemetry.FlowSpanSingle)
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
			key.client = appspan.Address(value.Str())
		case semconv.AttrDestinationHBONE:
			if server, err := netip.ParseAddrPort(value.Str()); err == nil {
				key.server = netip.AddrPortFrom(server.Addr().Unmap(), server.Port())
			}
		case semconv.AttrDestinationAddress:
			f.server = appspan.Address(value.Str())
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

// Settle joins what can be joined as of now and returns the spans that leave.
func (t *Table) Settle(m moment.Moment) ptrace.Traces {
	now, force := m.Now, m.Final
	for key, w := range t.waiting {
		t.match(w, now, force)
		w.outbound = t.settle(w.outbound, now, force)
		w.inbound = t.settle(w.inbound, now, force)
		if len(w.outbound) == 0 && len(w.inbound) == 0 {
			delete(t.waiting, key)
		}
	}
	t.attachAll(now, force)
	t.skews.Sweep(now - min(now, skewsLast))
	return t.leave()
}

// Rewind takes note that the graph's clock went back to a time: nothing is waited for any longer than from then on.
func (t *Table) Rewind(now pcommon.Timestamp) {
	t.skews.Rewind(now)
	rewind := func(spans []*flowSpan) {
		for _, f := range spans {
			f.deadline = min(f.deadline, now+pcommon.Timestamp(t.cfg.Wait))
			f.attachUntil = min(f.attachUntil, now+pcommon.Timestamp(t.cfg.RequestWait))
		}
	}
	for _, w := range t.waiting {
		rewind(w.outbound)
		rewind(w.inbound)
	}
	rewind(t.attaching)
}

// settle moves on the spans whose counterpart is found or is waited for no longer.
func (t *Table) settle(spans []*flowSpan, now pcommon.Timestamp, force bool) []*flowSpan {
	left := spans[:0]
	for _, f := range spans {
		switch {
		case f.mate == nil && !force && f.deadline > now:
			left = append(left, f)
			continue
		case f.mate == nil:
			t.telemetry.FlowSpan(telemetry.FlowSpanUnpaired)
		default:
			t.telemetry.FlowSpan(telemetry.FlowSpanPaired)
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
func (f *flowSpan) done(t *Table) {
	t.leaving = append(t.leaving, f)
	if f.mate != nil {
		f.mate.span.SetTraceID(f.span.TraceID())
		f.mate.span.SetParentSpanID(f.span.SpanID())
		f.mate.within(f.span.StartTimestamp(), f.span.EndTimestamp(), rounding)
		t.leaving = append(t.leaving, f.mate)
	}
}

// leave builds the batch of the spans that leave, those of one resource together.
func (t *Table) leave() ptrace.Traces {
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
			t.nameSide(&f.writer.side, f.end, resource.Resource().Attributes())
			scope := resource.ScopeSpans().AppendEmpty()
			f.writer.scope.CopyTo(scope.Scope())
			spans = scope.Spans()
			scopes[f.writer] = spans
		}
		t.namePeer(f, f.span)
		f.span.MoveTo(spans.AppendEmpty())
	}
	t.held -= len(t.leaving)
	clear(t.leaving)
	t.leaving = t.leaving[:0]
	return traces
}
