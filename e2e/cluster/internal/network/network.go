// Package network gives every pod and machine of a test its own network namespace on one switch, and disturbs the way
// between them. The namespaces have no names: the kernel removes them with the last process and the last file that
// holds them.
package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// prefixBits is the length of the one network in which all addresses lie: 10.0.0.0/8.
const prefixBits = 8

// Network is a switch and what is connected to it. It is safe for concurrent use.
type Network struct {
	hub *os.File

	mu      sync.Mutex
	members int
	open    []*os.File
}

// Namespace is one member of the network.
type Namespace struct {
	Name    string
	Address netip.Addr

	network *Network
	file    *os.File
	port    string // the switch's end of the cable
}

// New makes a switch in a namespace of its own, so that networks with the same addresses can exist side by side.
func New() (*Network, error) {
	hub, err := newNamespace()
	if err != nil {
		return nil, err
	}
	n := &Network{hub: hub, open: []*os.File{hub}}
	err = within(hub, func() error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "switch"}}
		return errors.Join(netlink.LinkAdd(bridge), netlink.LinkSetUp(bridge))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making the switch: %w", err), n.Close())
	}
	return n, nil
}

// Close forgets all namespaces; those without a process vanish.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, file := range n.open {
		errs = append(errs, file.Close())
	}
	n.open = nil
	return errors.Join(errs...)
}

// Join connects a new namespace.
func (n *Network) Join(name string, address netip.Addr) (*Namespace, error) {
	file, err := newNamespace()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open = append(n.open, file)
	n.members++
	ns := &Namespace{Name: name, Address: address, network: n, file: file, port: fmt.Sprintf("port%d", n.members)}
	if err := ns.connect(); err != nil {
		return nil, fmt.Errorf("connecting %s: %w", name, err)
	}
	return ns, nil
}

func (ns *Namespace) connect() error {
	err := within(ns.network.hub, func() error {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = ns.port
		cable := &netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns.file.Fd()))}
		if err := netlink.LinkAdd(cable); err != nil {
			return fmt.Errorf("adding a veth pair: %w", err)
		}
		bridge, err := netlink.LinkByName("switch")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(cable, bridge), netlink.LinkSetUp(cable))
	})
	if err != nil {
		return err
	}
	return ns.Do(func() error {
		loopback, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		ethernet, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		address := &netlink.Addr{IPNet: &net.IPNet{IP: ns.Address.AsSlice(), Mask: net.CIDRMask(prefixBits, 32)}}
		return errors.Join(netlink.LinkSetUp(loopback), netlink.AddrAdd(ethernet, address), netlink.LinkSetUp(ethernet))
	})
}

// Do calls f on a thread that is in the namespace: what f opens or starts belongs to it.
func (ns *Namespace) Do(f func() error) error { return within(ns.file, f) }

// DialContext connects from within the namespace to an address (no names). It fits http.Transport.
func (ns *Namespace) DialContext(ctx context.Context, protocol, address string) (net.Conn, error) {
	var connection net.Conn
	err := ns.Do(func() (err error) {
		connection, err = (&net.Dialer{}).DialContext(ctx, protocol, address)
		return err
	})
	return connection, err
}

// Listen listens on a TCP port of all the namespace's addresses.
func (ns *Namespace) Listen(port int) (net.Listener, error) {
	var listener net.Listener
	err := ns.Do(func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	})
	return listener, err
}

// Plug connects (true) the namespace's cable to the switch or pulls it (false).
func (ns *Namespace) Plug(in bool) error {
	return within(ns.network.hub, func() error {
		link, err := netlink.LinkByName(ns.port)
		if err != nil {
			return fmt.Errorf("finding the cable of %s: %w", ns.Name, err)
		}
		if in {
			return netlink.LinkSetUp(link)
		}
		return netlink.LinkSetDown(link)
	})
}

// Lose drops a share (0 to 1) of the packets that arrive from other members, at random; 0 drops none.
// It uses iptables and not the netem queue, which common kernels for containers and virtual machines lack.
func (ns *Namespace) Lose(share float64) error {
	rules := [][]string{{"-F", "INPUT"}}
	if share > 0 {
		rules = append(rules, []string{
			"-A", "INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random", "--probability", fmt.Sprint(share), "-j", "DROP",
		})
	}
	return ns.Do(func() error {
		for _, rule := range rules {
			if out, err := exec.CommandContext(context.Background(), "iptables", rule...).CombinedOutput(); err != nil {
				return fmt.Errorf("iptables %v: %w: %s", rule, err, out)
			}
		}
		return nil
	})
}

// Lost tells how many packets Lose has dropped since it was last called.
func (ns *Namespace) Lost() (packets int, err error) {
	err = ns.Do(func() error {
		out, err := exec.CommandContext(context.Background(), "iptables", "-L", "INPUT", "-v", "-x", "-n").CombinedOutput()
		if err != nil {
			return fmt.Errorf("reading iptables' counters: %w: %s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			var count int
			if n, _ := fmt.Sscan(line, &count); n == 1 {
				packets += count
			}
		}
		return nil
	})
	return packets, err
}

func newNamespace() (*os.File, error) {
	var file *os.File
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return file, err
}

func within(namespace *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return f()
	})
}

// onThread calls f on a thread of its own whose network namespace f may change.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		err = f()
		// A thread that cannot return home stays locked and ends with its goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
