package graph

import (
	"cmp"
	"slices"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
)

// Link is how often one calls another, by their names.
type Link struct {
	Parent string `json:"parent"`
	Child  string `json:"child"`
	Calls  uint64 `json:"callCount"`
}

// Links are the calls between the graph's nodes by name, by parent and child: requests, or connections where there are more of them.
func (g *Graph) Links() []Link {
	calls := map[[2]string]uint64{} // bounded by the edges
	names := g.linkNames()
	for _, e := range g.Edges {
		if n := max(e.Counts.Fields[live.Requests], e.Counts.Fields[live.Closed], e.Counts.Fields[live.Opened]); n > 0 {
			calls[[2]string{names[e.Source], names[e.Destination]}] += n
		}
	}
	links := make([]Link, 0, len(calls))
	for pair, n := range calls {
		links = append(links, Link{pair[0], pair[1], n})
	}
	slices.SortFunc(links, func(a, b Link) int { return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Child, b.Child)) })
	return links
}

// linkNames are the names of the nodes, with their namespace behind it for those whose name another namespace has as well.
func (g *Graph) linkNames() []string {
	first, shared := map[string]string{}, map[string]bool{} // bounded by the nodes
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if namespace, ok := first[n.Name]; ok && namespace != n.Namespace {
			shared[n.Name] = true
		}
		first[n.Name] = n.Namespace
	}
	names := make([]string, len(g.Nodes))
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if names[i] = n.Name; shared[n.Name] && n.Namespace != "" {
			names[i] += "." + n.Namespace
		}
	}
	return names
}
