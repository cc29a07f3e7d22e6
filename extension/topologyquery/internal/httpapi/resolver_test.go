package httpapi

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

type fakeAskers []*history.Asker

func (f fakeAskers) Askers(context.Context, int64, int64) ([]*history.Asker, error) { return f, nil }

// TestWhoAsksForNames draws the resolver's edges when they are asked for, or while names fail, and lets the outage mark them.
func TestWhoAsksForNames(t *testing.T) {
	inv := inventory.New(100)
	for _, entity := range []mesh.Entity{
		&mesh.Service{Name: "names", Namespace: "dns", Hostname: "names.dns.svc.cluster.local", Addresses: []string{"10.96.0.10"}},
		&mesh.Workload{
			UID: "1", Name: "coredns-1", Namespace: "dns", Naming: mesh.Naming{WorkloadName: "coredns", CanonicalName: "coredns"}, Healthy: true,
			Services: map[string][]mesh.Port{"dns/names.dns.svc.cluster.local": {{ServicePort: 53}}},
		},
		&mesh.Ztunnel{Node: "a", Resolvers: []string{"10.96.0.10"}},
	} {
		inv.Apply(mesh.Event{Entity: entity})
	}
	pay := &history.Asker{Party: edge.Party{Workload: "pay-v1", Namespace: "shop", App: "pay"}}
	pay.Counts.Fields[live.Requests] = 7
	s := &graphs{names: fakeAskers{pay}, resolver: inv}
	draw := func(dns string, outages ...graph.Outage) *graph.Graph {
		options := graph.Options{Start: 0, End: 1000, GroupBy: graph.ByWorkload, Outages: outages}
		names, err := s.ask(t.Context(), &options, dns)
		require.NoError(t, err)
		b := graph.NewBuilder(inv, options, 1)
		names.addTo(b)
		return b.Graph()
	}
	assert.Empty(t, draw(dnsFailing).Edges)
	assert.Empty(t, draw(dnsFailing, graph.Outage{IsOpen: true}).Edges, "another kind of outage")
	shown := draw(dnsShow)
	require.Len(t, shown.Edges, 1)
	one := shown.Edges[0]
	assert.Equal(t, "pay-v1 > coredns dns names.dns.svc.cluster.local 53 7 healthy", func() string {
		return shown.Nodes[one.Source].Name + " > " + shown.Nodes[one.Destination].Name + " " + one.Protocol + " " + one.Service + " 53 7 " + one.Health
	}())
	names := graph.Outage{
		Names: true, IsOpen: true, Critical: true, Root: graph.Root{Namespace: "dns", Name: "names"},
		Edges: []outage.Edge{{Source: outage.Name{Namespace: "shop", Name: "pay"}, Destination: outage.Name{Name: "api.example.com"}}},
	}
	failing := draw(dnsFailing, names)
	require.Len(t, failing.Edges, 1)
	assert.Equal(t, graph.Failing, failing.Edges[0].Health)
	assert.Empty(t, draw(dnsHide, names).Edges)
}
