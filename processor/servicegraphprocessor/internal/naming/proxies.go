package naming

import "github.com/nephilia/nephilia/internal/mesh"

// Proxies finds waypoints and gateways, and what lies behind them.
type Proxies struct {
	names *Directory
	// byName are workloads by "namespace/owner" and, as a recording's files are called, "namespace-owner", as of a generation of the mesh's
	// state.
	generation uint64
	byName     map[string]*mesh.Workload // bounded by the mesh's state
}

// Find finds the workload of a waypoint or gateway by its pod, else by its name.
func (p *Proxies) Find(pod Pod, name string) *mesh.Workload {
	if w := p.names.Pod(pod.Namespace, pod.Name); w != nil {
		return w
	}
	if p.byName == nil || p.generation != p.names.generation {
		p.generation, p.byName = p.names.generation, map[string]*mesh.Workload{}
		for _, w := range p.names.state.Workloads() {
			for _, key := range [...]string{w.Namespace + "/" + w.Owner(), w.Namespace + "-" + w.Owner()} {
				if other := p.byName[key]; other == nil || w.UID < other.UID {
					p.byName[key] = w
				}
			}
		}
	}
	return p.byName[name]
}

// Behind tells whether workloads are known behind a service.
func (p *Proxies) Behind(hostname string) bool {
	return hostname != "" && len(p.names.behind(hostname, "")) > 0
}
