package servicegraphprocessor

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/mesh"
)

// TestSpansOfOthers has a pod of another namespace send spans of a server: they count only where senders are not looked at.
func TestSpansOfOthers(t *testing.T) {
	evil := testPod("evil-1", "evil", "node-a", "10.0.9.9")
	evil.Namespace, evil.UID = "evil", "Kubernetes//Pod/evil/evil-1"
	unverified := func(c *Config) { c.Requests.VerifySenders = false }
	relay := func(relay string) func(c *Config) { return func(c *Config) { c.Requests.Relays = []string{relay} } }
	for _, test := range []struct {
		name   string
		sender string
		config func(c *Config)
		want   uint64
	}{
		{"of its own namespace", "10.0.1.1", nil, 1},
		{"of nobody's address", "127.0.0.1", nil, 1},
		{"of another namespace", "10.0.9.9", nil, 0},
		{"of another namespace, where senders are not looked at", "10.0.9.9", unverified, 1},
		{"of another namespace whose pods pass on others' spans", "10.0.9.9", relay("evil"), 1},
		{"of another workload that passes on others' spans", "10.0.9.9", relay("evil/evil"), 1},
		{"of another namespace, while others pass on spans", "10.0.9.9", relay("evil/collector"), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPipelines(t, test.config)
			p.learn(epoch, []mesh.Entity{clientPod, serverPod, serverSvc, evil}...)
			p.step(1, nil)
			traces := ptrace.NewTraces()
			s := newSpan(traces, "server-1", map[string]any{"http.route": "/a", "client.address": "10.0.1.1"})
			s.SetKind(ptrace.SpanKindServer)
			ctx := client.NewContext(t.Context(), client.Info{Addr: &net.TCPAddr{IP: net.ParseIP(test.sender), Port: 1234}})
			require.NoError(t, p.traces.ConsumeTraces(ctx, traces))
			p.step(20, nil)
			var requests uint64
			for _, e := range p.edges() {
				for _, n := range e.Requests {
					requests += n
				}
			}
			assert.Equal(t, test.want, requests)
			assert.Equal(t, 1, p.outTraces.SpanCount(), "the span itself is kept")
		})
	}
}

// TestSenderNamesItsSpans has an application that says nothing of itself: where applications send to the collector themselves, it is who
// sent them.
func TestSenderNamesItsSpans(t *testing.T) {
	for verify, want := range map[bool]string{true: "server", false: "unknown"} {
		p := newPipelines(t, func(c *Config) { c.Requests.VerifySenders = verify })
		p.learn(epoch, clientPod, serverPod, serverSvc)
		p.step(1, nil)
		traces := ptrace.NewTraces()
		newSpan(traces, "", map[string]any{"service.name": "unknown_service:java"}).SetKind(ptrace.SpanKindServer)
		ctx := client.NewContext(t.Context(), client.Info{Addr: &net.TCPAddr{IP: net.ParseIP("10.0.2.1"), Port: 1234}})
		require.NoError(t, p.traces.ConsumeTraces(ctx, traces))
		p.step(20, nil)
		require.Len(t, p.edges(), 1)
		for key := range p.edges() {
			assert.Equal(t, want, key.Destination.Workload)
		}
	}
}
