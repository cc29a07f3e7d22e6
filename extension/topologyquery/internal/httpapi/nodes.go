package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
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
	healthBody
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
	names       pastNames
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
	open     []*outage.Outage
}

func (s *nodeRoutes) machines(at int64) machines {
	m := machines{
		ztunnels: map[string]*mesh.Ztunnel{}, sources: map[string][]sources.Source{}, pods: map[string][]*mesh.Workload{},
		healthy: s.sources.Delivering(min(at, s.ranges.now()), s.silentAfter.Milliseconds()),
		partial: s.sources.Partial(),
	}
	for _, o := range s.outages.in(window{start: at, end: at + 1}) {
		if o.EndedAt == nil || o.EndedAt.After(time.UnixMilli(at)) {
			m.open = append(m.open, o)
		}
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
	body := nodeBody{Name: name, Sources: []sourceBody{}, XDS: xdsBody{State: "unknown"}, healthBody: m.health(name)}
	for _, one := range m.sources[name] {
		body.Sources = append(body.Sources, newSourceBody(name, one))
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

// health is a node's: whether its ztunnel's telemetry arrives, unless an open outage says worse.
func (m *machines) health(name string) healthBody {
	h := healthBody{graph.Unknown, "no telemetry of it ever arrived"}
	if delivering, known := m.healthy[name]; known {
		h = healthBody{graph.Failing, "its ztunnel's telemetry does not arrive"}
		if delivering {
			h = healthBody{Health: graph.Healthy}
		}
	}
	for _, one := range m.sources[name] {
		switch {
		case one.Problem == semconv.ProblemNotUnderstood, m.partial[name] && one.Problem == semconv.ProblemLevelTooLow:
			h = healthBody{graph.Unknown, clause(one.Detail)}
		case one.Problem != "" && h.Reason == "":
			h.Reason = clause(one.Detail)
		}
	}
	if z := m.ztunnels[name]; z != nil {
		var missing uint64
		for _, c := range z.Certificates {
			if strings.HasPrefix(c.State, "Unavailable") {
				missing++
			}
		}
		if missing > 0 {
			h.worsen(healthBody{graph.Degraded, fmt.Sprintf("%d of %d certificates are unavailable", missing, len(z.Certificates))})
		}
	}
	for _, o := range m.open {
		switch {
		case o.Root.Type == "node" && o.Root.Name == name:
			h.worsen(byOutage(o))
		case o.Kind == kindControlPlaneDown && h.Health == graph.Healthy:
			h = healthBody{graph.Degraded, o.Summary}
		}
	}
	return h
}

// kindControlPlaneDown is the kind of an outage in which ztunnels hear nothing from istiod.
const kindControlPlaneDown = "control_plane_down"

// byOutage is the health of what an open outage begins with.
func byOutage(o *outage.Outage) healthBody {
	if o.Severity == "critical" {
		return healthBody{graph.Failing, o.Summary}
	}
	return healthBody{graph.Degraded, o.Summary}
}

// clause is a sentence as a part of another one.
func clause(sentence string) string {
	sentence = strings.TrimSuffix(sentence, ".")
	if sentence == "" {
		return ""
	}
	return strings.ToLower(sentence[:1]) + sentence[1:]
}

type controlPlaneBody struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	healthBody
}

// controlPlane is istiod: whether it delivers, unless an open outage says worse.
func (m *machines) controlPlane() controlPlaneBody {
	body := controlPlaneBody{Namespace: "istio-system", Name: "istiod", healthBody: healthBody{graph.Unknown, "nobody follows what it says"}}
	for _, list := range m.sources {
		for _, one := range list {
			if one.Name != semconv.SourceXDS {
				continue
			}
			if one.Up && body.Health != graph.Failing {
				body.healthBody = healthBody{Health: graph.Healthy}
			} else if !one.Up {
				body.healthBody = healthBody{graph.Failing, "its stream is broken"}
			}
		}
	}
	for _, o := range m.open {
		if o.Root.Type == "control_plane" {
			body.Namespace, body.Name = o.Root.Namespace, o.Root.Name
			body.worsen(byOutage(o))
		}
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
	if slices.ContainsFunc(m.open, func(o *outage.Outage) bool { return o.Kind == kindControlPlaneDown }) {
		return "disconnected", nil
	}
	for _, list := range m.sources {
		if state, seen, ok := from(list); ok {
			return state, seen
		}
	}
	return "unknown", nil
}

// logLevel is the level from which on a node's ztunnel logs connections, empty where its log is not read.
func (m *machines) logLevel(name string) string {
	for _, one := range m.sources[name] {
		if one.Name != semconv.SourceAccessLog || one.LastSeen == 0 {
			continue
		}
		if one.Problem == semconv.ProblemLevelTooLow {
			return "warn"
		}
		return "info"
	}
	return ""
}

func (s *nodeRoutes) list(_ *http.Request, p *params) (*answer, error) {
	part, w := p.page(), s.ranges.window(p)
	if p.err != nil {
		return nil, p.err
	}
	m := s.machines(w.end)
	list, total, next := cut(part, m.names, func(name string) (string, string) { return "", name })
	body := struct {
		Nodes        []nodeBody       `json:"nodes"`
		ControlPlane controlPlaneBody `json:"control_plane"`
		// Skew is in what the ztunnels are not alike.
		Skew inventory.Skew `json:"skew"`
		listBody
	}{[]nodeBody{}, m.controlPlane(), inventory.SkewOf(s.mesh.Ztunnels()), listBody{total, next}}
	for _, name := range list {
		one := s.body(&m, name)
		one.XDS.State, one.XDS.LastSeen = m.xds(name)
		body.Nodes = append(body.Nodes, one)
	}
	return jsonAnswer(body)
}

type nodeDetail struct {
	nodeBody
	Ztunnel  ztunnelBody       `json:"ztunnel"`
	DNS      history.Asked     `json:"dns"`
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
	body.Ztunnel = newZtunnelBody(s.pods.proxies, name, m.ztunnels[name], w)
	body.Ztunnel.LogLevel = m.logLevel(name)
	var err error
	if body.DNS, err = s.names.Names(r.Context(), w.start, w.end, anyNode, semconv.LabelNode, name); err != nil {
		return nil, unavailable(err)
	}
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
