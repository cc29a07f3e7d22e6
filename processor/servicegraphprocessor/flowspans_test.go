package servicegraphprocessor

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
)

// spanOf is a connection's span as the receiver makes it; its id is the connection's number.
func spanOf(c *recordedConnection, number int, to ptrace.Traces) {
	resource := to.ResourceSpans().AppendEmpty()
	resource.Resource().Attributes().PutStr(semconv.AttrNodeName, c.node)
	scope := resource.ScopeSpans().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	span := scope.Spans().AppendEmpty()
	span.SetTraceID(flowTraceID(number))
	span.SetSpanID(flowSpanID(number))
	span.SetKind(ptrace.SpanKindServer)
	sent, received := c.clientReceived, c.clientSent
	if c.outbound {
		span.SetKind(ptrace.SpanKindClient)
		sent, received = received, sent
	}
	span.SetStartTimestamp(pcommon.NewTimestampFromTime(c.time.Add(-c.duration)))
	span.SetEndTimestamp(pcommon.NewTimestampFromTime(c.time))
	attrs := span.Attributes()
	attrs.PutStr(semconv.AttrSourceAddress, c.src.Addr().String())
	attrs.PutStr(semconv.AttrDestinationAddress, c.dst.Addr().String())
	if c.hbone.IsValid() {
		attrs.PutStr(semconv.AttrDestinationHBONE, c.hbone.String())
	}
	attrs.PutInt(semconv.AttrBytesSent, int64(sent))
	attrs.PutInt(semconv.AttrBytesRecv, int64(received))
	put(attrs, semconv.AttrSourcePod, c.srcPod)
	put(attrs, semconv.AttrSourceNamespace, c.srcNS)
	put(attrs, semconv.AttrDestinationPod, c.dstPod)
	put(attrs, semconv.AttrDestinationNamespace, c.dstNS)
	put(attrs, semconv.AttrDestinationService, c.service)
}

// spanKey identifies a span.
type spanKey struct {
	trace pcommon.TraceID
	span  pcommon.SpanID
}

func keyOf(trace pcommon.TraceID, span pcommon.SpanID) spanKey { return spanKey{trace, span} }

func flowTraceID(number int) (id pcommon.TraceID) {
	binary.BigEndian.PutUint64(id[8:], uint64(number)+1)
	return id
}

func flowSpanID(number int) (id pcommon.SpanID) {
	binary.BigEndian.PutUint64(id[:], uint64(number)+1)
	return id
}

// appRequest is one request as the applications tell it.
type appRequest struct {
	client, server ptrace.Span
	clientPod      string
	serverPod      string
	trace          pcommon.TraceID
}

func (r *recording) appRequests() []appRequest {
	type of struct {
		span ptrace.Span
		pod  string
	}
	clients := map[spanKey]of{}
	var servers []of
	seen := map[spanKey]bool{}
	for _, traces := range r.traces {
		for _, rs := range traces.ResourceSpans().All() {
			pod, _ := rs.Resource().Attributes().Get("k8s.pod.name")
			for _, ss := range rs.ScopeSpans().All() {
				for _, span := range ss.Spans().All() {
					id := keyOf(span.TraceID(), span.SpanID())
					if seen[id] {
						continue
					}
					seen[id] = true
					if span.Kind() == ptrace.SpanKindClient {
						clients[id] = of{span, pod.Str()}
					} else {
						servers = append(servers, of{span, pod.Str()})
					}
				}
			}
		}
	}
	var requests []appRequest
	for _, s := range servers {
		if c, ok := clients[keyOf(s.span.TraceID(), s.span.ParentSpanID())]; ok {
			requests = append(requests, appRequest{c.span, s.span, c.pod, s.pod, s.span.TraceID()})
		}
	}
	return requests
}

// used tells whether a connection's end may have carried a request's span: one encloses the other up to slack.
func used(c *recordedConnection, span ptrace.Span) bool {
	const slack = 4 * time.Millisecond
	start, end := c.time.Add(-c.duration), c.time
	from, to := span.StartTimestamp().AsTime(), span.EndTimestamp().AsTime()
	within := !from.Before(start.Add(-slack)) && !to.After(end.Add(slack))
	around := !start.Before(from.Add(-slack)) && !end.After(to.Add(slack))
	return within || around
}

func TestFlowSpansOfRecordings(t *testing.T) {
	for _, name := range recordingNames {
		t.Run(name, func(t *testing.T) {
			r := readRecording(t, name)
			p := newPipelines(t, nil)
			playSpans(p, r)

			left := map[pcommon.SpanID]ptrace.Span{}
			for _, traces := range p.outTraces.AllTraces() {
				for _, rs := range traces.ResourceSpans().All() {
					for _, ss := range rs.ScopeSpans().All() {
						if ss.Scope().Name() != semconv.ScopeReceiver {
							continue
						}
						for _, span := range ss.Spans().All() {
							_, twice := left[span.SpanID()]
							require.False(t, twice)
							left[span.SpanID()] = span
						}
					}
				}
			}
			require.Len(t, left, len(r.connections), "every span leaves once")

			requests := map[podPair][]appRequest{}
			answered := map[spanKey]bool{}
			for _, q := range r.appRequests() {
				pair := podPair{q.clientPod, q.serverPod}
				requests[pair] = append(requests[pair], q)
				answered[keyOf(q.trace, q.client.SpanID())] = true
			}
			expected, paired, confirmed, attached, wrongly := 0, 0, 0, 0, 0
			counterpart := r.counterparts()
			for number := range r.connections {
				inbound := &r.connections[number]
				if counterpart[number] >= 0 && inbound.outbound {
					expected++
				}
				if inbound.outbound {
					continue
				}
				span := left[flowSpanID(number)]
				if span.ParentSpanID().IsEmpty() {
					continue
				}
				parent := span.ParentSpanID()
				outboundNumber := int(binary.BigEndian.Uint64(parent[:])) - 1
				outbound := &r.connections[outboundNumber]
				client := left[flowSpanID(outboundNumber)]
				require.True(t, outbound.outbound)
				require.Equal(t, client.TraceID(), span.TraceID())
				paired++
				// The applications' requests tell which ends belong together.
				byOutbound, byInbound, both := 0, 0, 0
				between := requests[podPair{outbound.srcPod, inbound.dstPod}]
				for i := range between {
					q := &between[i]
					o, in := used(outbound, q.client), used(inbound, q.server)
					if o {
						byOutbound++
					}
					if in {
						byInbound++
					}
					if o && in {
						both++
					}
				}
				if byOutbound > 0 && byInbound > 0 {
					assert.Positive(t, both, "no request used both %+v and %+v", outbound, inbound)
					confirmed++
				}
				if client.ParentSpanID().IsEmpty() {
					continue
				}
				attached++
				rightly := !answered[keyOf(client.TraceID(), client.ParentSpanID())]
				for i := range between {
					if q := &between[i]; q.trace == client.TraceID() && q.client.SpanID() == client.ParentSpanID() && used(inbound, q.server) {
						rightly = true
					}
				}
				if !rightly {
					wrongly++
				}
			}
			t.Logf("%d with a counterpart, %d paired, %d confirmed by a request, %d attached, %d of them wrongly", expected, paired, confirmed, attached, wrongly)
			assert.GreaterOrEqual(t, float64(paired), 0.99*float64(expected))
			assert.LessOrEqual(t, paired, expected)
			assert.Positive(t, confirmed)
			assert.Positive(t, attached)
			assert.Zero(t, wrongly)
		})
	}
}

// connectionKey is what both ends of a connection know of it.
type connectionKey struct {
	client         netip.Addr
	server         netip.AddrPort
	sent, received uint64
}

// counterparts finds for every connection's record the other end's by brute force: same key, smallest distance in time,
// mutually. -1 is none.
func (r *recording) counterparts() []int {
	result := make([]int, len(r.connections))
	byKey := map[connectionKey][]int{}
	for i := range r.connections {
		c := &r.connections[i]
		result[i] = -1
		if c.hbone.IsValid() {
			key := connectionKey{c.src.Addr(), c.hbone, c.clientSent, c.clientReceived}
			byKey[key] = append(byKey[key], i)
		}
	}
	distance := func(i, j int) time.Duration { return r.connections[i].time.Sub(r.connections[j].time).Abs() }
	for _, group := range byKey {
		type candidate struct{ o, i int }
		var candidates []candidate
		for _, o := range group {
			for _, i := range group {
				if r.connections[o].outbound && !r.connections[i].outbound && distance(o, i) < 50*time.Millisecond {
					candidates = append(candidates, candidate{o, i})
				}
			}
		}
		slices.SortFunc(candidates, func(a, b candidate) int { return int(distance(a.o, a.i) - distance(b.o, b.i)) })
		for _, c := range candidates {
			if result[c.o] < 0 && result[c.i] < 0 {
				result[c.o], result[c.i] = c.i, c.o
			}
		}
	}
	return result
}

// playSpans feeds a recording's flow spans and application spans, second by second.
func playSpans(p *pipelines, r *recording) {
	p.play(&recording{connections: r.connections[:1], mesh: r.mesh}, playOptions{})
	begin := r.connections[0].time.Truncate(time.Second)
	next, nextTrace := 0, 0
	for boundary := begin.Add(2 * time.Second); next < len(r.connections); boundary = boundary.Add(time.Second) {
		traces := ptrace.NewTraces()
		for ; next < len(r.connections) && r.connections[next].time.Before(boundary); next++ {
			spanOf(&r.connections[next], next, traces)
		}
		for ; nextTrace < len(r.traces) && lastEnd(r.traces[nextTrace]).Before(boundary); nextTrace++ {
			app := ptrace.NewTraces()
			r.traces[nextTrace].CopyTo(app)
			p.spans(app)
		}
		p.spans(traces)
		b := newBatch(boundary)
		b.heartbeat("node-a", "node-b", "node-c")
		if next == len(r.connections) {
			b.done()
		}
		p.consume(b.metrics)
	}
}

// TestSimilarConnectionsArePairedByTime has many connections of the same key at once, and nodes whose clocks differ.
func TestSimilarConnectionsArePairedByTime(t *testing.T) {
	for _, skew := range []time.Duration{0, 20 * time.Millisecond, -20 * time.Millisecond} {
		p := newPipelines(t, nil).known()
		p.step(1, nil)
		traces := ptrace.NewTraces()
		want := map[pcommon.SpanID]pcommon.SpanID{}
		connection := func(number int, outbound bool, end time.Time, duration time.Duration) {
			c := recordedConnection{
				node: "node-a", time: end, duration: duration, outbound: outbound,
				src: netip.MustParseAddrPort("10.0.1.1:4000"), dst: netip.MustParseAddrPort("10.0.2.1:15008"),
				hbone: netip.MustParseAddrPort("10.0.2.1:8080"), srcPod: "client-1", srcNS: "shop", dstPod: "server-1", dstNS: "shop",
			}
			if !outbound {
				c.node = "node-b"
			}
			spanOf(&c, number, traces)
		}
		// The first pair stands alone and shows how far the clocks are apart.
		for n := range 40 {
			end := second0(1.1 + float64(n)*0.012)
			if n == 0 {
				end = second0(1)
			}
			connection(2*n, true, end, 9*time.Millisecond)
			connection(2*n+1, false, end.Add(skew-300*time.Microsecond), 8*time.Millisecond)
			want[flowSpanID(2*n+1)] = flowSpanID(2 * n)
			if n == 0 {
				p.spans(traces)
				traces = ptrace.NewTraces()
				p.step(1.09, nil)
				p.step(2, nil)
			}
		}
		p.spans(traces)
		p.step(12, nil)
		got := map[pcommon.SpanID]pcommon.SpanID{}
		for _, traces := range p.outTraces.AllTraces() {
			for _, rs := range traces.ResourceSpans().All() {
				for _, span := range rs.ScopeSpans().At(0).Spans().All() {
					if !span.ParentSpanID().IsEmpty() {
						got[span.SpanID()] = span.ParentSpanID()
					}
				}
			}
		}
		assert.Equal(t, want, got, "clocks %s apart", skew)
	}
}

func TestFlowSpanWithoutCounterpartLeavesAlone(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, nil)
	traces := ptrace.NewTraces()
	c := recordedConnection{
		node: "node-a", time: second0(1.5), outbound: true, src: netip.MustParseAddrPort("10.0.1.1:4000"),
		dst: netip.MustParseAddrPort("10.0.2.1:15008"), hbone: netip.MustParseAddrPort("10.0.2.1:8080"),
	}
	spanOf(&c, 1, traces)
	c.hbone = netip.AddrPort{}
	spanOf(&c, 2, traces)
	p.spans(traces)
	require.Equal(t, 1, p.outTraces.SpanCount(), "what has no counterpart does not wait")
	p.step(3, nil)
	require.Equal(t, 1, p.outTraces.SpanCount())
	p.step(7, nil)
	require.Equal(t, 2, p.outTraces.SpanCount())
}

func TestHeldSpansAreBoundedAndLeaveAtTheEnd(t *testing.T) {
	p := newPipelines(t, func(c *Config) { c.FlowSpans.MaxSpans = 5 }).known()
	p.step(1, nil)
	traces := ptrace.NewTraces()
	for n := range 20 {
		c := recordedConnection{
			node: "node-a", time: second0(1.5), outbound: true, src: netip.MustParseAddrPort("10.0.1.1:4000"),
			hbone: netip.MustParseAddrPort("10.0.2.1:8080"), clientSent: uint64(n),
		}
		spanOf(&c, n, traces)
	}
	p.spans(traces)
	require.Equal(t, 15, p.outTraces.SpanCount())
	require.NoError(t, p.traces.(*tracesProcessor).send(t.Context(), held(p.graph(), p.graph().spans.Settle)))
	require.Equal(t, 20, p.outTraces.SpanCount())
}
