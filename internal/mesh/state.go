package mesh

import (
	"iter"
	"net/netip"
	"slices"
	"sync"
)

// maxAddresses bounds the addresses of one entity that are indexed.
const maxAddresses = 64

// maxHolders bounds the workloads of one address that are indexed: one of each network, and successors.
const maxHolders = 8

// State is the newest known state of a mesh, decoded once and indexed for the joins that telemetry needs. The outage detector uses
// it as it is, the query extension's inventory embeds it, the service graph's directory is built on it.
// All methods may be called from several goroutines. Entities handed out must not be modified. The maps are bounded by limit,
// those by address by maxAddresses times that.
type State struct {
	mu         sync.RWMutex
	limit      int
	workloads  map[string]*Workload
	services   map[string]*Service
	policies   map[string]*Policy
	ztunnels   map[string]*Ztunnel
	byPod      map[podKey]*Workload
	byAddress  map[netip.Addr][]*Workload // in the order in which they came
	byNode     map[string]map[string]int  // workloads by node and network
	byVIP      map[netip.Addr]*Service
	byHostname map[string]*Service
	version    uint64
	rejected   uint64
}

type podKey struct{ namespace, name string }

// NewState returns an empty state that holds at most limit entities of each type; further ones are rejected and counted.
func NewState(limit int) *State {
	return &State{
		limit:      limit,
		workloads:  map[string]*Workload{},
		services:   map[string]*Service{},
		policies:   map[string]*Policy{},
		ztunnels:   map[string]*Ztunnel{},
		byPod:      map[podKey]*Workload{},
		byAddress:  map[netip.Addr][]*Workload{},
		byNode:     map[string]map[string]int{},
		byVIP:      map[netip.Addr]*Service{},
		byHostname: map[string]*Service{},
	}
}

// Apply takes over one event. It returns the entity's previous state, nil if there was none, and whether
// the event was taken: false means that the limit on entities is reached.
func (s *State) Apply(event Event) (previous Entity, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch entity := event.Entity.(type) {
	case *Workload:
		return apply(s, s.workloads, entity, event.Deleted, s.indexWorkload, s.unindexWorkload)
	case *Service:
		return apply(s, s.services, entity, event.Deleted, s.indexService, s.unindexService)
	case *Policy:
		return apply(s, s.policies, entity, event.Deleted, func(*Policy) {}, func(*Policy) {})
	case *Ztunnel:
		return apply(s, s.ztunnels, entity, event.Deleted, func(*Ztunnel) {}, func(*Ztunnel) {})
	}
	return nil, false
}

func apply[E interface {
	comparable
	Entity
}](s *State, all map[string]E, entity E, deleted bool, index, unindex func(E)) (Entity, bool) {
	var previous Entity
	old, known := all[entity.Key()]
	if known {
		previous = old
	}
	if !deleted && !known && len(all) >= s.limit {
		s.rejected++
		return nil, false
	}
	s.version++
	if known {
		unindex(old)
		delete(all, entity.Key())
	}
	if !deleted {
		all[entity.Key()] = entity
		index(entity)
	}
	return previous, true
}

func (s *State) indexWorkload(w *Workload) {
	s.byPod[podKey{w.Namespace, w.Name}] = w
	if s.byNode[w.Node] == nil {
		s.byNode[w.Node] = map[string]int{}
	}
	s.byNode[w.Node][w.Network]++
	for addr := range w.Held() {
		holders := s.byAddress[addr]
		if len(holders) >= maxHolders {
			holders = slices.Delete(holders, 0, 1)
		}
		s.byAddress[addr] = append(holders, w)
	}
}

// A pod's address or name may already belong to its successor, which must stay indexed.
func (s *State) unindexWorkload(w *Workload) {
	if s.byPod[podKey{w.Namespace, w.Name}] == w {
		delete(s.byPod, podKey{w.Namespace, w.Name})
	}
	networks := s.byNode[w.Node]
	if networks[w.Network]--; networks[w.Network] == 0 {
		delete(networks, w.Network)
	}
	if len(networks) == 0 {
		delete(s.byNode, w.Node)
	}
	for addr := range w.Held() {
		holders := slices.DeleteFunc(s.byAddress[addr], func(holder *Workload) bool { return holder == w })
		if s.byAddress[addr] = holders; len(holders) == 0 {
			delete(s.byAddress, addr)
		}
	}
}

func (s *State) indexService(service *Service) {
	s.byHostname[service.Hostname] = service
	for _, text := range service.Addresses[:min(len(service.Addresses), maxAddresses)] {
		if addr, err := netip.ParseAddr(text); err == nil {
			s.byVIP[addr.Unmap()] = service
		}
	}
}

func (s *State) unindexService(service *Service) {
	if s.byHostname[service.Hostname] == service {
		delete(s.byHostname, service.Hostname)
	}
	for _, text := range service.Addresses[:min(len(service.Addresses), maxAddresses)] {
		if addr, err := netip.ParseAddr(text); err == nil && s.byVIP[addr.Unmap()] == service {
			delete(s.byVIP, addr.Unmap())
		}
	}
}

// Held are the addresses that name the workload alone: none if it shares those of its node.
func (w *Workload) Held() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		if w.HostNetwork {
			return
		}
		for _, text := range w.Addresses[:min(len(w.Addresses), maxAddresses)] {
			if addr, err := netip.ParseAddr(text); err == nil && !yield(addr.Unmap()) {
				return
			}
		}
	}
}

// Pod returns the workload with that pod name, nil if unknown.
func (s *State) Pod(namespace, name string) *Workload {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byPod[podKey{namespace, name}]
}

// Address returns the workload that holds the address, nil if unknown or if workloads of several networks do.
func (s *State) Address(addr netip.Addr) *Workload { return s.AddressIn("", addr) }

// AddressIn returns the workload that holds the address in a network, nil if unknown. The empty network stands for any.
func (s *State) AddressIn(network string, addr netip.Addr) *Workload {
	s.mu.RLock()
	defer s.mu.RUnlock()
	holders := s.byAddress[addr.Unmap()]
	var last *Workload
	for _, w := range holders {
		switch {
		case network != "" && w.Network != network:
		case last != nil && w.Network != last.Network:
			return nil
		default:
			last = w
		}
	}
	return last
}

// NetworkOf returns the network of a node's workloads, empty if they are of several or none is known.
func (s *State) NetworkOf(node string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	networks := s.byNode[node]
	if node == "" || len(networks) != 1 {
		return ""
	}
	for network := range networks {
		return network
	}
	return ""
}

// VIP returns the service that holds the virtual IP, nil if unknown.
func (s *State) VIP(addr netip.Addr) *Service {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byVIP[addr.Unmap()]
}

// Hostname returns the service with that host name, nil if unknown.
func (s *State) Hostname(hostname string) *Service {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byHostname[hostname]
}

// Policy returns the policy "namespace/name", nil if unknown.
func (s *State) Policy(key string) *Policy {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.policies[key]
}

// Ztunnel returns the ztunnel of a node, nil if unknown.
func (s *State) Ztunnel(node string) *Ztunnel {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ztunnels[node]
}

// Workloads returns all workloads in no particular order.
func (s *State) Workloads() []*Workload { return values(s, s.workloads) }

// Services returns all services in no particular order.
func (s *State) Services() []*Service { return values(s, s.services) }

// Policies returns all policies in no particular order.
func (s *State) Policies() []*Policy { return values(s, s.policies) }

// Ztunnels returns all ztunnels in no particular order.
func (s *State) Ztunnels() []*Ztunnel { return values(s, s.ztunnels) }

// Version grows with every event that is taken.
func (s *State) Version() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version
}

// Rejected is the number of entities that the limit kept out.
func (s *State) Rejected() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rejected
}

func values[E Entity](s *State, all map[string]E) []E {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]E, 0, len(all))
	for _, entity := range all {
		out = append(out, entity)
	}
	return out
}
