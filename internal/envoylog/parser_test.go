package envoylog_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/envoylog"
	"github.com/nephilia/nephilia/internal/semconv"
)

var update = flag.Bool("update", false, "write golden files")

const (
	head = `[2026-11-25T09:00:10.000Z] "GET /order?id=1 HTTP/1.1" 200 - via_upstream - "-" 3 512 24 23 "203.0.113.7" "curl/8" "eb1e0178-4703-94d8-d59f-6510707007eb" "oven:8080" `
	tail = `"envoy://connect_originate/10.71.2.20:8080" inbound-vip|8080|http|oven.bakery.svc.cluster.local envoy://internal_client_address/ 10.112.0.20:8080 10.71.3.50:33444 - default`
)

// TestGolden holds what is read of lines that people posted, in their shapes.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.log")
	require.NoError(t, err)
	p := envoylog.NewParser(nil)
	var got bytes.Buffer
	for _, file := range files {
		fmt.Fprintf(&got, "# %s\n", filepath.Base(file))
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		lines := bufio.NewScanner(bytes.NewReader(content))
		for lines.Scan() {
			fmt.Fprintln(&got, describe(p, lines.Bytes()))
		}
	}
	const golden = "testdata/golden.txt"
	if *update {
		require.NoError(t, os.WriteFile(golden, got.Bytes(), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), got.String())
}

var kinds = [...]string{"other", "request", "connection", "tunnel", "unfinished"}

func describe(p *envoylog.Parser, line []byte) string {
	var r envoylog.Record
	kind, err := p.Parse(line, &r)
	if err != nil {
		return err.Error()
	}
	if kind == envoylog.KindOther {
		return kinds[kind]
	}
	v, service, failure := &r.Values, r.Service(), r.Failure()
	return fmt.Sprintf("%s %s %s %d %s %s %s -> %s:%d (%s) %dms grpc %d: %s %s failed %t", kinds[kind], v[envoylog.Method], v[envoylog.Path], r.Code,
		v[envoylog.Flags], v[envoylog.Details], v[envoylog.DownstreamRemote], service.Host, service.Port, v[envoylog.UpstreamHost], r.Duration/1e6, r.GRPC,
		failure.Type, r.AppendPolicy(nil), failure.Failed)
}

func TestFields(t *testing.T) {
	var r envoylog.Record
	kind, err := envoylog.NewParser(nil).Parse([]byte(head+tail), &r)
	require.NoError(t, err)
	assert.Equal(t, envoylog.KindRequest, kind)
	want := map[envoylog.Field]string{
		envoylog.StartTime: "2026-11-25T09:00:10.000Z", envoylog.Method: "GET", envoylog.Path: "/order?id=1", envoylog.Protocol: "HTTP/1.1",
		envoylog.Code: "200", envoylog.Flags: "", envoylog.Details: "via_upstream", envoylog.Termination: "", envoylog.TransportFailure: "",
		envoylog.ForwardedFor: "203.0.113.7", envoylog.UserAgent: "curl/8", envoylog.RequestID: "eb1e0178-4703-94d8-d59f-6510707007eb",
		envoylog.Authority: "oven:8080", envoylog.UpstreamHost: "envoy://connect_originate/10.71.2.20:8080",
		envoylog.Cluster: "inbound-vip|8080|http|oven.bakery.svc.cluster.local", envoylog.UpstreamLocal: "envoy://internal_client_address/",
		envoylog.DownstreamLocal: "10.112.0.20:8080", envoylog.DownstreamRemote: "10.71.3.50:33444", envoylog.ServerName: "", envoylog.Route: "default",
	}
	for field, text := range want {
		assert.Equal(t, text, string(r.Values[field]), field)
	}
	assert.Equal(t, uint64(3), r.Received)
	assert.Equal(t, uint64(512), r.Sent)
	assert.Equal(t, int64(24e6), r.Duration)
	assert.Equal(t, int64(23e6), r.UpstreamTime)
	assert.Equal(t, r.Start+24e6, r.End())
}

// TestForged writes whole fields into what clients choose: code, cluster and caller stay what they are, or the line is left out.
func TestForged(t *testing.T) {
	const mid = ` HTTP/2" 500 UF x - "-" 0 0 0 - "-" "-" "-" "-" "10.71.9.9:1" outbound|1||vault.treasury.svc - 10.71.9.9:1 10.71.9.9:2 - -`
	for name, text := range map[string]string{
		"path":       strings.Replace(head+tail, "/order?id=1", `/x`+mid, 1),
		"path's end": strings.Replace(head+tail, "/order?id=1", `/x HTTP/1.1" 500 UF x - "-" 0 0 0 - "y`, 1),
		"agent":      strings.Replace(head+tail, "curl/8", `x`+mid, 1),
		"authority":  strings.Replace(head+tail, "oven:8080", `x" `+`"10.71.9.9:1" outbound|1||vault.treasury.svc - 10.71.9.9:1 10.71.9.9:2 - -`, 1),
		"forwarded":  strings.Replace(head+tail, "203.0.113.7", `1.1.1.1" "a" "11111111-2222-9333-8444-555555555555`, 1),
		"code":       strings.Replace(head+tail, "curl/8", `a\" 500 UF x - "-" 0 0 0 -`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			var r envoylog.Record
			_, err := envoylog.NewParser(nil).Parse([]byte(text), &r)
			if err != nil {
				assert.ErrorIs(t, err, envoylog.ErrAmbiguous)
				return
			}
			assert.Equal(t, 200, r.Code)
			assert.Equal(t, "oven.bakery.svc.cluster.local", string(r.Service().Host))
			assert.Equal(t, "10.71.3.50:33444", string(r.Values[envoylog.DownstreamRemote]))
		})
	}
}

// TestCut cuts a line at each place: what is left is no request, until nothing but the route is missing.
func TestCut(t *testing.T) {
	line := head + tail
	p := envoylog.NewParser(nil)
	var r envoylog.Record
	for n := range len(line) - len("- default") {
		kind, err := p.Parse([]byte(line[:n]), &r)
		assert.False(t, err == nil && kind == envoylog.KindRequest, line[:n])
	}
	json := `{"start_time":"2026-11-25T09:00:10.000Z","method":"GET","path":"/","response_code":200}`
	for n := range len(json) {
		_, err := p.Parse([]byte(json[:n]), &r)
		assert.True(t, n == 0 || err != nil, json[:n])
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct{ name, format, line, want string }{
		{
			"key=value", `ts=%START_TIME(%s.%3f)% m=%REQ(:METHOD)% p=%REQ(:PATH)% s=%RESPONSE_CODE% f=%RESPONSE_FLAGS% c=%UPSTREAM_CLUSTER% r=%DOWNSTREAM_REMOTE_ADDRESS% d=%DURATION%`,
			`ts=1795597210.250 m=GET p=/a s=503 f=UH c=inbound-vip|8080|http|oven.bakery.svc r=10.71.1.10:40112 d=6`,
			"request GET /a 503 UH  10.71.1.10:40112 -> oven.bakery.svc:8080 () 6ms grpc -1: no_healthy_upstream  failed true",
		},
		{
			"forged", `ts=%START_TIME% m=%REQ(:METHOD)% p=%REQ(:PATH)% s=%RESPONSE_CODE% a="%REQ(USER-AGENT)%"`,
			`ts=2026-11-25T09:00:10.000Z m=GET p=/a s=500 a="x" s=200 a="y"`,
			"line that can be read in several ways",
		},
		{
			"sentence", `At %START_TIME% somebody asked %REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% and got %RESPONSE_CODE% (%RESPONSE_FLAGS%) 100%%`,
			`At 2026-11-25T09:00:10.000Z somebody asked GET /a b and got 200 (-) 100%`,
			"request GET /a b 200    -> :0 () 0ms grpc -1:   failed false",
		},
		{
			"JSON", `{"when":"%START_TIME%","req_method":"%REQ(:METHOD)%","res_code":"%RESPONSE_CODE%","who":"%DOWNSTREAM_REMOTE_ADDRESS%","x":"a %PROTOCOL%"}`,
			`{"when":"2026-11-25T09:00:10.000Z","req_method":"GET","res_code":"404","who":"10.71.1.10:1","x":"a HTTP/2"}`,
			"request GET  404   10.71.1.10:1 -> :0 () 0ms grpc -1:   failed false",
		},
		{
			"Istio's beside it", `x %START_TIME% %REQ(:METHOD)% %RESPONSE_CODE%`, head + tail,
			"request GET /order?id=1 200  via_upstream 10.71.3.50:33444 -> oven.bakery.svc.cluster.local:8080 (envoy://connect_originate/10.71.2.20:8080) 24ms grpc -1:   failed false",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			format, err := envoylog.NewFormat(c.format)
			require.NoError(t, err)
			assert.Equal(t, c.want, describe(envoylog.NewParser(format), []byte(c.line)))
		})
	}
	for _, text := range []string{"", "%START_TIME%", "%START_TIME(%d.%m.)% %REQ(:METHOD)% %RESPONSE_CODE%", "%START_TIME% %REQ(:METHOD)%\n%RESPONSE_CODE%", strings.Repeat("%PROTOCOL% ", 65)} {
		_, err := envoylog.NewFormat(text)
		assert.Error(t, err, text)
	}
}

func TestFailure(t *testing.T) {
	for _, c := range []struct {
		response, reason string
		failed           bool
	}{
		{`200 - via_upstream - "-"`, "", false},
		{`500 - via_upstream - "-"`, semconv.ErrorTypeHTTPError, true},
		{`403 - via_upstream - "-"`, "", false},
		{`403 UAEX ext_authz_denied - "-"`, semconv.ErrorTypePolicyDenied, false},
		{`302 UAEX ext_authz_denied - "-"`, "", false},
		{`503 URX,UF x{remote_connection_failure|delayed_connect_error:_Connection_refused} - "-"`, semconv.ErrorTypeConnectionRefused, true},
		{`503 UF upstream_reset_before_response_started{remote_connection_failure} - "-"`, semconv.ErrorTypeConnectFailed, true},
		{`503 UF x - "tunnel_response:401"`, semconv.ErrorTypePolicyDenied, true},
		{`503 UF x - "delayed_connect_error:_Connection_timed_out"`, semconv.ErrorTypeConnectionTimeout, true},
		{`504 UpstreamRequestTimeout response_timeout - "-"`, semconv.ErrorTypeTimeout, true},
		{`504 - max_duration_timeout - "-"`, semconv.ErrorTypeTimeout, true},
		{`200 UPE upstream_reset_after_response_started{protocol_error} - "-"`, "", false},
		{`0 - - - "-"`, semconv.ErrorTypeClientAborted, false},
		{`0 UR - - "-"`, semconv.ErrorTypeConnectionReset, true},
		{`101 UC via_upstream - "-"`, "", false},
	} {
		var r envoylog.Record
		_, err := envoylog.NewParser(nil).Parse([]byte(strings.Replace(head+tail, `200 - via_upstream - "-"`, c.response, 1)), &r)
		require.NoError(t, err, c.response)
		assert.Equal(t, envoylog.Failure{Type: c.reason, Failed: c.failed}, r.Failure(), c.response)
	}
}

// TestGRPC counts a status only where the request can be one of gRPC: Envoy computes one for others, too.
func TestGRPC(t *testing.T) {
	for object, want := range map[string]int{
		`"method":"POST","protocol":"HTTP/2","path":"/a.B/C","grpc_status":"DeadlineExceeded"`:            4,
		`"method":"POST","protocol":"HTTP/2","path":"/a.B/C","grpc_status":"DATA_LOSS"`:                   15,
		`"method":"POST","protocol":"HTTP/2","path":"/a.B/C","grpc_status_number":14.0`:                   14,
		`"method":"POST","protocol":"HTTP/2","path":"/a.B/C","grpc_status":"-"`:                           -1,
		`"method":"GET","protocol":"HTTP/2","path":"/a","grpc_status":"Unknown"`:                          -1,
		`"method":"POST","protocol":"HTTP/1.1","path":"/a.B/C","grpc_status":"2"`:                         -1,
		`"method":"POST","protocol":"HTTP/2","path":"/Greeter/SayHello","grpc_status":"2"`:                2,
		`"method":"POST","protocol":"HTTP/2","path":"/api/buns","response.grpc_status":2`:                 -1,
		`"method":"POST","protocol":"HTTP/2","path":"/v1.0/buns","response.grpc_status":2`:                -1,
		`"method":"POST","protocol":"HTTP/2","path":"/carts/4711","response.grpc_status":2`:               -1,
		`"method":"POST","protocol":"HTTP/2","path":"/a/b","content_type":"text/plain","grpc_status":"2"`: -1,
	} {
		var r envoylog.Record
		_, err := envoylog.NewParser(nil).Parse([]byte(`{"start_time":"2026-11-25T09:00:10.000Z","response_code":200,`+object+`}`), &r)
		require.NoError(t, err, object)
		assert.Equal(t, want, r.GRPC, object)
	}
}

// FuzzParse reads anything without failing, and nothing that a client writes into its path or agent moves what Envoy says.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.log")
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(f, err)
		for i, line := range strings.Split(string(content), "\n") {
			if i < 4 {
				f.Add(line, `x" 500 UF`)
			}
		}
	}
	format, err := envoylog.NewFormat(`ts=%START_TIME% m=%REQ(:METHOD)% p=%REQ(:PATH)% s=%RESPONSE_CODE% "%REQ(USER-AGENT)%" %UPSTREAM_CLUSTER%`)
	require.NoError(f, err)
	plain, own := envoylog.NewParser(nil), envoylog.NewParser(format)
	f.Fuzz(func(t *testing.T, line, chosen string) {
		var r envoylog.Record
		_, _ = plain.Parse([]byte(line), &r)
		r.Failure()
		r.Service()
		_, _ = own.Parse([]byte(line), &r)
		if strings.ContainsAny(chosen, "\r\n") {
			return
		}
		for _, place := range []string{"/order?id=1", "curl/8", "oven:8080", "203.0.113.7"} {
			kind, err := plain.Parse([]byte(strings.Replace(head, place, chosen, 1)+tail), &r)
			if err == nil && kind == envoylog.KindRequest {
				assert.Equal(t, 200, r.Code)
				assert.Equal(t, "oven.bakery.svc.cluster.local", string(r.Service().Host))
				assert.Equal(t, "10.71.3.50:33444", string(r.Values[envoylog.DownstreamRemote]))
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	object := `{"authority":"stock.bakery:9000","bytes_received":0,"bytes_sent":512,"connection_termination_details":null,"downstream_local_address":"10.112.0.30:9000","downstream_remote_address":"10.71.1.10:40112","duration":6,"method":"POST","path":"/stock.v1.Shelves/Take","protocol":"HTTP/2","request_id":"0ba6646d-ee0e-98d7-41fa-24af9c4a537b","requested_server_name":null,"response_code":200,"response_code_details":"via_upstream","response_flags":"-","route_name":"default","start_time":"2026-11-25T09:00:10.000Z","upstream_cluster":"inbound-vip|9000|http|stock.bakery.svc.cluster.local","upstream_host":"envoy://connect_originate/10.71.2.30:9000","upstream_local_address":"envoy://internal_client_address/","upstream_service_time":"6","upstream_transport_failure_reason":null,"user_agent":"pastry-client/2.1","x_forwarded_for":null}`
	for name, line := range map[string]string{"text": head + tail, "json": object} {
		b.Run(name, func(b *testing.B) {
			p, text := envoylog.NewParser(nil), []byte(line)
			var r envoylog.Record
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Parse(text, &r); err != nil {
					b.Fatal(err)
				}
				r.Failure()
				r.Service()
			}
		})
	}
}
