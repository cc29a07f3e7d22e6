package mesh

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAddressesNameOneWorkloadOfANetwork(t *testing.T) {
	pod := func(uid, node, network string, hostNetwork bool, addresses ...string) *Workload {
		return &Workload{UID: uid, Name: uid, Node: node, Addresses: addresses, Locality: Locality{Network: network, HostNetwork: hostNetwork}}
	}
	first, second := pod("first", "a", "west", false, "10.0.0.1", "fd00::1"), pod("second", "a", "west", false, "10.0.0.1")
	east := pod("east", "b", "east", false, "10.0.0.1")
	s := NewState(10)
	for _, w := range []*Workload{first, pod("proxy", "a", "west", true, "172.18.0.3"), second} {
		s.Apply(Event{Entity: w})
	}
	address, mapped := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.1")
	assert.Nil(t, s.Address(netip.MustParseAddr("172.18.0.3")), "what shares its node's address is not named by it")
	assert.Same(t, first, s.Address(netip.MustParseAddr("fd00::1")))
	assert.Same(t, second, s.Address(mapped), "the newest holder")

	s.Apply(Event{Entity: east})
	assert.Nil(t, s.Address(address), "two networks use it")
	assert.Same(t, second, s.AddressIn(s.NetworkOf("a"), address))
	assert.Same(t, east, s.AddressIn(s.NetworkOf("b"), address))
	assert.Empty(t, s.NetworkOf("c"))

	s.Apply(Event{Entity: second, Deleted: true})
	assert.Same(t, first, s.AddressIn("west", address), "who held it before is still there")
	s.Apply(Event{Entity: east, Deleted: true})
	s.Apply(Event{Entity: first, Deleted: true})
	assert.Nil(t, s.Address(address))
	assert.Empty(t, s.byAddress)
	assert.Empty(t, s.NetworkOf("b"))
}
