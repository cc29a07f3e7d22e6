package meshsim

import (
	"encoding/binary"
	"fmt"
	"sort"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"istio.io/istio/pkg/workloadapi"
	"istio.io/istio/pkg/workloadapi/security"
)

const (
	typeAddress       = "type.googleapis.com/istio.workload.Address"
	typeAuthorization = "type.googleapis.com/istio.security.Authorization"
)

// change is one response of istiod.
type change struct {
	at        int64
	typeURL   string
	resources map[string]proto.Message
	removed   []string
}

func (p *pod) uid() string { return "Kubernetes//Pod/" + p.workload.namespace + "/" + p.name }

func (p *pod) address() proto.Message {
	w := p.workload
	out := &workloadapi.Workload{
		Uid: p.uid(), Name: p.name, Namespace: w.namespace, Addresses: [][]byte{p.podAddr.AsSlice()},
		ServiceAccount: w.app, Node: p.node, CanonicalName: w.app, CanonicalRevision: w.version,
		WorkloadType: workloadapi.WorkloadType_POD, WorkloadName: w.name(), ClusterId: "Kubernetes",
		Locality: &workloadapi.Locality{Region: "eu-west", Zone: p.zone}, Network: p.network,
	}
	if w.hostNetwork {
		out.NetworkMode = workloadapi.NetworkMode_HOST_NETWORK
	}
	if w.mesh {
		out.TunnelProtocol = workloadapi.TunnelProtocol_HBONE
	}
	if w.layer > 0 {
		out.Services = map[string]*workloadapi.PortList{w.namespace + "/" + w.host(): {Ports: []*workloadapi.Port{{
			ServicePort: uint32(w.port), TargetPort: uint32(w.port),
		}}}}
	}
	return &workloadapi.Address{Type: &workloadapi.Address_Workload{Workload: out}}
}

func (w *workload) serviceAddress() proto.Message {
	port := &workloadapi.Port{ServicePort: uint32(w.port), TargetPort: uint32(w.port)}
	if w.http {
		port.AppProtocol = workloadapi.AppProtocol_HTTP11
	}
	return &workloadapi.Address{Type: &workloadapi.Address_Service{Service: &workloadapi.Service{
		Name: w.app, Namespace: w.namespace, Hostname: w.host(), Canonical: true,
		Addresses: []*workloadapi.NetworkAddress{{Address: w.vip.AsSlice()}},
		Ports:     []*workloadapi.Port{port},
		Waypoint:  w.gatewayAddress(),
	}}}
}

// stateAtStart is the mesh as istiod first tells of it.
func stateAtStart(m *mesh, denied *call) []change {
	addresses := map[string]proto.Message{}
	for _, w := range m.workloads {
		for _, p := range w.pods {
			if p.ready(0) {
				addresses[p.uid()] = p.address()
			}
		}
		if w.layer > 0 {
			addresses[w.namespace+"/"+w.host()] = w.serviceAddress()
		}
	}
	m.state(addresses)
	policies := map[string]proto.Message{}
	if denied != nil {
		policies[denied.to.namespace+"/always-denied"] = denyAll(denied.to.namespace, "always-denied", "nobody")
	}
	const beforeStart = -int64(6 * time.Second)
	return []change{
		{at: beforeStart, typeURL: typeAddress, resources: addresses},
		{at: beforeStart + 1, typeURL: typeAuthorization, resources: policies},
	}
}

func denyAll(namespace, name, principal string) proto.Message {
	return &security.Authorization{
		Name: name, Namespace: namespace, Scope: security.Scope_WORKLOAD_SELECTOR, Action: security.Action_DENY,
		Groups: []*security.Group{{Rules: []*security.Rules{{Matches: []*security.Match{{
			Principals: []*security.StringMatch{{MatchType: &security.StringMatch_Exact{Exact: principal}}},
		}}}}}},
	}
}

// stateChanges are istiod's responses in order: the mesh at the start, then what incidents and the pods' lives change.
func stateChanges(m *mesh, denied *call, all incidents, end int64) []change {
	const delay = int64(80 * time.Millisecond)
	changes := stateAtStart(m, denied)
	for _, i := range all {
		switch i.fault {
		case FaultPolicyDenied:
			name := i.target.namespace + "/" + policyNamespace
			policy := denyAll(i.target.namespace, policyNamespace, spiffe(i.caller.namespace, i.caller.app)[len("spiffe://"):])
			changes = append(changes,
				change{at: i.from + delay, typeURL: typeAuthorization, resources: map[string]proto.Message{name: policy}},
				change{at: i.until + delay, typeURL: typeAuthorization, removed: []string{name}})
		case FaultAllowList:
			name := i.target.namespace + "/" + allowNobody
			policy := denyAll(i.target.namespace, allowNobody, "cluster.local/ns/ops/sa/backup").(*security.Authorization)
			policy.Action = security.Action_ALLOW
			changes = append(changes,
				change{at: i.from + delay, typeURL: typeAuthorization, resources: map[string]proto.Message{name: policy}},
				change{at: i.until + delay, typeURL: typeAuthorization, removed: []string{name}})
		case FaultNoHealthyUpstream:
			changes = append(changes, unhealthy(i.target.pods, i.from+delay, i.until+delay)...)
		case FaultNodeDown:
			if i.whole {
				changes = append(changes, unhealthy(m.podsOn(i.node), i.from+unreachable+delay, i.until+delay)...)
			}
		}
	}
	for _, w := range m.workloads {
		for _, p := range w.pods {
			if p.from > 0 {
				changes = append(changes, change{at: p.from - delay, typeURL: typeAddress, resources: map[string]proto.Message{p.uid(): p.address()}})
			}
			if p.until < end {
				changes = append(changes, change{at: p.until + delay, typeURL: typeAddress, removed: []string{p.uid()}})
			}
		}
	}
	sort.SliceStable(changes, func(a, b int) bool { return changes[a].at < changes[b].at })
	return changes
}

// unhealthy tells that pods are for a time.
func unhealthy(pods []*pod, from, until int64) []change {
	ill, healthy := map[string]proto.Message{}, map[string]proto.Message{}
	for _, p := range pods {
		if !p.ready(from) || !p.ready(until) {
			continue
		}
		broken := p.address().(*workloadapi.Address)
		broken.GetWorkload().Status = workloadapi.WorkloadStatus_UNHEALTHY
		ill[p.uid()], healthy[p.uid()] = broken, p.address()
	}
	return []change{
		{at: from, typeURL: typeAddress, resources: ill}, {at: until, typeURL: typeAddress, resources: healthy},
	}
}

// writeChanges writes xds.binpb: unix nanoseconds, length, DeltaDiscoveryResponse. Nothing arrives while istiod is down.
func writeChanges(out *part, changes []change, all incidents) error {
	for n, c := range changes {
		if i := all.at(c.at, FaultControlPlaneDown); i != nil {
			c.at = i.until
		}
		response := &discovery.DeltaDiscoveryResponse{
			SystemVersionInfo: fmt.Sprintf("sim/%d", n), TypeUrl: c.typeURL, Nonce: fmt.Sprintf("sim/%d", n), RemovedResources: c.removed,
		}
		for _, name := range sortedNames(c.resources) {
			packed, err := anypb.New(c.resources[name])
			if err != nil {
				return fmt.Errorf("packing %s: %w", name, err)
			}
			response.Resources = append(response.Resources, &discovery.Resource{Name: name, Version: fmt.Sprint(n), Resource: packed})
		}
		encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(response)
		if err != nil {
			return fmt.Errorf("encoding a response: %w", err)
		}
		var head [12]byte
		binary.BigEndian.PutUint64(head[:8], uint64(Epoch.UnixNano()+c.at))
		binary.BigEndian.PutUint32(head[8:], uint32(len(encoded)))
		out.write(head[:])
		out.write(encoded)
	}
	return nil
}

func sortedNames(m map[string]proto.Message) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
