package accesslog_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// The texts are what istio/ztunnel's proxy::Error, tls::TlsError, tls::Error and identity::Error print, with
// causes as Linux, tokio, rustls, h2 and hickory word them.
func TestClassify(t *testing.T) {
	const (
		refused    = semconv.ErrorTypeConnectionRefused
		timeout    = semconv.ErrorTypeConnectionTimeout
		reset      = semconv.ErrorTypeConnectionReset
		denied     = semconv.ErrorTypePolicyDenied
		noUpstream = semconv.ErrorTypeNoHealthyUpstream
		tls        = semconv.ErrorTypeTLSFailure
		identity   = semconv.ErrorTypeIdentityError
		dns        = semconv.ErrorTypeDNSFailure
		connect    = semconv.ErrorTypeConnectFailed
		other      = semconv.ErrorTypeOther
		blocked    = semconv.ErrorTypeHBONEBlocked
		aborted    = semconv.ErrorTypeClientAborted
		exhausted  = semconv.ErrorTypeClientExhausted
		unknown    = semconv.ErrorTypeUnknownParty
		drained    = "drained"
	)
	for _, tt := range []struct{ text, want, policy string }{
		{"connection closed due to policy rejection: explicitly denied by: billing/no-checkout", denied, "billing/no-checkout"},
		{"connection closed due to policy rejection: explicitly denied by: istio-system/istio_converted_static_strict", denied, "istio-system/istio_converted_static_strict"},
		{"connection closed due to policy rejection: explicitly denied by: ", denied, ""},
		{"connection closed due to policy rejection: explicitly denied by: a/b c", denied, ""},
		{"connection closed due to policy rejection: explicitly denied by: a/", denied, ""},
		{"connection closed due to policy rejection: allow policies exist, but none allowed", denied, ""},
		{"connection closed due to policy rejection: workload not found", denied, ""},
		{"connection closed due to policy rejection: workload mismatch", denied, ""},
		{"connection closed due to policy rejection", denied, ""}, // 1.22 and 1.23
		{"connection closed due to policy change", denied, ""},
		{"http status: 401 Unauthorized", denied, ""},
		{"http status: 403 Forbidden", denied, ""},

		{"http status: 503 Service Unavailable", connect, ""},
		{"http status: 400 Bad Request", connect, ""},
		{"http status: 404 Not Found", semconv.ErrorTypeNotRouted, ""},
		{"http status: 502 Bad Gateway", connect, ""},
		{"http status: 504 Gateway Timeout", timeout, ""},
		{"http2 handshake failed: frame with invalid size", connect, ""},
		{"http2 handshake failed: connection reset", reset, ""},
		{"connection failed: Cannot assign requested address (os error 99)", exhausted, ""},
		{"io error: Cannot assign requested address (os error 99)", exhausted, ""},

		{"connection failed: Connection refused (os error 111)", refused, ""},
		{"io error: Connection refused (os error 111)", refused, ""},
		{"receive: io error: Connection refused (os error 111)", refused, ""},

		{"connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline has elapsed", blocked, ""},
		{"connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: Connection timed out (os error 110)", blocked, ""},
		{"connection failed: Connection timed out (os error 110)", timeout, ""},
		{"connection failed: deadline has elapsed", timeout, ""},
		{"io error: No route to host (os error 113)", timeout, ""},
		{"io error: Network is unreachable (os error 101)", timeout, ""},
		{"io error: Host is down (os error 112)", timeout, ""},
		{"while closing connection: send: io error: operation timed out", timeout, ""},

		{"io error: Connection reset by peer (os error 104)", reset, ""},
		{"send: io error: Broken pipe (os error 32)", reset, ""},
		{"receive: io error: broken pipe", reset, ""},
		{"receive: io error: Software caused connection abort (os error 103)", reset, ""},
		{"receive: io error: Transport endpoint is not connected (os error 107)", reset, ""},
		{"receive: io error: unexpected end of file", reset, ""},
		{"receive: io error: peer closed connection without sending TLS close_notify", reset, ""},
		{"send: destination disconnected before all data was written", reset, ""},
		{"send: client disconnected before all data was written", aborted, ""},
		{"receive: client disconnected before all data was written", aborted, ""},
		{"while closing connection: receive: destination disconnected before all data was written", reset, ""},
		{"h2 failed: stream error received: refused stream before processing any application logic", reset, ""},
		{"h2 failed: connection error received: not a result of an error", reset, ""},
		{"h2 failed: broken pipe", reset, ""},
		{"h2 failed: connection error detected: unspecific protocol error detected", reset, ""},
		{"receive: io error: stream error received: stream no longer needed", reset, ""},

		{"no healthy upstream: 10.96.0.10:8080", noUpstream, ""},
		{"no endpoints for workload: payment", noUpstream, ""},
		{"no valid routing destination for workload: payment", noUpstream, ""},
		{"no valid target port for workload: payment", noUpstream, ""},
		{"no service or workload for hostname: payment.billing.svc.cluster.local", noUpstream, ""},
		{"no service for target address: 10.96.0.10:8080", noUpstream, ""},
		{"no gateway address: east-west", noUpstream, ""},
		{"requested service payment:8080 found, but cannot resolve port", noUpstream, ""},
		{"requested service payment found, but has no IP addresses", noUpstream, ""},
		{"unknown waypoint: waypoint.shop", semconv.ErrorTypeUnknownWaypoint, ""},
		{"unknown network gateway: network2", noUpstream, ""},
		// What a message quotes must not decide over what it is.
		{"no healthy upstream: connection-refused", noUpstream, ""},

		{"tls error: tls: received fatal alert: CertificateUnknown", tls, ""},
		{"tls error: invalid root certificate: empty", tls, ""},
		{"tls error: certificate: expired", tls, ""},
		{"tls error: failed to build server verifier: no CRLs", tls, ""},
		{"tls handshake error: Custom { kind: UnexpectedEof, error: \"tls handshake eof\" }", tls, ""},
		{"tls handshake error: Os { code: 104, kind: ConnectionReset, message: \"Connection reset by peer\" }", tls, ""},
		{"ssl error: invalid uri: x", tls, ""},
		{"io error: tls handshake eof", tls, ""},
		{"io error: invalid peer certificate: UnknownIssuer", tls, ""},
		{"io error: invalid peer certificate: certificate expired: verification time 1 (UNIX), but certificate is not valid after 0", tls, ""},
		{"io error: received fatal alert: BadCertificate", tls, ""},
		{"io error: peer misbehaved: NoCertificateRequestSignatureSchemesInCommon", tls, ""},
		{"io error: peer is incompatible: NoCipherSuitesInCommon", tls, ""},
		{"io error: peer sent no certificates", tls, ""},
		{"io error: received corrupt message of type InvalidContentType", tls, ""},
		{"io error: cannot decrypt peer's message", tls, ""},
		{"connection closed: peer certificate revoked by CRL", semconv.ErrorTypeRevoked, ""},
		{"tls handshake error: invalid peer certificate: Revoked", semconv.ErrorTypeRevoked, ""},
		{"io error: received fatal alert: CertificateRevoked", semconv.ErrorTypeRevoked, ""},
		{"tls handshake error: Custom { kind: InvalidData, error: InvalidCertificate(Revoked) }", semconv.ErrorTypeRevoked, ""},
		{"tls handshake error: Custom { kind: InvalidData, error: AlertReceived(CertificateRevoked) }", semconv.ErrorTypeRevoked, ""},
		{"tls handshake error: Custom { kind: InvalidData, error: InvalidCertificate(UnknownIssuer) }", tls, ""},
		{"tls handshake error: Custom { kind: InvalidData, error: InvalidCertificate(Other(OtherError(identity verification error: peer did not present " +
			"the expected trustdomain (a), got spiffe://b/ns/x/sa/y))) }", identity, ""},

		{"identity error: signing gRPC error (Unavailable): error trying to connect: Connection refused (os error 111)", identity, ""},
		{"identity error: failed to create CSR: certificate: x", identity, ""},
		{"identity error: workload is unknown: default.shop (cart)", identity, ""},
		{"identity error: the identity is no longer needed", identity, ""},
		{"identity error: chain returned from CA is empty for: spiffe://cluster.local/ns/shop/sa/cart", identity, ""},
		{"signing error: signing gRPC error (Unavailable): x", identity, ""},
		{"identity verification error: peer did not present the expected SAN (spiffe://a), got spiffe://b", identity, ""},
		{"io error: invalid peer certificate: other error: identity verification error: peer did not present the expected trustdomain (a), got b", identity, ""},
		{"failed to fetch information about local workload: default.shop (cart)", unknown, ""},
		{"unknown source: 10.244.1.10", unknown, ""},
		{"unknown destination: 10.244.1.10", unknown, ""},
		{"invalid source: 10.0.0.1, should match Some(10.0.0.2)", unknown, ""},

		{"dns: no error specified", dns, ""},
		{"dns lookup: proto error: timed out", dns, ""},
		{"dns response had no valid IP addresses", dns, ""},
		{"no ip addresses were resolved for workload: legacy", dns, ""},
		{"ip addresses were resolved for workload legacy, but valid dns response had no A/AAAA records", dns, ""},

		{"connection closed due to connection drain", drained, ""},
		{"connection failed to drain within the timeout", drained, ""},
		{"pool draining", drained, ""},

		{"failed to bind to address 10.0.0.1:0: Address already in use (os error 98)", exhausted, ""},
		{"connection tracking failed", other, ""},
		{"expected method CONNECT, got GET", other, ""},
		{"invalid CONNECT address connection refused", other, ""},
		{"no valid authority pseudo header: x", other, ""},
		{"no valid service port in authority header: x", other, ""},
		{"attempted recursive call to ourselves", other, ""},
		{"unsupported feature: x", other, ""},
		{"ip mismatch: 10.0.0.1 != 10.0.0.2", other, ""},
		{"something that no ztunnel says yet", other, ""},
	} {
		t.Run(tt.text, func(t *testing.T) {
			got := accesslog.Classify(&accesslog.Record{Direction: accesslog.DirectionOutbound, Error: []byte(tt.text)})
			if tt.want == drained {
				assert.Equal(t, accesslog.Failure{Drained: true}, got)
				return
			}
			assert.Equal(t, tt.want, got.Type)
			assert.Equal(t, tt.policy, string(got.Policy))
			assert.False(t, got.Drained)
		})
	}
}

// What an error means is decided with the bytes and the port.
func TestClassifyRecord(t *testing.T) {
	const (
		reset    = semconv.ErrorTypeConnectionReset
		refused  = semconv.ErrorTypeConnectionRefused
		closing  = "closing"
		outbound = accesslog.DirectionOutbound
		inbound  = accesslog.DirectionInbound
	)
	connect := "while closing connection: send: io error: protocol error: connection established in response to a CONNECT request was " +
		"reset or abnormally closed"
	internal := "send: io error: stream error received: unexpected internal error encountered"
	for _, tt := range []struct {
		text       string
		direction  accesslog.Direction
		sent, recv uint64
		want       string
	}{
		{connect, outbound, 100, 500, closing},
		{connect, outbound, 100, 0, reset},
		{internal, inbound, 500, 100, closing},
		{internal, inbound, 0, 100, reset},
		{"while closing connection: receive: io error: broken pipe", inbound, 500, 100, closing},
		{"while closing connection: receive: io error: broken pipe", inbound, 0, 100, reset},
		{"while closing connection: receive: io error: something new", outbound, 100, 500, closing},
		{"while closing connection: receive: io error: something new", outbound, 100, 0, semconv.ErrorTypeOther},
		{"h2 failed: stream closed because of a broken pipe", outbound, 0, 0, reset},
		{"h2 failed: stream closed because of a broken pipe", outbound, 10, 10, closing},
		{"receive: client disconnected before all data was written", inbound, 500, 100, semconv.ErrorTypeClientAborted},
		{"while closing connection: receive: client disconnected before all data was written", inbound, 500, 100, closing},
		{"receive: destination disconnected before all data was written", outbound, 100, 500, reset},
		{"receive: io error: Connection timed out (os error 110)", outbound, 100, 500, semconv.ErrorTypeConnectionTimeout},
		{"connection failed: Connection refused (os error 111)", inbound, 0, 0, refused},
	} {
		t.Run(tt.text, func(t *testing.T) {
			got := accesslog.Classify(&accesslog.Record{Direction: tt.direction, BytesSent: tt.sent, BytesRecv: tt.recv, Error: []byte(tt.text)})
			want := accesslog.Failure{Type: tt.want}
			if tt.want == closing {
				want = accesslog.Failure{Closing: true}
			}
			assert.Equal(t, want, got)
		})
	}

	addr := func(host string, port uint16) accesslog.Addr {
		return accesslog.Addr{Host: []byte(host), Port: port, IsIP: true}
	}
	call := accesslog.Record{Direction: outbound, Error: []byte("io error: Connection refused (os error 111)")}
	call.Dst.Addr, call.HBONE = addr("10.244.2.44", 15008), addr("10.244.2.44", 9090)
	assert.Equal(t, semconv.ErrorTypeHBONEBlocked, accesslog.Classify(&call).Type, "the HBONE port of the pod itself")
	call.HBONE = addr("10.96.0.20", 9080)
	assert.Equal(t, refused, accesslog.Classify(&call).Type, "a waypoint's")
	call.Dst.Addr, call.HBONE = addr("10.244.2.44", 9090), accesslog.Addr{}
	assert.Equal(t, refused, accesslog.Classify(&call).Type, "no tunnel")
}

// Every error of ztunnel's own type is told by the registry, not by default. The list is extracted from src/proxy.rs of the
// tags 1.22.0 to 1.31.0-rc.0 and of master 62d8265.
func TestEveryErrorOfZtunnel(t *testing.T) {
	texts, err := os.ReadFile("testdata/ztunnel-errors.txt")
	require.NoError(t, err)
	for text := range strings.Lines(string(texts)) {
		text = strings.TrimRight(text, "\n")
		switch text {
		case "io error: {0}", "{0}", "send: {0}", "receive: {0}", "while closing connection: {0}":
			continue // only what they wrap says anything
		}
		told := accesslog.Classify(&accesslog.Record{Error: []byte(text)})
		if told.Type != semconv.ErrorTypeOther {
			assert.True(t, told.Drained || told.Type != "", text)
			continue
		}
		assert.True(t, slices.ContainsFunc(reasons.Of(semconv.ErrorTypeOther).Texts, func(known reasons.Text) bool {
			return strings.HasPrefix(text, known.Text)
		}), "%s is not in the registry", text)
	}
}

func TestClassifyDoesNotAllocate(t *testing.T) {
	records := []accesslog.Record{
		{Error: []byte("while closing connection: send: io error: Broken pipe (os error 32)")},
		{Error: []byte("connection closed due to policy rejection: explicitly denied by: billing/no-checkout")},
		{Error: []byte("something else")},
	}
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		for i := range records {
			accesslog.Classify(&records[i])
		}
	}))
}
