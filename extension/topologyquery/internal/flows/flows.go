// Package flows keeps flow records: who connected to whom, how it went and why not.
package flows

import (
	"net/netip"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/semconv"
)

// maxText bounds a flow's texts in bytes.
const maxText = 512

// Verdicts, and how a flow was secured.
const (
	VerdictForwarded = "forwarded"
	VerdictDenied    = "denied"
	VerdictFailed    = "failed"

	securityMutualTLS = "mutual_tls"
	securityPlaintext = "plaintext"
	securityUnknown   = "unknown"
)

// Flow is one ztunnel's record of one connection, at its close, a waypoint's or gateway's of one request, or a ztunnel's of one name that
// it was asked for.
type Flow struct {
	Cursor    uint64    `json:"cursor"`
	UID       string    `json:"uid,omitempty"`
	Time      time.Time `json:"time"`
	Node      string    `json:"node,omitempty"`
	Direction string    `json:"direction,omitempty"` // inbound or outbound, seen from the node; none of requests
	Protocol  string    `json:"protocol"`            // tcp, http, grpc or dns
	Source    Party     `json:"source"`
	Dest      Party     `json:"destination"`
	Service   string    `json:"service,omitempty"`
	Security  string    `json:"security"`
	Outcome
	Subject
	BytesSent  int64   `json:"bytes_sent"`     // client to server
	BytesRecv  int64   `json:"bytes_received"` // server to client
	DurationMS float64 `json:"duration_ms"`    // the connection's life
}

// Subject is what a flow is about where it is no connection.
type Subject struct {
	*Request
	*Lookup
}

// Outcome is how a connection went.
type Outcome struct {
	Verdict string `json:"verdict"` // forwarded, denied or failed
	// Reason is an error.type, Message the ztunnel's words.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Policy is "namespace/name" of the policy that denied.
	Policy string `json:"policy,omitempty"`
}

// Party is one end of a flow.
type Party struct {
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Address   string `json:"address,omitempty"`
	Port      uint16 `json:"port,omitempty"`
	Identity  string `json:"identity,omitempty"`
	Cluster   string `json:"cluster,omitempty"`
}

func parse(record plog.LogRecord) Flow {
	attrs := record.Attributes()
	f := Flow{
		UID:       text(attrs, semconv.AttrRecordUID),
		Time:      record.Timestamp().AsTime(),
		Direction: text(attrs, semconv.AttrDirection),
		Source: Party{
			Namespace: text(attrs, semconv.AttrSourceNamespace),
			Pod:       text(attrs, semconv.AttrSourcePod),
			Address:   text(attrs, semconv.AttrSourceAddress),
			Port:      port(attrs, semconv.AttrSourcePort),
			Identity:  text(attrs, semconv.AttrSourceIdentity),
			Cluster:   text(attrs, semconv.AttrSourceCluster),
		},
		Dest: Party{
			Namespace: text(attrs, semconv.AttrDestinationNamespace),
			Pod:       text(attrs, semconv.AttrDestinationPod),
			Address:   text(attrs, semconv.AttrDestinationAddress),
			Port:      port(attrs, semconv.AttrDestinationPort),
			Identity:  text(attrs, semconv.AttrDestinationIdentity),
			Cluster:   text(attrs, semconv.AttrDestinationCluster),
		},
		Service: text(attrs, semconv.AttrDestinationService),
		Outcome: Outcome{
			Reason:  text(attrs, semconv.AttrErrorType),
			Message: text(attrs, semconv.AttrErrorMessage),
			Policy:  text(attrs, semconv.AttrPolicy),
		},
		Security: securityPlaintext,
		Protocol: semconv.ProtocolTCP,
	}
	if hbone, err := netip.ParseAddrPort(text(attrs, semconv.AttrDestinationHBONE)); err == nil {
		f.Dest.Address, f.Dest.Port = hbone.Addr().String(), hbone.Port()
		f.Security = securityMutualTLS
	} else if f.Source.Identity != "" {
		f.Security = securityMutualTLS
	}
	f.BytesSent, f.BytesRecv = integer(attrs, semconv.AttrBytesSent), integer(attrs, semconv.AttrBytesRecv)
	if f.Direction == semconv.DirectionInbound {
		// The record says what its own side sent; an inbound record's side is the server.
		f.BytesSent, f.BytesRecv = f.BytesRecv, f.BytesSent
	}
	f.DurationMS = float64(integer(attrs, semconv.AttrDuration)) / 1e6
	switch f.Reason {
	case "": // an error that is no failure says how the connection was closed
		f.Verdict = VerdictForwarded
	case semconv.ErrorTypePolicyDenied:
		f.Verdict = VerdictDenied
	default:
		f.Verdict = VerdictFailed
	}
	return f
}

func text(attrs pcommon.Map, name string) string {
	value, ok := attrs.Get(name)
	if !ok {
		return ""
	}
	return clip(value.AsString(), maxText)
}

func clip(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}

func integer(attrs pcommon.Map, name string) int64 {
	value, ok := attrs.Get(name)
	if !ok || value.Type() != pcommon.ValueTypeInt {
		return 0
	}
	return value.Int()
}

func port(attrs pcommon.Map, name string) uint16 {
	if n := integer(attrs, name); n > 0 && n <= 65535 {
		return uint16(n)
	}
	return 0
}
