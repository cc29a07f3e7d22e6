package httpapi

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/internal/mesh"
)

type serviceBody struct {
	Namespace string      `json:"namespace"`
	Name      string      `json:"name"`
	Hostname  string      `json:"hostname"`
	Addresses []string    `json:"addresses"`
	Ports     []mesh.Port `json:"ports"`
	Waypoint  string      `json:"waypoint,omitempty"`
	Health    string      `json:"health"`
	Workloads []nameBody  `json:"workloads"`
	// Endpoints and Healthy count the service's pods.
	Endpoints int `json:"endpoints"`
	Healthy   int `json:"healthy_endpoints"`
}

// backends are the workloads whose pods belong to each service, by the service's key.
func (s *Server) backends() map[string][]*inventory.Workload {
	out := map[string][]*inventory.Workload{}
	for _, w := range s.Inventory.Workloads() {
		keys := map[string]struct{}{}
		for _, pod := range w.Pods {
			for key := range pod.Services {
				keys[key] = struct{}{}
			}
		}
		for key := range keys {
			out[key] = append(out[key], w)
		}
	}
	return out
}

func newServiceBody(service *mesh.Service, backends []*inventory.Workload, health map[inventory.Name]string) serviceBody {
	body := serviceBody{
		Namespace: service.Namespace, Name: service.Name, Hostname: service.Hostname,
		Addresses: orEmpty(service.Addresses), Ports: orEmpty(service.Ports), Waypoint: service.Waypoint,
		Health: graph.Idle, Workloads: []nameBody{},
	}
	for _, w := range backends {
		body.Workloads = append(body.Workloads, nameBody{w.Namespace, w.Name.Name})
		body.Health = worse(body.Health, health[w.Name])
		for _, pod := range w.Pods {
			if _, ok := pod.Services[service.Key()]; !ok {
				continue
			}
			body.Endpoints++
			if pod.Healthy {
				body.Healthy++
			}
		}
	}
	return body
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// ranks order healths; the worst of some stands for all.
var ranks = map[string]int{graph.Idle: 1, graph.Healthy: 2, graph.Unknown: 3, graph.Degraded: 4, graph.Failing: 5}

func worse(a, b string) string {
	if ranks[b] > ranks[a] {
		return b
	}
	return a
}

func (s *Server) services(r *http.Request, p *params) (*answer, error) {
	part, w := p.page(), s.window(p)
	if p.err != nil {
		return nil, p.err
	}
	g, err := s.workloadGraph(r.Context(), w)
	if err != nil {
		return nil, err
	}
	health, backends := healthOf(g), s.backends()
	all := s.Inventory.Services()
	slices.SortFunc(all, func(a, b *mesh.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Hostname, b.Hostname))
	})
	list, total, next := cut(part, all, func(service *mesh.Service) (string, string) { return service.Namespace, service.Hostname })
	body := struct {
		Services []serviceBody `json:"services"`
		listBody
	}{[]serviceBody{}, listBody{total, next}}
	for _, one := range list {
		body.Services = append(body.Services, newServiceBody(one, backends[one.Key()], health))
	}
	return jsonAnswer(body)
}

type endpointBody struct {
	Workload nameBody `json:"workload"`
	podBody
}

type serviceDetail struct {
	serviceBody
	Pods []endpointBody `json:"endpoint_pods"`
	neighbours
}

func (s *Server) service(r *http.Request, p *params) (*answer, error) {
	w := s.window(p)
	if p.err != nil {
		return nil, p.err
	}
	service := s.Inventory.Service(r.PathValue("namespace"), r.PathValue("name"))
	if service == nil {
		return nil, notFound("there is no service " + r.PathValue("namespace") + "/" + r.PathValue("name"))
	}
	g, err := s.workloadGraph(r.Context(), w)
	if err != nil {
		return nil, err
	}
	backends := s.backends()[service.Key()]
	body := serviceDetail{serviceBody: newServiceBody(service, backends, healthOf(g)), Pods: []endpointBody{}}
	for _, backend := range backends {
		traffic, err := s.Past.Endpoints(r.Context(), w.start, w.end, backend.Name)
		if err != nil {
			return nil, unavailable(err)
		}
		for _, pod := range backend.Pods {
			if _, ok := pod.Services[service.Key()]; !ok {
				continue
			}
			one := endpointBody{nameBody{backend.Namespace, backend.Name.Name}, s.podBody(pod)}
			if happened, ok := traffic[pod.Name]; ok {
				one.Traffic = &happened
			}
			body.Pods = append(body.Pods, one)
		}
	}
	body.neighbours = around(g, func(*graph.Node) bool { return false }, func(e *graph.Edge) bool { return e.Service == service.Hostname })
	return jsonAnswer(body)
}
