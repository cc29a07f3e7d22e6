// Package mesh is the model of an ambient mesh as istiod and the ztunnels state it: workloads (pods), services,
// authorization policies and ztunnels. It encodes and decodes the entity events that carry that state
// (docs/data-model.md, section 2.3) and keeps an indexed copy of it.
package mesh

import (
	"slices"
	"strings"
	"time"
)

// EntityType names a kind of entity event.
type EntityType string

// The entity types that the ztunnel receiver sends.
const (
	TypeWorkload EntityType = "istio.workload"
	TypeService  EntityType = "istio.service"
	TypePolicy   EntityType = "istio.authorization_policy"
	TypeZtunnel  EntityType = "istio.ztunnel"
)

// Entity is one of *Workload, *Service, *Policy and *Ztunnel.
type Entity interface {
	// Type is the entity's type.
	Type() EntityType
	// Key identifies the entity among those of its type.
	Key() string
}

// Workload is an istio.workload.Workload: in Kubernetes, a pod.
// Source: istio/istio pkg/workloadapi/workload.proto.
type Workload struct {
	UID  string `json:"uid"`
	Name string `json:"name"` // the pod's name
	// Namespace, Node and ClusterID are Kubernetes' names.
	Namespace string `json:"namespace"`
	Node      string `json:"node,omitempty"`
	ClusterID string `json:"cluster,omitempty"`
	Identity
	Naming
	Locality
	// Addresses are IP addresses in text form.
	Addresses []string `json:"addresses,omitempty"`
	Hostname  string   `json:"hostname,omitempty"`
	// TunnelProtocol is HBONE for a workload in the mesh, else empty.
	TunnelProtocol string `json:"tunnel_protocol,omitempty"`
	// Services are "namespace/hostname" with their ports.
	Services map[string][]Port `json:"services,omitempty"`
	// Policies are "namespace/name" of the workload-selector policies that apply.
	Policies []string `json:"policies,omitempty"`
	// Waypoint is "namespace/hostname" or an IP address; empty without one.
	Waypoint string `json:"waypoint,omitempty"`
	Healthy  bool   `json:"healthy"`
}

// Identity is who a workload is in mutual TLS.
type Identity struct {
	ServiceAccount string `json:"service_account,omitempty"`
	TrustDomain    string `json:"trust_domain,omitempty"`
}

// Naming is what metrics call a workload.
type Naming struct {
	// WorkloadName is the owner's name (catalog-v1), WorkloadType its kind in lower case.
	WorkloadName string `json:"workload_name,omitempty"`
	WorkloadType string `json:"workload_type,omitempty"`
	// CanonicalName and CanonicalRevision are Istio's canonical service and its revision.
	CanonicalName     string `json:"canonical_name,omitempty"`
	CanonicalRevision string `json:"canonical_revision,omitempty"`
}

// Locality is where a workload runs.
type Locality struct {
	Network string `json:"network,omitempty"`
	// HostNetwork tells that the workload shares its node's addresses, which therefore do not name it.
	HostNetwork bool   `json:"host_network,omitempty"`
	Region      string `json:"region,omitempty"`
	Zone        string `json:"zone,omitempty"`
}

// Type implements Entity.
func (*Workload) Type() EntityType { return TypeWorkload }

// Key implements Entity: the uid.
func (w *Workload) Key() string { return w.UID }

// Synthetic tells whether a name is one that istiod makes up for what lies in another network: the network's gateway, or a
// service's endpoints behind it. It is no pod's.
func Synthetic(name string) bool {
	return strings.HasPrefix(name, "NetworkGateway/") || strings.Contains(name, "/SplitHorizonWorkload/")
}

// InMesh tells whether a ztunnel carries the workload's traffic.
func (w *Workload) InMesh() bool { return w.TunnelProtocol == "HBONE" }

// Owner is the workload's name as metrics use it: the owner's, or the pod's where none is stated.
func (w *Workload) Owner() string {
	if w.WorkloadName != "" {
		return w.WorkloadName
	}
	return w.Name
}

// App is the workload's canonical service, or the owner's name where none is stated.
func (w *Workload) App() string {
	if w.CanonicalName != "" {
		return w.CanonicalName
	}
	return w.Owner()
}

// Port is a service's port.
type Port struct {
	ServicePort uint32 `json:"service_port"`
	TargetPort  uint32 `json:"target_port,omitempty"`
	// AppProtocol is tcp, tls, http, http2 or grpc; empty when not stated.
	AppProtocol string `json:"app_protocol,omitempty"`
}

// Service is an istio.workload.Service.
type Service struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Hostname  string `json:"hostname"`
	// Addresses are the virtual IPs in text form.
	Addresses []string `json:"addresses,omitempty"`
	Ports     []Port   `json:"ports,omitempty"`
	// Waypoint is "namespace/hostname" or an IP address; empty without one.
	Waypoint string `json:"waypoint,omitempty"`
}

// Type implements Entity.
func (*Service) Type() EntityType { return TypeService }

// Key implements Entity: "namespace/hostname".
func (s *Service) Key() string { return s.Namespace + "/" + s.Hostname }

// Policy is an istio.security.Authorization.
// Source: istio/istio pkg/workloadapi/security/authorization.proto.
type Policy struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Scope     string `json:"scope"`  // GLOBAL, NAMESPACE or WORKLOAD_SELECTOR
	Action    string `json:"action"` // ALLOW or DENY
	DryRun    bool   `json:"dry_run,omitempty"`
	// Rules is the policy's groups as protobuf JSON.
	Rules string `json:"rules,omitempty"`
}

// Type implements Entity.
func (*Policy) Type() EntityType { return TypePolicy }

// Key implements Entity: "namespace/name".
func (p *Policy) Key() string { return p.Namespace + "/" + p.Name }

// rootNamespace holds the policies that apply to the whole mesh.
const rootNamespace = "istio-system"

// AppliesTo tells whether the policy applies to pods of a namespace, of which some or none are in the mesh.
func (p *Policy) AppliesTo(namespace string, inMesh bool, pods []*Workload) bool {
	switch p.Scope {
	case "GLOBAL":
		return inMesh
	case "NAMESPACE":
		return inMesh && (p.Namespace == namespace || p.Namespace == rootNamespace)
	}
	return slices.ContainsFunc(pods, func(pod *Workload) bool { return slices.Contains(pod.Policies, p.Key()) })
}

// Ztunnel is one node's ztunnel, as its config dump and its metrics describe it.
type Ztunnel struct {
	Node      string `json:"node"`
	Name      string `json:"name,omitempty"` // the ztunnel pod's name
	Namespace string `json:"namespace,omitempty"`
	Version   string `json:"version,omitempty"`
	ClusterID string `json:"cluster,omitempty"`
	// Certificates are the leaf certificates that the ztunnel holds for its workloads.
	Certificates []Certificate `json:"certificates,omitempty"`
	// Workloads are "namespace/pod" of the workloads that it proxies, with their proxies' state (Up, Draining).
	Workloads map[string]string `json:"workloads,omitempty"`
	// PodUIDs are "namespace/pod" of the same workloads by the pods' UIDs, by which the ztunnel's log names them.
	PodUIDs map[string]string `json:"pod_uids,omitempty"`
	// Resolvers are the nameservers' addresses that the ztunnel asks for names that it does not know.
	Resolvers []string `json:"resolvers,omitempty"`
	// XDSAddress is the control plane that the ztunnel is configured to use.
	XDSAddress string `json:"xds_address,omitempty"`
	// Settings are those of the ztunnel's options that are to be the same on all nodes, by their names in its config dump.
	Settings map[string]string `json:"settings,omitempty"`
}

// ProxyPending is the state of a proxy that a ztunnel could not set up.
const ProxyPending = "Pending"

// Certificate is a workload certificate that a ztunnel holds.
type Certificate struct {
	Identity string    `json:"identity"`
	State    string    `json:"state"` // Available, Initializing or Unavailable…
	NotAfter time.Time `json:"not_after,omitzero"`
	// NotBefore is the time of issue.
	NotBefore    time.Time `json:"not_before,omitzero"`
	SerialNumber string    `json:"serial_number,omitempty"`
	// RootNotAfter is the earliest expiry among the trusted roots.
	RootNotAfter time.Time `json:"root_not_after,omitzero"`
}

// Type implements Entity.
func (*Ztunnel) Type() EntityType { return TypeZtunnel }

// Key implements Entity: the node's name.
func (z *Ztunnel) Key() string { return z.Node }
