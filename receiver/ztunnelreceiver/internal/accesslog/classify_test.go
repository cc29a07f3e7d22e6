package accesslog_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

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
		{"connection closed due to policy change", denied, ""},
		{"http status: 401 Unauthorized", denied, ""},
		{"http status: 403 Forbidden", denied, ""},

		{"http status: 503 Service Unavailable", connect, ""},
		{"http status: 400 Bad Request", connect, ""},
		{"http status: 404 Not Found", connect, ""},
		{"http status: 502 Bad Gateway", connect, ""},
		{"http status: 504 Gateway Timeout", timeout, ""},
		{"http2 handshake failed: frame with invalid size", connect, ""},
		{"http2 handshake failed: connection reset", reset, ""},
		{"connection failed: Cannot assign requested address (os error 99)", connect, ""},

		{"connection failed: Connection refused (os error 111)", refused, ""},
		{"io error: Connection refused (os error 111)", refused, ""},
		{"receive: io error: Connection refused (os error 111)", refused, ""},

		{"connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline has elapsed", timeout, ""},
		{"connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: Connection timed out (os error 110)", timeout, ""},
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
		{"send: client disconnected before all data was written", reset, ""},
		{"receive: client disconnected before all data was written", reset, ""},
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
		{"unknown waypoint: waypoint.shop", noUpstream, ""},
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
		{"connection closed: peer certificate revoked by CRL", tls, ""},

		{"identity error: signing gRPC error (Unavailable): error trying to connect: Connection refused (os error 111)", identity, ""},
		{"identity error: failed to create CSR: certificate: x", identity, ""},
		{"identity error: workload is unknown: default.shop (cart)", identity, ""},
		{"identity error: the identity is no longer needed", identity, ""},
		{"identity error: chain returned from CA is empty for: spiffe://cluster.local/ns/shop/sa/cart", identity, ""},
		{"signing error: signing gRPC error (Unavailable): x", identity, ""},
		{"identity verification error: peer did not present the expected SAN (spiffe://a), got spiffe://b", identity, ""},
		{"io error: invalid peer certificate: other error: identity verification error: peer did not present the expected trustdomain (a), got b", identity, ""},
		{"failed to fetch information about local workload: default.shop (cart)", identity, ""},

		{"dns: no error specified", dns, ""},
		{"dns lookup: proto error: timed out", dns, ""},
		{"dns response had no valid IP addresses", dns, ""},
		{"no ip addresses were resolved for workload: legacy", dns, ""},
		{"ip addresses were resolved for workload legacy, but valid dns response had no A/AAAA records", dns, ""},

		{"connection closed due to connection drain", drained, ""},
		{"connection failed to drain within the timeout", drained, ""},
		{"pool draining", drained, ""},

		{"failed to bind to address 10.0.0.1:0: Address already in use (os error 98)", other, ""},
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
			got := accesslog.Classify([]byte(tt.text))
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

func TestClassifyDoesNotAllocate(t *testing.T) {
	texts := [][]byte{
		[]byte("while closing connection: send: io error: Broken pipe (os error 32)"),
		[]byte("connection closed due to policy rejection: explicitly denied by: billing/no-checkout"),
		[]byte("something else"),
	}
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		for _, text := range texts {
			accesslog.Classify(text)
		}
	}))
}
