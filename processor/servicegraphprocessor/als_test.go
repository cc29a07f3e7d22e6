package servicegraphprocessor

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslog "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/nephilia/nephilia/internal/envoylog"
	"github.com/nephilia/nephilia/internal/semconv"
)

// labels are Istio's names of the fields that the tests' logs have.
var labels = map[string]envoylog.Field{
	"start_time": envoylog.StartTime, "method": envoylog.Method, "path": envoylog.Path, "protocol": envoylog.Protocol,
	"response_code": envoylog.Code, "response_flags": envoylog.Flags, "response_code_details": envoylog.Details, "duration": envoylog.Duration,
	"bytes_received": envoylog.BytesReceived, "bytes_sent": envoylog.BytesSent, "upstream_service_time": envoylog.UpstreamTime,
	"request_id": envoylog.RequestID, "authority": envoylog.Authority, "upstream_host": envoylog.UpstreamHost, "upstream_cluster": envoylog.Cluster,
	"downstream_local_address": envoylog.DownstreamLocal, "downstream_remote_address": envoylog.DownstreamRemote, "route_name": envoylog.Route,
}

// senders are the forms in which Envoys send their access logs by themselves. Each writes one line of a log of a proxy's pod.
var senders = map[string]func(t *testing.T, resource pcommon.Resource, record plog.LogRecord, node, pod, line string){
	"Istio's text, of nobody": func(_ *testing.T, _ pcommon.Resource, record plog.LogRecord, _, _, line string) {
		record.Body().SetStr(line + "\n")
	},
	"text with labels of the pod": func(_ *testing.T, _ pcommon.Resource, record plog.LogRecord, _, pod, line string) {
		record.Body().SetStr(line + "\n")
		namespace, name, _ := strings.Cut(pod, "/")
		record.Attributes().PutStr("namespace", namespace)
		record.Attributes().PutStr("pod", name)
	},
	"labels, with Envoy's own of the resource": func(t *testing.T, resource pcommon.Resource, record plog.LogRecord, node, _, line string) {
		resource.Attributes().PutStr("node_name", node)
		resource.Attributes().PutStr("log_name", "otel_envoy_accesslog")
		putLabels(t, record.Attributes(), line)
	},
	"a map as the body": func(t *testing.T, _ pcommon.Resource, record plog.LogRecord, _, _, line string) {
		putLabels(t, record.Body().SetEmptyMap(), line)
	},
	"gRPC ALS by the envoyals receiver": func(t *testing.T, resource pcommon.Resource, record plog.LogRecord, node, _, line string) {
		resource.Attributes().PutStr("node", (&core.Node{Id: node, Cluster: "of.shop"}).String())
		resource.Attributes().PutStr("log_name", "http_envoy_accesslog")
		record.Attributes().PutStr("api_version", "v3")
		record.Attributes().PutStr("log_type", "http")
		record.Body().SetStr(prototext.Format(entryOf(t, line)))
	},
}

func putLabels(t *testing.T, attrs pcommon.Map, line string) {
	rec := parsed(t, line)
	for name, field := range labels {
		text := "-"
		if value := rec.Values[field]; value != nil {
			text = string(value)
		}
		attrs.PutStr(name, text)
	}
}

func parsed(t *testing.T, line string) *envoylog.Record {
	var rec envoylog.Record
	_, err := envoylog.NewParser(nil).Parse([]byte(line), &rec)
	require.NoError(t, err)
	return &rec
}

func entryOf(t *testing.T, line string) *accesslog.HTTPAccessLogEntry {
	rec := parsed(t, line)
	v := &rec.Values
	address := func(text []byte) *core.Address {
		if internal, ok := strings.CutPrefix(string(text), "envoy://connect_originate/"); ok {
			return &core.Address{Address: &core.Address_EnvoyInternalAddress{EnvoyInternalAddress: &core.EnvoyInternalAddress{
				AddressNameSpecifier: &core.EnvoyInternalAddress_ServerListenerName{ServerListenerName: "connect_originate"}, EndpointId: internal,
			}}}
		}
		at, err := netip.ParseAddrPort(string(text))
		if err != nil {
			return nil
		}
		return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
			Address: at.Addr().String(), PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(at.Port())},
		}}}
	}
	size, _ := strconv.ParseUint(string(v[envoylog.BytesSent]), 10, 64)
	return &accesslog.HTTPAccessLogEntry{
		CommonProperties: &accesslog.AccessLogCommon{
			StartTime: timestamppb.New(time.Unix(0, rec.Start)), Duration: durationpb.New(time.Duration(rec.Duration)),
			UpstreamCluster: string(v[envoylog.Cluster]), RouteName: string(v[envoylog.Route]), ResponseFlags: &accesslog.ResponseFlags{},
			DownstreamRemoteAddress: address(v[envoylog.DownstreamRemote]), DownstreamLocalAddress: address(v[envoylog.DownstreamLocal]),
			UpstreamRemoteAddress: address(v[envoylog.UpstreamHost]), AccessLogType: accesslog.AccessLogType_DownstreamEnd,
		},
		ProtocolVersion: accesslog.HTTPAccessLogEntry_HTTP2,
		Request: &accesslog.HTTPRequestProperties{
			RequestMethod: core.RequestMethod(core.RequestMethod_value[string(v[envoylog.Method])]), Path: string(v[envoylog.Path]), RequestId: string(v[envoylog.RequestID]),
		},
		Response: &accesslog.HTTPResponseProperties{ResponseCode: wrapperspb.UInt32(uint32(rec.Code)), ResponseBodyBytes: size},
	}
}

// TestAccessLogsThatProxiesSend has the gateway and the waypoint of TestLoggedRequests send their logs by themselves: the edges are the same.
func TestAccessLogsThatProxiesSend(t *testing.T) {
	folder := filepath.Join("testdata", "gateway-then-waypoint")
	without := t.TempDir()
	for _, name := range []string{"xds.jsonl", "ztunnel-n1.log"} {
		content, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(without, name), content, 0o600))
	}
	relative, err := filepath.Abs(without)
	require.NoError(t, err)
	base, err := filepath.Abs(filepath.Join("..", "..", "recordings"))
	require.NoError(t, err)
	relative, err = filepath.Rel(base, relative)
	require.NoError(t, err)
	for form, write := range senders {
		t.Run(form, func(t *testing.T) {
			p := newPipelines(t, nil)
			logs := plog.NewLogs()
			for file, of := range map[string]struct{ node, pod string }{
				"gateway-ingress-front.log":    {"router~10.71.3.50~front-8589b7b876-lvzzt.ingress~ingress.svc.cluster.local", "ingress/front-8589b7b876-lvzzt"},
				"waypoint-bakery-waypoint.log": {"waypoint~10.71.3.40~waypoint-bf36b5298-66f35.bakery~bakery.svc.cluster.local", "bakery/waypoint-bf36b5298-66f35"},
			} {
				content, err := os.ReadFile(filepath.Join(folder, file))
				require.NoError(t, err)
				resource := logs.ResourceLogs().AppendEmpty()
				records := resource.ScopeLogs().AppendEmpty().LogRecords()
				for line := range strings.Lines(string(content)) {
					line = strings.TrimSuffix(line, "\n")
					record := records.AppendEmpty()
					record.SetTimestamp(pcommon.Timestamp(parsed(t, line).Start))
					write(t, resource.Resource(), record, of.node, of.pod, line)
				}
			}
			require.NoError(t, p.logs.ConsumeLogs(t.Context(), logs))
			replay(t, p, relative)
			got := map[string]map[string]uint64{}
			for key, v := range readEdges(t, p.outMetrics.AllMetrics()) {
				if len(v.Responses) > 0 {
					got[key.Source.Workload+" → "+key.Destination.Workload+" by "+key.Waypoint] = v.Responses
				}
			}
			assert.Equal(t, map[string]map[string]uint64{
				"front → oven by bakery/waypoint": {"200  waypoint_log": 5, "500  waypoint_log": 1},
				"till → oven by bakery/waypoint":  {"200  waypoint_log": 2},
			}, got)
		})
	}
}

// TestAccessLogsOfOthers has records that are none of a waypoint's or gateway's own: they stay, and count nothing.
func TestAccessLogsOfOthers(t *testing.T) {
	const line = `[2026-01-02T03:00:02.004Z] "GET /order HTTP/1.1" 200 - via_upstream - "-" 0 512 24 24 "-" "curl" "54897014-48b0-92ba-c1b7-b9c23c3ba138" "server" ` +
		`"envoy://connect_originate/10.0.2.1:8080" inbound-vip|80|http|server.shop.svc envoy://internal_client_address/ 10.96.0.1:80 10.0.1.1:33444 - default`
	evil := testPod("evil-1", "evil", "node-a", "10.0.9.9")
	evil.Namespace, evil.UID = "evil", "Kubernetes//Pod/evil/evil-1"
	plain := testService("server", "10.96.0.1", "")
	for name, test := range map[string]struct {
		body, pod, sender string
		verify, plain     bool
		want              uint64
		stays             bool
	}{
		"a waypoint's":                         {body: line, want: 1},
		"a waypoint's, that says who it is":    {body: line, pod: "shop/waypoint-1", sender: "10.0.2.9", verify: true, want: 1},
		"a waypoint's, by who sent it":         {body: line, sender: "10.0.2.9", verify: true, want: 1},
		"one that says to be a waypoint's":     {body: line, pod: "shop/waypoint-1", sender: "10.0.9.9", verify: true, stays: true},
		"a pod's that is no waypoint":          {body: line, sender: "10.0.9.9", verify: true},
		"of a service that has no waypoint":    {body: line, plain: true},
		"an application's text":                {body: "GET /order 200", stays: true},
		"a sidecar's":                          {body: strings.Replace(line, "inbound-vip|80|http|", "inbound|80||", 1), stays: true},
		"a gateway's of which nothing is said": {body: strings.NewReplacer("inbound-vip|80|http|", "outbound|80||", "10.96.0.1:80", "10.99.0.1:80").Replace(line)},
		"a forged one":                         {body: strings.Replace(line, "GET /order", `GET / HTTP/1.1" 500 - - - "-" 0 0 0 0 "`, 1), stays: true},
		"a connection of TCP":                  {body: `[2026-01-02T03:00:02.004Z] "- - -" 0 - - - "-" 12 30 24 - "-" "-" "-" "-" "10.0.2.1:5432" outbound|5432||db.shop.svc 10.0.2.9:1 10.96.0.1:80 10.0.1.1:33444 - -`, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipelines(t, func(c *Config) { c.Requests.VerifySenders = test.verify })
			svc := frontedSvc
			if test.plain {
				svc = plain
			}
			p.learn(epoch, clientPod, serverPod, waypointPod, waypointSvc, svc, evil)
			p.step(1, nil)
			logs := plog.NewLogs()
			record := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
			record.Body().SetStr(test.body)
			record.SetTimestamp(pcommon.NewTimestampFromTime(epoch))
			if namespace, pod, ok := strings.Cut(test.pod, "/"); ok {
				record.Attributes().PutStr("k8s.namespace.name", namespace)
				record.Attributes().PutStr("k8s.pod.name", pod)
			}
			ctx := client.NewContext(t.Context(), client.Info{Addr: &net.TCPAddr{IP: net.ParseIP(test.sender), Port: 1234}})
			require.NoError(t, p.logs.ConsumeLogs(ctx, logs))
			p.step(20, nil)
			var requests uint64
			for _, e := range p.edges() {
				requests += sum(e.Responses)
			}
			assert.Equal(t, test.want, requests)
			stays := 0
			for _, logs := range p.outLogs.AllLogs() {
				for _, rl := range logs.ResourceLogs().All() {
					for _, sl := range rl.ScopeLogs().All() {
						if sl.Scope().Name() != semconv.ScopeReceiver && sl.Scope().Attributes().Len() == 0 {
							stays += sl.LogRecords().Len()
						}
					}
				}
			}
			assert.Equal(t, test.stays, stays == 1)
		})
	}
}
