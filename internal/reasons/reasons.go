// Package reasons is the registry of why connections fail and of the kinds of outages: what each is called, whose fault it
// is, and by which of ztunnel's error texts it is known. Documents, the API's schema and the UI's labels are written from it:
//
//	make generate
package reasons

import (
	"strings"

	"github.com/nephilia/nephilia/internal/semconv"
)

// Side is whose doing a failure is.
type Side string

// Sides.
const (
	Client Side = "client"
	Server Side = "server"
	// Path is what lies between the two: network, tunnel, gateway.
	Path Side = "path"
	// Mesh is the mesh's own: policies, certificates, what istiod told the ztunnels.
	Mesh    Side = "mesh"
	Unknown Side = "unknown"
)

// Match is where in an error a text has to stand.
type Match uint8

const (
	// Begins matches one of ztunnel's own errors. These are looked for first, because what follows may be chosen by a
	// workload.
	Begins Match = iota
	// Contains matches the message of an operating system, rustls or h2 anywhere in the error, in the order of the table.
	Contains
	// Wraps matches the beginning of an error of ztunnel's that wraps a cause which says nothing more.
	Wraps
)

// Text is a piece of an error by which its reason is known.
type Text struct {
	Text  string
	Match Match
	// Closing tells that the bytes decide: on a connection that was answered, the error says how it was closed and not
	// that it failed.
	Closing bool
}

// Reason is why connections fail.
type Reason struct {
	// Name is the value of error_type. Label is it in two or three words where it is not a kind of outage of that name.
	Name, Label string
	Fault       Side
	// Vague tells that the reason only says that the other end refused.
	Vague bool
	// Lost tells that connections to a pod or node that is gone fail in this way.
	Lost bool
	// Kind is the kind of outage that such failures make, empty if they make none.
	Kind string
	// Meaning is what happened, in a sentence.
	Meaning string
	Texts   []Text
}

func begins(texts ...string) []Text   { return listOf(Begins, false, texts) }
func contains(texts ...string) []Text { return listOf(Contains, false, texts) }
func wraps(texts ...string) []Text    { return listOf(Wraps, false, texts) }

// closing are messages inside an error for which the bytes decide.
func closing(texts ...string) []Text { return listOf(Contains, true, texts) }

func listOf(match Match, closing bool, texts []string) []Text {
	list := make([]Text, len(texts))
	for i, text := range texts {
		list[i] = Text{Text: text, Match: match, Closing: closing}
	}
	return list
}

func all(lists ...[]Text) []Text {
	var joined []Text
	for _, list := range lists {
		joined = append(joined, list...)
	}
	return joined
}

// handshake is how the error of a server's ztunnel begins that names what rustls says, as Rust's debug format shows it.
const handshake = "tls handshake error: Custom { kind: InvalidData, error: "

// All are the reasons. Their order is that in which an error is searched for a cause: a TLS handshake that ends early
// says "tls handshake eof".
var All = []Reason{
	{
		Name: semconv.ErrorTypeConnectionRefused, Fault: Server, Lost: true, Kind: "connection_refused",
		Meaning: "The server refused the connection: nothing listens on the port.",
		Texts:   contains("os error 111", "Connection refused", "connection refused"),
	},
	{
		Name: semconv.ErrorTypeHBONEBlocked, Fault: Path, Lost: true, Kind: "hbone_blocked",
		Meaning: "Port 15008 of the pod (HBONE) did not take the connection: its ztunnel is gone, or a NetworkPolicy blocks the port.",
		Texts:   begins("connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008"),
	},
	{
		Name: semconv.ErrorTypeIdentityError, Fault: Mesh, Kind: "identity_error",
		Meaning: "A certificate could not be had, or names another identity than expected.",
		Texts: all(
			begins("identity error: ", "identity verification error: ", "signing error: ", handshake+"InvalidCertificate(Other(OtherError(identity verification error"),
			contains("identity verification error"),
		),
	},
	{
		Name: semconv.ErrorTypeRevoked, Label: "Certificate revoked", Fault: Mesh, Kind: "identity_error",
		Meaning: "The other end's certificate is on the list of revoked ones (CRL).",
		Texts: all(
			begins("connection closed: peer certificate revoked", "tls handshake error: invalid peer certificate: Revoked", "tls error: invalid peer certificate: Revoked",
				handshake+"InvalidCertificate(Revoked)", handshake+"AlertReceived(CertificateRevoked)", "tls handshake error: received fatal alert: CertificateRevoked"),
			contains("invalid peer certificate: Revoked", "fatal alert: CertificateRevoked", "certificate revoked by CRL"),
		),
	},
	{
		Name: semconv.ErrorTypeTLSFailure, Fault: Mesh, Kind: "tls_failure",
		Meaning: "The TLS handshake between the two ends failed.",
		Texts: all(
			begins("tls error: ", "tls handshake error: ", "tls handshake failed: ", "ssl error: "),
			contains("tls handshake", "peer certificate", "no server certificate", "peer sent no certificates", "fatal alert",
				"peer misbehaved", "peer is incompatible", "peer doesn't support any known protocol", "received corrupt message",
				"received unexpected message", "received unexpected handshake message", "cannot decrypt peer's message", "certificate"),
		),
	},
	{
		Name: semconv.ErrorTypeConnectionTimeout, Fault: Path, Lost: true, Kind: "connection_timeout",
		Meaning: "The other end did not answer in time, or nobody knows a way to its address.",
		Texts: contains("os error 110", "timed out", "deadline has elapsed",
			// Nobody answers for that address, which a client cannot tell from a host that is silent.
			"os error 113", "No route to host", "os error 112", "Host is down", "os error 101", "Network is unreachable",
			"host unreachable", "network unreachable"),
	},
	{
		Name: semconv.ErrorTypeClientExhausted, Fault: Client, Kind: "client_exhausted",
		Meaning: "The client has no local port left for another connection.",
		Texts: all(
			contains("os error 99", "Cannot assign requested address", "os error 98", "Address already in use"),
			wraps("failed to bind to address "),
		),
	},
	{
		Name: semconv.ErrorTypeClientAborted, Label: "Client left", Fault: Client,
		Meaning: "The client left before it had everything.",
		Texts:   begins("client disconnected before all data was written"),
	},
	{
		Name: semconv.ErrorTypeConnectionReset, Fault: Server, Lost: true, Kind: "connection_reset",
		Meaning: "The connection was cut before the server answered.",
		Texts: all(
			begins("destination disconnected before all data was written"),
			closing("connection established in response to a CONNECT request", "os error 104", "onnection reset", "os error 32", "roken pipe",
				"os error 103", "onnection abort", "os error 107", "not connected", "unexpected end of file", "early eof",
				"peer closed connection", "stream error", "stream no longer needed", "stream closed", "connection error",
				"protocol error", "connection closed", "operation was canceled"),
			[]Text{{Text: "h2 failed: ", Match: Wraps, Closing: true}, {Text: "http failed: ", Match: Wraps, Closing: true}},
		),
	},
	{
		Name: semconv.ErrorTypeNoHealthyUpstream, Fault: Server, Kind: "no_healthy_upstream",
		Meaning: "The service has no endpoint that could take the connection.",
		Texts: begins("no healthy upstream: ", "no endpoints for workload: ", "no valid routing destination for workload: ",
			"no valid target port for workload: ", "no service or workload for hostname: ", "no service for target address: ",
			"no gateway address: ", "requested service ", "unknown network gateway: "),
	},
	{
		Name: semconv.ErrorTypeUnknownWaypoint, Fault: Mesh, Kind: "unknown_waypoint",
		Meaning: "The waypoint that the service is to be reached through does not exist or has no ready pod.",
		Texts:   begins("unknown waypoint: "),
	},
	{
		Name: semconv.ErrorTypeUnknownParty, Fault: Mesh, Kind: "unknown_party",
		Meaning: "The ztunnel has not heard of one of the two ends from istiod.",
		Texts: begins("failed to fetch information about local workload: ", "unknown source: ", "unknown destination: ",
			"invalid source: "),
	},
	{
		// A gateway's answer 404 to the tunnel request (http status) means it as well.
		Name: semconv.ErrorTypeNotRouted, Fault: Mesh, Kind: "not_routed",
		Meaning: "The gateway or waypoint has no route to the address that was asked for.",
	},
	{
		Name: semconv.ErrorTypeDNSFailure, Fault: Path, Kind: "dns_failure",
		Meaning: "The host's name could not be resolved.",
		Texts: begins("dns: ", "dns lookup: ", "dns response had no valid IP addresses", "no ip addresses were resolved for workload: ",
			"ip addresses were resolved for workload "),
	},
	{
		Name: semconv.ErrorTypePolicyDenied, Fault: Mesh, Kind: "policy_denied",
		Meaning: "An AuthorizationPolicy does not allow the connection.",
		Texts:   begins("connection closed due to policy rejection", "connection closed due to policy change"),
	},
	{
		Name: semconv.ErrorTypeTimeout, Label: "Timeout", Fault: Server,
		Meaning: "A request was not answered within its time.",
	},
	{
		Name: semconv.ErrorTypeRateLimited, Label: "Rate limited", Fault: Client,
		Meaning: "A rate limit turned the request down.",
	},
	{
		Name: semconv.ErrorTypeOverloaded, Label: "Overloaded", Fault: Server,
		Meaning: "A circuit breaker or an overload manager turned the request down.",
	},
	{
		Name: semconv.ErrorTypeFaultInjected, Label: "Fault injected", Fault: Mesh,
		Meaning: "The mesh's configuration injects a fault.",
	},
	{
		Name: semconv.ErrorTypeHTTPError, Label: "HTTP error", Fault: Server,
		Meaning: "The request was answered with a code from 500 on.",
	},
	{
		Name: semconv.ErrorTypeGRPCError, Label: "gRPC error", Fault: Server,
		Meaning: "The request was answered with a gRPC status that is the server's fault.",
	},
	{
		Name: semconv.ErrorTypeConnectFailed, Label: "Tunnel refused", Fault: Unknown, Vague: true, Lost: true, Kind: "connection_refused",
		Meaning: "The other end turned the tunnel down; only its own log tells why.",
		Texts:   wraps("http2 handshake failed: ", "http handshake failed: ", "connection failed: ", "pool: "),
	},
	{
		Name: semconv.ErrorTypeOther, Label: "Other failure", Fault: Unknown, Vague: true, Lost: true, Kind: "connection_failed",
		Meaning: "The error says nothing that is known.",
		Texts: begins("connection tracking failed", "expected method CONNECT", "invalid CONNECT address", "no valid authority pseudo header: ",
			"no valid service port in authority header: ", "attempted recursive call to ourselves", "unsupported feature: ",
			"ip mismatch: ", "pool is already connecting", "connection streams maxed out", "bug: connection seen twice",
			"no upgrade available: "),
	},
}

var byName = func() map[string]*Reason {
	m := make(map[string]*Reason, len(All))
	for i := range All {
		m[All[i].Name] = &All[i]
	}
	return m
}()

// Of is the reason of a name; that of other for one that is not known.
func Of(name string) *Reason {
	if r, ok := byName[name]; ok {
		return r
	}
	return byName[semconv.ErrorTypeOther]
}

// Decisive tells whether a failure for a reason, told of a connection that a waypoint made, is one of those who called through
// it. A waypoint drops connections that did their work, or whose request was given up, and its server's ztunnel says of them
// that they were cut.
func Decisive(name string) bool {
	r := Of(name)
	return r.Fault != Client && r.Name != semconv.ErrorTypeConnectionReset && r.Name != semconv.ErrorTypeOther
}

// Cut tells whether a reason says no more than that the connection failed: whoever saw it from nearer may know why.
func Cut(name string) bool {
	r := Of(name)
	return r.Kind != "" && r.Fault != Client && (r.Vague || r.Name == semconv.ErrorTypeConnectionReset)
}

// Unsigned tells whether an error says that a certificate was asked for and not signed.
func Unsigned(text string) bool {
	return strings.Contains(text, "signing gRPC error") || strings.HasPrefix(text, "signing error: ")
}
