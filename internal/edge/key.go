// Package edge is the identity of a service-graph edge and its encoding in metric attributes
// (docs/data-model.md, section 4). The service_graph processor writes it; the outage detector and the
// topology exporter read it.
package edge

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/xpdata"

	"github.com/nephilia/nephilia/internal/semconv"
)

// Party is one end of an edge.
type Party struct {
	// Workload is the owner's name, or the IP address of a party that has no name.
	Workload  string
	Namespace string
	// App and Version are Istio's canonical service and revision.
	App     string
	Version string
	Cluster string
}

// Key identifies an edge. It is comparable.
type Key struct {
	Source      Party
	Destination Party
	Service     string // host name, empty when the client addressed the workload itself
	Port        uint16
	Protocol    string
	Security    string
	Waypoint    string
	// Teller is who tells of an edge with neither end in the mesh, one of semconv's EdgeSource constants; empty for all others.
	Teller string
}

// BehindWaypoint tells whether the edge is the second hop of a way through a waypoint: its source is the waypoint itself.
func (k *Key) BehindWaypoint() bool {
	namespace, name, ok := strings.Cut(k.Waypoint, "/")
	return ok && namespace == k.Source.Namespace && name == k.Source.Workload
}

// PutAttributes writes the key's attributes; empty values are left out.
func (k *Key) PutAttributes(attrs pcommon.Map) {
	attrs.EnsureCapacity(16)
	k.each(
		func(name, value string) { attrs.PutStr(name, value) },
		func(name string, value int64) { attrs.PutInt(name, value) },
	)
}

// AppendTo is PutAttributes for a map that has none of them yet.
func (k *Key) AppendTo(attrs *xpdata.MapBuilder) {
	k.each(
		func(name, value string) { attrs.AppendEmpty(name).SetStr(value) },
		func(name string, value int64) { attrs.AppendEmpty(name).SetInt(value) },
	)
}

func (k *Key) each(text func(name, value string), number func(name string, value int64)) {
	put := func(name, value string) {
		if value != "" {
			text(name, value)
		}
	}
	put(semconv.LabelSourceWorkload, k.Source.Workload)
	put(semconv.LabelSourceNamespace, k.Source.Namespace)
	put(semconv.LabelSourceCanonicalService, k.Source.App)
	put(semconv.LabelSourceCanonicalRevision, k.Source.Version)
	put(semconv.LabelSourceCluster, k.Source.Cluster)
	put(semconv.LabelDestinationWorkload, k.Destination.Workload)
	put(semconv.LabelDestinationNamespace, k.Destination.Namespace)
	put(semconv.LabelDestinationCanonicalService, k.Destination.App)
	put(semconv.LabelDestinationCanonicalRevision, k.Destination.Version)
	put(semconv.LabelDestinationCluster, k.Destination.Cluster)
	put(semconv.LabelDestinationService, k.Service)
	if k.Port != 0 {
		number(semconv.LabelDestinationPort, int64(k.Port))
	}
	put(semconv.LabelRequestProtocol, k.Protocol)
	put(semconv.LabelSecurityPolicy, k.Security)
	put(semconv.LabelWaypoint, k.Waypoint)
	put(semconv.LabelEdgeSource, k.Teller)
}

// KeyOf reads the key from a point's attributes; attributes that are not part of it are passed over.
func KeyOf(attrs pcommon.Map) Key {
	var k Key
	for name, value := range attrs.All() {
		switch name {
		case semconv.LabelSourceWorkload:
			k.Source.Workload = value.Str()
		case semconv.LabelSourceNamespace:
			k.Source.Namespace = value.Str()
		case semconv.LabelSourceCanonicalService:
			k.Source.App = value.Str()
		case semconv.LabelSourceCanonicalRevision:
			k.Source.Version = value.Str()
		case semconv.LabelSourceCluster:
			k.Source.Cluster = value.Str()
		case semconv.LabelDestinationWorkload:
			k.Destination.Workload = value.Str()
		case semconv.LabelDestinationNamespace:
			k.Destination.Namespace = value.Str()
		case semconv.LabelDestinationCanonicalService:
			k.Destination.App = value.Str()
		case semconv.LabelDestinationCanonicalRevision:
			k.Destination.Version = value.Str()
		case semconv.LabelDestinationCluster:
			k.Destination.Cluster = value.Str()
		case semconv.LabelDestinationService:
			k.Service = value.Str()
		case semconv.LabelDestinationPort:
			if port := value.Int(); port > 0 && port <= 65535 {
				k.Port = uint16(port)
			}
		case semconv.LabelRequestProtocol:
			k.Protocol = value.Str()
		case semconv.LabelSecurityPolicy:
			k.Security = value.Str()
		case semconv.LabelWaypoint:
			k.Waypoint = value.Str()
		case semconv.LabelEdgeSource:
			k.Teller = value.Str()
		}
	}
	return k
}
