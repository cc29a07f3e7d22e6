package graph

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// happened are connections that ended, requests, and errors of these; failed are by reason.
func happened(closed, requests, errors uint64, failed map[live.Reason]uint64) *live.Counts {
	c := counts(closed, 0, requests, errors, 0)
	for reason, n := range failed {
		c.AddReason(reason, n)
	}
	return c
}

var (
	refused = live.Reason{ErrorType: semconv.ErrorTypeConnectionRefused}
	reset   = live.Reason{ErrorType: semconv.ErrorTypeConnectionReset}
	denied  = live.Reason{ErrorType: semconv.ErrorTypePolicyDenied, Policy: "shop/no-web"}
	left    = live.Reason{ErrorType: semconv.ErrorTypeClientAborted}
)

// deniedRequests are requests of which a waypoint denied some.
func deniedRequests(all, denied uint64) *live.Counts {
	c := happened(2, all, 0, nil)
	c.AddResponse(live.Response{Code: "200", Source: semconv.RequestSourceWaypointLog}, all-denied)
	c.AddResponse(live.Response{Code: "403", Source: semconv.RequestSourceWaypointLog, Denied: true, Policy: "shop/no-get"}, denied)
	return c
}

func TestHealthIsSaidWithItsReason(t *testing.T) {
	between := []outage.Edge{{Source: outage.Name{Namespace: "shop", Name: "web"}, Destination: outage.Name{Namespace: "shop", Name: "quiet"}}}
	for name, tc := range map[string]struct {
		counts               *live.Counts
		outages              []Outage
		edge, server, client string
		reason               string // the edge's
	}{
		"all is well":                {counts: happened(100, 0, 0, nil), edge: Healthy, server: Healthy, client: Healthy},
		"nothing happens":            {counts: happened(0, 0, 0, nil), edge: Idle, server: Idle, client: Idle},
		"one of a few is no sign":    {counts: happened(5, 0, 0, map[live.Reason]uint64{reset: 1}), edge: Healthy, server: Healthy, client: Healthy, reason: "20 % of 5 connections failed (connections reset)"},
		"three of three are":         {counts: happened(3, 0, 0, map[live.Reason]uint64{refused: 3}), edge: Failing, server: Failing, client: Degraded, reason: "all 3 connections failed (connections refused)"},
		"a share that chance has":    {counts: happened(300, 0, 0, map[live.Reason]uint64{refused: 4}), edge: Healthy, server: Healthy, client: Healthy, reason: "1 % of 300 connections failed (connections refused)"},
		"a share that chance cannot": {counts: happened(300, 0, 0, map[live.Reason]uint64{refused: 15}), edge: Degraded, server: Degraded, client: Healthy, reason: "5 % of 300 connections failed (connections refused)"},
		"requests decide":            {counts: happened(5, 158, 0, map[live.Reason]uint64{reset: 4}), edge: Healthy, server: Healthy, client: Healthy, reason: "80 % of 5 connections failed (connections reset)"},
		"requests fail":              {counts: happened(5, 200, 100, nil), edge: Failing, server: Failing, client: Degraded, reason: "50 % of 200 requests failed"},
		"clients leave":              {counts: happened(100, 0, 0, map[live.Reason]uint64{left: 60}), edge: Healthy, server: Healthy, client: Healthy},
		"denied on purpose":          {counts: happened(222, 0, 0, map[live.Reason]uint64{denied: 222}), edge: Denied, server: Denied, client: Denied, reason: "all 222 connections denied by shop/no-web"},
		"denied in an outage": {
			counts: happened(66, 0, 0, map[live.Reason]uint64{denied: 65}), edge: Failing, server: Failing, client: Degraded,
			outages: []Outage{{Denial: true, Edges: between}}, reason: "98 % of 66 connections denied by shop/no-web",
		},
		"a waypoint denies on purpose": {
			counts: deniedRequests(110, 108), edge: Denied, server: Denied, client: Denied, reason: "98 % of 110 requests denied by shop/no-get",
		},
		"a waypoint denies few": {
			counts: deniedRequests(110, 8), edge: Healthy, server: Healthy, client: Healthy, reason: "7 % of 110 requests denied by shop/no-get",
		},
		"a waypoint denies in an outage": {
			counts: deniedRequests(110, 108), edge: Failing, server: Failing, client: Degraded,
			outages: []Outage{{Denial: true, Edges: between}}, reason: "98 % of 110 requests denied by shop/no-get",
		},
		"an open outage": {
			counts: happened(100, 0, 0, nil), edge: Failing, server: Failing, client: Healthy, reason: "quiet is slow",
			outages: []Outage{{Root: Root{"shop", "quiet"}, IsOpen: true, Critical: true, Summary: "quiet is slow since 10:02:03. All depend on it.", Edges: between}},
		},
		"one that ended": {
			counts: happened(100, 0, 0, nil), edge: Healthy, server: Healthy, client: Healthy,
			outages: []Outage{{Root: Root{"shop", "quiet"}, Critical: true, Summary: "quiet was slow", Edges: between}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, group := range []GroupBy{ByWorkload, ByApp, ByService} {
				for _, namespace := range []string{"", "shop"} {
					b := NewBuilder(testMesh(), Options{
						Start: origin, End: origin + 60_000, GroupBy: group, Namespaces: strings.Fields(namespace), DegradedAt: 0.01, FailingAt: 0.2, Outages: tc.outages,
					}, 8)
					one := key("web", "quiet", "quiet.svc", semconv.SecurityMutualTLS)
					b.Add(&one, tc.counts)
					g := b.Graph()
					require.Len(t, g.Edges, 1)
					e := g.Edges[0]
					assert.Equal(t, [3]string{tc.edge, tc.server, tc.client}, [3]string{e.Health, g.Nodes[e.Destination].Health, g.Nodes[e.Source].Health}, group)
					assert.Equal(t, tc.reason, e.Reason)
				}
			}
		})
	}
}

func TestHealthIsTheSameWhateverIsShown(t *testing.T) {
	whole := map[string]string{}
	g := build(ByWorkload, "")
	for i := range g.Nodes {
		whole[g.Nodes[i].Name] = g.Nodes[i].Health + g.Nodes[i].Reason
	}
	g = build(ByWorkload, "out")
	require.NotEmpty(t, g.Nodes)
	for i := range g.Nodes {
		assert.Equal(t, whole[g.Nodes[i].Name], g.Nodes[i].Health+g.Nodes[i].Reason, g.Nodes[i].Name)
	}
	g = build(ByNamespace, "")
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Name == "shop" {
			assert.Equal(t, Degraded, n.Health, "the worst of what it has")
			assert.Equal(t, "cart-v2: 10 % of 50 requests failed, and one more", n.Reason)
		}
	}
}
