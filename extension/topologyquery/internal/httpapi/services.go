package httpapi

import (
	"cmp"
	"maps"
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
	healthBody
	Workloads []nameBody `json:"workloads"`
	// Endpoints and Healthy count the service's pods.
	Endpoints int `json:"endpoints"`
	Healthy   int `json:"healthy_endpoints"`
}

// serviceMesh is what the services' routes read of the mesh. inventory.Inventory is one.
type serviceMesh interface {
	Workloads() []*inventory.Workload
	Services() []*mesh.Service
	Service(namespace, name string) *mesh.Service
}

type serviceRoutes struct {
	mesh   serviceMesh
	pods   *pods
	graphs *graphs
	past   pastEndpoints
}

func (s *serviceRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/services": s.list, "/api/v1/services/{namespace}/{name}": s.get}
}

// backends are the workloads whose pods belong to each service, by the service's key.
func (s *serviceRoutes) backends() map[string][]*inventory.Workload {
	out := map[string][]*inventory.Workload{}
	for _, w := range s.mesh.Workloads() {
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

func newServiceBody(service *mesh.Service, backends []*inventory.Workload, health map[inventory.Name]healthBody) serviceBody {
	body := serviceBody{
		Namespace: service.Namespace, Name: service.Name, Hostname: service.Hostname,
		Addresses: orEmpty(service.Addresses), Ports: orEmpty(service.Ports), Waypoint: service.Waypoint,
		healthBody: healthBody{Health: graph.Idle}, Workloads: []nameBody{},
	}
	of := map[string]healthBody{}
	if one, ok := health[inventory.Name{Namespace: service.Namespace, Name: service.Name}]; ok && len(backends) == 0 {
		of[service.Name] = one // clients got no further than its address
	}
	for _, w := range backends {
		body.Workloads = append(body.Workloads, nameBody{w.Namespace, w.Name.Name})
		of[w.Name.Name] = health[w.Name]
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
	for _, name := range slices.Sorted(maps.Keys(of)) {
		one := of[name]
		if len(of) > 1 && one.Reason != "" {
			one.Reason = name + ": " + one.Reason
		}
		body.worsen(one)
	}
	return body
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (s *serviceRoutes) list(r *http.Request, p *params) (*answer, error) {
	part, w := p.page(), s.graphs.ranges.window(p)
	if p.err != nil {
		return nil, p.err
	}
	g, release, err := s.graphs.workloads(r.Context(), w)
	if err != nil {
		return nil, err
	}
	defer release()
	health, backends := healthOf(g), s.backends()
	all := s.mesh.Services()
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

func (s *serviceRoutes) get(r *http.Request, p *params) (*answer, error) {
	w := s.graphs.ranges.window(p)
	if p.err != nil {
		return nil, p.err
	}
	service := s.mesh.Service(r.PathValue("namespace"), r.PathValue("name"))
	if service == nil {
		return nil, notFound("there is no service " + r.PathValue("namespace") + "/" + r.PathValue("name"))
	}
	g, release, err := s.graphs.workloads(r.Context(), w)
	if err != nil {
		return nil, err
	}
	defer release()
	backends := s.backends()[service.Key()]
	body := serviceDetail{serviceBody: newServiceBody(service, backends, healthOf(g)), Pods: []endpointBody{}}
	for _, backend := range backends {
		traffic, err := s.past.Endpoints(r.Context(), w.start, w.end, backend.Name)
		if err != nil {
			return nil, unavailable(err)
		}
		for _, pod := range backend.Pods {
			if _, ok := pod.Services[service.Key()]; !ok {
				continue
			}
			one := endpointBody{nameBody{backend.Namespace, backend.Name.Name}, s.pods.body(pod)}
			if happened, ok := traffic[pod.Name]; ok {
				one.Traffic = &happened
			}
			body.Pods = append(body.Pods, one)
		}
	}
	body.neighbours = around(g, func(*graph.Node) bool { return false }, func(e *graph.Edge) bool { return e.Service == service.Hostname })
	return jsonAnswer(body)
}
