package accesslog

import (
	"bytes"

	"github.com/nephilia/nephilia/internal/semconv"
)

// Failure is the class of an access entry's error.
type Failure struct {
	// Type is one of semconv.ErrorType*, empty for a connection that did not fail.
	Type string
	// Policy is "namespace/name" of the policy that denied, where the error names it. It points into the
	// error's text.
	Policy []byte
	// Drained is set for a connection that ztunnel closed because it or its peer was being drained.
	Drained bool
}

// Wrappers say which half of a connection an error belongs to; the cause follows.
var wrappers = [...][]byte{
	[]byte("while closing connection: "),
	[]byte("receive: "),
	[]byte("send: "),
}

var (
	prefixRejection = []byte("connection closed due to policy rejection: ")
	prefixDenied    = []byte("explicitly denied by: ")
	prefixStatus    = []byte("http status: ")
)

type rule struct {
	text      []byte
	errorType string
}

func rules(pairs ...string) []rule {
	list := make([]rule, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, rule{[]byte(pairs[i]), pairs[i+1]})
	}
	return list
}

// byPrefix knows ztunnel's own errors (proxy::Error, tls::TlsError) by how they begin. These come before any
// search in the text, because what follows may be chosen by a workload. Errors that only wrap another are not
// here: byCause decides on them.
var byPrefix = rules(
	"connection closed due to policy change", semconv.ErrorTypePolicyDenied,

	"connection timed out, maybe a NetworkPolicy", semconv.ErrorTypeConnectionTimeout,

	"destination disconnected before all data was written", semconv.ErrorTypeConnectionReset,
	"client disconnected before all data was written", semconv.ErrorTypeConnectionReset,

	"connection closed: peer certificate revoked", semconv.ErrorTypeTLSFailure,
	"tls error: ", semconv.ErrorTypeTLSFailure,
	"tls handshake error: ", semconv.ErrorTypeTLSFailure,
	"ssl error: ", semconv.ErrorTypeTLSFailure,

	"identity error: ", semconv.ErrorTypeIdentityError,
	"identity verification error: ", semconv.ErrorTypeIdentityError,
	"signing error: ", semconv.ErrorTypeIdentityError,
	"failed to fetch information about local workload: ", semconv.ErrorTypeIdentityError,

	"no healthy upstream: ", semconv.ErrorTypeNoHealthyUpstream,
	"no endpoints for workload: ", semconv.ErrorTypeNoHealthyUpstream,
	"no valid routing destination for workload: ", semconv.ErrorTypeNoHealthyUpstream,
	"no valid target port for workload: ", semconv.ErrorTypeNoHealthyUpstream,
	"no service or workload for hostname: ", semconv.ErrorTypeNoHealthyUpstream,
	"no service for target address: ", semconv.ErrorTypeNoHealthyUpstream,
	"no gateway address: ", semconv.ErrorTypeNoHealthyUpstream,
	"requested service ", semconv.ErrorTypeNoHealthyUpstream,
	"unknown waypoint: ", semconv.ErrorTypeNoHealthyUpstream,
	"unknown network gateway: ", semconv.ErrorTypeNoHealthyUpstream,

	"dns: ", semconv.ErrorTypeDNSFailure,
	"dns lookup: ", semconv.ErrorTypeDNSFailure,
	"dns response had no valid IP addresses", semconv.ErrorTypeDNSFailure,
	"no ip addresses were resolved for workload: ", semconv.ErrorTypeDNSFailure,
	"ip addresses were resolved for workload ", semconv.ErrorTypeDNSFailure,

	"connection tracking failed", semconv.ErrorTypeOther,
	"expected method CONNECT", semconv.ErrorTypeOther,
	"invalid CONNECT address", semconv.ErrorTypeOther,
	"no valid authority pseudo header: ", semconv.ErrorTypeOther,
	"no valid service port in authority header: ", semconv.ErrorTypeOther,
	"attempted recursive call to ourselves", semconv.ErrorTypeOther,
	"unsupported feature: ", semconv.ErrorTypeOther,
	"ip mismatch: ", semconv.ErrorTypeOther,
)

var drained = [...][]byte{
	[]byte("connection closed due to connection drain"),
	[]byte("connection failed to drain within the timeout"),
	[]byte("pool draining"),
}

// byCause looks for an operating system's, rustls's or h2's message inside the text. The order matters: a TLS
// handshake that ends early says "tls handshake eof".
var byCause = rules(
	"os error 111", semconv.ErrorTypeConnectionRefused,
	"Connection refused", semconv.ErrorTypeConnectionRefused,
	"connection refused", semconv.ErrorTypeConnectionRefused,

	"identity verification error", semconv.ErrorTypeIdentityError,
	"tls handshake", semconv.ErrorTypeTLSFailure,
	"peer certificate", semconv.ErrorTypeTLSFailure,
	"no server certificate", semconv.ErrorTypeTLSFailure,
	"peer sent no certificates", semconv.ErrorTypeTLSFailure,
	"fatal alert", semconv.ErrorTypeTLSFailure,
	"peer misbehaved", semconv.ErrorTypeTLSFailure,
	"peer is incompatible", semconv.ErrorTypeTLSFailure,
	"peer doesn't support any known protocol", semconv.ErrorTypeTLSFailure,
	"received corrupt message", semconv.ErrorTypeTLSFailure,
	"received unexpected message", semconv.ErrorTypeTLSFailure,
	"received unexpected handshake message", semconv.ErrorTypeTLSFailure,
	"cannot decrypt peer's message", semconv.ErrorTypeTLSFailure,
	"certificate", semconv.ErrorTypeTLSFailure,

	"os error 110", semconv.ErrorTypeConnectionTimeout,
	"timed out", semconv.ErrorTypeConnectionTimeout,
	"deadline has elapsed", semconv.ErrorTypeConnectionTimeout,
	// Nobody answers for that address, which a client cannot tell from a host that is silent.
	"os error 113", semconv.ErrorTypeConnectionTimeout,
	"No route to host", semconv.ErrorTypeConnectionTimeout,
	"os error 112", semconv.ErrorTypeConnectionTimeout,
	"Host is down", semconv.ErrorTypeConnectionTimeout,
	"os error 101", semconv.ErrorTypeConnectionTimeout,
	"Network is unreachable", semconv.ErrorTypeConnectionTimeout,
	"host unreachable", semconv.ErrorTypeConnectionTimeout,
	"network unreachable", semconv.ErrorTypeConnectionTimeout,

	"os error 104", semconv.ErrorTypeConnectionReset,
	"onnection reset", semconv.ErrorTypeConnectionReset,
	"os error 32", semconv.ErrorTypeConnectionReset,
	"roken pipe", semconv.ErrorTypeConnectionReset,
	"os error 103", semconv.ErrorTypeConnectionReset,
	"onnection abort", semconv.ErrorTypeConnectionReset,
	"os error 107", semconv.ErrorTypeConnectionReset,
	"not connected", semconv.ErrorTypeConnectionReset,
	"unexpected end of file", semconv.ErrorTypeConnectionReset,
	"early eof", semconv.ErrorTypeConnectionReset,
	"peer closed connection", semconv.ErrorTypeConnectionReset,
	"stream error received", semconv.ErrorTypeConnectionReset,
	"stream no longer needed", semconv.ErrorTypeConnectionReset,
	"stream closed", semconv.ErrorTypeConnectionReset,
	"connection error received", semconv.ErrorTypeConnectionReset,
	"connection closed", semconv.ErrorTypeConnectionReset,
	"operation was canceled", semconv.ErrorTypeConnectionReset,
)

// byFallback is for errors of the tunnel whose cause says nothing more.
var byFallback = rules(
	"http2 handshake failed: ", semconv.ErrorTypeConnectFailed,
	"h2 failed: ", semconv.ErrorTypeConnectionReset,
	"connection failed: ", semconv.ErrorTypeConnectFailed,
)

// Classify tells what an access entry's error means. It does not allocate.
func Classify(text []byte) Failure {
	text = unwrap(text)
	for _, prefix := range drained {
		if bytes.HasPrefix(text, prefix) {
			return Failure{Drained: true}
		}
	}
	if rest, ok := bytes.CutPrefix(text, prefixRejection); ok {
		failure := Failure{Type: semconv.ErrorTypePolicyDenied}
		if policy, ok := bytes.CutPrefix(rest, prefixDenied); ok {
			failure.Policy = policyName(policy)
		}
		return failure
	}
	if status, ok := bytes.CutPrefix(text, prefixStatus); ok {
		return Failure{Type: byStatus(status)}
	}
	if t := match(byPrefix, text, bytes.HasPrefix); t != "" {
		return Failure{Type: t}
	}
	if t := match(byCause, text, bytes.Contains); t != "" {
		return Failure{Type: t}
	}
	if t := match(byFallback, text, bytes.HasPrefix); t != "" {
		return Failure{Type: t}
	}
	return Failure{Type: semconv.ErrorTypeOther}
}

func unwrap(text []byte) []byte {
	for {
		before := len(text)
		for _, wrapper := range wrappers {
			text = bytes.TrimPrefix(text, wrapper)
		}
		if len(text) == before {
			return text
		}
	}
}

func match(list []rule, text []byte, matches func(text, pattern []byte) bool) string {
	for i := range list {
		if matches(text, list[i].text) {
			return list[i].errorType
		}
	}
	return ""
}

// byStatus reads the answer to a tunnel request. A ztunnel answers 401 to what its authorization policies turn
// down and a waypoint 403; 503 is a ztunnel that could not reach its workload.
func byStatus(status []byte) string {
	switch {
	case hasPrefix(status, "401"), hasPrefix(status, "403"):
		return semconv.ErrorTypePolicyDenied
	case hasPrefix(status, "408"), hasPrefix(status, "504"):
		return semconv.ErrorTypeConnectionTimeout
	}
	return semconv.ErrorTypeConnectFailed
}

// policyName returns "namespace/name", or nothing when the text does not have that form.
func policyName(s []byte) []byte {
	slash := bytes.IndexByte(s, '/')
	if slash <= 0 || slash == len(s)-1 || len(s) > 2*maxLabel+1 || !isHostName(s[:slash]) || !isHostName(s[slash+1:]) {
		return nil
	}
	return s
}
