package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/anypb"
	"istio.io/istio/pkg/workloadapi"
	"istio.io/istio/pkg/workloadapi/security"
)

const (
	addressType       = "type.googleapis.com/istio.workload.Address"
	authorizationType = "type.googleapis.com/istio.security.Authorization"
)

// istiod serves a mesh's state as delta ADS.
type istiod struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	address             string
	server              *grpc.Server
	addresses, policies []*discoveryv3.Resource
}

func startIstiod(ctx context.Context, m *mesh) (*istiod, error) {
	// As often as istiod lets its clients ask whether it is there.
	s := &istiod{server: grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 15 * time.Second}))}
	for i := range m.pods {
		p := &m.pods[i]
		key := p.namespace + "/" + p.service
		ports := &workloadapi.PortList{Ports: []*workloadapi.Port{{ServicePort: port, TargetPort: port}}}
		uid := "Kubernetes//Pod/" + p.namespace + "/" + p.name
		for name, address := range map[string]*workloadapi.Address{
			uid: {Type: &workloadapi.Address_Workload{Workload: &workloadapi.Workload{
				Uid: uid, Name: p.name, Namespace: p.namespace, Addresses: [][]byte{p.address.AsSlice()}, Node: p.node, ClusterId: "Kubernetes",
				TunnelProtocol: workloadapi.TunnelProtocol_HBONE, TrustDomain: "cluster.local", ServiceAccount: p.app,
				WorkloadName: p.app, WorkloadType: workloadapi.WorkloadType_DEPLOYMENT, CanonicalName: p.app, CanonicalRevision: "v1",
				Services: map[string]*workloadapi.PortList{key: ports},
			}}},
			key: {Type: &workloadapi.Address_Service{Service: &workloadapi.Service{
				Name: p.app, Namespace: p.namespace, Hostname: p.service, Ports: ports.Ports,
				Addresses: []*workloadapi.NetworkAddress{{Address: []byte{10, 96, byte(i >> 8), byte(i)}}},
			}}},
		} {
			packed, err := anypb.New(address)
			if err != nil {
				return nil, fmt.Errorf("packing %s: %w", name, err)
			}
			s.addresses = append(s.addresses, &discoveryv3.Resource{Name: name, Version: "1", Resource: packed})
		}
	}
	for i, key := range m.policies {
		namespace, name, _ := strings.Cut(key, "/")
		packed, err := anypb.New(&security.Authorization{
			Name: name, Namespace: namespace, Scope: security.Scope_NAMESPACE, Action: security.Action_ALLOW,
			Groups: []*security.Group{{Rules: []*security.Rules{{Matches: []*security.Match{{Principals: []*security.StringMatch{
				{MatchType: &security.StringMatch_Exact{Exact: "cluster.local/ns/" + namespace + "/sa/" + m.pods[i].app}},
			}}}}}}},
		})
		if err != nil {
			return nil, fmt.Errorf("packing %s: %w", key, err)
		}
		s.policies = append(s.policies, &discoveryv3.Resource{Name: key, Version: "1", Resource: packed})
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening as istiod: %w", err)
	}
	s.address = listener.Addr().String()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.server, s)
	go func() { _ = s.server.Serve(listener) }()
	return s, nil
}

// DeltaAggregatedResources answers each subscription once, with everything in one response as istiod does.
func (s *istiod) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		if request.GetResponseNonce() != "" {
			continue
		}
		response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: request.GetTypeUrl(), Nonce: request.GetTypeUrl(), SystemVersionInfo: "1"}
		switch request.GetTypeUrl() {
		case addressType:
			response.Resources = s.addresses
		case authorizationType:
			response.Resources = s.policies
		default:
			continue
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}
