// Package graph turns what happened on edges in a window into the graph that the API serves: grouped, judged and encoded.
package graph

import (
	"cmp"
	"net/netip"
	"slices"
	"unique"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// GroupBy is what a node of the graph stands for.
type GroupBy string

// The ways to group.
const (
	ByWorkload  GroupBy = "workload"
	ByService   GroupBy = "service"
	ByApp       GroupBy = "app"
	ByNamespace GroupBy = "namespace"
)

// TypeExternal is the type of a node that is no workload of the mesh's clusters: an address outside.
const TypeExternal = "external"

// Health of a node or an edge.
const (
	Healthy  = "healthy"
	Degraded = "degraded"
	Failing  = "failing"
	Idle     = "idle"
	Unknown  = "unknown"
)

// Mesh is what the graph needs to know about the mesh.
type Mesh interface {
	Workloads() []*inventory.Workload
	ByName() map[inventory.Name]*inventory.Workload
	Services() []*mesh.Service
	Hostname(hostname string) *mesh.Service
}

// Root is the subject of an outage that is open at the window's end.
type Root struct {
	Namespace, Name string
	Critical        bool
}

// Options say what graph is wanted.
type Options struct {
	// Start and End are unix milliseconds.
	Start, End int64
	GroupBy    GroupBy
	// Namespace, unless empty, keeps the edges that touch it.
	Namespace string
	// Thresholds are the failure ratios from which on a node or an edge is degraded or failing.
	DegradedAt, FailingAt float64
	// Delivering tells of each node (machine) that has telemetry whether it delivers.
	Delivering map[string]bool
	Roots      []Root
}

// Node is one node of the graph.
type Node struct {
	ID        string
	Type      string
	Namespace string
	Name      string
	App       string
	Version   string
	Cluster   string
	InMesh    bool
	Health    string
	Pods      []*mesh.Workload

	in, out tally
	dark    bool
}

type tally struct {
	attempts, failed, requests, errors uint64
	alive                              bool
}

func (t *tally) add(c *live.Counts) {
	t.attempts += max(c.Fields[live.Closed], c.Failed)
	t.failed += c.Failed
	t.requests += c.Fields[live.Requests]
	t.errors += c.Fields[live.RequestsFailed]
	t.alive = t.alive || !c.Empty()
}

func (t *tally) ratio() float64 {
	var ratio float64
	if t.attempts > 0 {
		ratio = float64(t.failed) / float64(t.attempts)
	}
	if t.requests > 0 {
		ratio = max(ratio, float64(t.errors)/float64(t.requests))
	}
	return ratio
}

// FailureRatio is the share of the node's inbound connections or requests that failed, whichever is larger.
func (n *Node) FailureRatio() float64 { return n.in.ratio() }

// Edge is one edge of the graph.
type Edge struct {
	Source, Destination int
	Service             string
	Port                uint16
	Protocol            string
	Security            string
	Waypoint            string
	Health              string
	Counts              *live.Counts
}

// Graph is a graph of a window. Source and Destination of edges are indices into Nodes.
type Graph struct {
	Start, End int64
	// Clock is the data's clock, From what answered: live or history.
	Clock int64
	From  string
	Nodes []Node
	Edges []*Edge

	quoted [][]byte
}

type nodeKey struct{ kind, cluster, namespace, name string }

// Builder collects edges. It is not safe for concurrent use.
type Builder struct {
	options Options
	mesh    Mesh
	byName  map[inventory.Name]*inventory.Workload
	nodes   map[nodeKey]int
	// parties are the nodes of parties that were seen already, unless grouped by service.
	parties map[unique.Handle[edge.Party]]int
	// slab is room for edges; they are not moved.
	slab  []Edge
	graph Graph
}

// NewBuilder returns a builder for a graph.
func NewBuilder(m Mesh, options Options, sizeHint int) *Builder {
	return &Builder{
		options: options,
		mesh:    m,
		byName:  m.ByName(),
		nodes:   make(map[nodeKey]int, sizeHint/8),
		parties: make(map[unique.Handle[edge.Party]]int, sizeHint/8),
		graph:   Graph{Start: options.Start, End: options.End, Edges: make([]*Edge, 0, sizeHint)},
	}
}

// Add adds what happened on an edge. Counts that are not kept belong to the graph from here on: it may add to them.
func (b *Builder) Add(key *edge.Key, counts *live.Counts) {
	b.add(key, unique.Make(key.Source), unique.Make(key.Destination), counts)
}

// AddLive is Add for an edge of the live graph.
func (b *Builder) AddLive(e *live.Edge, counts *live.Counts) {
	b.add(&e.Key, e.Source, e.Destination, counts)
}

func (b *Builder) add(key *edge.Key, source, destination unique.Handle[edge.Party], counts *live.Counts) {
	if ns := b.options.Namespace; ns != "" && key.Source.Namespace != ns && key.Destination.Namespace != ns {
		return
	}
	if len(b.slab) == cap(b.slab) {
		b.slab = make([]Edge, 0, max(slabEdges, cap(b.graph.Edges)-len(b.graph.Edges)))
	}
	b.slab = append(b.slab, Edge{
		Source: b.party(&key.Source, source, "", key.Security), Destination: b.party(&key.Destination, destination, key.Service, key.Security),
		Protocol: key.Protocol, Security: Security(key.Security), Waypoint: key.Waypoint, Counts: counts,
	})
	e := &b.slab[len(b.slab)-1]
	if b.options.GroupBy != ByNamespace {
		e.Service, e.Port = key.Service, key.Port
	}
	b.graph.Edges = append(b.graph.Edges, e)
}

// slabEdges is the least number of edges that room is made for at a time.
const slabEdges = 64

// Security is the API's word for a connection's security.
func Security(policy string) string {
	switch policy {
	case semconv.SecurityMutualTLS:
		return semconv.SecurityMutualTLS
	case semconv.SecurityNone:
		return "plaintext"
	}
	return semconv.SecurityUnknown
}

// party returns the index of a party's node.
func (b *Builder) party(p *edge.Party, handle unique.Handle[edge.Party], service, security string) int {
	if b.options.GroupBy == ByService {
		return b.resolve(p, service, security)
	}
	if at, ok := b.parties[handle]; ok {
		if security == semconv.SecurityMutualTLS && p.Namespace != "" {
			// Where nothing else is known of it, what speaks mutual TLS is in the mesh.
			if n := &b.graph.Nodes[at]; !n.InMesh && b.byName[inventory.Name{Namespace: p.Namespace, Name: p.Workload}] == nil {
				n.InMesh = true
			}
		}
		return at
	}
	at := b.resolve(p, service, security)
	b.parties[handle] = at
	return at
}

func (b *Builder) resolve(p *edge.Party, service, security string) int {
	known := b.byName[inventory.Name{Namespace: p.Namespace, Name: p.Workload}]
	cluster := p.Cluster
	if known != nil && known.Cluster != "" {
		cluster = known.Cluster
	}
	secure := security == semconv.SecurityMutualTLS
	if p.Namespace == "" {
		name := p.Workload
		if name == "" {
			name = "unknown"
		}
		if b.options.GroupBy == ByNamespace {
			name = "outside"
		}
		if b.options.GroupBy == ByService && service != "" {
			return b.service(service, "", "", nil, secure)
		}
		return b.node(nodeKey{TypeExternal, "", "", name}, func(*Node) {})
	}
	switch b.options.GroupBy {
	case ByNamespace:
		return b.node(nodeKey{string(ByNamespace), cluster, p.Namespace, p.Namespace}, func(n *Node) { b.roll(n, known, secure) })
	case ByApp:
		return b.app(p, cluster, known, secure)
	case ByService:
		if service == "" {
			service = homeService(known)
		}
		if service != "" {
			return b.service(service, p.Namespace, cluster, known, secure)
		}
		return b.app(p, cluster, known, secure)
	}
	return b.node(nodeKey{string(ByWorkload), cluster, p.Namespace, p.Workload}, func(n *Node) {
		n.App, n.Version = p.App, p.Version
		b.roll(n, known, secure)
		if known != nil {
			n.App, n.Version = cmp.Or(n.App, known.App), cmp.Or(n.Version, known.Version)
		}
	})
}

func (b *Builder) app(p *edge.Party, cluster string, known *inventory.Workload, secure bool) int {
	app := p.App
	if app == "" && known != nil {
		app = known.App
	}
	app = cmp.Or(app, p.Workload)
	return b.node(nodeKey{string(ByApp), cluster, p.Namespace, app}, func(n *Node) {
		n.App = app
		b.roll(n, known, secure)
	})
}

func (b *Builder) service(hostname, namespace, cluster string, known *inventory.Workload, secure bool) int {
	name := hostname
	if s := b.mesh.Hostname(hostname); s != nil {
		name, namespace = s.Name, s.Namespace
	}
	return b.node(nodeKey{string(ByService), cluster, namespace, name}, func(n *Node) { b.roll(n, known, secure) })
}

// homeService is the service by which a workload is known, empty if it has none.
func homeService(w *inventory.Workload) string {
	if w == nil || len(w.Pods) == 0 {
		return ""
	}
	best := ""
	for key := range w.Pods[0].Services {
		if best == "" || key < best {
			best = key
		}
	}
	for i := range len(best) {
		if best[i] == '/' {
			return best[i+1:]
		}
	}
	return best
}

// roll adds a workload to a node that stands for it.
func (b *Builder) roll(n *Node, w *inventory.Workload, secure bool) {
	if w == nil {
		n.InMesh = n.InMesh || secure
		return
	}
	n.InMesh = n.InMesh || w.InMesh
	if b.options.GroupBy != ByNamespace {
		n.Pods = w.Pods
	}
}

func (b *Builder) node(key nodeKey, fill func(n *Node)) int {
	if at, ok := b.nodes[key]; ok {
		return at
	}
	at := len(b.graph.Nodes)
	b.nodes[key] = at
	b.graph.Nodes = append(b.graph.Nodes, Node{
		ID:        key.kind + "/" + key.cluster + "/" + key.namespace + "/" + key.name,
		Type:      key.kind,
		Namespace: key.namespace,
		Name:      key.name,
		Cluster:   key.cluster,
	})
	fill(&b.graph.Nodes[at])
	return at
}

// Edges judges and returns the graph of the edges that were added alone: without idle workloads, and without what
// only all of a node's edges could tell of it.
func (b *Builder) Edges() *Graph {
	b.merge()
	b.judge()
	return &b.graph
}

// Graph judges and returns the graph; the builder must not be used any more.
func (b *Builder) Graph() *Graph {
	b.rollUp()
	order := make([]int, len(b.graph.Nodes))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(b.graph.Nodes[i].ID, b.graph.Nodes[j].ID) })
	nodes := make([]Node, len(order))
	place := make([]int, len(order))
	for to, from := range order {
		nodes[to] = b.graph.Nodes[from]
		place[from] = to
	}
	b.graph.Nodes = nodes
	for _, e := range b.graph.Edges {
		e.Source, e.Destination = place[e.Source], place[e.Destination]
	}
	b.merge()
	b.judge()
	return &b.graph
}

// merge sorts the edges and makes one of those that grouping does not tell apart.
func (b *Builder) merge() {
	slices.SortStableFunc(b.graph.Edges, (*Edge).compare)
	kept := b.graph.Edges[:0]
	for _, e := range b.graph.Edges {
		if len(kept) == 0 || kept[len(kept)-1].compare(e) != 0 {
			kept = append(kept, e)
			continue
		}
		one := kept[len(kept)-1]
		one.Counts = one.Counts.Own()
		one.Counts.Merge(e.Counts)
	}
	b.graph.Edges = kept
}

func (e *Edge) compare(other *Edge) int {
	if e.Source != other.Source {
		return e.Source - other.Source
	}
	if e.Destination != other.Destination {
		return e.Destination - other.Destination
	}
	return cmp.Or(cmp.Compare(e.Service, other.Service), cmp.Compare(e.Port, other.Port), cmp.Compare(e.Protocol, other.Protocol),
		cmp.Compare(e.Security, other.Security), cmp.Compare(e.Waypoint, other.Waypoint))
}

// rollUp adds the workloads that are known and idle, and gives grouped nodes all of their pods.
func (b *Builder) rollUp() {
	type group struct {
		pods []*mesh.Workload
		mesh bool
	}
	groups := map[int]*group{}
	for _, w := range b.mesh.Workloads() {
		if ns := b.options.Namespace; ns != "" && w.Namespace != ns {
			if at, ok := b.existing(w); ok {
				g := groups[at]
				if g == nil {
					g = &group{}
					groups[at] = g
				}
				g.pods, g.mesh = append(g.pods, w.Pods...), g.mesh || w.InMesh
			}
			continue
		}
		p := edge.Party{Workload: w.Name.Name, Namespace: w.Namespace, App: w.App, Version: w.Version, Cluster: w.Cluster}
		at := b.party(&p, unique.Make(p), "", "")
		g := groups[at]
		if g == nil {
			g = &group{}
			groups[at] = g
		}
		g.pods, g.mesh = append(g.pods, w.Pods...), g.mesh || w.InMesh
	}
	for at, g := range groups {
		n := &b.graph.Nodes[at]
		n.InMesh = n.InMesh || g.mesh
		n.dark = b.isDark(g.pods)
		if b.options.GroupBy != ByNamespace {
			n.Pods = g.pods
		}
	}
}

func (b *Builder) existing(w *inventory.Workload) (int, bool) {
	var key nodeKey
	switch b.options.GroupBy {
	case ByNamespace:
		key = nodeKey{string(ByNamespace), w.Cluster, w.Namespace, w.Namespace}
	case ByApp:
		key = nodeKey{string(ByApp), w.Cluster, w.Namespace, w.App}
	case ByService:
		hostname := homeService(w)
		if s := b.mesh.Hostname(hostname); s != nil {
			key = nodeKey{string(ByService), w.Cluster, s.Namespace, s.Name}
		}
	default:
		key = nodeKey{string(ByWorkload), w.Cluster, w.Namespace, w.Name.Name}
	}
	at, ok := b.nodes[key]
	return at, ok
}

// isDark tells that no pod's machine delivers telemetry, though some of them are known to.
func (b *Builder) isDark(pods []*mesh.Workload) bool {
	known := false
	for _, pod := range pods {
		if !pod.InMesh() {
			continue
		}
		delivering, ok := b.options.Delivering[pod.Node]
		if delivering || !ok {
			return false
		}
		known = true
	}
	return known
}

func (b *Builder) judge() {
	g := &b.graph
	for _, e := range g.Edges {
		source, destination := &g.Nodes[e.Source], &g.Nodes[e.Destination]
		source.out.add(e.Counts)
		destination.in.add(e.Counts)
		var t tally
		t.add(e.Counts)
		e.Health = b.level(t.ratio())
		switch {
		case e.Health != Healthy:
		case t.attempts == 0 && t.requests == 0 && source.dark && destination.dark:
			e.Health = Unknown
		case !t.alive:
			e.Health = Idle
			if source.dark || destination.dark {
				e.Health = Unknown
			}
		}
	}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		n.Health = b.level(n.in.ratio())
		if n.Health == Healthy && b.level(n.out.ratio()) == Failing {
			n.Health = Degraded
		}
		for _, root := range b.options.Roots {
			if root.Namespace == n.Namespace && (root.Name == n.App || root.Name == n.Name || n.Type == string(ByNamespace)) && n.Health != Failing {
				n.Health = Degraded
				if root.Critical {
					n.Health = Failing
				}
			}
		}
		switch {
		case n.Health == Failing || n.Health == Degraded:
		case n.dark:
			n.Health = Unknown
		case !n.in.alive && !n.out.alive:
			n.Health = Idle
		}
	}
}

func (b *Builder) level(ratio float64) string {
	switch {
	case ratio >= b.options.FailingAt && ratio > 0:
		return Failing
	case ratio >= b.options.DegradedAt && ratio > 0:
		return Degraded
	}
	return Healthy
}

// IsAddress tells that a node is named by its address only.
func IsAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}
