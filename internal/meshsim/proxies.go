package meshsim

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// The faults of which ztunnels tell beside connections. The kind that a detector must report is in expects.
const (
	// FaultResolverDown is the cluster's resolver that is gone, FaultResolverFails one that answers SERVFAIL, FaultNamesSlow one that is late.
	FaultResolverDown  Fault = "resolver_down"
	FaultResolverFails Fault = "resolver_servfail"
	FaultNamesSlow     Fault = "dns_slow"
	// FaultZone is one host outside whose name is not resolved, FaultNodeNames one node from which the resolver is out of reach.
	FaultZone      Fault = "zone_down"
	FaultNodeNames Fault = "node_dns_down"
	// FaultCapturePod is a pod whose proxy its ztunnel cannot set up after a restart, FaultCaptureNode all pods of a node.
	FaultCapturePod  Fault = "capture_pending"
	FaultCaptureNode Fault = "node_capture_pending"
	// FaultOverload is a ztunnel that gets too little CPU, FaultStopped one that is stopped most of the time, of which its series show nothing.
	FaultOverload Fault = "ztunnel_overloaded"
	FaultStopped  Fault = "ztunnel_stopped"
	// FaultRevoked is a workload whose certificate is revoked.
	FaultRevoked Fault = "certificate_revoked"

	// faultRestart is a ztunnel that is started again: nobody's outage, though its node may be called down for those seconds.
	faultRestart Fault = "ztunnel_restart"
)

// ProxyFaults are those of which ztunnels tell beside connections, in the order in which seeds choose where TraitProxies is asked for.
var ProxyFaults = []Fault{
	FaultResolverDown, FaultCapturePod, FaultOverload, FaultZone, FaultRevoked, FaultNamesSlow, FaultStopped, FaultResolverFails, FaultCaptureNode, FaultNodeNames,
}

// leastAsked is how many lookups a second there must be for their failure to be seen.
const leastAsked = 1.0

// newProxyIncident places one of ProxyFaults.
func newProxyIncident(i *incident, m *mesh, random *rand.Rand) *incident {
	pick := func(from []*workload) bool {
		if len(from) > 0 {
			i.target = from[random.IntN(len(from))]
		}
		return len(from) > 0
	}
	asked, byNode, byHost := 0.0, map[string]float64{}, map[*workload]float64{}
	for _, w := range m.workloads {
		for _, a := range w.asks {
			if a.to == nil {
				continue
			}
			asked += a.to.rate
			byHost[a.to.to] += a.to.rate
			for _, p := range w.pods {
				byNode[p.node] += a.to.rate / float64(len(w.pods))
			}
		}
	}
	switch i.fault {
	case FaultResolverDown, FaultResolverFails, FaultNamesSlow:
		return i.when(asked >= 2*leastAsked)
	case FaultZone:
		i.answer = []result{noRecords, serverFailure, timedOut}[random.IntN(3)]
		return i.when(pick(slices.DeleteFunc(slices.Clone(m.outside), func(host *workload) bool {
			return byHost[host] < leastAsked || asked-byHost[host] < leastAsked
		})))
	case FaultNodeNames:
		nodes := slices.DeleteFunc(slices.Clone(m.nodes), func(node string) bool { return byNode[node] < leastAsked || asked-byNode[node] < leastAsked })
		if len(nodes) == 0 {
			return nil
		}
		i.node = nodes[random.IntN(len(nodes))]
	case FaultCaptureNode, FaultOverload, FaultStopped:
		i.node = busiest(m, random)
		served := meshed(workloadsOn(m, i.node))
		return i.when(len(served) > 2)
	case FaultCapturePod:
		var all []*workload
		for _, w := range m.workloads {
			if w.layer > 0 && w.mesh && !w.hostNetwork && w.waypoint == nil && w.rate >= 4*leastRate*float64(len(w.pods)) && len(callersOf(m, w, leastRate)) > 0 {
				all = append(all, w)
			}
		}
		if !pick(all) {
			return nil
		}
		i.pod = i.target.pods[random.IntN(len(i.target.pods))]
		i.node = i.pod.node
	case FaultRevoked:
		var all []*workload
		for _, w := range m.workloads {
			if w.layer > 0 && w.waypoint == nil && w.rate >= 2*leastRate && suits(FaultPolicyDenied, w, m) {
				all = append(all, w)
			}
		}
		return i.when(pick(all))
	}
	return i
}

func (i *incident) when(can bool) *incident {
	if !can {
		return nil
	}
	return i
}

func workloadsOn(m *mesh, node string) (all []*workload) {
	for _, p := range m.podsOn(node) {
		if p.workload.layer > 0 && !slices.Contains(all, p.workload) {
			all = append(all, p.workload)
		}
	}
	return all
}

// expects is what a good detector reports of one of ProxyFaults or of a restart; nil of other faults.
func (i *incident) expects() *Expectation {
	e := &Expectation{From: seconds(i.from), To: seconds(i.until), Edges: [][2]string{}, Within: 45}
	const resolver = "kube-system/kube-dns"
	switch i.fault {
	case FaultResolverDown, FaultResolverFails:
		e.Kind, e.Root = "dns_failure", resolver
	case FaultNamesSlow:
		// Whoever gives up before an answer comes gets none.
		e.Kind, e.Root = "dns_slow|dns_failure", resolver
	case FaultZone:
		e.Kind, e.Root, e.Roots = "dns_failure", i.target.app, []string{i.target.app, resolver}
	case FaultNodeNames:
		e.Kind, e.Root = "dns_failure", "node/"+i.node
	case FaultCapturePod:
		e.Kind, e.Root, e.Within = "capture_pending", i.target.id(), 30
	case FaultCaptureNode:
		e.Kind, e.Root, e.Within = "capture_pending", "node/"+i.node, 30
	case FaultOverload, FaultStopped:
		e.Kind, e.Root = "ztunnel_overloaded", "node/"+i.node
	case FaultRevoked:
		e.Kind, e.Root, e.Within = "identity_error", i.target.id(), 10
	case faultRestart:
		e.Kind, e.Root, e.Within, e.Optional = "node_down", "node/"+i.node, 15, true
	default:
		return nil
	}
	return e
}

// proxies is what ztunnels do beside carrying connections.
type proxies struct {
	*simulation
	tells bool // of more than connections
	debug bool // of single queries as well
	known map[question]answer
}

func newProxies(s *simulation) *proxies {
	return &proxies{simulation: s, tells: s.has(TraitProxies), debug: s.Seed%2 == 0, known: map[question]answer{}}
}

// stops tells whether a node's ztunnel ends as the incident begins.
func (i *incident) stops(node string) bool {
	return (i.fault == FaultNodeDown || i.fault == faultRestart) && i.node == node
}

// restarts lets ztunnels be started again: all of them, one after the other, where the mesh is to be upgraded, and the one that is to find
// that it cannot serve a pod. Half of the upgrades leave no gap, as those of a DaemonSet that may surge.
func (s *proxies) restarts() {
	if s.has(TraitRestarts) {
		at := int64(20*time.Second) + s.random.Int64N(int64(40*time.Second))
		gap := int64(30 * time.Millisecond)
		if s.random.IntN(2) == 0 {
			gap = int64(2*time.Second) + s.random.Int64N(int64(3*time.Second))
		}
		for _, node := range s.mesh.nodes {
			if len(s.incidents) == 0 || s.incidents[0].fault == faultRestart || at+gap < s.incidents[0].from-int64(20*time.Second) {
				s.incidents = append(s.incidents, &incident{fault: faultRestart, node: node, from: at, until: at + gap})
			}
			at += gap + int64(5*time.Second) + s.random.Int64N(int64(5*time.Second))
		}
	}
	for _, i := range s.incidents {
		if i.fault == FaultCapturePod || i.fault == FaultCaptureNode {
			s.incidents = append(s.incidents, &incident{fault: faultRestart, node: i.node, from: i.from - int64(4*time.Second), until: i.from})
		}
	}
}

// uncaptured is the incident by which a pod's redirection is in place and its proxy is not, nil if there is none.
func (all incidents) uncaptured(p *pod, at int64) *incident {
	for _, i := range all {
		if at >= i.from && at < i.until && p.workload.mesh && (i.fault == FaultCapturePod && i.pod == p || i.fault == FaultCaptureNode && i.node == p.node) {
			return i
		}
	}
	return nil
}

// cutOff tells whether nothing gets out of a pod, and nobody tells of it.
func (s *proxies) cutOff(p *pod, at int64) bool {
	return s.incidents.uncaptured(p, at) != nil || s.incidents.nodeDead(at, p.node) != nil && p.workload.mesh
}

// hindered is for how long ztunnels that are too slow keep a connection on one of its ways.
func (s *proxies) hindered(conn *connection, at int64) (delay int64) {
	for _, i := range s.incidents {
		if at < i.from || at >= i.until || i.fault != FaultOverload && i.fault != FaultStopped {
			continue
		}
		for _, p := range []*pod{conn.source, conn.destination} {
			if p == nil || p.node != i.node || !p.workload.mesh {
				continue
			}
			if i.fault == FaultOverload {
				delay += int64(0.25e9 * math.Exp(s.random.NormFloat64()*0.6))
			} else if s.random.IntN(5) > 0 { // stopped for four fifths of a second each
				delay += s.random.Int64N(int64(800 * time.Millisecond))
			}
		}
	}
	return delay
}

// revoked tells whether a connection cannot be had because an end's certificate is revoked, and sets what both ends' ztunnels say of it.
func (s *proxies) revoked(conn *connection, at int64) bool {
	switch {
	case s.incidents.hits(at, FaultRevoked, conn.to) != nil:
		conn.sourceError, conn.sourceFlag = "tls error: invalid peer certificate: Revoked", "TLS_FAILURE"
		conn.destinationSilent = true
		s.reject(conn.source, at, true)
	case s.incidents.hits(at, FaultRevoked, conn.source.workload) != nil:
		conn.sourceError, conn.sourceFlag = "tls error: tls handshake error: received fatal alert: CertificateRevoked", "TLS_FAILURE"
		conn.destinationSilent = true
		s.reject(conn.destination, at, false)
	default:
		return false
	}
	return true
}

func (s *proxies) reject(by *pod, at int64, outbound bool) {
	z := s.ztunnels[by.node]
	s.queue.schedule(at, func() {
		if z.own != nil {
			z.own.rejected[side(outbound)]++
		}
	})
}

func side(outbound bool) int {
	if outbound {
		return 0
	}
	return 1
}

// own is what a ztunnel tells of itself.
type own struct {
	run    int   // how often it was started again
	began  int64 // when it was started
	askers map[asker]*asked
	order  []asker
	// connections that were opened and that are open, and those that were rejected because of a revoked certificate, by side.
	opened, open, rejected [2]int64
	busy, parks            float64
	scraped, told          int64 // when it was scraped last, and how many connections had been opened then
}

func newOwn(run int, began int64) *own {
	return &own{run: run, began: began, scraped: began, askers: map[asker]*asked{}}
}

// count takes note of a connection that is opened or closed.
func (o *own) count(outbound bool, change int64) {
	if o == nil {
		return
	}
	if change > 0 {
		o.opened[side(outbound)]++
	}
	o.open[side(outbound)] = max(o.open[side(outbound)]+change, 0)
}

// served are the pods that a node's ztunnel serves at a time, waiting those that it cannot serve; came and went count since its start.
func (s *proxies) served(z *ztunnel, at int64) (active, waiting, came, went int) {
	for _, p := range s.mesh.podsOn(z.node) {
		if !p.workload.mesh || p.from > at || p.until <= z.own.began {
			continue
		}
		switch {
		case s.incidents.uncaptured(p, at) != nil:
			waiting++
		case p.until <= at:
			came, went = came+1, went+1
		default:
			came, active = came+1, active+1
		}
	}
	return active, waiting, came, went
}

const threads = 2

// selfSeries writes what a ztunnel tells of itself. Its threads work for as long as its connections need, and are busy all the time if
// they are kept from running.
func (s *proxies) selfSeries(z *ztunnel, out *part, at int64) {
	o := z.own
	if o == nil || s.incidents.silent(at, z.node) {
		return
	}
	dt := seconds(at - o.scraped)
	connections := float64(o.opened[0] + o.opened[1] - o.told)
	starved := 0.0
	for _, i := range s.incidents {
		if i.fault == FaultOverload && i.node == z.node && dt > 0 {
			starved += max(0, seconds(min(at, i.until)-max(o.scraped, i.from))) / dt
		}
	}
	o.busy += dt * starved * (0.55 + 0.4*s.random.Float64()) * threads
	o.busy += (1 - starved) * (0.004*dt + connections*0.0015*(0.8+0.4*s.random.Float64()))
	o.parks += (1-starved)*(5*dt+6*connections) + starved*1.5*connections
	o.scraped, o.told = at, o.opened[0]+o.opened[1]
	active, waiting, came, went := s.served(z, at)
	open := o.open[0] + o.open[1]
	gauge := func(name, help string, value int64) {
		out.print("# HELP %s %s\n# TYPE %s gauge\n%s %d\n", name, help, name, name, value)
	}
	gauge("process_open_fds", "Number of open file descriptors", int64(20+8*active)+open)
	gauge("process_max_fds", "Maximum number of file descriptors", 20000)
	gauge("tokio_num_workers", "the number of worker threads used by the runtime", threads)
	gauge("tokio_global_queue_depth", "the number of tasks currently scheduled in the runtime's global queue", 0)
	gauge("tokio_num_alive_tasks", "the number of alive tasks in the runtime", int64(28+12*active)+open)
	out.print("# HELP tokio_worker_total_busy_duration_seconds the amount of time worker threads have been busy\n# TYPE tokio_worker_total_busy_duration_seconds counter\n")
	for worker := range threads {
		out.print("tokio_worker_total_busy_duration_seconds_total{worker=\"%d\"} %.9f\n", worker, o.busy/threads)
	}
	out.print("# HELP tokio_worker_park_count the total number of times the given worker thread has parked\n# TYPE tokio_worker_park_count counter\n")
	for worker := range threads {
		out.print("tokio_worker_park_count_total{worker=\"%d\"} %d\n", worker, int64(o.parks/threads))
	}
	if o.opened[0]+o.opened[1] > 0 {
		out.print("# HELP istio_tcp_sockets_open The current number of open TCP sockets (unstable).\n# TYPE istio_tcp_sockets_open gauge\n")
		out.print("istio_tcp_sockets_open{reporter=\"destination\"} %d\nistio_tcp_sockets_open{reporter=\"source\"} %d\n", o.open[1], o.open[0])
	}
	o.names(out)
	if o.rejected[0]+o.rejected[1] > 0 {
		out.print("# HELP istio_crl_policy_rejections The total number of connections rejected due to CRL (unstable).\n# TYPE istio_crl_policy_rejections counter\n")
		for outbound, reporter := range []string{"source", "destination"} {
			if n := o.rejected[outbound]; n > 0 {
				out.print("istio_crl_policy_rejections_total{reporter=%q} %d\n", reporter, n)
			}
		}
	}
	gauge("workload_manager_active_proxy_count", "The total number current workloads with active proxies (unstable).", int64(active))
	gauge("workload_manager_pending_proxy_count", "The total number current workloads with pending proxies (unstable).", int64(waiting))
	out.print("# HELP workload_manager_proxies_started The total number of proxies that were started (unstable).\n# TYPE workload_manager_proxies_started counter\n"+
		"workload_manager_proxies_started_total %d\n", came)
	out.print("# HELP workload_manager_proxies_stopped The total number of proxies that were stopped (unstable).\n# TYPE workload_manager_proxies_stopped counter\n"+
		"workload_manager_proxies_stopped_total %d\n", went)
}

func (p *pod) kubernetesUID() string {
	h := fnv.New128a()
	_, _ = h.Write([]byte(p.workload.namespace + "/" + p.name))
	b := h.Sum(nil)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

const (
	manager = "inpod::workloadmanager"
	states  = "inpod::statemanager"
	again   = int64(5 * time.Second)
)

// livesOf schedules what a ztunnel says of its own life and of the pods that come and go.
func (s *proxies) livesOf(z *ztunnel) {
	if !s.tells && !s.has(TraitRestarts) {
		return
	}
	s.queue.schedule(0, func() { s.begin(z, 0) })
	for _, p := range s.mesh.podsOn(z.node) {
		if !p.workload.mesh {
			continue
		}
		if p.from > 0 {
			s.queue.schedule(p.from, func() { s.note(z, p.from, "info", states, "pod received, starting proxy", p) })
		}
		if p.until < s.end {
			s.queue.schedule(p.until, func() { s.note(z, p.until, "info", states, "pod delete request, shutting down proxy", p) })
		}
	}
	for _, i := range s.incidents {
		if i.node == z.node || i.pod != nil && i.pod.node == z.node {
			s.queue.schedule(i.from, func() { s.waits(z, i) })
		}
		if i.stops(z.node) && i.fault != faultRestart {
			s.queue.schedule(i.until, func() { s.begin(z, i.until) })
		}
		if i.fault == faultRestart && i.node == z.node {
			// It says so just before it ends.
			s.queue.schedule(i.from-1, func() {
				z.say(i.from-1, "info", "signal::imp", "received signal SIGTERM, starting shutdown", nil)
				z.say(i.from-1, "info", "inpod::protocol", "workload proxy manager: drain requested", nil)
				z.say(i.from-1, "info", manager, "drain requested", nil)
			})
			s.queue.schedule(i.until, func() { s.begin(z, i.until) })
		}
	}
}

// begin is what a ztunnel says as it starts.
func (s *proxies) begin(z *ztunnel, at int64) {
	if s.tells {
		run := 0
		if z.own != nil {
			run = z.own.run + 1
		}
		z.own = newOwn(run, at)
	}
	z.say(at, "info", manager, "handling new stream", nil)
	for _, p := range s.mesh.podsOn(z.node) {
		if p.workload.mesh && p.ready(at) {
			s.note(z, at, "info", states, "pod received, starting proxy", p)
		}
	}
	z.say(at, "info", states, "received snapshot sent", nil)
}

func (s *proxies) note(z *ztunnel, at int64, level, scope, message string, p *pod) {
	if s.incidents.nodeDead(at, z.node) != nil {
		return
	}
	fields := []field{{"uid", p.kubernetesUID(), scope != manager}}
	if message == "pod received, starting proxy" {
		fields = append(fields, field{"name", p.name, true}, field{"namespace", p.workload.namespace, true})
	}
	z.say(at, level, scope, message, fields)
}

// say writes a message of a module, whose name has the crate's before it in JSON.
func (z *ztunnel) say(at int64, level, module, message string, fields []field) {
	if z.json {
		module = "ztunnel::" + module
	}
	z.write(at, level, module, message, fields)
}

// waits is what a ztunnel says of pods whose proxy it cannot set up, and tries again until it can.
func (s *proxies) waits(z *ztunnel, i *incident) {
	for _, p := range s.mesh.podsOn(z.node) {
		if s.incidents.uncaptured(p, max(i.from, p.from)) != i || p.until <= i.from {
			continue
		}
		first := max(i.from, p.from) + int64(time.Millisecond)
		const taken = "failed to bind to address [::]:15008: Address already in use (os error 98)"
		s.queue.schedule(first, func() {
			s.note(z, first, "error", manager, `failed to start proxy: Bind([::]:15008, Os { code: 98, kind: AddrInUse, message: "Address already in use" })`, p)
		})
		for at := first + again; at < min(i.until+again, p.until); at += again {
			s.queue.schedule(at, func() {
				s.note(z, at, "info", states, "retrying workload", p)
				if at < i.until {
					s.note(z, at+1000, "info", states, "retrying workload failed: "+taken, p)
				}
			})
		}
	}
}
