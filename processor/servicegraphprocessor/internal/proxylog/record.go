package proxylog

import (
	"net/netip"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
)

// hbonePort is where a waypoint takes connections.
const hbonePort = 15008

// Proxy is whose record it is, as a resource says.
type Proxy struct {
	name    string
	pod     naming.Pod
	gateway bool
	// resource is a copy.
	resource pcommon.Resource
}

// ProxyOf reads a resource.
func ProxyOf(resource pcommon.Resource) Proxy {
	p := Proxy{resource: pcommon.NewResource()}
	resource.CopyTo(p.resource)
	for name, value := range resource.Attributes().All() {
		switch name {
		case semconv.AttrWaypoint:
			p.name = naming.Intern(value.Str())
		case semconv.AttrGateway:
			p.name, p.gateway = naming.Intern(value.Str()), true
		case semconv.AttrNamespaceName:
			p.pod.Namespace = naming.Intern(value.Str())
		case semconv.AttrPodName:
			p.pod.Name = naming.Intern(value.Str())
		}
	}
	return p
}

// split gives namespace and name; a recording's file does not say where the one ends.
func (p *Proxy) split() (namespace, name string) {
	namespace, name, ok := strings.Cut(p.name, "/")
	if !ok {
		namespace, name, ok = strings.Cut(p.name, "-")
	}
	if !ok {
		return "", p.name
	}
	return namespace, name
}

// request is what a record tells.
type request struct {
	proxy  *Proxy
	record entry

	id string
	// client, upstream and called are the client's address, that of the pod or next proxy, and what the client called.
	client, upstream, called netip.AddrPort
	service                  string
	port                     uint16
	// response lacks its source.
	response responses.Response
	grpc     bool
	failed   bool
	// duration is in seconds, negative if it is not known or nobody's latency.
	duration float64
	end      pcommon.Timestamp
	arrived  pcommon.Timestamp
}

// entry is a record.
type entry struct {
	plog.LogRecord
	// own tells that it need not be copied, named that it names its ends already.
	own, named bool
}

// read reads a record's attributes. The strings are the record's own.
func (r *request) read() {
	var status int64
	r.duration = -1
	for name, value := range r.record.Attributes().All() {
		switch name {
		case semconv.AttrSourceAddress:
			r.client = address(value.Str(), r.client.Port())
		case semconv.AttrDestinationAddress:
			r.upstream = address(value.Str(), r.upstream.Port())
		case semconv.AttrDestinationPort:
			r.upstream = netip.AddrPortFrom(r.upstream.Addr(), portOf(value))
		case semconv.AttrDownstreamLocal:
			if local, err := netip.ParseAddrPort(value.Str()); err == nil {
				r.called = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
			}
		case semconv.AttrDestinationService:
			r.service = strings.TrimSuffix(value.Str(), ";")
		case semconv.AttrServicePort:
			r.port = portOf(value)
		case semconv.AttrRequestID:
			r.id = value.Str()
		case semconv.AttrResponseStatusCode:
			status = value.Int()
		case semconv.AttrResponseFlags:
			r.response.Flags = value.Str()
		case semconv.AttrErrorType:
			r.response.Denied = value.Str() == semconv.ErrorTypePolicyDenied
		case semconv.AttrPolicy:
			r.response.Policy = value.Str()
		case semconv.AttrGRPCStatusCode:
			r.grpc = true
		case semconv.LabelSourceWorkload, semconv.LabelDestinationWorkload:
			r.record.named = true
		case semconv.AttrRequestDuration:
			r.duration = float64(value.Int()) / 1e9
		}
	}
	if status >= 0 && status < 1000 {
		r.response.Code = uint16(status)
	}
	if status == 101 {
		r.duration = -1 // how long the connection that was handed over lived
	}
	if !r.response.Denied {
		r.response.Policy = ""
	}
	r.failed = r.record.SeverityNumber() >= plog.SeverityNumberError
}

// address reads an address; a port that is known already stays.
func address(text string, port uint16) netip.AddrPort {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.AddrPortFrom(netip.Addr{}, port)
	}
	return netip.AddrPortFrom(addr.Unmap(), port)
}

func portOf(value pcommon.Value) uint16 {
	n, err := strconv.ParseUint(value.AsString(), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}
