package requests

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
)

// Attributes of application spans, by OpenTelemetry's semantic conventions, today's and those before.
const (
	attrHTTPRoute       = "http.route"
	attrURLTemplate     = "url.template"
	attrHTTPStatus      = "http.response.status_code"
	attrHTTPStatusOld   = "http.status_code"
	attrRPCSystem       = "rpc.system"
	attrRPCSystemName   = "rpc.system.name"
	attrRPCService      = "rpc.service"
	attrRPCMethod       = "rpc.method"
	attrGRPCStatus      = "rpc.grpc.status_code"
	attrRPCStatus       = "rpc.response.status_code"
	attrClientAddress   = "client.address"
	attrPeerAddress     = "network.peer.address"
	attrPeerPort        = "network.peer.port"
	attrServerPort      = "server.port"
	attrServerAddress   = "server.address"
	attrPeerAddressOld  = "net.sock.peer.addr"
	attrPeerPortOld     = "net.sock.peer.port"
	attrHostPortOld     = "net.host.port"
	attrDeploymentName  = "k8s.deployment.name"
	attrStatefulSetName = "k8s.statefulset.name"
	attrDaemonSetName   = "k8s.daemonset.name"
	attrPodIP           = "k8s.pod.ip"
)

// spanID identifies a span: trace id and span id.
type spanID [24]byte

func idOf(trace pcommon.TraceID, span pcommon.SpanID) spanID {
	var id spanID
	copy(id[:16], trace[:])
	copy(id[16:], span[:])
	return id
}

// Origin is who wrote a span, as its resource says.
type Origin struct {
	pod, namespace, podIP               string
	workload, service, serviceNamespace string
}

// OriginOf reads a resource's attributes.
func OriginOf(resource pcommon.Resource) Origin {
	var o Origin
	resource.Attributes().Range(func(name string, value pcommon.Value) bool {
		switch name {
		case semconv.AttrPodName:
			o.pod = naming.Intern(value.Str())
		case semconv.AttrNamespaceName:
			o.namespace = naming.Intern(value.Str())
		case semconv.AttrServiceName:
			o.service = naming.Intern(value.Str())
		case semconv.AttrServiceNamespace:
			o.serviceNamespace = naming.Intern(value.Str())
		case attrPodIP:
			o.podIP = naming.Intern(value.Str())
		case attrDeploymentName, attrStatefulSetName, attrDaemonSetName:
			o.workload = naming.Intern(value.Str())
		}
		return true
	})
	return o
}

func (o *Origin) anyNamespace() string { return cmp.Or(o.namespace, o.serviceNamespace) }

// name is the best name of a writer that the mesh's state does not name.
func (o *Origin) name() string { return cmp.Or(o.workload, o.service, o.pod, naming.Unknown) }

// clientSpan is what a client says of a request.
type clientSpan struct {
	origin     Origin
	peer       netip.AddrPort // where it sent the request: a service's virtual address or a pod's
	start, end pcommon.Timestamp
}

// serverSpan is what a server says of a request.
type serverSpan struct {
	origin     Origin
	backend    *mesh.Workload // for whom a waypoint answers; not the pod, which nobody knows
	client     netip.Addr
	port       uint16
	route      string
	grpc       bool
	status     uint16 // 0 if the span does not say
	failed     bool
	start, end pcommon.Timestamp
}

func (s *serverSpan) duration() time.Duration {
	if s.end <= s.start {
		return 0
	}
	return time.Duration(s.end - s.start)
}

// response is what the span says answered the request.
func (s *serverSpan) response() responses.Response {
	if s.backend != nil {
		return responses.Response{Code: s.status, Source: semconv.RequestSourceWaypointSpans}
	}
	return responses.Response{Code: s.status, Source: semconv.RequestSourceSpans}
}

func readClientSpan(o *Origin, span ptrace.Span) clientSpan {
	return clientSpan{origin: *o, peer: peerOf(span.Attributes()), start: span.StartTimestamp(), end: span.EndTimestamp()}
}

// peerOf reads an address and port. Some instrumentations put both into the address.
func peerOf(attrs pcommon.Map) netip.AddrPort {
	address := stringOf(attrs, attrPeerAddress, attrPeerAddressOld)
	port := portOf(attrs, attrPeerPort, attrPeerPortOld, attrServerPort)
	if address == "" {
		address = stringOf(attrs, attrServerAddress)
	}
	if both, err := netip.ParseAddrPort(address); err == nil {
		return both
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, port)
}

func readServerSpan(o *Origin, span ptrace.Span) serverSpan {
	s := serverSpan{
		origin: *o,
		start:  span.StartTimestamp(),
		end:    span.EndTimestamp(),
		failed: span.Status().Code() == ptrace.StatusCodeError,
	}
	var route, template, service, method string
	var httpStatus, grpcStatus int64
	span.Attributes().Range(func(name string, value pcommon.Value) bool {
		switch name {
		case attrHTTPRoute:
			route = value.Str()
		case attrURLTemplate:
			template = value.Str()
		case attrRPCService:
			service = value.Str()
		case attrRPCMethod:
			method = value.Str()
		case attrRPCSystem, attrRPCSystemName:
			s.grpc = value.Str() == "grpc"
		case attrHTTPStatus, attrHTTPStatusOld:
			httpStatus = intOf(value)
		case attrGRPCStatus, attrRPCStatus:
			grpcStatus = grpcCode(value)
		case attrClientAddress:
			s.client = Address(value.Str())
		case attrPeerAddress, attrPeerAddressOld:
			if !s.client.IsValid() {
				s.client = Address(value.Str())
			}
		case attrServerPort, attrHostPortOld:
			if port := intOf(value); port > 0 && port <= 65535 {
				s.port = uint16(port)
			}
		}
		return true
	})
	if httpStatus > 0 && httpStatus < 1000 {
		s.status = uint16(httpStatus)
	}
	s.failed = s.failed || httpStatus >= 500 || serverFault(grpcStatus)
	switch {
	case route != "":
		s.route = naming.Intern(route)
	case template != "":
		s.route = naming.Intern(template)
	case service != "" && method != "":
		s.route = naming.Intern(service + "/" + method)
	case method != "":
		s.route = naming.Intern(method)
	default:
		s.route = naming.Intern(span.Name())
	}
	return s
}

// serverFault tells whether a gRPC status is the server's fault, as the semantic conventions for server spans list them.
func serverFault(code int64) bool {
	switch code {
	case 2, 4, 12, 13, 14, 15: // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
		return true
	}
	return false
}

func grpcCode(value pcommon.Value) int64 {
	if value.Type() == pcommon.ValueTypeStr {
		switch strings.ToUpper(value.Str()) {
		case "UNKNOWN":
			return 2
		case "DEADLINE_EXCEEDED":
			return 4
		case "UNIMPLEMENTED":
			return 12
		case "INTERNAL":
			return 13
		case "UNAVAILABLE":
			return 14
		case "DATA_LOSS":
			return 15
		}
	}
	return intOf(value)
}

func intOf(value pcommon.Value) int64 {
	switch value.Type() {
	case pcommon.ValueTypeInt:
		return value.Int()
	case pcommon.ValueTypeDouble:
		return int64(value.Double())
	case pcommon.ValueTypeStr:
		n, err := strconv.ParseInt(value.Str(), 10, 64)
		if err == nil {
			return n
		}
	}
	return 0
}

func stringOf(attrs pcommon.Map, names ...string) string {
	for _, name := range names {
		if v, ok := attrs.Get(name); ok && v.Type() == pcommon.ValueTypeStr && v.Str() != "" {
			return v.Str()
		}
	}
	return ""
}

func portOf(attrs pcommon.Map, names ...string) uint16 {
	for _, name := range names {
		if v, ok := attrs.Get(name); ok {
			if port := intOf(v); port > 0 && port <= 65535 {
				return uint16(port)
			}
		}
	}
	return 0
}

// Address reads an IP address with or without a port.
func Address(text string) netip.Addr {
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.Unmap()
	}
	if both, err := netip.ParseAddrPort(text); err == nil {
		return both.Addr().Unmap()
	}
	return netip.Addr{}
}
