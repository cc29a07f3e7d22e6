package servicegraphprocessor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
)

// appSpan is one span as an SDK sends it. Spans of one process follow each other in one batch.
type appSpan struct {
	resource   map[string]any
	kind       ptrace.SpanKind
	id, parent byte
	links      []byte // spans of other traces
	attrs      map[string]any
	failed     bool
}

const (
	ofServer   = ptrace.SpanKindServer
	ofClient   = ptrace.SpanKindClient
	ofProducer = ptrace.SpanKindProducer
	ofConsumer = ptrace.SpanKindConsumer
	within     = ptrace.SpanKindInternal
)

// appTraces makes the spans of a number of traces, a batch for each process and trace.
func appTraces(spans []appSpan, traces int) (out []ptrace.Traces) {
	for n := range traces {
		id := func(of byte) (t pcommon.TraceID, s pcommon.SpanID) {
			t[0], t[1], t[15] = byte(n>>8), byte(n), 1
			s[0], s[1], s[7] = byte(n>>8), byte(n), of
			return t, s
		}
		var last map[string]any
		var to ptrace.SpanSlice
		for i, one := range spans {
			if i == 0 || fmt.Sprint(one.resource) != fmt.Sprint(last) {
				td := ptrace.NewTraces()
				rs := td.ResourceSpans().AppendEmpty()
				_ = rs.Resource().Attributes().FromRaw(one.resource)
				to = rs.ScopeSpans().AppendEmpty().Spans()
				last = one.resource
				out = append(out, td)
			}
			s := to.AppendEmpty()
			trace, span := id(one.id)
			s.SetTraceID(trace)
			s.SetSpanID(span)
			if one.parent != 0 {
				_, parent := id(one.parent)
				s.SetParentSpanID(parent)
			}
			for _, of := range one.links {
				link := s.Links().AppendEmpty()
				linked, span := id(of)
				link.SetTraceID(linked)
				link.SetSpanID(span)
			}
			s.SetKind(one.kind)
			s.SetName("op")
			at := 1.1 + float64(n)/1000
			s.SetStartTimestamp(pcommon.NewTimestampFromTime(second0(at)))
			s.SetEndTimestamp(pcommon.NewTimestampFromTime(second0(at + 0.02)))
			_ = s.Attributes().FromRaw(one.attrs)
			if one.failed {
				s.Status().SetCode(ptrace.StatusCodeError)
			}
		}
	}
	return out
}

// shopMesh has web and api in shop, reviews in two versions, a queue and a gateway; "api" is a name in two namespaces.
func shopMesh() []mesh.Entity {
	pod := func(namespace, owner, app, version, address string, services ...string) *mesh.Workload {
		w := &mesh.Workload{
			UID: "Kubernetes//Pod/" + namespace + "/" + owner + "-1", Name: owner + "-1", Namespace: namespace, Node: "node-a", ClusterID: "Kubernetes",
			Naming:    mesh.Naming{WorkloadName: owner, CanonicalName: app, CanonicalRevision: version},
			Addresses: []string{address}, TunnelProtocol: "HBONE", Healthy: true, Services: map[string][]mesh.Port{},
		}
		for _, s := range services {
			w.Services[namespace+"/"+s+"."+namespace+".svc.cluster.local"] = []mesh.Port{{ServicePort: 80, TargetPort: 8080}}
		}
		return w
	}
	service := func(namespace, name, vip string) *mesh.Service {
		return &mesh.Service{
			Name: name, Namespace: namespace, Hostname: name + "." + namespace + ".svc.cluster.local", Addresses: []string{vip},
			Ports: []mesh.Port{{ServicePort: 80, TargetPort: 8080}},
		}
	}
	return []mesh.Entity{
		pod("shop", "web", "web", "v1", "10.1.0.1"), pod("shop", "api", "api", "v1", "10.1.0.2", "api"), service("shop", "api", "10.96.1.2"),
		pod("shop", "mailer", "mailer", "v1", "10.1.0.3"),
		pod("shop", "reviews-v1", "reviews", "v1", "10.1.0.4", "reviews"), pod("shop", "reviews-v2", "reviews", "v2", "10.1.0.5", "reviews"), service("shop", "reviews", "10.96.1.4"),
		pod("data", "kafka", "kafka", "v1", "10.1.0.6", "kafka"), service("data", "kafka", "10.96.1.6"),
		pod("gateways", "ingress", "ingress", "v1", "10.1.0.7"),
		pod("blue", "cart", "cart", "v1", "10.1.0.8"), pod("green", "cart", "cart", "v1", "10.1.0.9"),
	}
}

func TestSpansAsSDKsSendThem(t *testing.T) {
	named := func(name string) map[string]any { return map[string]any{"service.name": name} }
	web, api, mailer, orders := named("web"), named("api"), named("mailer"), named("orders-outside")
	nobody := func(of string) map[string]any {
		return map[string]any{"service.name": "unknown_service:java", "process.pid": of}
	}
	host := func(name string) map[string]any {
		return map[string]any{"service.name": "unknown_service:java", "host.name": name}
	}
	toAPI := map[string]any{"server.address": "api.shop", "server.port": 80, "http.request.method": "GET"}
	fromWeb := map[string]any{"client.address": "10.1.0.1"}
	kafka := map[string]any{"messaging.system": "kafka", "server.address": "kafka.data.svc.cluster.local", "server.port": 80}
	receives := map[string]any{"messaging.system": "kafka", "messaging.operation.type": "receive"}
	const webToAPI = "shop/web > shop/api api http mutual_tls"
	for name, tt := range map[string]struct {
		spans []appSpan
		want  map[string]string
	}{
		"service names alone": {
			[]appSpan{{web, ofServer, 1, 0, nil, nil, false}, {web, ofClient, 2, 1, nil, toAPI, false}, {api, ofServer, 3, 2, nil, fromWeb, false}},
			map[string]string{"/unknown > shop/web  http unknown": "3 0", webToAPI: "3 0"},
		},
		"service names and no addresses": {
			[]appSpan{{web, ofClient, 2, 0, nil, toAPI, false}, {api, ofServer, 3, 2, nil, nil, false}}, map[string]string{webToAPI: "3 0"},
		},
		"host name is the pod": {
			[]appSpan{{host("web-1"), ofClient, 2, 0, nil, nil, false}, {host("api-1"), ofServer, 3, 2, nil, nil, true}}, map[string]string{webToAPI: "3 3"},
		},
		"the operator's instance id": {
			[]appSpan{{map[string]any{"service.name": "x", "service.instance.id": "shop.web-1.app"}, ofClient, 2, 0, nil, nil, false}, {host("api-1"), ofServer, 3, 2, nil, nil, false}},
			map[string]string{webToAPI: "3 0"},
		},
		"no name at all, by address and by whom the client called": {
			[]appSpan{
				{nobody("1"), ofServer, 1, 0, nil, nil, false},
				{nobody("1"), ofClient, 2, 1, nil, toAPI, false},
				{nobody("2"), ofServer, 3, 2, nil, fromWeb, false},
			},
			map[string]string{"/unknown > shop/web  http unknown": "3 0", webToAPI: "3 0"},
		},
		"a name in two namespaces is nobody's, unless one is stated": {
			[]appSpan{
				{named("cart"), ofClient, 1, 0, nil, toAPI, false},
				{api, ofServer, 2, 1, nil, nil, false},
				{map[string]any{"service.name": "cart", "service.namespace": "blue"}, ofClient, 3, 0, nil, toAPI, false},
				{api, ofServer, 4, 3, nil, nil, false},
			},
			map[string]string{"/cart > shop/api api http none": "3 0", "blue/cart > shop/api api http mutual_tls": "3 0"},
		},
		"a version among several, or none": {
			[]appSpan{
				{web, ofClient, 1, 0, nil, map[string]any{"server.address": "reviews"}, false},
				{map[string]any{"service.name": "reviews", "service.version": "v2"}, ofServer, 2, 1, nil, nil, false},
				{web, ofClient, 3, 0, nil, map[string]any{"server.address": "reviews"}, false},
				{named("reviews"), ofServer, 4, 3, nil, nil, false},
			},
			map[string]string{"shop/web > shop/reviews-v2 reviews http mutual_tls": "3 0", "shop/web > shop/reviews reviews http mutual_tls": "3 0"},
		},
		"conventions of before": {
			[]appSpan{
				{web, ofClient, 2, 0, nil, map[string]any{"net.peer.name": "api", "net.peer.port": 80, "http.method": "GET", "http.status_code": 200}, false},
				{api, ofServer, 3, 2, nil, map[string]any{"net.sock.peer.addr": "10.1.0.1", "http.status_code": 500}, false},
			},
			map[string]string{webToAPI: "3 3"},
		},
		"behind a proxy that forwards": {
			[]appSpan{{api, ofServer, 3, 0, nil, map[string]any{"client.address": "203.0.113.9", "network.peer.address": "10.1.0.7"}, false}},
			map[string]string{"gateways/ingress > shop/api api http mutual_tls": "3 0"},
		},
		"server below server of one service": {
			[]appSpan{
				{web, ofClient, 1, 0, nil, toAPI, false},
				{api, ofServer, 2, 1, nil, fromWeb, false},
				{api, ofServer, 3, 2, nil, fromWeb, false},
				{api, within, 4, 3, nil, nil, false},
				{api, ofServer, 5, 4, nil, nil, false},
			},
			map[string]string{webToAPI: "3 0"},
		},
		"server below server of another service": {
			[]appSpan{{web, ofServer, 1, 0, nil, nil, false}, {web, within, 2, 1, nil, nil, false}, {api, ofServer, 3, 2, nil, nil, false}},
			map[string]string{"/unknown > shop/web  http unknown": "3 0", webToAPI: "3 0"},
		},
		"a service that calls itself": {
			[]appSpan{{api, ofServer, 1, 0, nil, fromWeb, false}, {api, ofClient, 2, 1, nil, nil, false}, {api, ofServer, 3, 2, nil, nil, false}},
			map[string]string{webToAPI: "3 0", "shop/api > shop/api api http mutual_tls": "3 0"},
		},
		"retries are requests": {
			[]appSpan{{web, ofClient, 1, 0, nil, toAPI, false}, {api, ofServer, 2, 1, nil, nil, true}, {api, ofServer, 3, 1, nil, nil, false}},
			map[string]string{webToAPI: "6 3"},
		},
		"a request that its server's spans do not tell is not counted where it has some": {
			[]appSpan{{web, ofClient, 1, 0, nil, toAPI, false}, {api, ofServer, 2, 1, nil, nil, false}, {web, ofClient, 3, 0, nil, toAPI, true}},
			map[string]string{webToAPI: "3 0"},
		},
		"peers without spans": {
			[]appSpan{
				{web, ofClient, 1, 0, nil, map[string]any{"db.system": "postgresql", "server.address": "db.rds.example", "server.port": 5432}, false},
				{web, ofClient, 2, 0, nil, map[string]any{"http.request.method": "GET", "url.full": "https://user@Partner.example:8443/x?y", "http.response.status_code": 503}, true},
				{web, ofClient, 3, 0, nil, map[string]any{"http.request.method": "GET", "url.full": "https://partner.example:8443/x", "http.response.status_code": 404}, true},
				{web, ofClient, 4, 0, nil, map[string]any{"db.system": "redis", "peer.service": "redis-cache"}, false},
				{web, ofClient, 5, 0, nil, map[string]any{"rpc.system": "grpc", "rpc.service": "a.B", "rpc.method": "C", "net.peer.name": "kafka.data", "net.peer.port": 80, "rpc.grpc.status_code": 14}, true},
				{web, ofClient, 6, 0, nil, map[string]any{"network.peer.address": "198.51.100.7", "network.peer.port": 443}, false},
				{web, ofClient, 7, 0, nil, map[string]any{"server.address": "localhost", "server.port": 6379}, false},
				{web, ofClient, 8, 0, nil, map[string]any{"db.system": "sqlite"}, false},
				{web, ofClient, 9, 0, nil, map[string]any{"server.address": "kafka-1.kafka.data.svc.cluster.local", "server.port": 80}, false},
				{web, ofClient, 10, 0, nil, map[string]any{"peer.service": "mailer"}, false},
			},
			map[string]string{
				"shop/web > /db.rds.example  tcp unknown": "3 0", "shop/web > /partner.example  http unknown": "6 3", "shop/web > /redis-cache  tcp unknown": "3 0",
				"shop/web > data/kafka kafka grpc mutual_tls": "6 3", "shop/web > /198.51.100.7  tcp none": "3 0", "shop/web > shop/mailer  tcp mutual_tls": "3 0",
			},
		},
		"one call with two clients' spans": {
			[]appSpan{
				{web, ofClient, 1, 0, nil, map[string]any{"db.system": "elasticsearch", "server.address": "es.example"}, false},
				{web, ofClient, 2, 1, nil, map[string]any{"http.request.method": "POST", "server.address": "es.example"}, false},
			},
			map[string]string{"shop/web > /es.example  http unknown": "3 0"},
		},
		"a peer of an outside party": {
			[]appSpan{{orders, ofClient, 1, 0, nil, map[string]any{"server.address": "partner.example", "http.method": "GET"}, false}},
			map[string]string{"/orders-outside > /partner.example  http unknown": "3 0"},
		},
		"messages by parent": {
			[]appSpan{{web, ofProducer, 1, 0, nil, kafka, false}, {mailer, ofConsumer, 2, 1, nil, map[string]any{"messaging.system": "kafka"}, true}},
			map[string]string{"shop/web > shop/mailer  messaging unknown": "3 3"},
		},
		"messages by link, received and processed, by two consumers": {
			[]appSpan{
				{web, ofProducer, 1, 0, nil, kafka, false},
				{web, ofProducer, 2, 0, nil, kafka, false},
				{mailer, ofConsumer, 3, 0, []byte{1, 2, 1}, receives, false},
				{mailer, ofConsumer, 4, 3, []byte{1}, map[string]any{"messaging.system": "kafka"}, false},
				{api, ofConsumer, 5, 0, []byte{2}, map[string]any{"messaging.system": "kafka"}, false},
			},
			map[string]string{"shop/web > shop/mailer  messaging unknown": "6 0", "shop/web > shop/api  messaging unknown": "3 0"},
		},
		"messages by today's kinds": {
			[]appSpan{
				{web, ofClient, 1, 0, nil, map[string]any{"messaging.system": "kafka", "messaging.operation.type": "send", "server.address": "kafka.data"}, false},
				{mailer, ofClient, 2, 0, []byte{1}, receives, false},
			},
			map[string]string{"shop/web > shop/mailer  messaging unknown": "3 0"},
		},
		"a message that nobody is seen to consume, and one that nobody is seen to produce": {
			[]appSpan{
				{web, ofProducer, 1, 0, nil, kafka, false},
				{mailer, ofConsumer, 2, 0, nil, kafka, false},
				{mailer, ofConsumer, 3, 0, nil, map[string]any{"messaging.system": "kafka", "messaging.operation.type": "receive", "server.address": "kafka.data"}, false},
			},
			map[string]string{"shop/web > data/kafka kafka messaging mutual_tls": "3 0", "data/kafka > shop/mailer  messaging unknown": "3 0"},
		},
		"an ingress gateway's spans are its pod's": {
			[]appSpan{
				{named("ingress.gateways"), ofClient, 1, 0, nil, map[string]any{"node_id": "router~10.1.0.7~ingress-1.gateways~gateways.svc.cluster.local", "component": "proxy", "upstream_cluster": "outbound|80||api.shop.svc.cluster.local", "http.status_code": "200"}, false},
				{api, ofServer, 2, 1, nil, nil, false},
				{named("ingress.gateways"), ofClient, 3, 0, nil, map[string]any{"node_id": "router~10.1.0.7~ingress-1.gateways~gateways.svc.cluster.local", "upstream_cluster": "outbound|80||kafka.data.svc.cluster.local;", "http.status_code": "503"}, false},
			},
			map[string]string{"gateways/ingress > shop/api api http mutual_tls": "3 0", "gateways/ingress > data/kafka kafka http mutual_tls": "3 3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(6) {
				p := newPipelines(t, nil)
				p.learn(epoch, shopMesh()...)
				p.step(1, nil)
				batches := appTraces(tt.spans, 3)
				if seed > 0 {
					random := rand.New(rand.NewPCG(seed, 11))
					random.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
				}
				for _, td := range batches {
					p.spans(td)
				}
				for at := 2.0; at < 30; at++ {
					p.step(at, nil)
				}
				got := map[string]string{}
				for key, v := range p.edges() {
					got[edgeText(&key)] = fmt.Sprint(total(v.Requests), total(v.RequestsFailed))
				}
				require.Equal(t, tt.want, got, "seed %d", seed)
			}
		})
	}
}

func edgeText(k *edge.Key) string {
	service := k.Service
	if i := slices.Index([]byte(service), '.'); i > 0 {
		service = service[:i]
	}
	return fmt.Sprintf("%s/%s > %s/%s %s %s %s", k.Source.Namespace, k.Source.Workload, k.Destination.Namespace, k.Destination.Workload, service, k.Protocol, k.Security)
}
