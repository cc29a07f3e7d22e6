package httpapi

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

type nodeBody struct {
	Name      string `json:"name"`
	Ztunnel   string `json:"ztunnel"`
	Namespace string `json:"namespace"`
	Version   string `json:"version"`
	Cluster   string `json:"cluster"`
	// Health is unknown where the node's telemetry does not arrive.
	Health       string       `json:"health"`
	XDS          xdsBody      `json:"xds"`
	Sources      []sourceBody `json:"sources"`
	Workloads    int          `json:"workloads"`
	Pods         int          `json:"pods"`
	Certificates certsBody    `json:"certificates"`
}

type xdsBody struct {
	Address string `json:"address"`
	// State is connected, disconnected or unknown, as the source says that follows the control plane.
	State    string     `json:"state"`
	LastSeen *time.Time `json:"last_seen,omitempty"`
}

type certsBody struct {
	Total int `json:"total"`
	// NextExpiry is the earliest end of validity, RootExpiry that of the trusted roots.
	NextExpiry *time.Time `json:"next_expiry,omitempty"`
	RootExpiry *time.Time `json:"root_expiry,omitempty"`
	NotReady   int        `json:"not_ready"`
}

// nodeMesh is what the nodes' routes read of the mesh. inventory.Inventory is one.
type nodeMesh interface {
	Workloads() []*inventory.Workload
	Ztunnels() []*mesh.Ztunnel
}

// nodeSources is the telemetry of nodes. sources.Tracker is one.
type nodeSources interface {
	delivering
	Nodes() []sources.Node
}

type nodeRoutes struct {
	mesh        nodeMesh
	pods        *pods
	sources     nodeSources
	outages     *outageRoutes
	ranges      *ranges
	silentAfter time.Duration
}

func (s *nodeRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/nodes": s.list, "/api/v1/nodes/{name}": s.get, "/api/v1/nodes/{namespace}/{name}": s.get}
}

// machines are all nodes that are known by their ztunnel, by their telemetry or by their pods; bounded by what the inventory and
// the sources keep.
type machines struct {
	names    []string
	ztunnels map[string]*mesh.Ztunnel
	sources  map[string][]sources.Source
	pods     map[string][]*mesh.Workload
	healthy  map[string]bool
	partial  map[string]bool
}

func (s *nodeRoutes) machines(at int64) machines {
	m := machines{
		ztunnels: map[string]*mesh.Ztunnel{}, sources: map[string][]sources.Source{}, pods: map[string][]*mesh.Workload{},
		healthy: s.sources.Delivering(min(at, s.ranges.now()), s.silentAfter.Milliseconds()),
		partial: s.sources.Partial(),
	}
	seen := map[string]struct{}{}
	see := func(name string) {
		if _, ok := seen[name]; !ok && name != "" {
			seen[name] = struct{}{}
			m.names = append(m.names, name)
		}
	}
	for _, z := range s.mesh.Ztunnels() {
		m.ztunnels[z.Node] = z
		see(z.Node)
	}
	for _, n := range s.sources.Nodes() {
		m.sources[n.Name] = n.Sources
		// What has no access log and no metrics is a control plane or an application, not a ztunnel.
		if slices.ContainsFunc(n.Sources, func(one sources.Source) bool { return one.Name == "access_log" || one.Name == "metrics" }) {
			see(n.Name)
		}
	}
	for _, w := range s.mesh.Workloads() {
		for _, pod := range w.Pods {
			m.pods[pod.Node] = append(m.pods[pod.Node], pod)
			if pod.InMesh() {
				see(pod.Node)
			}
		}
	}
	slices.Sort(m.names)
	return m
}

func (s *nodeRoutes) body(m *machines, name string) nodeBody {
	body := nodeBody{Name: name, Health: graph.Unknown, Sources: []sourceBody{}, XDS: xdsBody{State: "unknown"}}
	if delivering, known := m.healthy[name]; known {
		body.Health = graph.Failing
		if delivering {
			body.Health = graph.Healthy
		}
	}
	for _, one := range m.sources[name] {
		body.Sources = append(body.Sources, newSourceBody(name, one))
		if one.Problem == semconv.ProblemNotUnderstood || m.partial[name] {
			body.Health = graph.Unknown
		}
	}
	owners := map[nameBody]struct{}{}
	for _, pod := range m.pods[name] {
		body.Pods++
		owners[nameBody{pod.Namespace, pod.Owner()}] = struct{}{}
	}
	body.Workloads = len(owners)
	z := m.ztunnels[name]
	if z == nil {
		return body
	}
	body.Ztunnel, body.Namespace, body.Version, body.Cluster, body.XDS.Address = z.Name, z.Namespace, z.Version, z.ClusterID, z.XDSAddress
	for _, c := range z.Certificates {
		body.Certificates.Total++
		if c.State != "" && c.State != "Available" {
			body.Certificates.NotReady++
		}
		body.Certificates.NextExpiry = earlier(body.Certificates.NextExpiry, c.NotAfter)
		body.Certificates.RootExpiry = earlier(body.Certificates.RootExpiry, c.RootNotAfter)
	}
	return body
}

func earlier(known *time.Time, t time.Time) *time.Time {
	if t.IsZero() || known != nil && !t.Before(*known) {
		return known
	}
	return &t
}

// xds finds the state of the control plane's stream: the node's own, or the one that all nodes share.
func (m *machines) xds(name string) (state string, lastSeen *time.Time) {
	from := func(list []sources.Source) (string, *time.Time, bool) {
		for _, one := range list {
			if one.Name == "xds" {
				if one.Up {
					return "connected", timeOf(one.LastSeen), true
				}
				return "disconnected", timeOf(one.LastSeen), true
			}
		}
		return "", nil, false
	}
	if state, seen, ok := from(m.sources[name]); ok {
		return state, seen
	}
	for _, list := range m.sources {
		if state, seen, ok := from(list); ok {
			return state, seen
		}
	}
	return "unknown", nil
}

func (s *nodeRoutes) list(_ *http.Request, p *params) (*answer, error) {
	part, w := p.page(), s.ranges.window(p)
	if p.err != nil {
		return nil, p.err
	}
	m := s.machines(w.end)
	list, total, next := cut(part, m.names, func(name string) (string, string) { return "", name })
	body := struct {
		Nodes []nodeBody `json:"nodes"`
		listBody
	}{[]nodeBody{}, listBody{total, next}}
	for _, name := range list {
		one := s.body(&m, name)
		one.XDS.State, one.XDS.LastSeen = m.xds(name)
		body.Nodes = append(body.Nodes, one)
	}
	return jsonAnswer(body)
}

type nodeDetail struct {
	nodeBody
	PodList  []nodePod         `json:"pod_list"`
	CertList []certificateBody `json:"certificate_list"`
	Outages  []*outage.Outage  `json:"outages"`
}

type nodePod struct {
	Namespace string   `json:"namespace"`
	Workload  nameBody `json:"workload"`
	podBody
}

func (s *nodeRoutes) get(r *http.Request, p *params) (*answer, error) {
	w := s.ranges.window(p)
	if p.err != nil {
		return nil, p.err
	}
	name := r.PathValue("name")
	m := s.machines(w.end)
	if !slices.Contains(m.names, name) {
		return nil, notFound("there is no node " + name)
	}
	body := nodeDetail{nodeBody: s.body(&m, name), PodList: []nodePod{}, CertList: []certificateBody{}, Outages: []*outage.Outage{}}
	body.XDS.State, body.XDS.LastSeen = m.xds(name)
	for _, pod := range m.pods[name] {
		body.PodList = append(body.PodList, nodePod{pod.Namespace, nameBody{pod.Namespace, pod.Owner()}, s.pods.body(pod)})
	}
	slices.SortFunc(body.PodList, func(a, b nodePod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	if z := m.ztunnels[name]; z != nil {
		body.CertList = s.pods.certificates([]*mesh.Ztunnel{z}, func(string) bool { return true })
	}
	for _, o := range s.outages.in(w) {
		if o.Root.Type == "node" && o.Root.Name == name {
			body.Outages = append(body.Outages, o)
		}
	}
	return jsonAnswer(body)
}
