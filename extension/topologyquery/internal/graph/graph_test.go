package graph

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

var update = flag.Bool("update", false, "write the golden files")

const origin = int64(1_790_000_000_000)

func pod(namespace, name, owner, app, node string, inMesh bool) *mesh.Workload {
	w := &mesh.Workload{
		UID: namespace + name, Name: name, Namespace: namespace, Node: node, ClusterID: "k", Naming: mesh.Naming{WorkloadName: owner, CanonicalName: app, CanonicalRevision: "v1"}, Addresses: []string{"10.0.0.1"}, Healthy: true, Services: map[string][]mesh.Port{namespace + "/" + app + ".svc": {{ServicePort: 80}}},
	}
	if inMesh {
		w.TunnelProtocol = "HBONE"
	}
	return w
}

func testMesh() *inventory.Inventory {
	inv := inventory.New(100)
	for _, w := range []*mesh.Workload{
		pod("shop", "web-1", "web", "web", "n1", true), pod("shop", "web-2", "web", "web", "n2", true),
		pod("shop", "cart-1", "cart-v1", "cart", "n1", true), pod("shop", "cart-2", "cart-v2", "cart", "n2", true),
		pod("shop", "quiet-1", "quiet", "quiet", "n1", true), pod("shop", "dark-1", "dark", "dark", "n3", true), pod("out", "old-1", "old", "old", "n1", false),
	} {
		inv.Apply(mesh.Event{Entity: w})
		inv.Apply(mesh.Event{Entity: &mesh.Service{Name: w.CanonicalName, Namespace: w.Namespace, Hostname: w.CanonicalName + ".svc"}})
	}
	return inv
}

func key(source, destination, service, security string) edge.Key {
	party := func(name string) edge.Party {
		switch name {
		case "203.0.113.7":
			return edge.Party{Workload: name}
		case "old":
			return edge.Party{Workload: name, Namespace: "out", App: name}
		case "cart-v1", "cart-v2":
			return edge.Party{Workload: name, Namespace: "shop", App: "cart", Cluster: "k"}
		}
		return edge.Party{Workload: name, Namespace: "shop", App: name, Cluster: "k"}
	}
	return edge.Key{Source: party(source), Destination: party(destination), Service: service, Port: 80, Protocol: semconv.ProtocolHTTP, Security: security}
}

func counts(closed, failed, requests, errors uint64, bucket int32) *live.Counts {
	c := &live.Counts{}
	c.Fields = [live.NumFields]uint64{closed, closed, 10 * closed, 20 * closed, requests, errors}
	c.AddReason(live.Reason{ErrorType: semconv.ErrorTypePolicyDenied, Policy: "shop/deny"}, failed)
	c.Request.AddBucket(exphist.NativeLayout, live.Scale, bucket-1, requests)
	c.Connection.AddBucket(exphist.NativeLayout, live.Scale, bucket+15, closed)
	return c
}

func build(group GroupBy, namespace string) *Graph {
	b := NewBuilder(testMesh(), Options{
		Start: origin, End: origin + 60_000, GroupBy: group, Namespaces: strings.Fields(namespace), DegradedAt: 0.01, FailingAt: 0.2,
		Delivering: map[string]bool{"n1": true, "n2": true, "n3": false},
		Outages:    []Outage{{Root: Root{"shop", "quiet"}, IsOpen: true, Summary: "quiet is slow"}},
	}, 8)
	for _, one := range []struct {
		key    edge.Key
		counts *live.Counts
	}{
		{key("web", "cart-v1", "cart.svc", semconv.SecurityMutualTLS), counts(100, 0, 100, 0, -100)},
		{key("web", "cart-v2", "cart.svc", semconv.SecurityMutualTLS), counts(100, 50, 50, 5, -50)},
		{key("203.0.113.7", "web", "web.svc", semconv.SecurityNone), counts(10, 0, 0, 0, 0)},
		{key("old", "web", "", semconv.SecurityUnknown), counts(100, 2, 0, 0, 0)},
	} {
		b.Add(&one.key, one.counts)
	}
	g := b.Graph()
	g.From, g.Clock = "live", origin+60_000
	return g
}

func TestGoldens(t *testing.T) {
	for _, group := range []GroupBy{ByWorkload, ByApp, ByService, ByNamespace} {
		t.Run(string(group), func(t *testing.T) {
			var value any
			require.NoError(t, json.Unmarshal(build(group, "").AppendJSON(nil), &value))
			got, err := json.MarshalIndent(value, "", " ")
			require.NoError(t, err)
			path := filepath.Join("testdata", string(group)+".json")
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o750))
				require.NoError(t, os.WriteFile(path, append(got, '\n'), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.JSONEq(t, string(want), string(got))
		})
	}
}

func TestHealth(t *testing.T) {
	want := map[string]string{
		"web": Healthy, "cart-v1": Healthy, "cart-v2": Degraded, "quiet": Degraded, "dark": Unknown, "old": Healthy, "203.0.113.7": Healthy,
	}
	g := build(ByWorkload, "")
	for i := range g.Nodes {
		assert.Equal(t, want[g.Nodes[i].Name], g.Nodes[i].Health, g.Nodes[i].Name)
	}
	assert.Len(t, g.Nodes, len(want))
}

func TestGroupsAddUp(t *testing.T) {
	g := build(ByApp, "")
	for _, e := range g.Edges {
		if g.Nodes[e.Destination].Name != "cart" {
			continue
		}
		assert.EqualValues(t, 200, e.Counts.Fields[live.Closed])
		assert.EqualValues(t, 50, e.Counts.Failed)
		assert.EqualValues(t, 150, e.Counts.Request.Count)
		out := make([]float64, 1)
		e.Counts.Request.Quantiles([]float64{0.5}, out)
		assert.InDelta(t, -100.0/16, math.Log2(out[0]), 1.0/16, "the median of all 150, not a mean of medians")
		assert.Len(t, g.Nodes[e.Destination].Pods, 2)
	}
}

func TestNamespaceFilter(t *testing.T) {
	g := build(ByWorkload, "out")
	names := []string{}
	for i := range g.Nodes {
		names = append(names, g.Nodes[i].Name)
	}
	assert.ElementsMatch(t, []string{"old", "web"}, names)
	assert.Len(t, g.Edges, 1)
	assert.Empty(t, build(ByWorkload, "none").Nodes)
}

func TestStringsAreJSON(t *testing.T) {
	for _, s := range []string{"", "a", `"\/`, "\x00\x1f\n", "é世界", "\xff\xfe", "</script>", "a\u2028b"} {
		var got string
		require.NoError(t, json.Unmarshal(appendString(nil, s), &got), "%q", s)
		assert.Equal(t, string([]rune(s)), got)
	}
}

func TestNumbersAreJSON(t *testing.T) {
	for _, v := range []float64{0, 1, 0.5, 1.23456, 12345.6789, 1e-9, 1e15, 1e300, -2.25, math.NaN(), math.Inf(1), math.MaxFloat64} {
		var got float64
		require.NoError(t, json.Unmarshal(appendFloat(nil, v), &got), "%v", v)
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			assert.InDelta(t, v, got, math.Max(5e-5, math.Abs(v)*1e-12), strconv.FormatFloat(v, 'g', -1, 64))
		}
	}
}

func TestHealthWhereOnlyFailuresAreTold(t *testing.T) {
	health := func(partial ...string) (edge, web string) {
		options := Options{Start: origin, End: origin + 60_000, GroupBy: ByWorkload, DegradedAt: 0.01, FailingAt: 0.2, Partial: map[string]bool{}}
		for _, node := range partial {
			options.Partial[node] = true
		}
		b := NewBuilder(testMesh(), options, 8)
		one := key("quiet", "dark", "", semconv.SecurityMutualTLS)
		refused := counts(50, 0, 0, 0, 0)
		refused.AddReason(live.Reason{ErrorType: semconv.ErrorTypeConnectionRefused}, 50)
		b.Add(&one, refused)
		g := b.Graph()
		return g.Edges[0].Health, g.Nodes[g.Edges[0].Destination].Health
	}
	edge, dark := health()
	assert.Equal(t, [2]string{Failing, Failing}, [2]string{edge, dark})
	edge, _ = health("n3")
	assert.Equal(t, Failing, edge, "the client's ztunnel tells of all")
	edge, dark = health("n1", "n3")
	assert.Equal(t, [2]string{Unknown, Unknown}, [2]string{edge, dark})
}
