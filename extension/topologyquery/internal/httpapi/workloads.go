package httpapi

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

type workloadBody struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	App       string     `json:"app"`
	Version   string     `json:"version"`
	Cluster   string     `json:"cluster"`
	Kind      string     `json:"kind"`
	InMesh    bool       `json:"in_mesh"`
	Health    string     `json:"health"`
	Waypoint  string     `json:"waypoint,omitempty"`
	Services  []nameBody `json:"services"`
	Pods      []podBody  `json:"pods"`
}

type podBody struct {
	Name           string            `json:"name"`
	Node           string            `json:"node"`
	IP             string            `json:"ip"`
	Addresses      []string          `json:"addresses"`
	Healthy        bool              `json:"healthy"`
	InMesh         bool              `json:"in_mesh"`
	ServiceAccount string            `json:"service_account"`
	Identity       string            `json:"identity,omitempty"`
	Region         string            `json:"region,omitempty"`
	Zone           string            `json:"zone,omitempty"`
	ProxyState     string            `json:"proxy_state,omitempty"`
	Traffic        *history.Endpoint `json:"traffic,omitempty"`
}

func (s *Server) workloadBody(w *inventory.Workload, health map[inventory.Name]string) workloadBody {
	body := workloadBody{
		Namespace: w.Namespace, Name: w.Name.Name, App: w.App, Version: w.Version, Cluster: w.Cluster, Kind: w.Kind,
		InMesh: w.InMesh, Health: cmp.Or(health[w.Name], graph.Idle), Services: []nameBody{}, Pods: []podBody{},
	}
	services := map[nameBody]struct{}{}
	for _, pod := range w.Pods {
		body.Waypoint = cmp.Or(body.Waypoint, pod.Waypoint)
		for key := range pod.Services {
			services[s.serviceName(key)] = struct{}{}
		}
		body.Pods = append(body.Pods, s.podBody(pod))
	}
	for name := range services {
		body.Services = append(body.Services, name)
	}
	slices.SortFunc(body.Services, func(a, b nameBody) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return body
}

// serviceName is the name of a service that is given as "namespace/hostname".
func (s *Server) serviceName(key string) nameBody {
	namespace, hostname := splitKey(key)
	if known := s.Inventory.Hostname(hostname); known != nil && known.Namespace == namespace {
		return nameBody{namespace, known.Name}
	}
	return nameBody{namespace, hostname}
}

func splitKey(key string) (namespace, name string) {
	for i := range len(key) {
		if key[i] == '/' {
			return key[:i], key[i+1:]
		}
	}
	return "", key
}

func (s *Server) podBody(pod *mesh.Workload) podBody {
	body := podBody{
		Name: pod.Name, Node: pod.Node, Addresses: pod.Addresses, Healthy: pod.Healthy, InMesh: pod.InMesh(),
		ServiceAccount: pod.ServiceAccount, Identity: identity(pod), Region: pod.Region, Zone: pod.Zone,
	}
	if len(pod.Addresses) > 0 {
		body.IP = pod.Addresses[0]
	} else {
		body.Addresses = []string{}
	}
	if z := s.Inventory.Ztunnel(pod.Node); z != nil {
		body.ProxyState = z.Workloads[pod.Namespace+"/"+pod.Name]
	}
	return body
}

// identity is the SPIFFE identity that a pod has in the mesh.
func identity(pod *mesh.Workload) string {
	if !pod.InMesh() || pod.ServiceAccount == "" {
		return ""
	}
	return "spiffe://" + cmp.Or(pod.TrustDomain, "cluster.local") + "/ns/" + pod.Namespace + "/sa/" + pod.ServiceAccount
}

func (s *Server) workloads(r *http.Request, p *params) (*answer, error) {
	part, w := p.page(), s.window(p)
	if p.err != nil {
		return nil, p.err
	}
	g, err := s.workloadGraph(r.Context(), w)
	if err != nil {
		return nil, err
	}
	health := healthOf(g)
	list, total, next := cut(part, s.Inventory.Workloads(), func(w *inventory.Workload) (string, string) { return w.Namespace, w.Name.Name })
	body := struct {
		Workloads []workloadBody `json:"workloads"`
		listBody
	}{[]workloadBody{}, listBody{total, next}}
	for _, one := range list {
		body.Workloads = append(body.Workloads, s.workloadBody(one, health))
	}
	return jsonAnswer(body)
}

type selectedPolicy struct {
	policyBody
	Denied uint64 `json:"denied"`
}

type workloadDetail struct {
	workloadBody
	Identities   []string          `json:"identities"`
	Certificates []certificateBody `json:"certificates"`
	Policies     []selectedPolicy  `json:"policies"`
	Outages      []*outage.Outage  `json:"outages"`
	neighbours
}

func (s *Server) workload(r *http.Request, p *params) (*answer, error) {
	name := inventory.Name{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	window := s.window(p)
	if p.err != nil {
		return nil, p.err
	}
	w := s.Inventory.ByName()[name]
	if w == nil {
		return nil, notFound("there is no workload " + name.Namespace + "/" + name.Name)
	}
	g, err := s.workloadGraph(r.Context(), window)
	if err != nil {
		return nil, err
	}
	endpoints, err := s.Past.Endpoints(r.Context(), window.start, window.end, name)
	if err != nil {
		return nil, unavailable(err)
	}
	body := workloadDetail{workloadBody: s.workloadBody(w, healthOf(g)), Identities: []string{}, Policies: []selectedPolicy{}}
	for i := range body.Pods {
		pod := &body.Pods[i]
		if traffic, ok := endpoints[pod.Name]; ok {
			pod.Traffic = &traffic
		}
		if pod.Identity != "" && !slices.Contains(body.Identities, pod.Identity) {
			body.Identities = append(body.Identities, pod.Identity)
		}
	}
	body.Certificates = s.certificates(s.Inventory.Ztunnels(), func(id string) bool { return slices.Contains(body.Identities, id) })
	is := func(n *graph.Node) bool { return n.Namespace == name.Namespace && n.Name == name.Name }
	body.neighbours = around(g, is, nil)
	denied := deniedBy(g.Edges, func(e *graph.Edge) bool { return is(&g.Nodes[e.Destination]) })
	for _, policy := range s.Inventory.Policies() {
		key := policy.Key()
		if selects(policy, w) || denied[key] > 0 {
			body.Policies = append(body.Policies, selectedPolicy{newPolicyBody(policy), denied[key]})
		}
	}
	body.Outages = s.outagesOf(window, name.Namespace, w.App, w.Name.Name)
	return jsonAnswer(body)
}

// outagesOf are the outages in a window that have one of some names in their root, edges or impact.
func (s *Server) outagesOf(w window, namespace string, names ...string) []*outage.Outage {
	out := []*outage.Outage{}
	is := func(ns, name string) bool { return ns == namespace && slices.Contains(names, name) }
	for _, o := range s.Outages.List(*timeOf(max(w.start, 1)), *timeOf(max(w.end, 1)), "") {
		touched := is(o.Root.Namespace, o.Root.Name)
		for _, e := range o.Edges {
			touched = touched || is(e.Source.Namespace, e.Source.Name) || is(e.Destination.Namespace, e.Destination.Name)
		}
		for _, i := range o.Impact {
			touched = touched || is(i.Namespace, i.Name.Name)
		}
		if touched {
			out = append(out, o)
		}
	}
	return out
}
