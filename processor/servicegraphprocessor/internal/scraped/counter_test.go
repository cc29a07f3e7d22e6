package scraped

import (
	"testing"

	"github.com/stretchr/testify/assert"
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
