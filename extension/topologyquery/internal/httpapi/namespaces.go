package httpapi

import (
	"maps"
	"net/http"
	"slices"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
)

type namespaceBody struct {
	Name string `json:"name"`
	healthBody
	InMesh bool `json:"in_mesh"`
	// Workloads and Pods count what the namespace has.
	Workloads int `json:"workloads"`
	Pods      int `json:"pods"`
}

// namespaceMesh is what the namespaces' route reads of the mesh. inventory.Inventory is one.
type namespaceMesh interface {
	Workloads() []*inventory.Workload
}

type namespaceRoutes struct {
	mesh   namespaceMesh
	graphs *graphs
}

func (s *namespaceRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/namespaces": s.list}
}

func (s *namespaceRoutes) list(r *http.Request, p *params) (*answer, error) {
	part, w := p.page(), s.graphs.ranges.window(p)
	if p.err != nil {
		return nil, p.err
	}
	g, release, err := s.graphs.build(r.Context(), graph.Options{Start: w.start, End: w.end, GroupBy: graph.ByNamespace}, false, dnsHide)
	if err != nil {
		return nil, err
	}
	defer release()
	all := map[string]*namespaceBody{} // bounded by the mesh's and the graph's
	of := func(name string) *namespaceBody {
		if all[name] == nil {
			all[name] = &namespaceBody{Name: name, healthBody: healthBody{Health: graph.Idle}}
		}
		return all[name]
	}
	for _, one := range s.mesh.Workloads() {
		body := of(one.Namespace)
		body.InMesh = body.InMesh || one.InMesh
		body.Workloads++
		body.Pods += len(one.Pods)
	}
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Type == string(graph.ByNamespace) {
			of(n.Namespace).worsen(healthBody{n.Health, n.Reason})
		}
	}
	list, total, next := cut(part, slices.Sorted(maps.Keys(all)), func(name string) (string, string) { return name, name })
	body := struct {
		Namespaces []*namespaceBody `json:"namespaces"`
		listBody
	}{[]*namespaceBody{}, listBody{total, next}}
	for _, name := range list {
		body.Namespaces = append(body.Namespaces, all[name])
	}
	return jsonAnswer(body)
}
