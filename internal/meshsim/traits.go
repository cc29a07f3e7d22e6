package meshsim

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"istio.io/istio/pkg/workloadapi"
)

// Trait is something that a mesh has or does besides its faults, as real ones do.
type Trait string

// The traits that the simulator knows.
const (
	// TraitWaypoint lets the connections to one service pass a waypoint.
	TraitWaypoint Trait = "waypoint"
	// TraitHostNetwork lets one workload's pods share their nodes' addresses.
	TraitHostNetwork Trait = "host_network"
	// TraitAddressReuse gives the addresses of pods that are gone to pods of others.
	TraitAddressReuse Trait = "address_reuse"
	// TraitIdleService has a service that is called and has no pods.
	TraitIdleService Trait = "idle_service"
	// TraitTwoNetworks puts the nodes into two networks that use the same addresses. Nobody calls from one into the other.
	TraitTwoNetworks Trait = "two_networks"
	// TraitLogLevel has ztunnels that log warnings and errors only.
	TraitLogLevel Trait = "log_level"
	// TraitOldZtunnels has ztunnels of 1.22 on every second node.
	TraitOldZtunnels Trait = "old_ztunnels"
	// TraitSDKSpans has applications whose spans say of themselves what SDKs do by default.
	TraitSDKSpans Trait = "sdk_spans"
	// TraitProxies has ztunnels that tell of more than connections: names that pods ask for, also of hosts outside and of nobody, pods that
	// they serve, how busy they are, certificates that are revoked.
	TraitProxies Trait = "proxies"
	// TraitRestarts lets all ztunnels be started again, one after the other.
	TraitRestarts Trait = "restarts"
)

// Traits are all of them.
var Traits = []Trait{
	TraitWaypoint, TraitHostNetwork, TraitAddressReuse, TraitIdleService, TraitTwoNetworks, TraitLogLevel, TraitOldZtunnels, TraitSDKSpans,
	TraitProxies, TraitRestarts,
}

func (o *Options) has(t Trait) bool { return slices.Contains(o.Traits, t) }

// adapt gives a mesh its traits. It draws nothing at random, so that a seed's mesh is otherwise the same.
func (m *mesh) adapt(o *Options) {
	free := func(fits func(*workload) bool) *workload {
		for _, w := range m.workloads {
			if w.layer > 0 && w.http && w.waypoint == nil && !w.hostNetwork && fits(w) {
				return w
			}
		}
		return nil
	}
	if o.has(TraitTwoNetworks) {
		m.networks, m.placed = 2, map[int]int{}
		for _, w := range m.workloads {
			for _, p := range w.pods {
				m.place(p)
			}
		}
	}
	if o.has(TraitHostNetwork) {
		if w := free(func(w *workload) bool { return len(w.calls) > 0 }); w != nil {
			w.hostNetwork, w.mesh = true, false
			for _, p := range w.pods {
				m.place(p)
			}
		}
	}
	if o.has(TraitWaypoint) {
		if w := free(func(w *workload) bool { return w.mesh }); w != nil {
			m.addWaypoint(w)
		}
	}
	if o.has(TraitIdleService) {
		if from := free(func(w *workload) bool { return w.mesh }); from != nil {
			idle := &workload{app: "idle", namespace: from.namespace, version: "v1", mesh: true, http: true, port: 8080, layer: 7, vip: netip.AddrFrom4([4]byte{10, 96, 250, 1})}
			m.workloads = append(m.workloads, idle)
			from.calls = append(from.calls, &call{to: idle, probability: 0.3, route: "/idle/{id}", sent: 100, recv: 100})
		}
	}
	if o.has(TraitProxies) {
		m.adopt()
	}
	if o.has(TraitSDKSpans) {
		for i, w := range m.workloads {
			w.sdk = 1 + i%3
		}
	}
}

// place gives a pod the address of its node where it shares that, or one that its network may use twice.
func (m *mesh) place(p *pod) {
	node := slices.Index(m.nodes, p.node)
	if p.workload.hostNetwork {
		p.podAddr = netip.AddrFrom4([4]byte{172, 18, 0, byte(2 + node)})
	} else if m.networks == 2 {
		half := (len(m.nodes) + 1) / 2
		if p.network = "west"; node >= half {
			p.network = "east"
		}
		n := m.placed[node]
		m.placed[node]++
		p.podAddr = netip.AddrFrom4([4]byte{10, byte(100 + node%half), byte(n / 250), byte(1 + n%250)})
	}
	p.ip = p.podAddr.String()
}

// reuse gives a new pod the address of one that is gone, if there is any and nobody has taken it.
func (m *mesh) reuse(p *pod) {
	for _, w := range m.workloads {
		for _, old := range w.pods {
			if w == p.workload || w.hostNetwork || old.until == always || old.until+int64(2*time.Second) >= p.from || m.taken(old.podAddr, p) {
				continue
			}
			p.node, p.zone, p.network, p.podAddr, p.ip = old.node, old.zone, old.network, old.podAddr, old.ip
			return
		}
	}
}

func (m *mesh) taken(addr netip.Addr, by *pod) bool {
	for _, w := range m.workloads {
		for _, other := range w.pods {
			if other != by && other.podAddr == addr && other.until+int64(2*time.Second) >= by.from {
				return true
			}
		}
	}
	return false
}

func (m *mesh) addWaypoint(of *workload) {
	w := &workload{
		app: "waypoint", namespace: of.namespace, version: "latest", mesh: true, port: 15008, layer: 1, vip: netip.AddrFrom4([4]byte{10, 96, 250, 2}),
	}
	p := &pod{
		name: "waypoint-5f5c-a0", node: m.nodes[0], zone: "eu-west-1a", workload: w, until: always, podAddr: netip.AddrFrom4([4]byte{10, 100, 250, 2}),
	}
	w.pods = append(w.pods, p)
	m.place(p)
	of.waypoint, m.waypoint = p, w
}

// gatewayAddress is how a service names its waypoint.
func (w *workload) gatewayAddress() *workloadapi.GatewayAddress {
	if w.waypoint == nil {
		return nil
	}
	to := w.waypoint.workload
	return &workloadapi.GatewayAddress{
		Destination:   &workloadapi.GatewayAddress_Hostname{Hostname: &workloadapi.NamespacedHostname{Namespace: to.namespace, Hostname: to.host()}},
		HboneMtlsPort: 15008,
	}
}

// state adds what the mesh has beside its workloads to what istiod first tells.
func (m *mesh) state(addresses map[string]proto.Message) {
	if w := m.waypoint; w != nil {
		addresses[w.pods[0].uid()] = w.pods[0].address()
		addresses[w.namespace+"/"+w.host()] = w.serviceAddress()
	}
}

// reaches tells whether a pod's network has a way to a workload.
func (s *simulation) reaches(from *pod, w *workload, at int64) bool {
	if from.network == "" {
		return true
	}
	there := false
	for _, p := range w.pods {
		if s.eligible(p, at) {
			if p.network == "" || p.network == from.network {
				return true
			}
			there = true
		}
	}
	return !there
}

// through sends a connection by the waypoint of the service that is called. What then fails at the server its client does not see.
func (conn *connection) through() {
	if conn.to.waypoint == nil || conn.destination == nil || !conn.source.workload.mesh {
		return
	}
	conn.via = conn.to.waypoint
	conn.sourceError, conn.sourceFlag = "", ""
}

// ends are a connection's two pods as one side's ztunnel sees them.
func (conn *connection) ends(outbound bool) (source, destination *pod) {
	switch {
	case conn.via == nil:
		return conn.source, conn.destination
	case outbound:
		return conn.source, conn.via
	}
	return conn.via, conn.destination
}

// resource are the attributes of an application's resource.
func (p *pod) resource() string {
	text := func(name, value string) string {
		return fmt.Sprintf(`{"key":%q,"value":{"stringValue":%q}}`, name, value)
	}
	w := p.workload
	switch w.sdk {
	case 1:
		return text("service.name", w.app)
	case 2:
		return text("service.name", "unknown_service:java") + "," + text("host.name", p.name)
	case 3:
		return text("service.name", w.app) + "," + text("service.instance.id", w.namespace+"."+p.name+".app")
	}
	return text("service.name", w.app) + "," + text("service.namespace", w.namespace) + "," + text("service.version", w.version) + "," +
		text("k8s.namespace.name", w.namespace) + "," + text("k8s.pod.name", p.name)
}
