package naming

import (
	"strings"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
)

// Clients say who clients are of which a ztunnel in another network knows no pod.
type Clients struct{ names *Directory }

// clients are the workloads that are one of each party, by what a server's ztunnel may know of a client in another network; bounded
// by the mesh's state.
type clients struct {
	named    map[Pod][]*mesh.Workload // by the app or the owner
	accounts map[Pod][]*mesh.Workload // by the service account
}

// clients indexes the workloads when that is asked for.
func (r *derived) clientsOf(workloads []*mesh.Workload) *clients {
	if r.clients != nil {
		return r.clients
	}
	c := &clients{named: map[Pod][]*mesh.Workload{}, accounts: map[Pod][]*mesh.Workload{}}
	add := func(to map[Pod][]*mesh.Workload, name string, w *mesh.Workload) {
		key := Pod{w.Namespace, name}
		for _, other := range to[key] {
			if PartyOf(other) == PartyOf(w) {
				return
			}
		}
		to[key] = append(to[key], w)
	}
	for _, w := range workloads {
		add(c.named, w.App(), w)
		if w.Owner() != w.App() {
			add(c.named, w.Owner(), w)
		}
		add(c.accounts, w.ServiceAccount, w)
	}
	r.clients = c
	return c
}

func (c Clients) known() *clients { return c.names.derive().clientsOf(c.names.state.Workloads()) }

// AppNamed is the app of the workloads with that name: an app's, or an owner's. Empty if there is none.
func (c Clients) AppNamed(namespace, name string) string {
	return onlyApp(c.known().named[Pod{namespace, name}])
}

// AppOf is the app that an identity belongs to: that of the workloads of its service account, or the service account where the mesh
// has none of it. Empty if it is several apps', or no identity.
func (c Clients) AppOf(principal string) (namespace, app string) {
	namespace, account, ok := ParsePrincipal(principal)
	if !ok || !c.names.Known() {
		return "", ""
	}
	of := c.known().accounts[Pod{namespace, account}]
	if len(of) == 0 && account != "default" {
		return namespace, account
	}
	return namespace, onlyApp(of)
}

func onlyApp(of []*mesh.Workload) string {
	app := ""
	for _, w := range of {
		if app != "" && app != w.App() {
			return ""
		}
		app = w.App()
	}
	return app
}

// Party is the end of an edge that an app is: its workload if it has one only, in the cluster that is told.
func (c Clients) Party(namespace, app, cluster string) edge.Party {
	of := c.known().named[Pod{namespace, app}]
	var only *mesh.Workload
	for _, w := range of {
		if cluster != "" && w.ClusterID != cluster && len(of) > 1 {
			continue
		}
		if only != nil {
			return edge.Party{Workload: app, Namespace: namespace, App: app, Cluster: cluster}
		}
		only = w
	}
	if only == nil {
		return edge.Party{Workload: app, Namespace: namespace, App: app, Cluster: cluster}
	}
	return PartyOf(only)
}

// ParsePrincipal reads "spiffe://trust domain/ns/namespace/sa/service account".
func ParsePrincipal(principal string) (namespace, account string, ok bool) {
	_, rest, ok := strings.Cut(strings.TrimPrefix(principal, "spiffe://"), "/ns/")
	if !ok {
		return "", "", false
	}
	namespace, account, ok = strings.Cut(rest, "/sa/")
	return namespace, account, ok && namespace != "" && account != "" && !strings.Contains(account, "/")
}

// Crosses tells whether a connection that a node's ztunnel made to a pod for a service went to the gateway of another network.
func (c Clients) Crosses(node string, to *mesh.Workload, hostname string) bool {
	if to == nil || to.Network == "" || hostname == "" || offers(to, hostname) || c.names.IsWaypoint(to) {
		return false
	}
	network := c.names.state.NetworkOf(node)
	return network != "" && network != to.Network
}

// CalledPort is the port at which clients call a service that a workload serves at a target port.
func CalledPort(w *mesh.Workload, hostname string, target uint16) uint16 {
	for service, ports := range w.Services {
		if hostnameOf(service) != hostname {
			continue
		}
		for _, p := range ports {
			if p.ServicePort == uint32(target) {
				return target
			}
		}
		for _, p := range ports {
			if p.TargetPort == uint32(target) && p.ServicePort>>16 == 0 {
				return uint16(p.ServicePort)
			}
		}
	}
	return target
}
