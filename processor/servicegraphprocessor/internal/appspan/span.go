package appspan

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// maxHost is the longest name that the DNS has.
const maxHost = 253

// Peer is whom a span says to have called.
type Peer struct {
	// Addr is the address, a service's virtual one or a pod's; Host is the name, in lower case. Either may be unknown.
	Addr netip.Addr
	Host string
	Port uint16
	// Service is what the application calls its peer.
	Service string
}

// Known tells whether anything is said of the peer. A process that calls its own host calls nobody.
func (p *Peer) Known() bool {
	if p.Host == "localhost" || p.Addr.IsLoopback() {
		return false
	}
	return p.Addr.IsValid() || p.Host != "" || p.Service != ""
}

// setHost takes over a name or an address, with or without a port.
func (p *Peer) setHost(text string) {
	if text == "" || len(text) > maxHost || strings.HasPrefix(text, "/") || strings.ContainsFunc(text, notASCII) {
		return // no name, or a socket in the file system
	}
	if both, err := netip.ParseAddrPort(text); err == nil {
		p.Port = cmp.Or(p.Port, both.Port())
		text = both.Addr().String()
	}
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if addr, err := netip.ParseAddr(text); err == nil {
		if !p.Addr.IsValid() {
			p.Addr = addr.Unmap()
		}
		return
	}
	host, port, _ := strings.Cut(text, ":")
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && p.Port == 0 {
		p.Port = uint16(n)
	}
	p.Host = naming.Intern(strings.ToLower(strings.TrimSuffix(host, ".")))
}

func notASCII(r rune) bool { return r <= ' ' || r > '~' }

// hostOf is the host and port of a URL.
func hostOf(url string) string {
	_, rest, absolute := strings.Cut(url, "://")
	if !absolute {
		return ""
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return rest[strings.LastIndexByte(rest, '@')+1:]
}

// Call is what the span of a client says of a request, or that of a producer of a message.
type Call struct {
	Peer
	Operation string
	Protocol  string
	// Message tells that a broker passes it on to whoever consumes it.
	Message bool
	Local   netip.Addr // the client's own address
	// Failed tells that the peer failed, Unanswered that the span says nothing of an answer. Status is of HTTP, 0 if the span does not say.
	Failed, Unanswered bool
	Status             uint16

	Start, End pcommon.Timestamp
}

// ReadCall reads a client's or a producer's span.
func ReadCall(span ptrace.Span) Call {
	c := Call{Protocol: semconv.ProtocolTCP, Start: span.StartTimestamp(), End: span.EndTimestamp()}
	failed := failure{isError: span.Status().Code() == ptrace.StatusCodeError}
	var names hostNames
	var op operation
	var peerPort uint16
	message := ""
	span.Attributes().Range(func(name string, value pcommon.Value) bool {
		switch name {
		case attrPeerAddress, attrSockPeerAddr, attrNetPeerIP:
			if both, err := netip.ParseAddrPort(value.Str()); err == nil {
				c.Addr, peerPort = both.Addr().Unmap(), both.Port()
			} else if addr := Address(value.Str()); addr.IsValid() {
				c.Addr = addr
			}
		case attrLocalAddress, attrSockHostAddr, attrNetHostIP:
			c.Local = Address(value.Str())
		case attrPeerPort, attrSockPeerPort:
			peerPort = portOf(value)
		case attrServerPort, attrNetPeerPort:
			c.Port = portOf(value)
		case attrPeerService, attrServicePeer:
			c.Service = naming.Intern(value.Str())
		case attrHTTPMethod, attrHTTPMethodOld:
			c.Protocol = semconv.ProtocolHTTP
		case attrMessaging:
			c.Protocol = semconv.ProtocolMessaging
		case attrMessagingOp, attrMessagingOpOld:
			message = value.Str()
		}
		names.read(name, value)
		op.read(name, value)
		failed.read(name, value)
		return true
	})
	if failed.http > 0 {
		c.Protocol = semconv.ProtocolHTTP
	}
	if op.grpc {
		c.Protocol = semconv.ProtocolGRPC
	}
	if c.Addr.IsValid() && peerPort != 0 {
		c.Port = peerPort
	}
	c.setHost(names.best())
	c.Operation = op.name(span)
	c.Message = span.Kind() == ptrace.SpanKindProducer || c.Protocol == semconv.ProtocolMessaging && sends(message)
	c.Status, c.Failed, c.Unanswered = failed.status(), failed.ofClient(), failed.unanswered()
	return c
}

// sends tells whether an operation of messaging hands a message over.
func sends(operation string) bool {
	return operation == "send" || operation == "publish" || operation == "create"
}

// hostNames are the attributes that name whom a client called, today's first.
type hostNames struct{ server, peer, sock, url, host, cluster string }

func (n *hostNames) read(name string, value pcommon.Value) {
	switch name {
	case attrServerAddress:
		n.server = value.Str()
	case attrNetPeerName:
		n.peer = value.Str()
	case attrSockPeerName:
		n.sock = value.Str()
	case attrURLFull, attrHTTPURL:
		n.url = value.Str()
	case attrHTTPHost:
		n.host = value.Str()
	case attrUpstreamCluster:
		cluster := strings.TrimSuffix(value.Str(), ";")
		if last := strings.LastIndexByte(cluster, '|'); last >= 0 {
			n.cluster = cluster[last+1:]
		}
	}
}

func (n *hostNames) best() string {
	// What a proxy chose comes before what its client asked for.
	return cmp.Or(n.cluster, n.server, n.peer, hostOf(n.url), n.host, n.sock)
}

// operation names what was asked for.
type operation struct {
	route, template, service, method string
	grpc                             bool
}

func (o *operation) read(name string, value pcommon.Value) {
	switch name {
	case attrHTTPRoute:
		o.route = value.Str()
	case attrURLTemplate:
		o.template = value.Str()
	case attrRPCService:
		o.service = value.Str()
	case attrRPCMethod:
		o.method = value.Str()
	case attrRPCSystem, attrRPCSystemName:
		o.grpc = value.Str() == "grpc"
	}
}

func (o *operation) name(span ptrace.Span) string {
	switch {
	case o.route != "":
		return naming.Intern(o.route)
	case o.template != "":
		return naming.Intern(o.template)
	case o.service != "" && o.method != "":
		return naming.Intern(o.service + "/" + o.method)
	case o.method != "":
		return naming.Intern(o.method)
	}
	return naming.Intern(span.Name())
}

// Answer is what the span of a server says of a request, or that of a consumer of a message.
type Answer struct {
	// Client is the address that connected, Forwarded the one that the request says to come from, Local the server's own.
	Client, Forwarded, Local netip.Addr
	// Called is what the server was called by. Of a consumer it is the broker.
	Called     Peer
	Operation  string
	Protocol   string
	Status     uint16 // of HTTP, 0 if the span does not say
	Failed     bool
	Start, End pcommon.Timestamp
}

// ReadAnswer reads a server's or a consumer's span.
func ReadAnswer(span ptrace.Span) Answer {
	a := Answer{Protocol: semconv.ProtocolHTTP, Start: span.StartTimestamp(), End: span.EndTimestamp()}
	failed := failure{isError: span.Status().Code() == ptrace.StatusCodeError}
	var op operation
	called := ""
	span.Attributes().Range(func(name string, value pcommon.Value) bool {
		switch name {
		case attrPeerAddress, attrSockPeerAddr, attrNetPeerIP, attrEnvoyPeer:
			if addr := Address(value.Str()); addr.IsValid() && !addr.IsLoopback() {
				a.Client = addr
			}
		case attrClientAddress, attrHTTPClientIP:
			a.Forwarded = Address(value.Str())
		case attrLocalAddress, attrSockHostAddr, attrNetHostIP:
			a.Local = Address(value.Str())
		case attrServerAddress, attrNetHostName:
			called = value.Str()
		case attrServerPort, attrNetHostPort:
			a.Called.Port = portOf(value)
		case attrMessaging:
			a.Protocol = semconv.ProtocolMessaging
		}
		op.read(name, value)
		failed.read(name, value)
		return true
	})
	if op.grpc {
		a.Protocol = semconv.ProtocolGRPC
	}
	if span.Kind() == ptrace.SpanKindConsumer {
		a.Protocol = semconv.ProtocolMessaging
	}
	a.Called.setHost(called)
	a.Operation = op.name(span)
	a.Status, a.Failed = failed.status(), failed.ofServer()
	return a
}

// Seen is the address that the server saw: of the connection, if it says so, else of the request.
func (a *Answer) Seen() netip.Addr {
	if a.Client.IsValid() {
		return a.Client
	}
	return a.Forwarded
}

// Duration is how long the server took.
func (a *Answer) Duration() time.Duration { return duration(a.Start, a.End) }

// Duration is how long the caller waited.
func (c *Call) Duration() time.Duration { return duration(c.Start, c.End) }

func duration(start, end pcommon.Timestamp) time.Duration {
	if end <= start {
		return 0
	}
	return time.Duration(end - start)
}

// Receives tells whether a consumer's span is of fetching messages rather than of processing one.
func Receives(span ptrace.Span) bool {
	operation := cmp.Or(stringOf(span.Attributes(), attrMessagingOp), stringOf(span.Attributes(), attrMessagingOpOld))
	return operation == "receive" || operation == "settle"
}

// OwnAnswer is the host for which a proxy answered a request itself, with a server's error, and that; false if it passed the request
// on. Envoy's flags say why.
func OwnAnswer(span ptrace.Span) (host string, a Answer, own bool) {
	attrs := span.Attributes()
	flags := stringOf(attrs, attrResponseFlags)
	if a = ReadAnswer(span); flags == "" || flags == "-" || a.Status < 500 {
		return "", a, false
	}
	cluster := strings.TrimSuffix(stringOf(attrs, attrUpstreamCluster), ";")
	return cluster[strings.LastIndexByte(cluster, '|')+1:], a, true
}
