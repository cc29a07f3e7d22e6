package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/findings"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

type workloadBody struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	App       string `json:"app"`
	Version   string `json:"version"`
	Cluster   string `json:"cluster"`
	Kind      string `json:"kind"`
	InMesh    bool   `json:"in_mesh"`
	healthBody
	Waypoint string     `json:"waypoint,omitempty"`
	Services []nameBody `json:"services"`
	Pods     []podBody  `json:"pods"`
}

type podBody struct {
	Name           string   `json:"name"`
	Node           string   `json:"node"`
	IP             string   `json:"ip"`
	Addresses      []string `json:"addresses"`
	Healthy        bool     `json:"healthy"`
	InMesh         bool     `json:"in_mesh"`
	ServiceAccount string   `json:"service_account"`
	Identity       string   `json:"identity,omitempty"`
	Region         string   `json:"region,omitempty"`
	Zone           string   `json:"zone,omitempty"`
	ProxyState     string   `json:"proxy_state,omitempty"`
	// Capture tells whether the node's ztunnel carries its traffic, Detail why not.
	Capture string            `json:"capture"`
	Detail  string            `json:"detail,omitempty"`
	Traffic *history.Endpoint `json:"traffic,omitempty"`
}

// podMesh is what is known of pods. inventory.Inventory is one.
type podMesh interface {
	Hostname(hostname string) *mesh.Service
	Ztunnel(node string) *mesh.Ztunnel
}

// pods describes pods, and the workloads that they make up.
type pods struct {
	mesh    podMesh
	ranges  *ranges
	proxies nodeProxies
}

func (s *pods) workload(w *inventory.Workload, health map[inventory.Name]healthBody) workloadBody {
	body := workloadBody{
		Namespace: w.Namespace, Name: w.Name.Name, App: w.App, Version: w.Version, Cluster: w.Cluster, Kind: w.Kind,
		InMesh: w.InMesh, healthBody: cmp.Or(health[w.Name], healthBody{Health: graph.Idle}), Services: []nameBody{}, Pods: []podBody{},
	}
	services := map[nameBody]struct{}{}
	for _, pod := range w.Pods {
		body.Waypoint = cmp.Or(body.Waypoint, pod.Waypoint)
		for key := range pod.Services {
			services[s.service(key)] = struct{}{}
		}
		body.Pods = append(body.Pods, s.body(pod))
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
func (s *pods) service(key string) nameBody {
	namespace, hostname := splitKey(key)
	if known := s.mesh.Hostname(hostname); known != nil && known.Namespace == namespace {
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

func (s *pods) body(pod *mesh.Workload) podBody {
	body := podBody{
		Name: pod.Name, Node: pod.Node, Addresses: pod.Addresses, Healthy: pod.Healthy, InMesh: pod.InMesh(),
		ServiceAccount: pod.ServiceAccount, Identity: identity(pod), Region: pod.Region, Zone: pod.Zone,
	}
	if len(pod.Addresses) > 0 {
		body.IP = pod.Addresses[0]
	} else {
		body.Addresses = []string{}
	}
	z := s.mesh.Ztunnel(pod.Node)
	if z != nil {
		body.ProxyState = z.Workloads[pod.Namespace+"/"+pod.Name]
	}
	body.Capture, body.Detail = s.capture(pod, z)
	return body
}

// identity is the SPIFFE identity that a pod has in the mesh.
func identity(pod *mesh.Workload) string {
	if !pod.InMesh() || pod.ServiceAccount == "" {
		return ""
	}
	return "spiffe://" + cmp.Or(pod.TrustDomain, "cluster.local") + "/ns/" + pod.Namespace + "/sa/" + pod.ServiceAccount
}

// workloadMesh is what the workloads' routes read of the mesh. inventory.Inventory is one.
type workloadMesh interface {
	Workloads() []*inventory.Workload
	ByName() map[inventory.Name]*inventory.Workload
	Policies() []*mesh.Policy
	Ztunnels() []*mesh.Ztunnel
}

// pastEndpoints answers for single pods. history.Store is one.
type pastEndpoints interface {
	// Endpoints is what happened at each destination pod in [start, end), in unix milliseconds, by the pod's name.
	Endpoints(ctx context.Context, start, end int64, workload inventory.Name) (map[string]history.Endpoint, error)
}

type workloadRoutes struct {
	mesh    workloadMesh
	known   findings.Mesh
	pods    *pods
	graphs  *graphs
	past    pastEndpoints
	names   pastNames
	outages *outageRoutes
}

func (s *workloadRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/workloads": s.list, "/api/v1/workloads/{namespace}/{name}": s.get}
}

func (s *workloadRoutes) list(r *http.Request, p *params) (*answer, error) {
	part, w := p.page(), s.graphs.ranges.window(p)
	if p.err != nil {
		return nil, p.err
	}
	g, release, err := s.graphs.workloads(r.Context(), w)
	if err != nil {
		return nil, err
	}
	defer release()
	health := healthOf(g)
	list, total, next := cut(part, s.all(g), func(w *inventory.Workload) (string, string) { return w.Namespace, w.Name.Name })
	body := struct {
		Workloads []workloadBody `json:"workloads"`
		listBody
	}{[]workloadBody{}, listBody{total, next}}
	for _, one := range list {
		body.Workloads = append(body.Workloads, s.pods.workload(one, health))
	}
	return jsonAnswer(body)
}

// all are the workloads that the mesh's state tells of or, where nothing of it is read (neither istiod nor config dumps), those of the traffic,
// whose pods are not known.
func (s *workloadRoutes) all(g *graph.Graph) []*inventory.Workload {
	list := s.mesh.Workloads()
	if len(list) > 0 {
		return list
	}
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Type == string(graph.ByWorkload) {
			name := inventory.Name{Namespace: n.Namespace, Name: n.Name}
			list = append(list, &inventory.Workload{Name: name, App: n.App, Version: n.Version, Cluster: n.Cluster, InMesh: n.InMesh})
		}
	}
	slices.SortFunc(list, func(a, b *inventory.Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name.Name, b.Name.Name))
	})
	return list
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
	// Findings are those about the workload, and those of other workloads that it is evidence of.
	Findings []findings.Finding `json:"findings"`
	DNS      *workloadNames     `json:"dns"`
	neighbours
}

func (s *workloadRoutes) get(r *http.Request, p *params) (*answer, error) {
	name := inventory.Name{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	window := s.graphs.ranges.window(p)
	if p.err != nil {
		return nil, p.err
	}
	g, release, err := s.graphs.workloads(r.Context(), window)
	if err != nil {
		return nil, err
	}
	defer release()
	w := s.mesh.ByName()[name]
	if w == nil {
		all := s.all(g)
		at := slices.IndexFunc(all, func(w *inventory.Workload) bool { return w.Name == name })
		if at < 0 {
			return nil, notFound("there is no workload " + name.Namespace + "/" + name.Name)
		}
		w = all[at]
	}
	endpoints, err := s.past.Endpoints(r.Context(), window.start, window.end, name)
	if err != nil {
		return nil, unavailable(err)
	}
	body := workloadDetail{workloadBody: s.pods.workload(w, healthOf(g)), Identities: []string{}, Policies: []selectedPolicy{}}
	for i := range body.Pods {
		pod := &body.Pods[i]
		if traffic, ok := endpoints[pod.Name]; ok {
			pod.Traffic = &traffic
		}
		if pod.Identity != "" && !slices.Contains(body.Identities, pod.Identity) {
			body.Identities = append(body.Identities, pod.Identity)
		}
	}
	body.Certificates = s.pods.certificates(s.mesh.Ztunnels(), func(id string) bool { return slices.Contains(body.Identities, id) })
	is := func(n *graph.Node) bool { return n.Namespace == name.Namespace && n.Name == name.Name }
	body.neighbours = around(g, is, nil)
	denied := deniedBy(g.Edges, func(e *graph.Edge) bool { return is(&g.Nodes[e.Destination]) })
	for _, policy := range s.mesh.Policies() {
		key := policy.Key()
		if w.Selected(policy) || denied[key].All() > 0 {
			body.Policies = append(body.Policies, selectedPolicy{newPolicyBody(policy), denied[key].All()})
		}
	}
	body.Findings = s.findings(g, name)
	body.Outages = s.outages.touching(window, name.Namespace, w.App, w.Name.Name)
	if body.DNS, err = namesOf(r.Context(), s.names, w, s.mesh.Workloads(), window); err != nil {
		return nil, err
	}
	return jsonAnswer(body)
}

func (s *workloadRoutes) findings(g *graph.Graph, name inventory.Name) []findings.Finding {
	about := func(subject *findings.Subject) bool {
		return subject.Namespace == name.Namespace && subject.Name == name.Name
	}
	list := []findings.Finding{}
	for _, one := range findings.Find(g, s.known) {
		if about(&one.Subject) || slices.ContainsFunc(one.Evidence, func(e findings.Evidence) bool { return e.Source != nil && about(e.Source) }) {
			list = append(list, one)
		}
	}
	return list
}
