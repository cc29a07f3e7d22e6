package scraped

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/internal/semconv"
)

func TestPrometheusReceiversNamesAreUnderstood(t *testing.T) {
	for name, want := range map[string]counter{
		"istio_tcp_connections_opened_total": counterOpened, "istio_tcp_connections_opened": counterOpened,
		"istio_tcp_connections_closed": counterClosed, "istio_tcp_connections_failed_total": counterFailed,
		"istio_tcp_sent_bytes_total": counterReceived, "istio_tcp_received_bytes": counterSent, "istio_tcp_sockets_open": counterNone,
	} {
		assert.Equal(t, want, counterOf(name), name)
	}
}

// The flags of ztunnel 1.30, beside what its log says of the same connections in recordings.
func TestFlagsSayWhatTheLogSays(t *testing.T) {
	for flags, want := range map[string]string{
		"DENY":                 semconv.ErrorTypePolicyDenied,
		"CONNECT":              semconv.ErrorTypeConnectFailed,
		"TLS_FAILURE":          semconv.ErrorTypeTLSFailure,
		"H2_HANDSHAKE_FAILURE": semconv.ErrorTypeConnectionReset, // h2 failed: stream closed because of a broken pipe
		"NETWORK_POLICY":       semconv.ErrorTypeHBONEBlocked,    // connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008
		"IDENTITY_ERROR":       semconv.ErrorTypeIdentityError,
		"CERT_REVOKED":         semconv.ErrorTypeRevoked,
		"NEW_ONE":              semconv.ErrorTypeOther,
	} {
		assert.Equal(t, want, flagReason(flags).Type, flags)
	}
}
