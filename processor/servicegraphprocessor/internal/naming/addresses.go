package naming

import (
	"cmp"
	"math"
	"net/netip"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/mesh"
)

// networkAddress is what names one workload at a time: networks may use the same addresses.
type networkAddress struct {
	network string
	addr    netip.Addr
}

// formerHolder is who held an address before a time, which is the end of time while nobody else holds it.
type formerHolder struct {
	workload *mesh.Workload
	until    pcommon.Timestamp
}

const endOfTime = pcommon.Timestamp(math.MaxUint64)

// Holders say which workloads hold addresses, and held them before, bounded by maxGone.
type Holders struct {
	state  *mesh.State
	former *expiry.Table[networkAddress, formerHolder]
	events uint64
}

func newHolders(state *mesh.State) *Holders {
	return &Holders{state: state, former: expiry.New[networkAddress, formerHolder](maxGone, nil)}
}

// come notes that a workload holds its addresses from a time on.
func (h *Holders) come(w *mesh.Workload, at pcommon.Timestamp) {
	for addr := range w.Held() {
		key := networkAddress{w.Network, addr}
		former, _ := h.former.Get(key)
		if former.until != endOfTime {
			former.workload = h.state.AddressIn(w.Network, addr)
		}
		if former.workload != nil && former.workload.UID != w.UID {
			h.put(key, formerHolder{former.workload, at})
		} else if former.until == endOfTime {
			h.former.Delete(key)
		}
	}
}

// leave notes what a workload that is gone or has changed no longer holds. Its last connections are reported after that.
func (h *Holders) leave(w *mesh.Workload) {
	for addr := range w.Held() {
		if h.state.AddressIn(w.Network, addr) == nil {
			h.put(networkAddress{w.Network, addr}, formerHolder{w, endOfTime})
		}
	}
}

func (h *Holders) put(key networkAddress, former formerHolder) {
	h.events++
	h.former.Put(key, former, pcommon.Timestamp(h.events))
}

// At finds the workload that held an address, in text form, at a time in the network of a node: the last one that did where
// none does.
func (h *Holders) At(node, text string, at pcommon.Timestamp) *mesh.Workload {
	return h.AtAddr(node, ParseAddr(text), at)
}

// AtAddr is At of an address.
func (h *Holders) AtAddr(node string, addr netip.Addr, at pcommon.Timestamp) *mesh.Workload {
	if !addr.IsValid() {
		return nil
	}
	network := h.state.NetworkOf(node)
	holder := h.state.AddressIn(network, addr)
	if holder != nil {
		network = holder.Network
	}
	if former, ok := h.former.Get(networkAddress{network, addr}); ok && at < former.until {
		return former.workload
	}
	return holder
}

// Holder finds the workload that holds an address now, nil if the address is invalid or the workload not known.
func (d *Directory) Holder(addr netip.Addr) *mesh.Workload {
	if !addr.IsValid() {
		return nil
	}
	return d.state.Address(addr)
}

// ParseAddr reads an address, IPv4 in IPv6 as IPv4. What is none gives the invalid address.
func ParseAddr(text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(text)
	return addr.Unmap()
}

// Called finds the service that a client addressed by its virtual address, nil if it is none's.
func (d *Directory) Called(addr netip.Addr) *mesh.Service {
	if !addr.IsValid() {
		return nil
	}
	return d.state.VIP(addr)
}

// ServiceParty is the end of an edge that a service is to a client that got no further than its virtual address, and the port
// there: the party behind the service, or behind it last, where there is one only, else the service itself.
func (d *Directory) ServiceParty(s *mesh.Service, port uint16) (edge.Party, uint16) {
	behind := d.behind(s.Hostname, "")
	if last, ok := d.emptied.Get(s.Key()); ok && len(behind) == 0 && !last.several {
		behind = append(behind, last.workload)
	}
	if len(behind) == 1 {
		return PartyOf(behind[0]), BackendPort(behind[0], s.Hostname, port)
	}
	party := edge.Party{Workload: s.Name, Namespace: s.Namespace, App: s.Name}
	for i, w := range behind {
		switch {
		case i == 0:
			party.App, party.Cluster = w.App(), w.ClusterID
		case w.App() != party.App:
			party.App = s.Name
		}
	}
	for _, p := range s.Ports {
		if p.ServicePort == uint32(port) && p.TargetPort <= math.MaxUint16 {
			port = uint16(cmp.Or(p.TargetPort, p.ServicePort))
		}
	}
	return party, port
}
