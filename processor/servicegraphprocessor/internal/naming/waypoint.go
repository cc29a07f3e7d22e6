package naming

import (
	"slices"
	"strings"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
)

// A waypoint stands between a client and the workloads of a service. The clients' ztunnels see connections to it, the
// servers' ztunnels connections from it. The first are edges from client to server with the waypoint as an attribute, the
// second edges from the waypoint to the server with itself as that attribute: what only the server's ztunnel knows is kept.

// derived is what is computed from the whole mesh state, as of a generation of it, and bounded by that.
type derived struct {
	generation uint64
	waypoints  map[*mesh.Workload]bool
	backends   map[string][]*mesh.Workload
	byParty    map[edge.Party]*mesh.Workload
	clients    *clients // nil until they are asked for
	askers     map[canonical]edge.Party
	carried    map[Pod]bool // by workload and app, with and without their namespace; nil until it is asked for
}

// derive brings what is computed from the whole state up to date.
func (d *Directory) derive() *derived {
	r := &d.derived
	if r.generation == d.generation && r.backends != nil {
		return r
	}
	*r = derived{
		generation: d.generation,
		waypoints:  map[*mesh.Workload]bool{},
		backends:   map[string][]*mesh.Workload{},
		byParty:    map[edge.Party]*mesh.Workload{},
		askers:     map[canonical]edge.Party{},
	}
	fronts := map[string]bool{}
	workloads, services := d.state.Workloads(), d.state.Services()
	slices.SortFunc(workloads, func(a, b *mesh.Workload) int { return strings.Compare(a.UID, b.UID) })
	for _, w := range workloads {
		r.byParty[PartyOf(w)] = w
		r.addAsker(w.Node, PartyOf(w))
		for service := range w.Services {
			r.backends[service] = append(r.backends[service], w)
		}
		if w.Waypoint != "" {
			fronts[w.Waypoint] = true
		}
	}
	for _, s := range services {
		if s.Waypoint != "" {
			fronts[s.Waypoint] = true
		}
	}
	if len(fronts) == 0 {
		return r
	}
	for _, w := range workloads {
		for service := range w.Services {
			if fronts[service] || fronts[hostnameOf(service)] {
				r.waypoints[w] = true
			}
		}
		for _, address := range w.Addresses {
			if fronts[address] {
				r.waypoints[w] = true
			}
		}
	}
	for _, s := range services {
		for _, address := range s.Addresses {
			if fronts[address] {
				for _, w := range r.backends[s.Key()] {
					r.waypoints[w] = true
				}
			}
		}
	}
	return r
}

// IsWaypoint tells whether a service or a workload names this one as its waypoint.
func (d *Directory) IsWaypoint(w *mesh.Workload) bool { return d.derive().waypoints[w] }

// Hop is what becomes of a hop to or from a waypoint.
type Hop struct {
	Kind     HopKind
	Waypoint string           // "namespace/name"
	Backends []*mesh.Workload // one of each party
}

// HopKind is what kind of hop it is.
type HopKind uint8

const (
	// HopPlain does not touch a waypoint, or one of which it is not known what lies behind.
	HopPlain HopKind = iota
	// HopThrough leads through a waypoint to one of the backends.
	HopThrough
	// HopBehind is the second half of one that leads through a waypoint.
	HopBehind
)

// MergeHop tells what becomes of connections between two workloads (nil if not known) for a service, or, where the
// waypoint is a workload's own, for an address.
func (d *Directory) MergeHop(source, destination *mesh.Workload, hostname, address string) Hop {
	waypoints := d.derive().waypoints
	if len(waypoints) == 0 {
		return Hop{}
	}
	switch {
	case destination != nil && waypoints[destination] && !offers(destination, hostname):
		backends := d.behind(hostname, address)
		if len(backends) == 1 || (len(backends) > 1 && d.Weights.known(hostname)) {
			return Hop{Kind: HopThrough, Waypoint: WaypointName(destination), Backends: backends}
		}
	case source != nil && waypoints[source] && destination != nil:
		for service := range destination.Services {
			if name := hostnameOf(service); (hostname == "" || name == hostname) && d.fronted(service, source) {
				if len(d.behind(name, "")) == 1 || d.Weights.known(name) {
					return Hop{Kind: HopBehind, Waypoint: WaypointName(source)}
				}
			}
		}
		if d.is(destination.Waypoint, source) {
			return Hop{Kind: HopBehind, Waypoint: WaypointName(source)}
		}
	}
	return Hop{}
}

// MergePartyHop is MergeHop of two parties.
func (d *Directory) MergePartyHop(source, destination edge.Party, hostname string) Hop {
	r := d.derive()
	if len(r.waypoints) == 0 {
		return Hop{}
	}
	return d.MergeHop(r.byParty[source], r.byParty[destination], hostname, "")
}

// InMesh tells whether a ztunnel carries a party's traffic.
func (d *Directory) InMesh(party edge.Party) bool {
	w := d.derive().byParty[party]
	return w != nil && w.InMesh()
}

// Carried tells whether a ztunnel carries the traffic of a party that others name, who may know no version, cluster or namespace.
func Carried(d *Directory, party *edge.Party) bool {
	r := d.derive()
	if r.carried == nil {
		r.carried = map[Pod]bool{}
		for known, w := range r.byParty {
			if w.InMesh() {
				for _, name := range [...]string{known.Workload, known.App} {
					r.carried[Pod{known.Namespace, name}], r.carried[Pod{"", name}] = true, true
				}
			}
		}
	}
	return r.carried[Pod{party.Namespace, party.Workload}]
}

// LeadsToWaypoint tells whether connections to a party for a service end at a waypoint on their way.
func (d *Directory) LeadsToWaypoint(destination edge.Party, hostname string) bool {
	r := d.derive()
	w := r.byParty[destination]
	return w != nil && r.waypoints[w] && !offers(w, hostname)
}

func offers(w *mesh.Workload, hostname string) bool {
	for service := range w.Services {
		if hostnameOf(service) == hostname {
			return true
		}
	}
	return false
}

// WaypointName is how an edge names a waypoint.
func WaypointName(w *mesh.Workload) string { return Intern(w.Namespace + "/" + w.Owner()) }

// behind returns one workload of each party that implements a service, or the one that holds an address.
func (d *Directory) behind(hostname, address string) []*mesh.Workload {
	if hostname == "" {
		if w := d.Holder(ParseAddr(address)); w != nil {
			return []*mesh.Workload{w}
		}
		return nil
	}
	service := d.Service(hostname)
	if service == nil {
		return nil
	}
	var parties []*mesh.Workload
	for _, w := range d.derive().backends[service.Key()] {
		party := PartyOf(w)
		if !slices.ContainsFunc(parties, func(other *mesh.Workload) bool { return PartyOf(other) == party }) {
			parties = append(parties, w)
		}
	}
	return parties
}

// fronted tells whether a workload is the waypoint of a service "namespace/hostname".
func (d *Directory) fronted(service string, waypoint *mesh.Workload) bool {
	s := d.Service(hostnameOf(service))
	return s != nil && d.is(s.Waypoint, waypoint)
}

// is tells whether a reference to a waypoint ("namespace/hostname" or an address) means a workload.
func (d *Directory) is(reference string, waypoint *mesh.Workload) bool {
	if reference == "" {
		return false
	}
	if _, ok := waypoint.Services[reference]; ok {
		return true
	}
	for service := range waypoint.Services {
		if hostnameOf(service) == reference {
			return true
		}
		if s := d.Service(hostnameOf(service)); s != nil && slices.Contains(s.Addresses, reference) {
			return true
		}
	}
	return slices.Contains(waypoint.Addresses, reference)
}

// WaypointOf is the name of the waypoint that a service's traffic passes, as the mesh's state has it, else as the
// waypoint's own metrics name it.
func (d *Directory) WaypointOf(hostname, otherwise string) string {
	if s := d.Service(hostname); s != nil && s.Waypoint != "" {
		for w := range d.derive().waypoints {
			if d.is(s.Waypoint, w) {
				return WaypointName(w)
			}
		}
	}
	return otherwise
}

// SpeaksFor tells whether a waypoint ("namespace/name") may tell of requests to a party for a service: the mesh's state must give
// it the service or the party. Of what the mesh's state does not know a waypoint speaks only within its own namespace. One
// whose namespace is not stated is believed.
func (d *Directory) SpeaksFor(waypoint, hostname string, destination edge.Party) bool {
	namespace, _, stated := strings.Cut(waypoint, "/")
	if !stated {
		return true
	}
	backend := d.derive().byParty[destination]
	if backend != nil && (meant(d, backend.Waypoint, waypoint) || hostname == "" && d.servedThrough(backend, waypoint)) {
		return true
	}
	if s := d.Service(hostname); s != nil {
		if !meant(d, s.Waypoint, waypoint) {
			return false
		}
		if backend == nil {
			return destination.Namespace == s.Namespace
		}
		_, offered := backend.Services[s.Key()]
		return offered
	}
	if _, rest, _ := strings.Cut(hostname, "."); strings.Contains(rest, ".svc.") || strings.HasSuffix(rest, ".svc") {
		if of, _, _ := strings.Cut(rest, "."); of != namespace {
			return false
		}
	}
	return destination.Namespace == namespace
}

// servedThrough tells whether a waypoint stands before a service of a workload.
func (d *Directory) servedThrough(w *mesh.Workload, waypoint string) bool {
	for key := range w.Services {
		if s := d.Service(hostnameOf(key)); s != nil && meant(d, s.Waypoint, waypoint) {
			return true
		}
	}
	return false
}

// meant tells whether a reference to a waypoint ("namespace/hostname" or an address) means the one of a name.
func meant(d *Directory, reference, waypoint string) bool {
	if reference == "" {
		return false
	}
	// Its service is called like the waypoint.
	namespace, name, _ := strings.Cut(waypoint, "/")
	_, host, _ := strings.Cut(reference, "/")
	if host == name || strings.HasPrefix(host, name+"."+namespace+".") {
		return strings.HasPrefix(reference, namespace+"/")
	}
	for w := range d.derive().waypoints {
		if w.Namespace == namespace && WaypointName(w) == waypoint && d.is(reference, w) {
			return true
		}
	}
	return false
}

// BackendPort is the backend's port for the port that a client called at a service's waypoint.
func BackendPort(backend *mesh.Workload, hostname string, port uint16) uint16 {
	for service := range backend.Services {
		if strings.HasSuffix(service, "/"+hostname) {
			return ServicePort(backend, service, uint32(port))
		}
	}
	return port
}
