package proxylog

import (
	"cmp"
	"net/netip"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/xpdata"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// namer names the ends of requests.
type namer struct {
	names     *naming.Directory
	telemetry *telemetry.Telemetry
}

// ends are the ends of a request.
type ends struct {
	// proxy is the name of who logged it.
	proxy string
	// known tells that it went to a service or a pod.
	known bool
	key   edge.Key
	// client and pod are the workloads at both ends, nil where they are not known.
	client, pod *mesh.Workload
	// throughWaypoint tells that the proxy stands before the service as its waypoint, so that the client is the one that it saw;
	// toWaypoint that a waypoint comes next.
	throughWaypoint, toWaypoint bool
	// foreign tells that the proxy says something about a service that is not its own.
	foreign bool
}

// endsOf names the ends of a request.
func (n *namer) endsOf(r *request) ends {
	var e ends
	proxy := n.proxyOf(r)
	name := r.proxy.name
	if proxy != nil {
		name = naming.WaypointName(proxy)
	}
	e.proxy = name
	if r.proxy.gateway && name == "" {
		n.telemetry.Dropped(telemetry.DroppedProxy, 1)
		return e
	}
	service := n.serviceOf(r)
	e.throughWaypoint = !r.proxy.gateway || name != "" && service != "" && n.names.WaypointOf(service, "") == name
	if e.throughWaypoint {
		e.client = n.holder(r.client.Addr(), r.end)
		e.key.Source = n.partyOf(e.client, r.client.Addr())
	} else {
		e.client = proxy
		e.key.Source = proxyParty(proxy, r.proxy)
	}
	e.key.Service = naming.Intern(service)
	e.key.Security = semconv.SecurityMutualTLS
	if !n.destinationOf(&e, r, proxy) {
		return e
	}
	e.known = true
	switch {
	case e.throughWaypoint:
		e.proxy = cmp.Or(name, e.key.Waypoint)
		e.foreign = (service != "" || e.pod != nil) && (proxy == nil || e.key.Destination != naming.PartyOf(proxy)) && !e.spoken(n.names)
	case e.toWaypoint:
		e.key.Waypoint = n.names.WaypointOf(service, "")
	case e.pod == nil || !e.pod.InMesh():
		e.key.Security = semconv.SecurityNone
	}
	return e
}

// proxyOf finds the workload of who logged a request. A gateway that says nothing of itself is the one that was called.
func (n *namer) proxyOf(r *request) *mesh.Workload {
	if r.proxy.gateway && r.proxy.name == "" && r.called.Addr() != r.upstream.Addr() {
		return n.holder(r.called.Addr(), r.end)
	}
	return n.names.Proxies.Find(r.proxy.pod, r.proxy.name)
}

// spoken tells whether a request's waypoint may tell of it. One that is not named may where the mesh's state knows of nobody at its end.
func (e *ends) spoken(names *naming.Directory) bool {
	if e.proxy == "" {
		return e.pod == nil && names.Service(e.key.Service) == nil
	}
	return names.SpeaksFor(e.proxy, e.key.Service, e.key.Destination)
}

// serviceOf is the service that a request was for: the cluster's, else the one whose virtual address was called.
func (n *namer) serviceOf(r *request) string {
	if r.service != "" {
		return r.service
	}
	if s := n.names.Called(r.called.Addr()); s != nil {
		r.port = r.called.Port()
		return s.Hostname
	}
	return ""
}

// destinationOf finds where a request went; false if that was nowhere.
func (n *namer) destinationOf(e *ends, r *request, proxy *mesh.Workload) bool {
	service := e.key.Service
	through := naming.Hop{Kind: naming.HopThrough}
	if e.throughWaypoint && proxy != nil && service != "" {
		through = n.names.MergeHop(e.client, proxy, service, "")
	}
	if e.throughWaypoint {
		e.key.Waypoint = cmp.Or(through.Waypoint, n.names.WaypointOf(service, waypointName(proxy, r.proxy)))
	}
	known := n.names.Service(service)
	next := n.holder(r.upstream.Addr(), r.end)
	e.toWaypoint = !e.throughWaypoint && next != nil && n.names.IsWaypoint(next) && r.upstream.Port() == hbonePort
	switch {
	case r.upstream.Addr().IsValid() && !e.toWaypoint && (next != nil || known == nil):
		e.pod = next
		e.key.Destination = n.partyOf(next, r.upstream.Addr())
		e.key.Port = r.upstream.Port()
		if next != nil && service != "" {
			e.key.Port = naming.BackendPort(next, service, r.port)
		}
	case known != nil && through.Kind == naming.HopPlain && !n.names.Proxies.Behind(service):
		// What lies behind is outside the mesh: the client's connection ends at the proxy.
		e.key.Destination, e.key.Waypoint, e.key.Port = naming.PartyOf(proxy), "", r.called.Port()
	case known != nil:
		e.key.Destination, e.key.Port = n.names.ServiceParty(known, r.port)
	default:
		return false
	}
	return true
}

// holder finds the workload that held an address when a request ended.
func (n *namer) holder(addr netip.Addr, at pcommon.Timestamp) *mesh.Workload {
	if !addr.IsValid() {
		return nil
	}
	return n.names.Holders.AtAddr("", addr, at)
}

func (n *namer) partyOf(w *mesh.Workload, addr netip.Addr) edge.Party {
	if w != nil {
		return naming.PartyOf(w)
	}
	text := ""
	if addr.IsValid() {
		text = addr.String()
	}
	party, ok := n.names.Externals.Name(text)
	if !ok {
		n.telemetry.Overflowed(telemetry.BoundExternal)
	}
	return party
}

// proxyParty is the end of an edge that a gateway is.
func proxyParty(w *mesh.Workload, of *Proxy) edge.Party {
	if w != nil {
		return naming.PartyOf(w)
	}
	namespace, name := of.split()
	return edge.Party{Workload: name, Namespace: namespace, App: name}
}

func waypointName(w *mesh.Workload, of *Proxy) string {
	if w != nil {
		return naming.WaypointName(w)
	}
	return of.name
}

func (n *namer) protocolOf(r *request, e *ends) string {
	protocol := semconv.ProtocolHTTP
	if r.grpc {
		protocol = semconv.ProtocolGRPC
	}
	return cmp.Or(n.names.Protocol(e.key.Service, e.key.Port), protocol)
}

// appendTo writes both ends and their pods.
func (e *ends) appendTo(attrs *xpdata.MapBuilder) {
	e.key.AppendTo(attrs)
	if e.client != nil {
		attrs.AppendEmpty(semconv.AttrSourcePod).SetStr(e.client.Name)
		attrs.AppendEmpty(semconv.AttrSourceNamespace).SetStr(e.client.Namespace)
	}
	if e.pod != nil {
		attrs.AppendEmpty(semconv.AttrDestinationPod).SetStr(e.pod.Name)
		attrs.AppendEmpty(semconv.AttrDestinationNamespace).SetStr(e.pod.Namespace)
	}
}
