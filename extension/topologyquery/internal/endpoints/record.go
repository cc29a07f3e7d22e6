package endpoints

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Mesh names pods and services. inventory.Inventory is one.
type Mesh interface {
	Hostname(hostname string) *mesh.Service
	Pod(namespace, name string) *mesh.Workload
	Address(addr netip.Addr) *mesh.Workload
}

// FromRecord reads a record of a waypoint's or gateway's (docs/data-model.md, section 2.5). It is false for a request that counts nowhere.
func FromRecord(m Mesh, resource pcommon.Map, record plog.LogRecord) (Request, bool) {
	r := Request{Time: int64(record.Timestamp() / 1e6), Source: WaypointLog, Seconds: -1, Failed: record.SeverityNumber() >= plog.SeverityNumberError}
	if _, ok := resource.Get(semconv.AttrGateway); ok {
		r.Source = GatewayLog
	}
	var host string
	var destination Name
	var app string
	repeated := false
	for name, v := range record.Attributes().All() {
		switch name {
		case semconv.AttrRepeated:
			repeated = v.Bool()
		case semconv.LabelDestinationService:
			host = v.Str()
		case semconv.LabelDestinationWorkload:
			destination.Name = v.Str()
		case semconv.LabelDestinationNamespace:
			destination.Namespace = v.Str()
		case semconv.LabelDestinationCanonicalService:
			app = v.Str()
		case semconv.LabelSourceWorkload:
			r.Caller.Name = v.Str()
		case semconv.LabelSourceNamespace:
			r.Caller.Namespace = v.Str()
		case semconv.AttrRequestMethod:
			r.Method = v.Str()
		case semconv.AttrURLPath:
			r.Path = v.Str()
		case semconv.AttrResponseStatusCode:
			r.Code = code(v.Int())
		case semconv.AttrRequestDuration:
			r.Seconds = float64(v.Int()) / 1e9
		}
	}
	if repeated || destination.Name == "" && host == "" || r.Path == "" && r.Method == "" {
		return Request{}, false
	}
	if r.Code == 0 || r.Code == 101 {
		r.Seconds = -1 // how long the client had patience, or a websocket was open
	}
	r.Service = nameOf(m, host, destination.Namespace, cmp.Or(app, destination.Name))
	return r, true
}

func code(n int64) uint16 {
	if n < 0 || n > 999 {
		return 0
	}
	return uint16(n)
}

// nameOf is the name of the service that was called: that of a host in the mesh or in Kubernetes, of one outside, or the workload's where it
// was called itself.
func nameOf(m Mesh, host, namespace, app string) Name {
	if host == "" {
		return Name{namespace, app}
	}
	if s := m.Hostname(host); s != nil {
		return Name{s.Namespace, s.Name}
	}
	name, rest, _ := strings.Cut(host, ".")
	if in, rest, ok := strings.Cut(rest, "."); ok && (rest == "svc" || strings.HasPrefix(rest, "svc.")) {
		return Name{in, name}
	}
	return Name{"", host}
}

// Attributes of spans, by today's semantic conventions and by those before.
const (
	attrHTTPRoute     = "http.route"
	attrMethodOld     = "http.method"
	attrStatusOld     = "http.status_code"
	attrTargetOld     = "http.target"
	attrURLOld        = "http.url"
	attrURLFull       = "url.full"
	attrRPCService    = "rpc.service"
	attrRPCMethod     = "rpc.method"
	attrRPCStatus     = "rpc.response.status_code"
	attrClientAddress = "client.address"
	attrPeerAddress   = "network.peer.address"
	attrPeerOld       = "net.sock.peer.addr"
	attrProxyNode     = "node_id" // of Envoy's own spans
)

// FromSpan reads the span of an application that answered a request; it is false for any other.
func FromSpan(m Mesh, resource pcommon.Map, span ptrace.Span) (Request, bool) {
	if span.Kind() != ptrace.SpanKindServer {
		return Request{}, false
	}
	r := Request{Time: int64(span.EndTimestamp() / 1e6), Source: Spans, Failed: span.Status().Code() == ptrace.StatusCodeError}
	if span.EndTimestamp() >= span.StartTimestamp() {
		r.Seconds = float64(span.EndTimestamp()-span.StartTimestamp()) / 1e9
	}
	var url, rpcService, rpcMethod, client string
	http, grpc := false, int64(0)
	for name, v := range span.Attributes().All() {
		switch name {
		case semconv.AttrDirection, attrProxyNode:
			return Request{}, false // a ztunnel's, or a proxy's
		case semconv.AttrRequestMethod, attrMethodOld:
			r.Method, http = v.AsString(), true
		case semconv.AttrURLPath:
			r.Path = v.AsString()
		case attrTargetOld, attrURLFull, attrURLOld:
			url = v.AsString()
		case attrHTTPRoute:
			r.Route = v.AsString()
		case semconv.AttrResponseStatusCode, attrStatusOld:
			r.Code = code(number(v))
		case attrRPCService:
			rpcService = v.AsString()
		case attrRPCMethod:
			rpcMethod = v.AsString()
		case semconv.AttrGRPCStatusCode, attrRPCStatus:
			grpc = number(v)
		case attrClientAddress:
			client = v.AsString()
		case attrPeerAddress, attrPeerOld:
			client = cmp.Or(client, v.AsString())
		}
	}
	switch {
	case http:
		r.Path = cmp.Or(r.Path, pathOf(url))
	case rpcService != "" && rpcMethod != "":
		r.Method, r.Path, r.Code = "POST", "/"+rpcService+"/"+rpcMethod, 200
	default:
		return Request{}, false
	}
	if r.Path == "" && r.Route == "" {
		return Request{}, false
	}
	r.Failed = r.Failed || r.Code >= 500 || serverFault(grpc)
	r.Service = serviceOf(m, resource)
	r.Caller = callerOf(m, client)
	return r, r.Service.Name != ""
}

// serverFault tells of a gRPC status that it is the server's fault, as the semantic conventions of server spans have it.
func serverFault(status int64) bool { return slices.Contains([]int64{2, 4, 12, 13, 14, 15}, status) }

func number(v pcommon.Value) int64 {
	if v.Type() == pcommon.ValueTypeInt {
		return v.Int()
	}
	n, _ := strconv.ParseInt(v.AsString(), 10, 64)
	return n
}

// pathOf is the path of a URL or of a request's target, without the query.
func pathOf(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		at := strings.IndexByte(rest, '/')
		if at < 0 {
			return "/"
		}
		url = rest[at:]
	}
	if at := strings.IndexAny(url, "?#"); at >= 0 {
		url = url[:at]
	}
	return url
}

// serviceOf is the service of the pod that wrote a span, by name the first if there are several.
func serviceOf(m Mesh, resource pcommon.Map) Name {
	namespace := cmp.Or(textOf(resource, semconv.AttrNamespaceName), textOf(resource, semconv.AttrServiceNamespace))
	app := textOf(resource, semconv.AttrServiceName)
	pod := m.Pod(namespace, textOf(resource, semconv.AttrPodName))
	if pod == nil {
		return Name{namespace, app}
	}
	first := ""
	for key := range pod.Services {
		if first == "" || key < first {
			first = key
		}
	}
	_, host, _ := strings.Cut(first, "/")
	return nameOf(m, host, pod.Namespace, pod.App())
}

// callerOf is the workload that a server saw, if it is one.
func callerOf(m Mesh, client string) Name {
	address, err := netip.ParseAddr(client)
	if err != nil {
		return Name{}
	}
	w := m.Address(address.Unmap())
	if w == nil {
		return Name{}
	}
	return Name{w.Namespace, w.Owner()}
}

func textOf(attributes pcommon.Map, name string) string {
	if v, ok := attributes.Get(name); ok {
		return v.AsString()
	}
	return ""
}
