package appspan

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
)

func spanOf(t *testing.T, kind ptrace.SpanKind, attrs map[string]any) ptrace.Span {
	t.Helper()
	span := ptrace.NewSpan()
	span.SetKind(kind)
	span.SetName("op")
	require.NoError(t, span.Attributes().FromRaw(attrs))
	return span
}

func TestPeer(t *testing.T) {
	addr := netip.MustParseAddr
	for name, tt := range map[string]struct {
		attrs map[string]any
		want  Peer
	}{
		"name and port":          {map[string]any{"server.address": "API.shop.", "server.port": 80}, Peer{Host: "api.shop", Port: 80}},
		"both in one":            {map[string]any{"server.address": "api:8080"}, Peer{Host: "api", Port: 8080}},
		"an address as the name": {map[string]any{"server.address": "10.0.0.1:80"}, Peer{Addr: addr("10.0.0.1"), Port: 80}},
		"IPv6":                   {map[string]any{"server.address": "[2001:db8::1]", "server.port": "443"}, Peer{Addr: addr("2001:db8::1"), Port: 443}},
		"IPv4 in IPv6":           {map[string]any{"network.peer.address": "::ffff:10.0.0.1", "network.peer.port": 80}, Peer{Addr: addr("10.0.0.1"), Port: 80}},
		"name and address":       {map[string]any{"server.address": "api", "server.port": 80, "network.peer.address": "10.0.0.1", "network.peer.port": 8080}, Peer{Addr: addr("10.0.0.1"), Host: "api", Port: 8080}},
		"before 1.21":            {map[string]any{"net.peer.name": "api", "net.peer.port": 80, "net.sock.peer.addr": "10.0.0.1"}, Peer{Addr: addr("10.0.0.1"), Host: "api", Port: 80}},
		"before 1.13":            {map[string]any{"net.peer.ip": "10.0.0.1", "net.peer.port": 80}, Peer{Addr: addr("10.0.0.1"), Port: 80}},
		"a URL":                  {map[string]any{"http.url": "https://u:p@api.example:8443?x=/"}, Peer{Host: "api.example", Port: 8443}},
		"a path":                 {map[string]any{"url.full": "/x"}, Peer{}},
		"a socket":               {map[string]any{"server.address": "/run/mysqld.sock"}, Peer{}},
		"a proxy's choice":       {map[string]any{"upstream_cluster": "inbound-vip|80|http|api.shop.svc;", "http.url": "http://www.example/"}, Peer{Host: "api.shop.svc"}},
		"a service's own name":   {map[string]any{"peer.service": "cache"}, Peer{Service: "cache"}},
		"too long":               {map[string]any{"server.address": strings.Repeat("a.", 200)}, Peer{}},
		"nonsense":               {map[string]any{"server.address": 7, "server.port": -1, "network.peer.address": "x"}, Peer{}},
	} {
		t.Run(name, func(t *testing.T) {
			call := ReadCall(spanOf(t, ptrace.SpanKindClient, tt.attrs))
			assert.Equal(t, tt.want, call.Peer)
		})
	}
	for _, own := range []string{"localhost", "127.0.0.1", "::1"} {
		call := ReadCall(spanOf(t, ptrace.SpanKindClient, map[string]any{"server.address": own}))
		assert.False(t, call.Known(), own)
	}
}

func TestCallFails(t *testing.T) {
	for name, tt := range map[string]struct {
		attrs  map[string]any
		status ptrace.StatusCode
		want   bool
	}{
		"the peer's fault":         {map[string]any{"http.response.status_code": 503}, ptrace.StatusCodeError, true},
		"its own":                  {map[string]any{"http.response.status_code": 404}, ptrace.StatusCodeError, false},
		"no answer":                {nil, ptrace.StatusCodeError, true},
		"gRPC, the peer's":         {map[string]any{"rpc.grpc.status_code": 14}, ptrace.StatusCodeError, true},
		"gRPC by name, its own":    {map[string]any{"rpc.response.status_code": "NOT_FOUND"}, ptrace.StatusCodeError, false},
		"gRPC by name, the peer's": {map[string]any{"rpc.response.status_code": "unavailable"}, ptrace.StatusCodeUnset, true},
		"an answer":                {map[string]any{"http.status_code": "200"}, ptrace.StatusCodeUnset, false},
	} {
		t.Run(name, func(t *testing.T) {
			span := spanOf(t, ptrace.SpanKindClient, tt.attrs)
			span.Status().SetCode(tt.status)
			assert.Equal(t, tt.want, ReadCall(span).Failed)
		})
	}
}

func TestProxy(t *testing.T) {
	o := &Origin{Service: "ingress.gateways"}
	kind, who := o.Proxy(spanOf(t, ptrace.SpanKindClient, map[string]any{"node_id": "router~10.0.0.7~ingress-1.gateways~x"}))
	assert.Equal(t, "router", kind)
	assert.Equal(t, &Origin{Pod: "ingress-1", Namespace: "gateways", PodIP: netip.MustParseAddr("10.0.0.7"), Service: "ingress"}, who)
	for _, id := range []string{"", "~", "waypoint", "other~10.0.0.7~a.b~c"} {
		kind, who := o.Proxy(spanOf(t, ptrace.SpanKindClient, map[string]any{"node_id": id}))
		assert.Empty(t, kind)
		assert.Same(t, o, who)
	}
}

// FuzzSpans reads spans whose attributes are anything.
func FuzzSpans(f *testing.F) {
	f.Add("api.shop:80", "http://a@b:1/c", "waypoint~10.0.0.1~a.b~c", "outbound|80||x;", 80)
	f.Add("[::1]:x", "://", "router~~~", "|", -1)
	f.Fuzz(func(t *testing.T, host, url, node, cluster string, port int) {
		resource := pcommon.NewResource()
		for _, name := range []string{attrHostName, attrServiceInstance, attrHostIP, attrPodIP, semconv.AttrServiceName} {
			resource.Attributes().PutStr(name, host)
		}
		o := OriginOf(resource)
		span := ptrace.NewSpan()
		for name, value := range map[string]string{
			attrServerAddress: host, attrPeerAddress: host, attrURLFull: url, attrNodeID: node, attrUpstreamCluster: cluster, attrResponseFlags: url, attrHTTPStatusOld: host,
		} {
			span.Attributes().PutStr(name, value)
		}
		span.Attributes().PutInt(attrServerPort, int64(port))
		o.Proxy(span)
		call, answer := ReadCall(span), ReadAnswer(span)
		_, _, _ = OwnAnswer(span)
		assert.LessOrEqual(t, len(call.Host), maxHost)
		assert.False(t, call.Addr.Is4In6() || answer.Called.Addr.Is4In6())
	})
}

func TestWriters(t *testing.T) {
	w := NewWriters(10)
	o := &Origin{}
	for n := range byte(100) {
		require.True(t, w.Add(ID{n}, o))
		for last := range min(n, 10) {
			require.False(t, w.Add(ID{n - last}, o), "%d of %d", n-last, n)
		}
	}
	assert.LessOrEqual(t, len(w.current)+len(w.previous), 20)
	assert.Same(t, o, w.Of(ID{99}))
	assert.Nil(t, w.Of(ID{0}))
}

func TestOriginsAreShared(t *testing.T) {
	var origins Origins
	said := func(attrs map[string]any) pcommon.Resource {
		resource := pcommon.NewResource()
		require.NoError(t, resource.Attributes().FromRaw(attrs))
		return resource
	}
	cart := said(map[string]any{"k8s.pod.name": "cart-1", "k8s.namespace.name": "shop", "process.pid": 7})
	first := origins.Of(cart, nil)
	assert.Same(t, first, origins.Of(said(map[string]any{"k8s.pod.name": "cart-1", "k8s.namespace.name": "shop", "process.pid": 8}), nil))
	assert.NotSame(t, first, origins.Of(said(map[string]any{"k8s.pod.name": "cart-1", "k8s.namespace.name": "shop2"}), nil))
	assert.NotSame(t, first, origins.Of(said(map[string]any{"k8s.pod.name": "cart-1", "k8s.namespace.name": "shop", "host.ip": []any{"10.0.0.1"}}), nil))
	unnamed := said(map[string]any{"service.name": "cart"})
	one := origins.Of(unnamed, nil)
	assert.NotSame(t, one, origins.Of(unnamed, nil), "which may be several processes")
	for n := range 2*maxOrigins - 2 {
		origins.Of(said(map[string]any{"k8s.pod.name": strconv.Itoa(n)}), nil)
		origins.Of(cart, nil)
	}
	assert.Same(t, first, origins.Of(cart, nil), "it is in use")
	assert.LessOrEqual(t, len(origins.current)+len(origins.previous), 2*maxOrigins)
}
