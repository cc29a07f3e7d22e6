package meshsim

import (
	"math/rand/v2"
	"slices"
	"time"
)

// The faults of hard meshes beside the others. What a detector may call each is in its expectation.
const (
	// FaultBlackhole is a workload whose pods swallow packets: nothing that is sent to them is answered, not even by their nodes' ztunnels.
	FaultBlackhole Fault = "blackhole"
	// FaultHang is a server that accepts and never answers.
	FaultHang Fault = "hang"
	// FaultUnanswered is a server that reads and closes without an answer.
	FaultUnanswered Fault = "unanswered"
	// FaultPacketLoss loses a third of the packets of a workload's pods.
	FaultPacketLoss Fault = "packet_loss"
	// FaultCrashLoop is a server that starts, works for some seconds and falls over again.
	FaultCrashLoop Fault = "crash_loop"
	// FaultPartition keeps two nodes from reaching each other.
	FaultPartition Fault = "partition"
	// FaultAllowList is a policy that allows somebody else, and so nobody who calls.
	FaultAllowList Fault = "allow_list"
	// FaultSlowDatabase is a server without spans that answers late.
	FaultSlowDatabase Fault = "slow_database"
)

// HardFaults are those of hard meshes, in the order in which seeds choose.
var HardFaults = append([]Fault{
	FaultBlackhole, FaultHang, FaultUnanswered, FaultPacketLoss, FaultCrashLoop, FaultPartition, FaultAllowList, FaultSlowDatabase,
}, Faults...)

// kinds are what a detector may call the faults whose names are none.
var kinds = map[Fault]string{
	FaultPartialRefused: "connection_refused",
	FaultBlackhole:      "connection_timeout|connection_reset|latency|hbone_blocked",
	FaultHang:           "connection_timeout|latency|http_errors",
	FaultUnanswered:     "connection_reset|http_errors",
	FaultPacketLoss:     "latency|connection_timeout|connection_reset",
	FaultCrashLoop:      "connection_refused|connection_reset",
	FaultPartition:      "hbone_blocked|connection_timeout|connection_reset|node_down",
	FaultAllowList:      "policy_denied",
	FaultSlowDatabase:   "latency",
}

// waits tells whether callers of the fault wait before they know.
func (f Fault) waits() bool {
	switch f {
	case FaultBlackhole, FaultHang, FaultPacketLoss, FaultPartition:
		return true
	}
	return false
}

// hardness is what makes a mesh hard besides its fault: clients that give up and retry, pools, loads that jump, servers that always fail for some,
// a ztunnel that is upgraded.
type hardness struct {
	// patience is after how long clients give up, 0 if they wait for ever.
	patience int64
	surges   []surge
	highest  float64 // of their factors
	// chronic is who always fails for some.
	chronic []*workload
	// attempts are when a pod's ztunnel may next try to reach another one that does not answer.
	attempts map[[2]*pod]int64
}

// surge is a time in which users come many times as often, or seldom.
type surge struct {
	from, until int64
	factor      float64
}

// hardSizes are how many workloads hard meshes have: small ones are as common as large ones.
var hardSizes = [...]int{5, 7, 10, 14, 20, 28, 40, 60}

// decideHard sets what a hard mesh's options leave open, as the recordings of real ones have it.
func (o *Options) decideHard(random *rand.Rand) {
	if o.Workloads == 0 {
		o.Workloads = hardSizes[random.IntN(len(hardSizes))]
	}
	if o.Duration == 0 {
		o.Duration = 185 * time.Second
	}
	if o.RootRate == 0 {
		o.RootRate = 3 + 6*random.Float64()
	}
	if o.Fault != FaultNone && o.FaultFor == 0 {
		o.FaultFrom, o.FaultFor = 75*time.Second+time.Duration(random.IntN(5000))*time.Millisecond, time.Minute
	}
	if o.Instrumented < 0 && random.IntN(3) == 0 {
		o.Instrumented = 0
	}
}

// harden makes a mesh hard. Healthy and long ones have a surge or a lull every three hours or so, ones with a fault at most one before it.
func harden(s *simulation) {
	if !s.Hard {
		return
	}
	random := s.random
	s.patience = []int64{4, 4, 4, 2, 10}[random.IntN(5)] * int64(time.Second)
	strict := random.IntN(4) == 0
	for _, w := range s.mesh.workloads {
		w.retries = random.IntN(3) == 0
		w.mesh = w.mesh || strict && !w.hostNetwork
		for _, c := range w.calls {
			c.keepAlive = c.keepAlive || w.layer > 0 && c.to.http && random.IntN(3) == 0
		}
	}
	for range 1 + int(s.Duration/(3*time.Hour)) {
		if random.IntN(3) == 0 {
			continue
		}
		at := surge{from: int64(40 * time.Second), until: int64(80 * time.Second), factor: 0.15}
		if s.Duration > time.Hour {
			at.from = random.Int64N(s.end)
			at.until = at.from + int64(30*time.Second) + random.Int64N(int64(30*time.Minute))
		}
		if random.IntN(2) == 0 {
			at.factor = 2 + 3*random.Float64()
		}
		s.surges = append(s.surges, at)
	}
	if random.IntN(3) == 0 {
		failChronically(s)
	}
	if random.IntN(4) == 0 || s.Duration > time.Hour {
		upgrade(s)
	}
}

// failChronically lets one workload that has nothing to do with a fault fail some of its requests from the first on.
func failChronically(s *simulation) {
	var all []*workload
	for _, w := range s.mesh.workloads {
		if w.layer > 0 && w.rate >= leastRate && !s.incidents.concern(w) && !s.incidents.below(w) && !slices.ContainsFunc(callersOf(s.mesh, w, 0), s.incidents.concern) {
			all = append(all, w)
		}
	}
	if len(all) == 0 {
		return
	}
	w := all[s.random.IntN(len(all))]
	if w.http {
		w.errorRate = 0.03 + 0.2*s.random.Float64()
	} else {
		w.refusals = 0.03 + 0.2*s.random.Float64()
	}
	s.chronic = append(s.chronic, w)
}

// upgrade replaces one node's ztunnel, gently: it closes what it carries and is back after some seconds.
func upgrade(s *simulation) {
	from := int64(40 * time.Second)
	if s.Duration > time.Hour {
		from = s.random.Int64N(s.end)
	}
	node := s.mesh.nodes[s.random.IntN(len(s.mesh.nodes))]
	for _, i := range s.incidents {
		if i.node == node || i.other == node {
			return
		}
	}
	s.incidents = append(s.incidents, &incident{
		fault: FaultNodeDown, node: node, from: from, until: from + int64(3*time.Second) + s.random.Int64N(int64(2*time.Second)), drains: true,
	})
}

// surging is the factor on the load at a time.
func (h *hardness) surging(at int64) float64 {
	for _, s := range h.surges {
		if at >= s.from && at < s.until {
			return s.factor
		}
	}
	return 1
}

// busiest is the highest factor.
func (h *hardness) busiest() float64 {
	most := 1.0
	for _, s := range h.surges {
		most = max(most, s.factor)
	}
	return most
}

// cutOff is the incident that swallows what one pod sends to another, nil if nothing does.
func (all incidents) cutOff(at int64, from, to *pod) *incident {
	if i := all.hits(at, FaultBlackhole, to.workload); i != nil {
		return i
	}
	if i := all.at(at, FaultPartition); i != nil && (i.node == from.node && i.other == to.node || i.other == from.node && i.node == to.node) {
		return i
	}
	return nil
}

const (
	// pingTimeout is how long an HBONE connection is waited for that no longer answers, tunnelTimeout how long for a new one.
	pingTimeout   = int64(20 * time.Second)
	tunnelTimeout = int64(10 * time.Second)
	// gaveUp and deadTunnel are what ztunnels say where nobody is there any more.
	gaveUp     = "while closing connection: receive: io error: broken pipe"
	deadTunnel = "h2 failed: stream closed because of a broken pipe"
	noTunnel   = "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline has elapsed"
)

// swallow plays a connection whose packets nobody gets. The tunnel that is there is given up after a while with all that uses it; then
// one connection at a time waits for a new tunnel, while the others wait for their turn. What still waits when packets pass again is
// answered, although its client has long left. It returns until when the client waits.
func (s *simulation) swallow(conn *connection, i *incident, c *call, at int64) int64 {
	client := at + connectTimeout
	if s.patience > 0 {
		client = at + s.patience
	}
	until := i.from + pingTimeout
	switch {
	case !conn.source.workload.mesh || !conn.to.mesh:
		// Without a tunnel the client's own attempt ends.
		until = client
		conn.sourceError, conn.sourceFlag = "io error: Connection timed out (os error 110)", "CONNECT"
		conn.destinationSilent = true
	case at < until:
		conn.sourceError, conn.sourceFlag = deadTunnel, "H2_HANDSHAKE_FAILURE"
		conn.destinationSilent = true
	default:
		key := [2]*pod{conn.source, conn.destination}
		next := s.attempts[key]
		if next <= at {
			next = at
		}
		if next-at < tunnelTimeout && next+tunnelTimeout < i.until {
			s.attempts[key] = next + tunnelTimeout
			until = next + tunnelTimeout
			conn.sourceError, conn.sourceFlag = noTunnel, "NETWORK_POLICY"
			conn.destinationSilent = true
			break
		}
		until = i.until + int64(10*time.Millisecond) + s.random.Int64N(int64(30*time.Millisecond))
		conn.sent, conn.recv = c.sent, c.recv
		conn.accepted = until - int64(5*time.Millisecond)
	}
	conn.tunnelPort = s.tunnel(conn.source, conn.destination)
	s.open(conn)
	s.close(conn, until)
	return min(client, max(until, at))
}

// lost is how long a request takes longer because of lost packets.
func lost(random *rand.Rand) int64 {
	const share = 0.35
	var wait int64
	for again := int64(time.Second); random.Float64() < share && again < int64(8*time.Second); again *= 2 {
		wait += again // the handshake's first packet
	}
	for range 3 {
		for again := int64(210 * time.Millisecond); random.Float64() < share && again < int64(4*time.Second); again *= 2 {
			wait += again
		}
	}
	return wait
}

// crashed tells whether a workload in a crash loop is down: most of the time.
func (i *incident) crashed(at int64) bool {
	const round, down = int64(18 * time.Second), int64(13 * time.Second)
	return i != nil && (at-i.from)%round < down
}

// leave ends a connection whose client gives up at a time: the server, which still works on it or answers at that very moment, learns of it.
func (s *simulation) leave(conn *connection, at, answered, sent, recv int64) {
	const passing = int64(60 * time.Millisecond)
	conn.sent, conn.recv = sent, 0
	s.open(conn)
	if answered-at >= passing {
		s.close(conn, at)
		return
	}
	// What the server sent last finds nobody.
	conn.recv = recv
	if s.random.IntN(3) == 0 {
		conn.destinationError = gaveUp
		conn.through()
	}
	s.close(conn, max(answered, at))
}

// optional are what a detector may find and need not: an upgrade that is felt, and what always fails, once.
func (h *hardness) optional(end int64) (all []*Expectation) {
	for _, w := range h.chronic {
		kind := "http_errors"
		if !w.http {
			kind = "connection_refused"
		}
		all = append(all, &Expectation{Root: w.id(), Kind: kind, From: 0, To: seconds(end), Edges: [][2]string{}, Within: seconds(end), Optional: true})
	}
	return all
}
