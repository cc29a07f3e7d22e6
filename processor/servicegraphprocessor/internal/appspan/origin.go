// Package appspan reads what applications' and proxies' spans say, by OpenTelemetry's semantic conventions, today's and those
// before: who wrote a span, whom a client called, what a server was asked.
package appspan

import (
	"cmp"
	"net/netip"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// maxAddresses bounds the addresses of one resource that are read.
const maxAddresses = 8

// unknownService is how SDKs begin the name of a service that nobody named: unknown_service:java.
const unknownService = "unknown_service"

// Origin is who wrote spans, as their resource says, and what is learnt of that on the way. The spans of one resource in one batch
// come from one process: they share its origin.
type Origin struct {
	// Pod and Namespace are Kubernetes' names. Hosts are names that may be the pod's, such as a container's host name.
	Pod, Namespace string
	Hosts          []string
	// PodIP is the pod's address, Addresses are the host's, of which one may be the pod's.
	PodIP     netip.Addr
	Addresses []netip.Addr
	Workload  string // the name of a Deployment, StatefulSet or DaemonSet
	// Service is the name that its owner gave, empty if nobody did.
	Service, ServiceNamespace, Version, Cluster string

	// Learnt is the workload that the other side of a request saw.
	Learnt *mesh.Workload
	// Resolved is what naming made of it as of a version of the mesh's state.
	Resolved Resolution

	proxyID string
	proxy   *Origin
}

// Resolution is an origin by the mesh's state.
type Resolution struct {
	naming.Identity
	Version uint64 // that of the mesh's state, plus 1
	Learnt  *mesh.Workload
}

// OriginOf reads a resource's attributes.
func OriginOf(resource pcommon.Resource) *Origin {
	o := &Origin{}
	resource.Attributes().Range(func(name string, value pcommon.Value) bool {
		switch name {
		case semconv.AttrPodName:
			o.Pod = naming.Intern(value.Str())
		case semconv.AttrNamespaceName:
			o.Namespace = naming.Intern(value.Str())
		case semconv.AttrServiceName:
			if !strings.HasPrefix(value.Str(), unknownService) {
				o.Service = naming.Intern(value.Str())
			}
		case semconv.AttrServiceNamespace:
			o.ServiceNamespace = naming.Intern(value.Str())
		case attrServiceVersion:
			o.Version = naming.Intern(value.Str())
		case attrClusterName:
			o.Cluster = naming.Intern(value.Str())
		case attrHostName:
			o.addHost(value.Str())
		case attrServiceInstance:
			// Some state the pod, the operator "namespace.pod.container".
			o.addHost(value.Str())
			if parts := strings.Split(value.Str(), "."); len(parts) == 3 {
				o.addHost(parts[1])
			}
			o.addAddress(value.Str())
		case attrPodIP:
			o.PodIP = Address(value.Str())
		case attrHostIP, attrNetHostIP, attrJaegerIP:
			if value.Type() != pcommon.ValueTypeSlice {
				o.addAddress(value.Str())
				break
			}
			for _, item := range value.Slice().All() {
				o.addAddress(item.Str())
			}
		case attrDeploymentName, attrStatefulSetName, attrDaemonSetName:
			o.Workload = naming.Intern(value.Str())
		}
		return true
	})
	return o
}

func (o *Origin) addHost(name string) {
	if name != "" && len(o.Hosts) < maxAddresses {
		o.Hosts = append(o.Hosts, naming.Intern(name))
	}
}

func (o *Origin) addAddress(text string) {
	if addr := Address(text); addr.IsValid() && !addr.IsLoopback() && len(o.Addresses) < maxAddresses {
		o.Addresses = append(o.Addresses, addr)
	}
}

// AnyNamespace is the namespace of Kubernetes, else that of the service.
func (o *Origin) AnyNamespace() string { return cmp.Or(o.Namespace, o.ServiceNamespace) }

// Name is the best name of a writer that the mesh's state does not name.
func (o *Origin) Name() string { return cmp.Or(o.Workload, o.Service, o.Pod, naming.Unknown) }

// Nameless tells whether the writer can be known only from what others say.
func (o *Origin) Nameless() bool { return cmp.Or(o.Workload, o.Service, o.Pod) == "" }

// Same tells whether two origins that the mesh's state does not name say the same of themselves.
func (o *Origin) Same(other *Origin) bool {
	return o == other || !o.Nameless() && o.Name() == other.Name() && o.AnyNamespace() == other.AnyNamespace()
}

// Kinds of Istio's proxies, as their spans' node_id begins.
const (
	Waypoint = "waypoint"
	router   = "router"
	sidecar  = "sidecar"
)

// Proxy tells which of Istio's proxies wrote a span and in which pod, as its node_id "KIND~ADDRESS~POD.NAMESPACE~DOMAIN" says. The
// kind is empty if none did.
func (o *Origin) Proxy(span ptrace.Span) (kind string, pod *Origin) {
	value, ok := span.Attributes().Get(attrNodeID)
	if !ok {
		return "", o
	}
	parts := strings.SplitN(value.Str(), "~", 4)
	if len(parts) < 3 || parts[0] != Waypoint && parts[0] != router && parts[0] != sidecar {
		return "", o
	}
	if o.proxyID != value.Str() {
		name, namespace, _ := strings.Cut(parts[2], ".")
		// A proxy's service.name is "service.namespace".
		service, _, _ := strings.Cut(o.Service, ".")
		o.proxyID = naming.Intern(value.Str())
		o.proxy = &Origin{
			Pod: naming.Intern(name), Namespace: naming.Intern(namespace), PodIP: Address(parts[1]), Service: naming.Intern(service),
		}
	}
	return naming.Intern(parts[0]), o.proxy
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
