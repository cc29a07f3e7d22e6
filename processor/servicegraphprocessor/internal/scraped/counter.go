package scraped

import (
	"strings"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

// side is the end of a connection whose ztunnel counts it.
type side uint8

const (
	bySource side = iota
	byDestination
)

// counter is what one of ztunnel's istio_tcp_* series counts.
type counter uint8

const (
	counterOpened counter = iota
	counterClosed
	counterSent
	counterReceived
	counterFailed // by reason
	counterNone

	plainCounters = counterFailed // those before it are plain sums
)

// counterOf tells what a metric counts. Sent and received are the server's there (istio/istio#32399): what is received
// is what the client sent.
func counterOf(name string) counter {
	switch strings.TrimSuffix(name, "_total") {
	case "istio_tcp_connections_opened":
		return counterOpened
	case "istio_tcp_connections_closed":
		return counterClosed
	case "istio_tcp_connections_failed":
		return counterFailed
	case "istio_tcp_received_bytes":
		return counterSent
	case "istio_tcp_sent_bytes":
		return counterReceived
	}
	return counterNone
}

// flagReason is why a connection failed as response_flags tell it: ztunnel gives NETWORK_POLICY to what never got through to another's HBONE port, and
// H2_HANDSHAKE_FAILURE to whatever ends a tunnel's stream, the errors that its log calls "h2 failed".
func flagReason(flags string) reconcile.Reason {
	switch flags {
	case "DENY":
		return reconcile.Reason{Type: semconv.ErrorTypePolicyDenied}
	case "CONNECT":
		return reconcile.Reason{Type: semconv.ErrorTypeConnectFailed}
	case "NETWORK_POLICY":
		return reconcile.Reason{Type: semconv.ErrorTypeHBONEBlocked}
	case "H2_HANDSHAKE_FAILURE":
		return reconcile.Reason{Type: semconv.ErrorTypeConnectionReset}
	case "TLS_FAILURE":
		return reconcile.Reason{Type: semconv.ErrorTypeTLSFailure}
	case "CERT_REVOKED":
		return reconcile.Reason{Type: semconv.ErrorTypeRevoked}
	case "IDENTITY_ERROR":
		return reconcile.Reason{Type: semconv.ErrorTypeIdentityError}
	}
	return reconcile.Reason{Type: semconv.ErrorTypeOther}
}

// levels are sums of the plain counters as they stand, counts what was added to them.
type (
	levels [plainCounters]int64
	counts [plainCounters]uint64
)

func (l *levels) add(c counter, n int64) {
	if c < plainCounters {
		l[c] += n
	}
}

func (l *levels) active() uint64 { return uint64(max(l[counterOpened]-l[counterClosed], 0)) }
