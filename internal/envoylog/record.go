// Package envoylog parses the access logs of Envoys: waypoints, ingress and egress gateways. It reads Istio's default text format, that
// of its older releases, its JSON encoding, and formats that users compose of Envoy's operators.
//
// Envoy's text formats do not escape: a client that sends quotes in a path or a header can write whole fields. What decides (code, flags,
// cluster, addresses) is read only where no other reading of the line is possible; a line that can be read in two ways is ErrAmbiguous.
package envoylog

import (
	"errors"
)

// Field is what an operator of a format, or a key of a JSON object, tells of a request.
type Field uint8

// The fields.
const (
	StartTime Field = iota
	Method
	Path
	Protocol
	Code
	Flags
	Details
	Termination
	TransportFailure
	BytesReceived
	BytesSent
	Duration
	UpstreamTime
	ForwardedFor
	UserAgent
	RequestID
	Authority
	UpstreamHost
	Cluster
	UpstreamLocal
	DownstreamLocal
	DownstreamRemote
	ServerName
	Route
	GRPCStatus
	ConnectionID
	UpstreamConnectionID
	LogType
	ContentType
	numFields

	// ignored is a field that is not kept; untrusted text may stand there.
	ignored
)

// Kind says what a line is.
type Kind uint8

const (
	// KindOther is a line of the proxy's own or of its agent's, which says nothing of a request.
	KindOther Kind = iota
	// KindRequest is a request that ended.
	KindRequest
	// KindConnection is a TCP connection that ended, or one that never became a request.
	KindConnection
	// KindTunnel is of the tunnel and not of what goes through it: CONNECT, and the attempts of the cluster connect_originate.
	KindTunnel
	// KindUnfinished is a line about a request that goes on, or one that another line tells.
	KindUnfinished
)

// Unknown stands for a number that the line does not state.
const Unknown = -1

// Record is what a line says. Values point into the line or into the parser, until its next call.
type Record struct {
	// Values are the fields' texts, nil where the line has none or "-".
	Values [numFields][]byte
	// Start is when the request began, in nanoseconds since the epoch.
	Start int64
	// Code is the response's, 0 where nobody answered; GRPC is the status of a gRPC request, Unknown of others.
	Code, GRPC int
	// Received and Sent are the bytes of the bodies, from and to the client.
	Received, Sent uint64
	// Duration and UpstreamTime are in nanoseconds, or Unknown.
	Duration, UpstreamTime int64
}

// End is when the request ended, in nanoseconds since the epoch.
func (r *Record) End() int64 { return r.Start + max(r.Duration, 0) }

// Errors of Parse. They carry no text of the line, which is not to be trusted.
var (
	// ErrForeign is returned for text that no access log of a known format has.
	ErrForeign = errors.New("not a line of a known access log format")
	// ErrCut is returned for a line that begins as one of the access log and does not go on as one.
	ErrCut = errors.New("cut or malformed line of an access log")
	// ErrAmbiguous is returned for a line that quotes in a path or header let be read in several ways.
	ErrAmbiguous = errors.New("line that can be read in several ways")
)
