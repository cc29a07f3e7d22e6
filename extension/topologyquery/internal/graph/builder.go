package graph

import (
	"cmp"
	"slices"
	"strings"
	"unique"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Builder collects edges; it is bounded by those of one window. It is not safe for concurrent use.
type Builder struct {
	options  Options
	grouping *grouping
	mesh     Mesh
	byName   map[inventory.Name]*inventory.Workload
	nodes    map[nodeKey]int
	// parties are the nodes of parties that were seen already, unless grouped by service.
	parties map[unique.Handle[edge.Party]]int
	// slab is room for edges; they are not moved.
	slab  []Edge
	graph Graph
	// wards are all parties, by handle and by name; hidden are the edges that the graph leaves out, which tell of these as well.
	wards     map[unique.Handle[edge.Party]]*ward
	wardByKey map[nodeKey]*ward
	hidden    []*Edge
	// hiding tells that what is added is hidden, waypoints which workloads are such.
	hiding    bool
	waypoints map[inventory.Name]bool
	marks     marks
	ways
}

// ways are the ways through waypoints: hops are waypoints' own connections, clients those of who goes through them; bounded by the edges.
type ways struct {
	hops    []hop
	clients map[way][]client
}

// NewBuilder returns a builder for a graph.
func NewBuilder(m Mesh, options Options, sizeHint int) *Builder {
	return &Builder{
		options:  options,
		grouping: groupingOf(options.GroupBy),
		mesh:     m,
		byName:   m.ByName(),
		nodes:    make(map[nodeKey]int, sizeHint/8),
		parties:  make(map[unique.Handle[edge.Party]]int, sizeHint/8),
		wards:    make(map[unique.Handle[edge.Party]]*ward, sizeHint/8), wardByKey: make(map[nodeKey]*ward, sizeHint/8),
		marks: marksOf(options.Outages),
		graph: Graph{Start: options.Start, End: options.End, Edges: make([]*Edge, 0, sizeHint)},
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
	if key.Waypoint != "" {
		b.halves(key, source, destination, counts)
		b.hiding = b.options.Waypoints
		defer func() { b.hiding = false }()
	}
	if key.BehindWaypoint() {
		b.hops = append(b.hops, hop{*key, source, destination, counts})
		return
	}
	e := b.addEdge(key, source, destination, counts)
	if key.Waypoint != "" {
		b.through(key, client{source, counts, e}, destination)
	}
}

// addEdge adds an edge, which the graph may leave out.
func (b *Builder) addEdge(key *edge.Key, source, destination unique.Handle[edge.Party], counts *live.Counts) *Edge {
	if len(b.slab) == cap(b.slab) {
		b.slab = make([]Edge, 0, max(slabEdges, cap(b.graph.Edges)-len(b.graph.Edges)))
	}
	b.slab = append(b.slab, Edge{
		Protocol: key.Protocol, Security: Security(key.Security), Waypoint: key.Waypoint, Teller: key.Teller, Counts: counts,
		judged: judged{client: b.ward(&key.Source, source), server: b.ward(&key.Destination, destination), outage: b.marks.of(key)},
	})
	e := &b.slab[len(b.slab)-1]
	if b.hiding || !b.options.keeps(key.Source.Namespace) && !b.options.keeps(key.Destination.Namespace) {
		b.hidden = append(b.hidden, e)
		return e
	}
	e.Source, e.Destination = b.party(&key.Source, source, "", key.Security), b.party(&key.Destination, destination, key.Service, key.Security)
	if !b.grouping.coarse {
		e.Service, e.Port = key.Service, key.Port
	}
	b.graph.Edges = append(b.graph.Edges, e)
	return e
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
	if b.grouping.perService {
		at := b.resolve(p, service, security)
		b.stand(at, b.ward(p, handle))
		return at
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
	b.stand(at, b.ward(p, handle))
	return at
}

// resolve returns the index of a party's node, which it adds if need be.
func (b *Builder) resolve(p *edge.Party, service, security string) int {
	m := b.member(p, service)
	key := b.grouping.key(b, m)
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
	if key.kind == TypeExternal {
		return at
	}
	n := &b.graph.Nodes[at]
	switch GroupBy(key.kind) {
	case ByWorkload:
		n.App, n.Version = p.App, p.Version
		if m.known != nil {
			n.App, n.Version = cmp.Or(n.App, m.known.App), cmp.Or(n.Version, m.known.Version)
		}
	case ByApp:
		n.App = key.name
	}
	b.roll(n, m.known, security == semconv.SecurityMutualTLS)
	return at
}

// roll adds a workload to a node that stands for it.
func (b *Builder) roll(n *Node, w *inventory.Workload, secure bool) {
	if w == nil {
		n.InMesh = n.InMesh || secure
		return
	}
	n.InMesh = n.InMesh || w.InMesh
	if !b.grouping.coarse {
		n.Pods = w.Pods
	}
}

// Edges judges and returns the graph of the edges that were added alone: without idle workloads, and without what
// only all of a node's edges could tell of it.
func (b *Builder) Edges() *Graph {
	b.fold()
	b.tally()
	b.merge()
	b.judge()
	return &b.graph
}

// Graph judges and returns the graph; the builder must not be used any more.
func (b *Builder) Graph() *Graph {
	b.hiding = b.options.Waypoints
	b.fold()
	b.hiding = false
	b.rollUp()
	b.tally()
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
		one.mergeBehind(e)
		one.merge(&e.judged)
		one.Counts = one.Counts.Own()
		one.Counts.Merge(e.Counts)
	}
	b.graph.Edges = kept
}

func (j *judged) merge(other *judged) {
	j.tally.merge(&other.tally)
	j.outage.merge(other.outage)
	j.seen = seen{j.seen.partial && other.seen.partial, j.seen.dark && other.seen.dark, j.seen.half || other.seen.half}
}

func (e *Edge) compare(other *Edge) int {
	if e.Source != other.Source {
		return e.Source - other.Source
	}
	if e.Destination != other.Destination {
		return e.Destination - other.Destination
	}
	return cmp.Or(cmp.Compare(e.Service, other.Service), cmp.Compare(e.Port, other.Port), cmp.Compare(e.Protocol, other.Protocol),
		cmp.Compare(e.Security, other.Security), cmp.Compare(e.Waypoint, other.Waypoint), cmp.Compare(e.Teller, other.Teller))
}

// rollUp adds the workloads that are known and idle, and gives grouped nodes all of their pods.
func (b *Builder) rollUp() {
	type group struct {
		pods []*mesh.Workload
		mesh bool
	}
	groups := map[int]*group{}
	b.waypoints = waypointsOf(b.mesh)
	for _, w := range b.mesh.Workloads() {
		if b.leaveOut(w) {
			p := partyOf(w)
			one := Node{Type: string(ByWorkload), Namespace: w.Namespace, Name: w.Name.Name, wards: []*ward{b.ward(&p, unique.Make(p))}}
			b.graph.Waypoints = append(b.graph.Waypoints, one)
			continue
		}
		at, ok := b.known(w)
		if !ok {
			continue
		}
		g := groups[at]
		if g == nil {
			g = &group{}
			groups[at] = g
		}
		g.pods, g.mesh = append(g.pods, w.Pods...), g.mesh || w.InMesh
		b.serve(w)
	}
	for at, g := range groups {
		n := &b.graph.Nodes[at]
		n.InMesh = n.InMesh || g.mesh
		if !b.grouping.coarse {
			n.Pods = g.pods
		}
	}
}

// serve makes the nodes of all services of a workload stand for it.
func (b *Builder) serve(w *inventory.Workload) {
	if !b.grouping.perService || len(w.Pods) == 0 {
		return
	}
	p := partyOf(w)
	for service := range w.Pods[0].Services {
		_, hostname, _ := strings.Cut(service, "/")
		if at, ok := b.nodes[serviceKey(b, b.member(&p, hostname))]; ok {
			b.stand(at, b.ward(&p, unique.Make(p)))
		}
	}
}

func partyOf(w *inventory.Workload) edge.Party {
	return edge.Party{Workload: w.Name.Name, Namespace: w.Namespace, App: w.App, Version: w.Version, Cluster: w.Cluster}
}

// known returns the index of a workload's node; ok is false for one in another namespace that nothing led to.
func (b *Builder) known(w *inventory.Workload) (at int, ok bool) {
	p := partyOf(w)
	if !b.options.keeps(w.Namespace) {
		m := b.member(&p, "")
		at, ok = b.nodes[b.grouping.key(b, m)]
		return at, ok
	}
	return b.party(&p, unique.Make(p), "", ""), true
}
