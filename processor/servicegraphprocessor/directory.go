package servicegraphprocessor

import (
	"net/netip"
	"slices"
	"strings"
	"unique"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

const (
	// maxGone bounds the deleted pods that are remembered: their last connections are reported after their end.
	maxGone = 10_000
	// externalWorkload stands for all parties outside the mesh beyond the bound on them.
	externalWorkload = "external"
	unknownWorkload  = "unknown"
)

// intern returns a copy of s that all equal strings share, so that a map entry does not keep a whole batch in memory.
func intern(s string) string { return unique.Make(s).Value() }

// directory names the parties of connections by the mesh's state.
type directory struct {
	state      *mesh.State
	generation uint64
	gone       map[podName]*mesh.Workload
	goneOrder  []podName
	externals  map[string]struct{}
	maxExtern  int
	waypoints  map[*mesh.Workload]bool
	backends   map[string][]*mesh.Workload
	byParty    map[edge.Party]*mesh.Workload
	derivedAt  uint64
}

type podName struct{ namespace, name string }

func newDirectory(cfg *Config) *directory {
	return &directory{
		state:     mesh.NewState(cfg.MaxEntities),
		gone:      map[podName]*mesh.Workload{},
		externals: map[string]struct{}{},
		maxExtern: cfg.MaxExternal,
	}
}

// apply takes over an entity event; false means that the bound on entities is reached.
func (d *directory) apply(event mesh.Event) bool {
	previous, taken := d.state.Apply(event)
	if !taken {
		return false
	}
	d.generation++
	if w, ok := previous.(*mesh.Workload); ok && w != nil && event.Deleted {
		d.remember(w)
	}
	return true
}

func (d *directory) remember(w *mesh.Workload) {
	id := podName{w.Namespace, w.Name}
	if _, known := d.gone[id]; !known {
		if len(d.goneOrder) >= maxGone {
			delete(d.gone, d.goneOrder[0])
			d.goneOrder = append(d.goneOrder[:0], d.goneOrder[1:]...)
		}
		d.goneOrder = append(d.goneOrder, id)
	}
	d.gone[id] = w
}

// known tells whether anything is known about the mesh.
func (d *directory) known() bool { return d.generation > 0 }

// pod finds a workload by its pod's name, also if it is gone.
func (d *directory) pod(namespace, name string) *mesh.Workload {
	if name == "" {
		return nil
	}
	if w := d.state.Pod(namespace, name); w != nil {
		return w
	}
	return d.gone[podName{namespace, name}]
}

// address finds the workload that holds an address, given in text form.
func (d *directory) address(text string) *mesh.Workload {
	if text == "" {
		return nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return nil
	}
	return d.state.Address(addr)
}

// stateAddress finds the workload that holds an address, nil if it is invalid or not known.
func (d *directory) stateAddress(addr netip.Addr) *mesh.Workload {
	if !addr.IsValid() {
		return nil
	}
	return d.state.Address(addr)
}

func partyOf(w *mesh.Workload) edge.Party {
	return edge.Party{
		Workload:  w.Owner(),
		Namespace: w.Namespace,
		App:       w.App(),
		Version:   w.CanonicalRevision,
		Cluster:   w.ClusterID,
	}
}

// external names a party outside the mesh by its address. The second result is false if the bound on them is reached.
func (d *directory) external(address string) (edge.Party, bool) {
	if address == "" {
		return edge.Party{Workload: unknownWorkload}, true
	}
	if _, known := d.externals[address]; !known {
		if len(d.externals) >= d.maxExtern {
			return edge.Party{Workload: externalWorkload}, false
		}
		d.externals[intern(address)] = struct{}{}
	}
	return edge.Party{Workload: intern(address)}, true
}

// protocol is what the mesh's state says of a service's port, given by its target port; empty if it says nothing.
func (d *directory) protocol(hostname string, port uint16) string {
	service := d.state.Hostname(hostname)
	if service == nil {
		return ""
	}
	for _, p := range service.Ports {
		if p.TargetPort == uint32(port) || p.ServicePort == uint32(port) {
			return requestProtocol(p.AppProtocol)
		}
	}
	return ""
}

func requestProtocol(appProtocol string) string {
	switch p := strings.ToLower(appProtocol); {
	case p == "" || p == "unknown":
		return ""
	case strings.HasPrefix(p, "grpc"):
		return semconv.ProtocolGRPC
	case strings.HasPrefix(p, "http") && !strings.HasPrefix(p, "https"):
		return semconv.ProtocolHTTP
	}
	return semconv.ProtocolTCP
}

// derive brings what is computed from the whole state up to date.
func (d *directory) derive() {
	if d.derivedAt == d.generation && d.backends != nil {
		return
	}
	d.derivedAt = d.generation
	d.backends = map[string][]*mesh.Workload{}
	d.byParty = map[edge.Party]*mesh.Workload{}
	fronts := map[string]bool{}
	workloads := d.state.Workloads()
	slices.SortFunc(workloads, func(a, b *mesh.Workload) int { return strings.Compare(a.UID, b.UID) })
	for _, w := range workloads {
		d.byParty[partyOf(w)] = w
		for service := range w.Services {
			d.backends[service] = append(d.backends[service], w)
		}
		if w.Waypoint != "" {
			fronts[w.Waypoint] = true
		}
	}
	for _, s := range d.state.Services() {
		if s.Waypoint != "" {
			fronts[s.Waypoint] = true
		}
	}
	d.waypoints = map[*mesh.Workload]bool{}
	if len(fronts) == 0 {
		return
	}
	for _, w := range workloads {
		for service := range w.Services {
			if fronts[service] || fronts[hostnameOf(service)] {
				d.waypoints[w] = true
			}
		}
		for _, address := range w.Addresses {
			if fronts[address] {
				d.waypoints[w] = true
			}
		}
	}
	for _, s := range d.state.Services() {
		for _, address := range s.Addresses {
			if fronts[address] {
				for _, w := range d.backends[s.Key()] {
					d.waypoints[w] = true
				}
			}
		}
	}
}

// isWaypoint tells whether a service or a workload names this one as its waypoint.
func (d *directory) isWaypoint(w *mesh.Workload) bool {
	d.derive()
	return d.waypoints[w]
}

// servicePort finds the target port of a workload for a service's port.
func servicePort(w *mesh.Workload, service string, port uint32) uint16 {
	for _, p := range w.Services[service] {
		if p.ServicePort == port && p.TargetPort != 0 {
			return uint16(p.TargetPort)
		}
	}
	return uint16(port)
}

// hostnameOf is the host name in a service's key "namespace/hostname".
func hostnameOf(key string) string {
	_, hostname, _ := strings.Cut(key, "/")
	return hostname
}
