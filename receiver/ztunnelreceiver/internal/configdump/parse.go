package configdump

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"
	"istio.io/istio/pkg/workloadapi/security"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/xds"
)

const (
	maxNameLength  = 1536
	maxStateLength = 512
	maxResolvers   = 16
)

// Parse reads one dump of the ztunnel on node; an empty node means the one that the dump names. It fails on what is
// no dump: broken JSON, a known field of a wrong type, a dump that names no node.
//
// The state's workloads and services equal those of package xds except for application protocols, which ztunnels do
// not dump.
func Parse(raw []byte, node string, at time.Time, options Options) (Dump, error) {
	if limit := cmp.Or(options.MaxBytes, DefaultMaxBytes); len(raw) > limit {
		return Dump{}, fmt.Errorf("parsing config dump: %d bytes exceed the bound of %d", len(raw), limit)
	}
	if !isObject(raw) {
		return Dump{}, fmt.Errorf("parsing config dump: not a JSON object but %.32q", raw)
	}
	var wire wireDump
	if err := json.Unmarshal(raw, &wire); err != nil {
		return Dump{}, fmt.Errorf("parsing config dump: %w", err)
	}
	p := parser{limit: cmp.Or(options.MaxEntities, DefaultMaxEntities)}
	dump := Dump{Time: at, HasState: options.State}
	if err := p.ztunnel(&dump, wire, node); err != nil {
		return Dump{}, fmt.Errorf("parsing config dump: %w", err)
	}
	if options.State {
		var state wireState
		if err := json.Unmarshal(raw, &state); err != nil {
			return Dump{}, fmt.Errorf("parsing config dump: %w", err)
		}
		if err := p.state(&dump, state); err != nil {
			return Dump{}, fmt.Errorf("parsing config dump: %w", err)
		}
	}
	dump.Dropped = p.dropped
	return dump, nil
}

type parser struct {
	limit   int
	dropped int
}

// take tells whether an entity with those names may be added to a list that has n.
func (p *parser) take(n int, required string, names ...string) bool {
	ok := n < p.limit && required != ""
	for _, name := range append(names, required) {
		ok = ok && len(name) <= maxNameLength
	}
	if !ok {
		p.dropped++
	}
	return ok
}

func (p *parser) ztunnel(dump *Dump, wire wireDump, node string) error {
	var config wireConfig
	var options map[string]json.RawMessage
	if len(wire.Config) > 0 {
		if err := json.Unmarshal(wire.Config, &config); err != nil {
			return err
		}
		_ = json.Unmarshal(wire.Config, &options) // an object, or it would be no config
	}
	z := &mesh.Ztunnel{
		Node:       cmp.Or(node, config.LocalNode),
		Name:       config.ZtunnelWorkload.Name,
		Namespace:  config.ZtunnelWorkload.Namespace,
		Version:    wire.Version.IstioVersion,
		ClusterID:  config.ClusterID,
		XDSAddress: config.XDSAddress,
	}
	if z.Node == "" {
		return errors.New("it names no node")
	}
	// A build without a release's name states its commit.
	if z.Version == "" || z.Version == "unknown" {
		z.Version = wire.Version.Version
	}
	for _, name := range []string{z.Node, z.Name, z.Namespace, z.Version, z.ClusterID, z.XDSAddress} {
		if len(name) > maxNameLength {
			return fmt.Errorf("name of %d bytes: %.64q", len(name), name)
		}
	}
	for _, server := range config.Resolver.NameServers[:min(len(config.Resolver.NameServers), maxResolvers)] {
		z.Resolvers = append(z.Resolvers, clip(server.IP))
	}
	if z.Settings = settingsOf(options); z.Settings != nil && wire.Version.Crypto != "" {
		z.Settings["cryptoProvider"] = clip(wire.Version.Crypto)
	}
	for _, c := range wire.Certificates {
		if p.take(len(z.Certificates), c.Identity) {
			z.Certificates = append(z.Certificates, certificate(c))
		}
	}
	for _, key := range sortedKeys(wire.WorkloadState) {
		proxy := wire.WorkloadState[key]
		if !p.take(len(z.Workloads), proxy.Info.Name, proxy.Info.Namespace) {
			continue
		}
		if z.Workloads == nil {
			z.Workloads = make(map[string]string, len(wire.WorkloadState))
			z.PodUIDs = make(map[string]string, len(wire.WorkloadState))
		}
		z.PodUIDs[clip(key)] = proxy.Info.Namespace + "/" + proxy.Info.Name
		z.Workloads[proxy.Info.Namespace+"/"+proxy.Info.Name] = clip(proxy.State)
		dump.Connections = append(dump.Connections, Connections{
			Namespace: proxy.Info.Namespace,
			Pod:       proxy.Info.Name,
			Inbound:   int(proxy.Connections.Inbound),
			Outbound:  int(proxy.Connections.Outbound),
		})
	}
	slices.SortStableFunc(dump.Connections, func(a, b Connections) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod))
	})
	dump.Ztunnel = z
	return nil
}

func certificate(c wireCertificate) mesh.Certificate {
	out := mesh.Certificate{Identity: c.Identity, State: clip(c.State)}
	if len(c.CertChain) > 0 {
		leaf := c.CertChain[0]
		out.NotBefore, out.NotAfter = leaf.ValidFrom.Time, leaf.ExpirationTime.Time
		out.SerialNumber = clip(leaf.SerialNumber)
	}
	for _, root := range c.RootCerts {
		expiry := root.ExpirationTime.Time
		if !expiry.IsZero() && (out.RootNotAfter.IsZero() || expiry.Before(out.RootNotAfter)) {
			out.RootNotAfter = expiry
		}
	}
	return out
}

func (p *parser) state(dump *Dump, state wireState) error {
	ports := map[string]map[string][]mesh.Port{} // by workload uid, then by service
	for _, s := range state.Services {
		if !p.take(len(dump.Services), s.Hostname, s.Name, s.Namespace) {
			continue
		}
		service, err := service(s)
		if err != nil {
			return fmt.Errorf("service %.128q: %w", service.Key(), err)
		}
		dump.Services = append(dump.Services, service)
		for key, endpoint := range s.Endpoints {
			uid := cmp.Or(endpoint.WorkloadUID, key)
			if ports[uid] == nil {
				ports[uid] = map[string][]mesh.Port{}
			}
			ports[uid][service.Key()] = portList(endpoint.Port)
		}
	}
	for _, w := range state.Workloads {
		if !p.take(len(dump.Workloads), w.UID, w.Name, w.Namespace, w.Node, w.ClusterID, w.Network, w.ServiceAccount,
			w.TrustDomain, w.WorkloadName, w.WorkloadType, w.CanonicalName, w.CanonicalRevision, w.Hostname,
			w.Locality.Region, w.Locality.Zone) || mesh.Synthetic(w.UID) {
			continue
		}
		workload, err := workload(w, ports[w.UID])
		if err != nil {
			return fmt.Errorf("workload %.128q: %w", w.UID, err)
		}
		dump.Workloads = append(dump.Workloads, workload)
	}
	for _, a := range state.Policies {
		if !p.take(len(dump.Policies), a.Name, a.Namespace) {
			continue
		}
		policy, err := policy(a)
		if err != nil {
			return fmt.Errorf("policy %.128q: %w", policy.Key(), err)
		}
		dump.Policies = append(dump.Policies, policy)
	}
	return nil
}

func workload(w wireWorkload, ports map[string][]mesh.Port) (*mesh.Workload, error) {
	out := &mesh.Workload{
		UID:       w.UID,
		Name:      w.Name,
		Namespace: w.Namespace,
		Node:      w.Node,
		ClusterID: cmp.Or(w.ClusterID, xds.DefaultClusterID),
		Locality: mesh.Locality{
			Network:     w.Network,
			HostNetwork: w.NetworkMode == "HostNetwork",
			Region:      w.Locality.Region,
			Zone:        w.Locality.Zone,
		},
		Identity: mesh.Identity{
			ServiceAccount: cmp.Or(w.ServiceAccount, xds.DefaultServiceAccount),
			TrustDomain:    cmp.Or(w.TrustDomain, xds.DefaultTrustDomain),
		},
		Naming: mesh.Naming{
			WorkloadName:      w.WorkloadName,
			WorkloadType:      strings.ToLower(w.WorkloadType),
			CanonicalName:     w.CanonicalName,
			CanonicalRevision: w.CanonicalRevision,
		},
		Hostname: w.Hostname,
		Policies: w.AuthorizationPolicies,
		Waypoint: gateway(w.Waypoint),
		Healthy:  w.Status == "" || w.Status == "Healthy",
	}
	if len(out.Policies) == 0 {
		out.Policies = nil
	}
	if w.Protocol == "HBONE" {
		out.TunnelProtocol = "HBONE"
	}
	for _, ip := range w.WorkloadIPs {
		addr, err := address(ip)
		if err != nil {
			return nil, err
		}
		out.Addresses = append(out.Addresses, addr)
	}
	// Ztunnels before 1.24 do not list a workload's services, but list it as their endpoint.
	if len(w.Services) == 0 && len(ports) > 0 {
		out.Services = ports
	}
	for _, service := range w.Services {
		if out.Services == nil {
			out.Services = make(map[string][]mesh.Port, len(w.Services))
		}
		out.Services[service] = ports[service]
	}
	return out, nil
}

func service(s wireService) (*mesh.Service, error) {
	out := &mesh.Service{
		Name:      s.Name,
		Namespace: s.Namespace,
		Hostname:  s.Hostname,
		Ports:     portList(s.Ports),
		Waypoint:  gateway(s.Waypoint),
	}
	for _, vip := range s.VIPs {
		addr, err := address(vip)
		if err != nil {
			return out, err
		}
		out.Addresses = append(out.Addresses, addr)
	}
	for _, cidr := range s.CIDRVIPs {
		prefix, err := netip.ParsePrefix(string(cidr))
		if err != nil {
			return out, fmt.Errorf("range of addresses: %w", err)
		}
		out.Addresses = append(out.Addresses, prefix.String())
	}
	return out, nil
}

func portList(ports portMap) []mesh.Port {
	if len(ports) == 0 {
		return nil
	}
	out := make([]mesh.Port, 0, len(ports))
	for port, target := range ports {
		out = append(out, mesh.Port{ServicePort: uint32(port), TargetPort: uint32(target)})
	}
	xds.SortPorts(out)
	return out
}

func policy(a wirePolicy) (*mesh.Policy, error) {
	out := &mesh.Policy{
		Name:      a.Name,
		Namespace: a.Namespace,
		Scope:     a.Scope,
		Action:    strings.ToUpper(a.Action),
		DryRun:    a.DryRun,
	}
	switch a.Scope {
	case "Global":
		out.Scope = security.Scope_GLOBAL.String()
	case "Namespace":
		out.Scope = security.Scope_NAMESPACE.String()
	case "WorkloadSelector":
		out.Scope = security.Scope_WORKLOAD_SELECTOR.String()
	}
	rules, err := xds.Rules(groups(a.Rules))
	out.Rules = rules
	return out, err
}

// groups turns ztunnel's rules of clauses of matches back into istiod's groups of rules of matches.
func groups(rules [][][]wireMatch) []*security.Group {
	out := make([]*security.Group, 0, len(rules))
	for _, clauses := range rules {
		group := &security.Group{}
		for _, matches := range clauses {
			clause := &security.Rules{}
			for _, m := range matches {
				clause.Matches = append(clause.Matches, match(m))
			}
			group.Rules = append(group.Rules, clause)
		}
		out = append(out, group)
	}
	return out
}

func match(m wireMatch) *security.Match {
	return &security.Match{
		Namespaces:          stringMatches(m.Namespaces),
		NotNamespaces:       stringMatches(m.NotNamespaces),
		ServiceAccounts:     serviceAccounts(m.ServiceAccounts),
		NotServiceAccounts:  serviceAccounts(m.NotServiceAccounts),
		Principals:          stringMatches(m.Principals),
		NotPrincipals:       stringMatches(m.NotPrincipals),
		SourceIps:           prefixes(m.SourceIPs),
		NotSourceIps:        prefixes(m.NotSourceIPs),
		DestinationIps:      prefixes(m.DestinationIPs),
		NotDestinationIps:   prefixes(m.NotDestinationIPs),
		DestinationPorts:    m.DestinationPorts,
		NotDestinationPorts: m.NotDestinationPorts,
	}
}

func stringMatches(list []wireStringMatch) []*security.StringMatch {
	out := make([]*security.StringMatch, 0, len(list))
	for _, m := range list {
		switch {
		case m.Exact != nil:
			out = append(out, &security.StringMatch{MatchType: &security.StringMatch_Exact{Exact: *m.Exact}})
		case m.Prefix != nil:
			out = append(out, &security.StringMatch{MatchType: &security.StringMatch_Prefix{Prefix: *m.Prefix}})
		case m.Suffix != nil:
			out = append(out, &security.StringMatch{MatchType: &security.StringMatch_Suffix{Suffix: *m.Suffix}})
		case m.Presence != nil:
			out = append(out, &security.StringMatch{MatchType: &security.StringMatch_Presence{Presence: &emptypb.Empty{}}})
		}
	}
	return out
}

func serviceAccounts(list []wireServiceAccount) []*security.ServiceAccountMatch {
	out := make([]*security.ServiceAccountMatch, 0, len(list))
	for _, m := range list {
		out = append(out, &security.ServiceAccountMatch{Namespace: m.Namespace, ServiceAccount: m.ServiceAccount})
	}
	return out
}

func prefixes(list []netip.Prefix) []*security.Address {
	out := make([]*security.Address, 0, len(list))
	for _, prefix := range list {
		if !prefix.IsValid() {
			continue
		}
		out = append(out, &security.Address{Address: prefix.Addr().AsSlice(), Length: uint32(prefix.Bits())})
	}
	return out
}

// clip bounds free text.
func clip(text string) string {
	if len(text) <= maxStateLength {
		return text
	}
	return strings.ToValidUTF8(text[:maxStateLength], "")
}
