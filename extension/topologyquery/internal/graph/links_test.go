package graph

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
)

func TestLinksOfNamesakes(t *testing.T) {
	counts := &live.Counts{}
	counts.Fields[live.Closed] = 3
	g := &Graph{
		Nodes: []Node{{Name: "web", Namespace: "shop"}, {Name: "web", Namespace: "blog"}, {Name: "db", Namespace: "data"}, {Name: "10.0.0.1"}},
		Edges: []*Edge{{Source: 0, Destination: 2, Counts: counts}, {Source: 1, Destination: 2, Counts: counts}, {Source: 3, Destination: 0, Counts: counts}},
	}
	assert.Equal(t, []Link{{"10.0.0.1", "web.shop", 3}, {"web.blog", "db", 3}, {"web.shop", "db", 3}}, g.Links())
	g.Nodes[1].Name = "blog"
	assert.Equal(t, []Link{{"10.0.0.1", "web", 3}, {"blog", "db", 3}, {"web", "db", 3}}, g.Links())
}
