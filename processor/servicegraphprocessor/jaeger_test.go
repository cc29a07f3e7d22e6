package servicegraphprocessor

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
)

// jaegerSpan is what Jaeger looks at in a span.
type jaegerSpan struct {
	ptrace.Span
	service, host string
	flow          bool
}

// jaegerSpans are the spans that left, as a Jaeger stores them.
func (p *pipelines) jaegerSpans() map[spanKey]jaegerSpan {
	spans := map[spanKey]jaegerSpan{}
	for _, traces := range p.outTraces.AllTraces() {
		for _, rs := range traces.ResourceSpans().All() {
			service, _ := rs.Resource().Attributes().Get("service.name")
			host, _ := rs.Resource().Attributes().Get("host.name")
			for _, ss := range rs.ScopeSpans().All() {
				for _, span := range ss.Spans().All() {
					spans[keyOf(span.TraceID(), span.SpanID())] = jaegerSpan{span, service.Str(), host.Str(), ss.Scope().Name() == semconv.ScopeReceiver}
				}
			}
		}
	}
	return spans
}

// skew is by how much Jaeger would move a span into its parent's time (its clock skew adjuster).
func skew(span, parent ptrace.Span) time.Duration {
	start, end := span.StartTimestamp().AsTime(), span.EndTimestamp().AsTime()
	from, to := parent.StartTimestamp().AsTime(), parent.EndTimestamp().AsTime()
	switch length, room := end.Sub(start), to.Sub(from); {
	case length > room && !start.Before(from), !start.Before(from) && !end.After(to):
		return 0
	case length > room:
		return from.Sub(start)
	default:
		return from.Add((room - length) / 2).Sub(start)
	}
}

// TestJaeger sends recordings to what a Jaeger does with spans: its System Architecture has the graph's links, and its timeline no
// connection that is outside its parent's time.
func TestJaeger(t *testing.T) {
	for _, name := range recordingNames {
		t.Run(name, func(t *testing.T) {
			p := newPipelines(t, nil)
			replay(t, p, name)
			apps, want := map[string]bool{}, map[[2]string]bool{}
			for key := range readEdges(t, p.outMetrics.AllMetrics()) {
				apps[key.Source.App], apps[key.Destination.App] = true, true
				want[[2]string{key.Source.App, key.Destination.App}] = true
			}
			spans := p.jaegerSpans()
			links, paired, skewed := map[[2]string]bool{}, 0, 0
			for _, span := range spans {
				assert.Contains(t, apps, span.service)
				parent, ok := spans[keyOf(span.TraceID(), span.ParentSpanID())]
				if !ok {
					continue
				}
				if parent.service != span.service {
					links[[2]string{parent.service, span.service}] = true
				}
				if span.flow {
					paired++
					if span.host != parent.host && skew(span.Span, parent.Span) != 0 {
						skewed++
					}
				}
			}
			assert.Equal(t, want, links)
			assert.Greater(t, paired, 1000)
			assert.LessOrEqual(t, skewed, 1)
		})
	}
}

// TestNamesOfFlowSpans has ends of all kinds.
func TestNamesOfFlowSpans(t *testing.T) {
	client := recordedConnection{
		node: "node-a", time: second0(3), duration: time.Second, outbound: true, srcPod: "client-1", srcNS: "shop",
		src: netip.MustParseAddrPort("10.0.1.1:4000"), dst: netip.MustParseAddrPort("10.0.2.1:15008"),
	}
	for _, tt := range []struct {
		name   string
		change func(*recordedConnection)
		want   string
	}{
		{"a pod", func(c *recordedConnection) { c.dstPod, c.dstNS = "server-1", "shop" }, "server"},
		{"a pod that nobody knows", func(c *recordedConnection) { c.dstPod, c.dstNS = "other-1", "shop" }, "other-1"},
		{"an address of a pod", func(c *recordedConnection) { c.dst = netip.MustParseAddrPort("10.0.2.1:8080") }, "server"},
		{"a host outside", func(c *recordedConnection) {
			c.service, c.dst = "api.example.com", netip.MustParseAddrPort("192.0.2.7:443")
		}, "api.example.com"},
		{"an address outside", func(c *recordedConnection) { c.dst = netip.MustParseAddrPort("192.0.2.7:443") }, "192.0.2.7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPipelines(t, nil)
			p.step(1, nil)
			c := client
			tt.change(&c)
			traces := ptrace.NewTraces()
			spanOf(&c, 1, traces)
			resource := traces.ResourceSpans().At(0).Resource().Attributes()
			resource.PutStr(semconv.AttrServiceName, c.srcPod)
			resource.PutStr(semconv.AttrPodName, c.srcPod)
			resource.PutStr(semconv.AttrNamespaceName, c.srcNS)
			p.spans(traces)
			p.known() // the mesh's state may come later
			p.step(12, nil)
			require.Equal(t, 1, p.outTraces.SpanCount())
			left := p.outTraces.AllTraces()[0].ResourceSpans().At(0)
			assert.Subset(t, left.Resource().Attributes().AsRaw(), map[string]any{
				"service.name": "client", "service.namespace": "shop", "k8s.pod.name": "client-1", "service.version": "v1",
			})
			assert.Equal(t, tt.want, left.ScopeSpans().At(0).Spans().At(0).Attributes().AsRaw()["peer.service"])
		})
	}
}
