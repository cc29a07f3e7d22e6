package graph

import (
	"cmp"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/internal/edge"
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

// grouping is one way to make nodes of parties.
type grouping struct {
	by GroupBy
	// key names the node of a party.
	key func(b *Builder, m member) nodeKey
	// perService tells that the node depends on the service that was asked for, not on the party alone.
	perService bool
	// coarse tells that a node stands for so much that neither its pods nor its services and ports are told apart.
	coarse bool
}

// groupings are all ways to group; the first is the default.
var groupings = [...]grouping{
	{by: ByWorkload, key: workloadKey},
	{by: ByService, key: serviceKey, perService: true},
	{by: ByApp, key: appKey},
	{by: ByNamespace, key: namespaceKey, coarse: true},
}

// Groupings are the names of all ways to group.
func Groupings() []string {
	names := make([]string, len(groupings))
	for i := range groupings {
		names[i] = string(groupings[i].by)
	}
	return names
}

func groupingOf(by GroupBy) *grouping {
	for i := range groupings {
		if groupings[i].by == by {
			return &groupings[i]
		}
	}
	return &groupings[0]
}

type nodeKey struct{ kind, cluster, namespace, name string }

// member is a party with what is known of it.
type member struct {
	*edge.Party
	cluster string
	// known is the party's workload, nil if the mesh has none of its name.
	known *inventory.Workload
	// service is the host name by which the party was asked for, empty if it was not.
	service string
}

func (b *Builder) member(p *edge.Party, service string) member {
	return b.memberBy(p, service, b.grouping.by)
}

// memberBy is member in another way to group.
func (b *Builder) memberBy(p *edge.Party, service string, by GroupBy) member {
	m := member{p, p.Cluster, b.byName[inventory.Name{Namespace: p.Namespace, Name: p.Workload}], service}
	switch {
	case by != ByWorkload && b.mesh.Spread(p.Namespace), m.known != nil && m.known.Spread:
		m.cluster = ""
	case m.known != nil && m.known.Cluster != "":
		m.cluster = m.known.Cluster
	}
	return m
}

// outside tells that a party has no more than an address.
func (m member) outside() bool { return m.Namespace == "" }

func outsideKey(name string) nodeKey {
	return nodeKey{kind: TypeExternal, name: cmp.Or(name, "unknown")}
}

func workloadKey(_ *Builder, m member) nodeKey {
	if m.outside() {
		return outsideKey(m.Workload)
	}
	return nodeKey{string(ByWorkload), m.cluster, m.Namespace, m.Workload}
}

func appKey(_ *Builder, m member) nodeKey {
	if m.outside() {
		return outsideKey(m.Workload)
	}
	app := m.App
	if app == "" && m.known != nil {
		app = m.known.App
	}
	return nodeKey{string(ByApp), m.cluster, m.Namespace, cmp.Or(app, m.Workload)}
}

func namespaceKey(_ *Builder, m member) nodeKey {
	if m.outside() {
		return outsideKey("outside")
	}
	return nodeKey{string(ByNamespace), m.cluster, m.Namespace, m.Namespace}
}

// serviceKey falls back on the app for what has no service.
func serviceKey(b *Builder, m member) nodeKey {
	hostname := m.service
	if hostname == "" && !m.outside() {
		hostname = homeService(m.known)
	}
	if hostname == "" {
		return appKey(b, m)
	}
	key := nodeKey{kind: string(ByService), namespace: m.Namespace, name: hostname}
	if !m.outside() {
		key.cluster = m.cluster
	}
	if s := b.mesh.Hostname(hostname); s != nil {
		key.namespace, key.name = s.Namespace, s.Name
	}
	return key
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
