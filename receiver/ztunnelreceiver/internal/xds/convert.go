package xds

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"istio.io/istio/pkg/workloadapi"
	"istio.io/istio/pkg/workloadapi/security"

	"github.com/nephilia/nephilia/internal/mesh"
)

// What an absent field means to a ztunnel (istio/ztunnel src/state/workload.rs).
const (
	DefaultTrustDomain    = "cluster.local"
	DefaultServiceAccount = "default"
	DefaultClusterID      = "Kubernetes"
)

// maxNameLength bounds every name that identifies something. Kubernetes' names and DNS names end at 253 bytes, and a
// uid joins at most five of them.
const maxNameLength = 1536

func workload(w *workloadapi.Workload) (*mesh.Workload, error) {
	if err := checkNames(w.GetUid(), w.GetName(), w.GetNamespace(), w.GetNode(), w.GetClusterId(), w.GetNetwork(),
		w.GetServiceAccount(), w.GetTrustDomain(), w.GetWorkloadName(), w.GetCanonicalName(), w.GetCanonicalRevision(),
		w.GetHostname(), w.GetLocality().GetRegion(), w.GetLocality().GetZone()); err != nil {
		return nil, err
	}
	if w.GetUid() == "" {
		return nil, errors.New("workload without uid")
	}
	waypoint, err := gateway(w.GetWaypoint())
	if err != nil {
		return nil, fmt.Errorf("waypoint: %w", err)
	}
	out := &mesh.Workload{
		UID:       w.GetUid(),
		Name:      w.GetName(),
		Namespace: w.GetNamespace(),
		Node:      w.GetNode(),
		ClusterID: cmp.Or(w.GetClusterId(), DefaultClusterID),
		Locality: mesh.Locality{
			Network:     w.GetNetwork(),
			HostNetwork: w.GetNetworkMode() == workloadapi.NetworkMode_HOST_NETWORK,
			Region:      w.GetLocality().GetRegion(),
			Zone:        w.GetLocality().GetZone(),
		},
		Identity: mesh.Identity{
			ServiceAccount: cmp.Or(w.GetServiceAccount(), DefaultServiceAccount),
			TrustDomain:    cmp.Or(w.GetTrustDomain(), DefaultTrustDomain),
		},
		Naming: mesh.Naming{
			WorkloadName:      w.GetWorkloadName(),
			WorkloadType:      strings.ToLower(w.GetWorkloadType().String()),
			CanonicalName:     w.GetCanonicalName(),
			CanonicalRevision: w.GetCanonicalRevision(),
		},
		Hostname: w.GetHostname(),
		Waypoint: waypoint,
		Healthy:  w.GetStatus() == workloadapi.WorkloadStatus_HEALTHY,
	}
	if w.GetTunnelProtocol() == workloadapi.TunnelProtocol_HBONE {
		out.TunnelProtocol = "HBONE"
	}
	for _, raw := range w.GetAddresses() {
		address, err := address(raw)
		if err != nil {
			return nil, err
		}
		out.Addresses = append(out.Addresses, address.String())
	}
	if len(w.GetServices()) > 0 {
		out.Services = make(map[string][]mesh.Port, len(w.GetServices()))
		for key, list := range w.GetServices() {
			if !strings.Contains(key, "/") || len(key) > maxNameLength {
				return nil, fmt.Errorf("service %.64q is not namespace/hostname", key)
			}
			out.Services[key] = ports(list.GetPorts())
		}
	}
	if err := checkNames(w.GetAuthorizationPolicies()...); err != nil {
		return nil, err
	}
	out.Policies = slices.Clone(w.GetAuthorizationPolicies())
	return out, nil
}

func service(s *workloadapi.Service) (*mesh.Service, error) {
	if err := checkNames(s.GetName(), s.GetNamespace(), s.GetHostname()); err != nil {
		return nil, err
	}
	if s.GetHostname() == "" {
		return nil, errors.New("service without hostname")
	}
	waypoint, err := gateway(s.GetWaypoint())
	if err != nil {
		return nil, fmt.Errorf("waypoint: %w", err)
	}
	out := &mesh.Service{
		Name:      s.GetName(),
		Namespace: s.GetNamespace(),
		Hostname:  s.GetHostname(),
		Ports:     ports(s.GetPorts()),
		Waypoint:  waypoint,
	}
	// As in a ztunnel's dump, ranges come after addresses.
	var ranges []string
	for _, network := range s.GetAddresses() {
		vip, err := address(network.GetAddress())
		if err != nil {
			return nil, err
		}
		if length := network.Length; length != nil && int64(*length) != int64(vip.BitLen()) {
			prefix := netip.PrefixFrom(vip, int(min(*length, 255)))
			if !prefix.IsValid() {
				return nil, fmt.Errorf("prefix length %d of %s", *length, vip)
			}
			ranges = append(ranges, prefix.String())
			continue
		}
		out.Addresses = append(out.Addresses, vip.String())
	}
	out.Addresses = append(out.Addresses, ranges...)
	return out, nil
}

func policy(a *security.Authorization) (*mesh.Policy, error) {
	if err := checkNames(a.GetName(), a.GetNamespace()); err != nil {
		return nil, err
	}
	if a.GetName() == "" {
		return nil, errors.New("policy without name")
	}
	rules, err := Rules(a.GetGroups())
	if err != nil {
		return nil, err
	}
	return &mesh.Policy{
		Name:      a.GetName(),
		Namespace: a.GetNamespace(),
		Scope:     a.GetScope().String(),
		Action:    a.GetAction().String(),
		DryRun:    a.GetDryRun(),
		Rules:     rules,
	}, nil
}

// Rules is a policy's groups as one line of protobuf JSON, the same for equal groups; empty without groups. Vendors'
// extensions of a match are taken out of groups, since their types are not known here.
func Rules(groups []*security.Group) (string, error) {
	if len(groups) == 0 {
		return "", nil
	}
	var out bytes.Buffer
	out.WriteByte('[')
	for i, group := range groups {
		for _, rules := range group.GetRules() {
			for _, match := range rules.GetMatches() {
				match.Extensions = nil
			}
		}
		encoded, err := protojson.Marshal(group)
		if err != nil {
			return "", fmt.Errorf("encoding rules: %w", err)
		}
		if i > 0 {
			out.WriteByte(',')
		}
		// protojson varies its spaces from build to build on purpose.
		if err := json.Compact(&out, encoded); err != nil {
			return "", fmt.Errorf("encoding rules: %w", err)
		}
	}
	out.WriteByte(']')
	return out.String(), nil
}

// SortPorts brings ports into the order in which workloads and services hold them.
func SortPorts(ports []mesh.Port) {
	slices.SortFunc(ports, func(a, b mesh.Port) int {
		return cmp.Or(cmp.Compare(a.ServicePort, b.ServicePort), cmp.Compare(a.TargetPort, b.TargetPort))
	})
}

func ports(list []*workloadapi.Port) []mesh.Port {
	if len(list) == 0 {
		return nil
	}
	out := make([]mesh.Port, len(list))
	for i, port := range list {
		out[i] = mesh.Port{
			ServicePort: port.GetServicePort(),
			TargetPort:  port.GetTargetPort(),
			AppProtocol: appProtocol(port.GetAppProtocol()),
		}
	}
	SortPorts(out)
	return out
}

func appProtocol(protocol workloadapi.AppProtocol) string {
	switch protocol {
	case workloadapi.AppProtocol_HTTP11:
		return "http"
	case workloadapi.AppProtocol_HTTP2:
		return "http2"
	case workloadapi.AppProtocol_GRPC:
		return "grpc"
	case workloadapi.AppProtocol_TCP:
		return "tcp"
	case workloadapi.AppProtocol_TLS:
		return "tls"
	}
	return ""
}

func gateway(g *workloadapi.GatewayAddress) (string, error) {
	switch destination := g.GetDestination().(type) {
	case *workloadapi.GatewayAddress_Hostname:
		name := destination.Hostname.GetNamespace() + "/" + destination.Hostname.GetHostname()
		return name, checkNames(name)
	case *workloadapi.GatewayAddress_Address:
		address, err := address(destination.Address.GetAddress())
		if err != nil {
			return "", err
		}
		return address.String(), nil
	}
	return "", nil
}

func address(raw []byte) (netip.Addr, error) {
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.Addr{}, fmt.Errorf("address of %d bytes", len(raw))
	}
	return addr.Unmap(), nil
}

func checkNames(names ...string) error {
	for _, name := range names {
		if len(name) > maxNameLength {
			return fmt.Errorf("name of %d bytes: %.64q", len(name), name)
		}
	}
	return nil
}
