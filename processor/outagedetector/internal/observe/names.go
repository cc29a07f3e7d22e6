package observe

import (
	"net/netip"
	"regexp"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

// partyName is what a party of an edge is called. A service that nothing stood behind is known by its virtual IP only.
func (m *Mesh) partyName(p *edge.Party, hostname string) outage.Name {
	switch {
	case p.App != "" && p.App == p.Workload:
		return m.podName(p.Namespace, p.App)
	case p.App != "":
		return outage.Name{Namespace: p.Namespace, Name: p.App}
	case p.Namespace != "" || p.Workload == "":
		return m.podName(p.Namespace, p.Workload)
	}
	if hostname != "" {
		if service := m.state.Hostname(hostname); service != nil {
			return m.serviceName(service)
		}
	}
	return m.addressName("", p.Workload)
}

// partyOf is what a party of a node's flow record is called.
func (m *Mesh) partyOf(node, namespace, pod, address string) outage.Name {
	if pod == "" {
		return m.addressName(node, address)
	}
	if w := m.state.Pod(namespace, pod); w != nil {
		return outage.Name{Namespace: w.Namespace, Name: w.App()}
	}
	return m.podName(namespace, pod)
}

// addressName is what holds an address in a node's network is called, or the address where nothing known does.
func (m *Mesh) addressName(node, address string) outage.Name {
	if addr, err := netip.ParseAddr(address); err == nil {
		if w := m.state.AddressIn(m.state.NetworkOf(node), addr); w != nil {
			return outage.Name{Namespace: w.Namespace, Name: w.App()}
		}
		if service := m.state.VIP(addr); service != nil {
			return m.serviceName(service)
		}
	}
	return outage.Name{Name: address}
}

// serviceName is the app behind a service: that of its pods, of those it had, or else the service's own name.
func (m *Mesh) serviceName(service *mesh.Service) outage.Name {
	if name, ok := m.serviceApps.Get(service.Key()); ok {
		return name
	}
	return outage.Name{Namespace: service.Namespace, Name: service.Name}
}

// generated is what controllers append to the names of pods: a ReplicaSet's hash and some characters, or a StatefulSet's ordinal.
var generated = regexp.MustCompile(`-(?:[a-z0-9]*\d[a-z0-9]*-[a-z0-9]{2,5}|\d+)$`)

// podName is what the app of a pod is called that the mesh's state does not know. Where there is no state at all the app goes by the
// pod's name without what was generated, so that the pods of one app are one.
func (m *Mesh) podName(namespace, pod string) outage.Name {
	if !m.known {
		pod = generated.ReplaceAllString(pod, "")
	}
	return outage.Name{Namespace: namespace, Name: pod}
}
