package observe

import (
	"net/netip"
	"regexp"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

// partyName is what a party of an edge is called. A service that nothing stood behind is known by its virtual IP only.
func (s *Store) partyName(p *edge.Party, hostname string) outage.Name {
	switch {
	case p.App != "" && p.App == p.Workload:
		return s.podName(p.Namespace, p.App)
	case p.App != "":
		return outage.Name{Namespace: p.Namespace, Name: p.App}
	case p.Namespace != "" || p.Workload == "":
		return s.podName(p.Namespace, p.Workload)
	}
	if hostname != "" {
		if service := s.State.Hostname(hostname); service != nil {
			return s.serviceName(service)
		}
	}
	return s.addressName(p.Workload)
}

// partyOf is what a party of a flow record is called.
func (s *Store) partyOf(attrs pcommon.Map, namespaceAttr, podAttr, addressAttr string) outage.Name {
	namespace, pod, address := attr(attrs, namespaceAttr), attr(attrs, podAttr), attr(attrs, addressAttr)
	if pod == "" {
		return s.addressName(address)
	}
	if w := s.State.Pod(namespace, pod); w != nil {
		return outage.Name{Namespace: w.Namespace, Name: w.App()}
	}
	return s.podName(namespace, pod)
}

// addressName is what holds an address is called, or the address where nothing known does.
func (s *Store) addressName(address string) outage.Name {
	if addr, err := netip.ParseAddr(address); err == nil {
		if w := s.State.Address(addr); w != nil {
			return outage.Name{Namespace: w.Namespace, Name: w.App()}
		}
		if service := s.State.VIP(addr); service != nil {
			return s.serviceName(service)
		}
	}
	return outage.Name{Name: address}
}

// serviceName is the app behind a service: that of its pods, of those it had, or else the service's own name.
func (s *Store) serviceName(service *mesh.Service) outage.Name {
	if name, ok := s.serviceApps[service.Key()]; ok {
		return name
	}
	return outage.Name{Namespace: service.Namespace, Name: service.Name}
}

// generated is what controllers append to the names of pods: a ReplicaSet's hash and some characters, or a StatefulSet's ordinal.
var generated = regexp.MustCompile(`-(?:[a-z0-9]*\d[a-z0-9]*-[a-z0-9]{2,5}|\d+)$`)

// podName is what the app of a pod is called that the mesh's state does not know. Where there is no state at all the app goes by the
// pod's name without what was generated, so that the pods of one app are one.
func (s *Store) podName(namespace, pod string) outage.Name {
	if !s.stateKnown {
		pod = generated.ReplaceAllString(pod, "")
	}
	return outage.Name{Namespace: namespace, Name: pod}
}
