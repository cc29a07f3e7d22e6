package servicegraphprocessor

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
)

// namelessRow is what the client's end reports of connections of which it logged addresses only.
func namelessRow(from, to string) flowRow {
	return flowRow{node: "node-a", reporter: semconv.ReporterSource, srcIP: from, dstIP: to, port: 80}
}

func TestVirtualAddressIsTheService(t *testing.T) {
	server := func(version, app string) *mesh.Workload {
		w := testPod("server-"+version, "server-"+version, "node-b", "10.0.2."+version, "server")
		w.CanonicalName, w.CanonicalRevision = app, "v"+version
		return w
	}
	only := edge.Party{Workload: "server-1", Namespace: "shop", App: "server", Version: "v1", Cluster: "Kubernetes"}
	dual := testService("server", "10.96.0.1", "")
	dual.Addresses = append(dual.Addresses, "fd00:96::1")
	for name, tc := range map[string]struct {
		behind  []*mesh.Workload
		gone    []*mesh.Workload
		address string
		want    edge.Party
	}{
		"one workload":        {behind: []*mesh.Workload{server("1", "server")}, want: only},
		"in a mapped address": {behind: []*mesh.Workload{server("1", "server")}, address: "::ffff:10.96.0.1", want: only},
		"in IPv6":             {behind: []*mesh.Workload{server("1", "server")}, address: "fd00:96::1", want: only},
		"one that is gone":    {gone: []*mesh.Workload{server("1", "server")}, want: only},
		"two that went at once": {
			gone: []*mesh.Workload{server("1", "server"), server("2", "server")}, want: edge.Party{Workload: "server", Namespace: "shop", App: "server"},
		},
		"none ever":             {want: edge.Party{Workload: "server", Namespace: "shop", App: "server"}},
		"versions of one app":   {behind: []*mesh.Workload{server("1", "web"), server("2", "web")}, want: edge.Party{Workload: "server", Namespace: "shop", App: "web", Cluster: "Kubernetes"}},
		"several apps":          {behind: []*mesh.Workload{server("1", "web"), server("2", "api")}, want: edge.Party{Workload: "server", Namespace: "shop", App: "server", Cluster: "Kubernetes"}},
		"another pod goes away": {behind: []*mesh.Workload{server("1", "server")}, gone: []*mesh.Workload{server("2", "old")}, want: only},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipelines(t, nil)
			p.learn(epoch, clientPod, dual)
			for _, w := range tc.behind {
				p.learn(epoch, w)
			}
			for _, w := range tc.gone {
				p.learn(epoch, w)
				require.NoError(t, p.logs.ConsumeLogs(context.Background(), entityEvents(t, epoch, true, w)))
			}
			address := tc.address
			if address == "" {
				address = "10.96.0.1"
			}
			p.step(1, func(b *batch) { b.flow(namelessRow("10.0.1.1", address), values(3)) })
			require.Len(t, p.edges(), 1)
			for key, got := range p.edges() {
				assert.Equal(t, party("client"), key.Source)
				assert.Equal(t, tc.want, key.Destination)
				assert.Equal(t, "server.shop.svc", key.Service)
				assert.EqualValues(t, 8080, key.Port, "the target port, as on all edges")
				assert.EqualValues(t, 3, got.Closed)
			}
		})
	}
}

func TestAddressUsedAgainIsTheNewOwners(t *testing.T) {
	batchPod, ordersPod := testPod("batch-1", "batch", "node-a", "10.0.1.77"), testPod("orders-1", "orders", "node-a", "10.0.1.77")
	row := namelessRow("10.0.1.77", "10.0.2.1")
	row.port = 8080
	closed := func(p *pipelines) map[string]uint64 {
		of := map[string]uint64{}
		for key, got := range p.edges() {
			of[key.Source.Workload] += got.Closed
		}
		return of
	}
	t.Run("as time goes on", func(t *testing.T) {
		p := newPipelines(t, nil)
		p.learn(epoch, batchPod, serverPod, serverSvc)
		p.step(1, func(b *batch) { b.flow(row, values(3)) })
		require.NoError(t, p.logs.ConsumeLogs(context.Background(), entityEvents(t, second0(2), true, batchPod)))
		p.step(3, func(b *batch) { b.flow(row, values(4)) })
		p.learn(second0(4), ordersPod)
		p.step(5, func(b *batch) { b.flow(row, values(14)) })
		p.step(6, nil)
		assert.Equal(t, map[string]uint64{"batch": 4, "orders": 10}, closed(p), "it stays the last one's until there is another")
	})
	t.Run("whenever it is heard of", func(t *testing.T) {
		p := newPipelines(t, nil)
		p.learn(epoch, batchPod, serverPod, serverSvc)
		p.learn(second0(4), ordersPod)
		p.step(3, func(b *batch) { b.flow(row, values(4)) })
		p.step(5, func(b *batch) { b.flow(row, values(14)) })
		p.step(6, nil)
		assert.Equal(t, map[string]uint64{"batch": 4, "orders": 10}, closed(p), "the lines' time decides")
	})
}

func TestSharedAddressesNameNobody(t *testing.T) {
	exporter := testPod("exporter-1", "exporter", "node-b", "172.18.0.3")
	exporter.HostNetwork = true
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, exporter)
	p.step(1, func(b *batch) {
		b.flow(namelessRow("10.0.1.1", "172.18.0.3"), values(2))
		named := namelessRow("10.0.1.1", "172.18.0.3")
		named.dstPod, named.dstNS = "exporter-1", "shop"
		b.flow(named, values(1))
	})
	p.step(6, nil)
	closed := map[edge.Party]uint64{}
	for key, got := range p.edges() {
		closed[key.Destination] += got.Closed
	}
	assert.Equal(t, map[edge.Party]uint64{{Workload: "172.18.0.3"}: 2, party("exporter"): 1}, closed)
}

func TestNetworksThatUseTheSameAddresses(t *testing.T) {
	west, east := testPod("web-1", "web", "node-a", "10.0.1.9"), testPod("batch-1", "batch", "node-b", "10.0.1.9")
	west.Network, east.Network = "west", "east"
	p := newPipelines(t, nil)
	p.learn(epoch, west, east, serverSvc)
	p.step(1, func(b *batch) {
		row := namelessRow("10.0.1.9", "10.96.0.1")
		b.flow(row, values(2))
		row.node = "node-b"
		b.flow(row, values(3))
	})
	p.step(6, nil)
	closed := map[string]uint64{}
	for key, got := range p.edges() {
		closed[key.Source.Workload] += got.Closed
	}
	assert.Equal(t, map[string]uint64{"web": 2, "batch": 3}, closed)
}

func TestSeriesWithoutNamesCostNothing(t *testing.T) {
	p := newPipelines(t, nil)
	p.learn(epoch, clientPod, serverPod, serverSvc)
	key := flowRow{node: "node-a", reporter: semconv.ReporterSource, srcIP: "10.0.1.1", dstIP: "::ffff:192.0.2.7", port: 443}
	b := newBatch(second0(1))
	b.flow(key, values(3))
	metric := b.metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
	g := p.graph()
	arrival := moment.Arrival{Now: pcommon.NewTimestampFromTime(second0(2)), Latest: pcommon.NewTimestampFromTime(second0(9))}
	g.flows.Apply("node-a", metric, arrival)
	assert.Zero(t, testing.AllocsPerRun(100, func() { g.flows.Apply("node-a", metric, arrival) }))
}

// What crosses between networks goes through a gateway: the client's ztunnel knows the service, the server's the client's app or
// identity.
func TestConnectionBetweenNetworksIsCountedOnce(t *testing.T) {
	const gateway = "NetworkGateway/east/203.0.113.50/15008"
	client, server := testPod("client-1", "client", "node-a", "10.0.1.1"), testPod("server-1", "server", "node-b", "10.0.2.1", "server")
	client.Network, server.Network = "west", "east"
	client.ServiceAccount, server.ServiceAccount = "client", "server"
	outbound := flowRow{
		node: "node-a", reporter: semconv.ReporterSource, srcPod: "client-1", srcNS: "shop", dstPod: gateway, dstNS: "istio-system",
		dstIP: "203.0.113.50", port: 80, service: "server.shop.svc", security: semconv.SecurityMutualTLS,
	}
	inbound := flowRow{
		node: "node-b", reporter: semconv.ReporterDestination, srcIP: "10.0.2.9", dstPod: "server-1", dstNS: "shop", dstIP: "10.0.2.1",
		port: 80, service: "server.shop.svc", security: semconv.SecurityMutualTLS,
	}
	const principal = "spiffe://cluster.local/ns/shop/sa/client"
	for name, tc := range map[string]struct {
		inbound func(*flowRow)
		// only are the reporters that tell.
		only string
	}{
		"with baggage":                {inbound: func(r *flowRow) { r.srcPod, r.srcNS, r.principal = "client", "shop", principal }},
		"with a pod's address":        {inbound: func(r *flowRow) { r.srcPod, r.srcNS, r.port = "client", "shop", 8080 }},
		"by identity":                 {inbound: func(r *flowRow) { r.principal = principal }},
		"by the gateway and identity": {inbound: func(r *flowRow) { r.srcPod, r.srcNS, r.principal = "gateway-1", "istio-system", principal }},
		"the client's word":           {only: semconv.ReporterSource},
		"the server's word":           {only: semconv.ReporterDestination, inbound: func(r *flowRow) { r.principal = principal }},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, mesh known late: %t", name, late), func(t *testing.T) {
				p := newPipelines(t, nil)
				learn := func() {
					p.learn(epoch, client, server, serverSvc, testPod("gateway-1", "gateway", "node-b", "10.0.2.9"))
				}
				if !late {
					learn()
				}
				inbound := inbound
				if tc.inbound != nil {
					tc.inbound(&inbound)
				}
				for s := 1; s <= 3; s++ {
					p.step(float64(s), func(b *batch) {
						if tc.only != semconv.ReporterDestination {
							b.flow(outbound, values(uint64(s)))
						}
						if tc.only != semconv.ReporterSource {
							b.flow(inbound, values(uint64(s)))
						}
					})
					if late && s == 1 {
						learn()
					}
				}
				p.step(20, nil)
				require.Len(t, p.edges(), 1)
				assert.EqualValues(t, 3, p.edges()[testEdge()].Closed, p.edges())
			})
		}
	}
}
