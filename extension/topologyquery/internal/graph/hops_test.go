package graph

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// through is an edge by way of the waypoint "shop/quiet".
func through(source string) *edge.Key {
	k := key(source, "cart-v1", "cart.svc", semconv.SecurityMutualTLS)
	k.Waypoint = "shop/quiet"
	return &k
}

func ended(closed uint64, failed ...live.ReasonCount) *live.Counts {
	c := &live.Counts{}
	c.Fields[live.Closed] = closed
	for _, f := range failed {
		c.AddReason(f.Reason, f.Count)
	}
	return c
}

func TestHopsBehindAWaypoint(t *testing.T) {
	denied := live.ReasonCount{Reason: live.Reason{ErrorType: semconv.ErrorTypePolicyDenied, Policy: "shop/p"}, Count: 12}
	dropped := live.ReasonCount{Reason: live.Reason{ErrorType: semconv.ErrorTypeConnectionReset}, Count: 7}
	cut := live.ReasonCount{Reason: live.Reason{ErrorType: semconv.ErrorTypeConnectionReset}, Count: 12}
	type edgeOf struct{ source, health string }
	for _, tt := range []struct {
		name      string
		clients   map[string]*live.Counts
		behind    *live.Counts
		namespace string
		failed    map[edgeOf]uint64
	}{
		{
			"failures are the clients' by their connections",
			map[string]*live.Counts{"web": ended(30), "dark": ended(10)},
			ended(13, denied), "",
			map[edgeOf]uint64{{"web", Degraded}: 9, {"dark", Degraded}: 3},
		},
		{
			"what the waypoint dropped did not fail",
			map[string]*live.Counts{"web": ended(30)},
			ended(13, dropped), "",
			map[edgeOf]uint64{{"web", Healthy}: 0},
		},
		{
			"no more fail than the client made",
			map[string]*live.Counts{"web": ended(5)},
			ended(13, denied), "",
			map[edgeOf]uint64{{"web", Denied}: 5},
		},
		{
			"what was cut for the client is what was denied",
			map[string]*live.Counts{"web": ended(30, cut)},
			ended(13, denied), "",
			map[edgeOf]uint64{{"web", Failing}: 12},
		},
		{
			"a client keeps its connections",
			map[string]*live.Counts{"web": {Active: 1}},
			ended(12, denied), "",
			map[edgeOf]uint64{{"web", Failing}: 0},
		},
		{
			"nobody tells of the hop to the waypoint",
			map[string]*live.Counts{"web": {}},
			ended(20, denied), "",
			map[edgeOf]uint64{{"web", Idle}: 0, {"quiet", Denied}: 12},
		},
		{
			"no client is known", nil, ended(20, denied), "",
			map[edgeOf]uint64{{"quiet", Denied}: 12},
		},
		{
			"the waypoint is in another namespace than is shown",
			map[string]*live.Counts{"old": ended(12), "web": ended(12)},
			ended(20, denied), "out",
			map[edgeOf]uint64{{"old", Denied}: 6},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBuilder(testMesh(), Options{GroupBy: ByWorkload, Namespaces: strings.Fields(tt.namespace), DegradedAt: 0.05, FailingAt: 0.2}, 0)
			b.Add(through("quiet"), tt.behind)
			for source, c := range tt.clients {
				b.Add(through(source), c)
			}
			got := map[edgeOf]uint64{}
			g := b.Graph()
			for _, e := range g.Edges {
				got[edgeOf{g.Nodes[e.Source].Name, e.Health}] = e.Counts.Failed
			}
			assert.Equal(t, tt.failed, got)
		})
	}
}

func TestHopsAreJSON(t *testing.T) {
	b := NewBuilder(testMesh(), Options{GroupBy: ByApp, DegradedAt: 0.05, FailingAt: 0.2}, 0)
	refused := live.ReasonCount{Reason: live.Reason{ErrorType: semconv.ErrorTypeConnectionRefused}, Count: 4}
	b.Add(through("quiet"), ended(4, refused))
	b.Add(through("web"), ended(10))
	other := through("web")
	other.Port++
	b.Add(other, ended(3))
	g := b.Graph()
	require.Len(t, g.Edges, 2)
	var got struct {
		Connections struct{ Closed, Failed uint64 }
		Hops        json.RawMessage
	}
	require.NoError(t, json.Unmarshal(g.AppendEdge(nil, g.Edges[0]), &got))
	assert.EqualValues(t, 10, got.Connections.Closed)
	assert.EqualValues(t, 4, got.Connections.Failed)
	assert.JSONEq(t, `[
		{"from": "app/k/shop/web", "to": "shop/quiet", "connections": {"closed": 10, "failed": 0}, "failures": {}},
		{"from": "shop/quiet", "to": "app/k/shop/cart", "connections": {"closed": 4, "failed": 4}, "failures": {"connection_refused": 4}}
	]`, string(got.Hops))
	got.Hops = nil
	require.NoError(t, json.Unmarshal(g.AppendEdge(nil, g.Edges[1]), &got))
	assert.Nil(t, got.Hops, "nobody tells what lies behind that port")
}

func TestWaypointsAreShownOnDemand(t *testing.T) {
	build := func(show bool) *Graph {
		inv := testMesh()
		front := &mesh.Service{Name: "cart", Namespace: "shop", Hostname: "cart.svc", Waypoint: "shop/quiet.svc"}
		inv.Apply(mesh.Event{Entity: front})
		b := NewBuilder(inv, Options{GroupBy: ByWorkload, DegradedAt: 0.05, FailingAt: 0.2, Waypoints: show}, 0)
		client := ended(10)
		client.Fields[live.Requests] = 100
		b.Add(through("web"), client)
		b.Add(through("quiet"), ended(3, live.ReasonCount{Reason: refused, Count: 3}))
		return b.Graph()
	}
	type row struct {
		from, to         string
		closed, requests uint64
	}
	rows := func(g *Graph) (list []row, health map[string]string) {
		health = map[string]string{}
		for _, n := range append(g.Nodes, g.Waypoints...) {
			health[n.Name] = n.Health
		}
		for _, e := range g.Edges {
			list = append(list, row{g.Nodes[e.Source].Name, g.Nodes[e.Destination].Name, e.Counts.Fields[live.Closed], e.Counts.Fields[live.Requests]})
		}
		return list, health
	}
	hidden, asHidden := rows(build(false))
	assert.Equal(t, []row{{"web", "cart-v1", 10, 100}}, hidden)
	for _, n := range build(false).Nodes {
		assert.NotEqual(t, "quiet", n.Name, "a waypoint is no node")
	}
	shown, asShown := rows(build(true))
	assert.ElementsMatch(t, []row{{"web", "quiet", 10, 100}, {"quiet", "cart-v1", 3, 100}}, shown)
	assert.Equal(t, asHidden, asShown, "health does not depend on what is shown")
}
