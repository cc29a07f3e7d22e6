package servicegraphprocessor

import (
	"strings"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
)

// A waypoint stands between a client and the workloads of a service. The clients' ztunnels see connections to it, the
// servers' ztunnels connections from it; the graph shows the client's connections to the server, with the waypoint as
// an attribute.

// fold is what becomes of a hop to or from a waypoint.
type fold struct {
	kind     foldKind
	waypoint string
	backends []*mesh.Workload // one of each party
}

type foldKind uint8

const (
	// foldTo: the connection leads through a waypoint to one of the backends. The zero value is that of a connection
	// that does not touch a waypoint, or to one of which it is not known what lies behind.
	foldTo foldKind = iota + 1
	// foldAway: the connection is the second half of one that is folded.
	foldAway
)

// foldOf tells what becomes of connections between two workloads (nil if not known) for a service, or, where the
// waypoint is a workload's own, for an address.
func (g *graph) foldOf(source, destination *mesh.Workload, hostname, address string) fold {
	d := g.directory
	d.derive()
	if len(d.waypoints) == 0 {
		return fold{}
	}
	switch {
	case destination != nil && d.waypoints[destination] && !offers(destination, hostname):
		backends := d.behind(hostname, address)
		if len(backends) == 1 || (len(backends) > 1 && g.weighs(hostname)) {
			return fold{kind: foldTo, waypoint: waypointName(destination), backends: backends}
		}
	case source != nil && d.waypoints[source] && destination != nil:
		for service := range destination.Services {
			if name := hostnameOf(service); (hostname == "" || name == hostname) && d.fronted(service, source) {
				if len(d.behind(name, "")) == 1 || g.weighs(name) {
					return fold{kind: foldAway}
				}
			}
		}
		if d.is(destination.Waypoint, source) {
			return fold{kind: foldAway}
		}
	}
	return fold{}
}

func offers(w *mesh.Workload, hostname string) bool {
	for service := range w.Services {
		if hostnameOf(service) == hostname {
			return true
		}
	}
	return false
}

// waypointName is how an edge names a waypoint.
func waypointName(w *mesh.Workload) string { return intern(w.Namespace + "/" + w.Owner()) }

// behind returns one workload of each party that implements a service, or the one that holds an address.
func (d *directory) behind(hostname, address string) []*mesh.Workload {
	if hostname == "" {
		if w := d.address(address); w != nil {
			return []*mesh.Workload{w}
		}
		return nil
	}
	service := d.state.Hostname(hostname)
	if service == nil {
		return nil
	}
	var parties []*mesh.Workload
	for _, w := range d.backends[service.Key()] {
		known := false
		for _, other := range parties {
			known = known || partyOf(other) == partyOf(w)
		}
		if !known {
			parties = append(parties, w)
		}
	}
	return parties
}

// fronted tells whether a workload is the waypoint of a service "namespace/hostname".
func (d *directory) fronted(service string, waypoint *mesh.Workload) bool {
	s := d.state.Hostname(hostnameOf(service))
	return s != nil && d.is(s.Waypoint, waypoint)
}

// is tells whether a reference to a waypoint ("namespace/hostname" or an address) means a workload.
func (d *directory) is(reference string, waypoint *mesh.Workload) bool {
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
		if s := d.state.Hostname(hostnameOf(service)); s != nil {
			for _, address := range s.Addresses {
				if address == reference {
					return true
				}
			}
		}
	}
	for _, address := range waypoint.Addresses {
		if address == reference {
			return true
		}
	}
	return false
}

// waypointOf is the name of the waypoint that a service's traffic passes, as the mesh's state has it, else as the
// waypoint's own metrics name it.
func (g *graph) waypointOf(hostname, otherwise string) string {
	d := g.directory
	d.derive()
	if s := d.state.Hostname(hostname); s != nil && s.Waypoint != "" {
		for w := range d.waypoints {
			if d.is(s.Waypoint, w) {
				return waypointName(w)
			}
		}
	}
	return otherwise
}

// backendOf finds the edge's destination among several backends: the one that got the least of its share of
// connections, as the waypoint's requests divide them.
func (g *graph) backendOf(w *way, source edge.Party, backends []*mesh.Workload, n uint64) *mesh.Workload {
	if len(backends) == 1 {
		return backends[0]
	}
	if w.assigned == nil {
		w.assigned = map[edge.Party]uint64{}
	}
	var sum, total float64
	for _, b := range backends {
		sum += float64(g.weights[weightKey{source, w.service, partyOf(b)}])
		total += float64(w.assigned[partyOf(b)])
	}
	var best *mesh.Workload
	var bestDeficit float64
	for _, b := range backends {
		share := 1 / float64(len(backends))
		if sum > 0 {
			share = float64(g.weights[weightKey{source, w.service, partyOf(b)}]) / sum
		}
		deficit := share*(total+float64(n)) - float64(w.assigned[partyOf(b)])
		if best == nil || deficit > bestDeficit {
			best, bestDeficit = b, deficit
		}
	}
	w.assigned[partyOf(best)] += n
	return best
}

// weightKey identifies the requests that a waypoint passed on from a client to one of a service's backends.
type weightKey struct {
	source      edge.Party
	service     string
	destination edge.Party
}

// weighs tells whether a waypoint's metrics say how a service's requests divide.
func (g *graph) weighs(hostname string) bool { return g.weighed[hostname] }

// foldFlow applies the folding of waypoints to an edge as ztunnels' own counters know it; false means that it is none
// of its own.
func (g *graph) foldFlow(flow scrapedFlow) (scrapedFlow, string, bool) {
	d := g.directory
	d.derive()
	if len(d.waypoints) == 0 {
		return flow, "", true
	}
	source, destination := d.byParty[flow.source], d.byParty[flow.destination]
	switch f := g.foldOf(source, destination, flow.service, ""); f.kind {
	case foldAway:
		return flow, "", false
	case foldTo:
		if len(f.backends) > 1 {
			return flow, "", false
		}
		flow.destination = partyOf(f.backends[0])
		return flow, f.waypoint, true
	}
	return flow, "", true
}

// foldedPort is the backend's port for the port that a client called at a service's waypoint.
func foldedPort(backend *mesh.Workload, hostname string, port uint16) uint16 {
	for service := range backend.Services {
		if strings.HasSuffix(service, "/"+hostname) {
			return servicePort(backend, service, uint32(port))
		}
	}
	return port
}
