package ztunnelreceiver

import (
	"net"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/xconfmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"istio.io/istio/pkg/workloadapi"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kubetest"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/xds"
)

// istiod serves one service and nothing else.
type istiod struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	address  []byte
	clusters chan string
}

func (i *istiod) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the client is gone
		}
		if request.GetResponseNonce() != "" {
			continue
		}
		response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: request.GetTypeUrl(), Nonce: request.GetTypeUrl()}
		if request.GetTypeUrl() == xds.AddressType {
			i.clusters <- request.GetNode().GetMetadata().GetFields()["CLUSTER_ID"].GetStringValue()
			payload, err := anypb.New(&workloadapi.Address{Type: &workloadapi.Address_Service{Service: &workloadapi.Service{
				Name: "catalog", Namespace: "shop", Hostname: "catalog.shop.svc.cluster.local",
				Addresses: []*workloadapi.NetworkAddress{{Address: i.address}},
			}}})
			if err != nil {
				return err
			}
			response.Resources = []*discoveryv3.Resource{{Name: "shop/catalog.shop.svc.cluster.local", Version: "1", Resource: payload}}
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func TestSeveralClusters(t *testing.T) {
	var clusters []any
	var asked []chan string
	for i, id := range []string{"east", "west"} {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		server := grpc.NewServer()
		service := &istiod{address: []byte{10, byte(i), 0, 1}, clusters: make(chan string, 16)}
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, service)
		done := make(chan struct{})
		go func() {
			defer close(done)
			assert.NoError(t, server.Serve(listener))
		}()
		t.Cleanup(func() {
			server.Stop()
			<-done
		})
		asked = append(asked, service.clusters)
		clusters = append(clusters, map[string]any{"endpoint": listener.Addr().String(), "cluster_id": id, "tls": map[string]any{"insecure": true}})
	}
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, confmap.NewFromStringMap(map[string]any{
		"flush_interval": "20ms", "xds": map[string]any{"clusters": clusters},
	}).Unmarshal(cfg))
	require.NoError(t, xconfmap.Validate(cfg))
	out := new(consumertest.LogsSink)
	r, err := NewFactory().CreateLogs(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, out)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	addresses := func() []string {
		state := mesh.NewState(10)
		for _, ld := range out.AllLogs() {
			for _, record := range ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
				event, err := mesh.ParseEvent(record)
				require.NoError(t, err)
				state.Apply(event)
			}
		}
		if service := state.Hostname("catalog.shop.svc.cluster.local"); service != nil {
			return service.Addresses
		}
		return nil
	}
	kubetest.Eventually(t, "both clusters' addresses", func() bool { return len(addresses()) == 2 })
	assert.Equal(t, []string{"10.0.0.1", "10.1.0.1"}, addresses())
	for i, id := range []string{"east", "west"} {
		select {
		case got := <-asked[i]:
			assert.Equal(t, id, got)
		case <-time.After(20 * time.Second):
			require.FailNow(t, "never asked")
		}
	}
	require.NoError(t, r.Shutdown(t.Context()))
}
