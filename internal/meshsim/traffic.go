package meshsim

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"time"
)

// An effect is something that telemetry shows at a time.
type effect struct {
	at       int64
	sequence uint64
	apply    func()
}

type effects struct {
	items    []effect
	sequence uint64
}

func (e *effects) Len() int { return len(e.items) }
func (e *effects) Less(i, j int) bool {
	a, b := &e.items[i], &e.items[j]
	return a.at < b.at || a.at == b.at && a.sequence < b.sequence
}
func (e *effects) Swap(i, j int) { e.items[i], e.items[j] = e.items[j], e.items[i] }
func (e *effects) Push(x any)    { e.items = append(e.items, x.(effect)) }
func (e *effects) Pop() any {
	last := e.items[len(e.items)-1]
	e.items = e.items[:len(e.items)-1]
	return last
}

func (e *effects) schedule(at int64, apply func()) {
	e.sequence++
	heap.Push(e, effect{at, e.sequence, apply})
}

// connection is one TCP connection as both ztunnels will tell of it.
type connection struct {
	source      *pod
	destination *pod // nil where none could be chosen
	to          *workload
	port        uint16 // the client's
	tunnel
	opened     int64
	sent, recv int64    // in the client's sense
	live       [2]int64 // what of them the counters already show
	// failure at either side; empty where that side is content, and silent where it says nothing at all.
	sourceError, destinationError string
	sourceFlag, destinationFlag   string
	destinationSilent             bool
	early                         bool // denied before there was an upstream: addresses only
}

// tunnel is how a connection gets to the other node.
type tunnel struct {
	tunnelPort uint16 // the HBONE connection's, as the server's side sees it
	accepted   int64  // when the server's side hears of it, 0 at once
	via        *pod   // a waypoint between the two
}

type simulation struct {
	Options
	mesh      *mesh
	incidents incidents
	random    *rand.Rand
	queue     effects
	end       int64
	pool      map[poolKey]*connection
	hbone     map[[2]*pod]uint16
	ztunnels  map[string]*ztunnel
	spans     *spanWriter
	denied    *call // a call that was denied from the start
	proxies   *proxies
	hardness
}

type poolKey struct {
	source      *pod
	destination *pod
}

// run plays the whole recording.
func (s *simulation) run() {
	for _, root := range s.mesh.roots {
		s.arrive(root, 0)
	}
	heap.Init(&s.queue)
	for s.queue.Len() > 0 {
		next := heap.Pop(&s.queue).(effect)
		if next.at >= s.end {
			return
		}
		next.apply()
	}
}

// load is the factor on the root rate at a time: a slow wave, and with DayCurve the hour of the day.
func (s *simulation) load(at int64) float64 {
	t := seconds(at)
	factor := (1 + 0.15*math.Sin(t/37)) * s.surging(at)
	if s.DayCurve {
		factor *= 0.55 - 0.45*math.Cos(2*math.Pi*t/86400)
	}
	return factor
}

// arrive schedules root's next request after at (thinning a Poisson process of the highest rate).
func (s *simulation) arrive(root *workload, at int64) {
	ceiling := 1.2 * s.highest
	rate := root.rate
	if root.job != nil {
		rate = root.job.rate
	}
	for {
		at += int64(s.random.ExpFloat64() / (rate * ceiling) * 1e9)
		if at >= s.end {
			return
		}
		if root.job.on(at) && s.random.Float64()*ceiling < s.load(at) {
			break
		}
	}
	s.queue.schedule(at, func() {
		source := s.choose(root, at, nil)
		if source != nil && s.works(source, at) {
			trace := s.spans.newTrace()
			s.work(source, at, trace, root.instrumented)
		}
		s.arrive(root, at)
	})
}

const (
	// pauses is one in how many requests waits for a garbage collector or a lock, cuts one in how many connections of a frail call breaks.
	pauses = 150
	cuts   = 700
)

// choose picks a pod of a workload that a caller, unless it is nil, reaches.
func (s *simulation) choose(w *workload, at int64, from *pod) *pod {
	ready := 0
	fits := func(p *pod) bool {
		return s.eligible(p, at) && (from == nil || from.network == "" || p.network == "" || p.network == from.network)
	}
	for _, p := range w.pods {
		if fits(p) {
			ready++
		}
	}
	if ready == 0 || s.incidents.hits(at, FaultNoHealthyUpstream, w) != nil {
		return nil
	}
	n := s.random.IntN(ready)
	for _, p := range w.pods {
		if fits(p) {
			if n == 0 {
				return p
			}
			n--
		}
	}
	return nil
}

// works tells whether a pod can do anything at all: its machine is there and, if it needs one, its ztunnel.
func (s *simulation) works(p *pod, at int64) bool {
	dead := s.incidents.nodeDead(at, p.node)
	return dead == nil || !dead.whole && !p.workload.mesh
}

// unreachable is how long istiod takes to take the pods of a machine that is gone for unhealthy.
const unreachable = int64(45 * time.Second)

// eligible tells whether callers are sent to a pod.
func (s *simulation) eligible(p *pod, at int64) bool {
	if !p.ready(at) {
		return false
	}
	dead := s.incidents.nodeDead(at, p.node)
	return dead == nil || !dead.whole || at < dead.from+unreachable
}

// work is what a pod does for one request from at on: its own time and its calls, one after the other. It returns when
// it ends and whether it went well.
func (s *simulation) work(p *pod, at int64, trace traceContext, instrumented bool) (end int64, ok bool) {
	w := p.workload
	own := w.serviceTime * math.Exp(s.random.NormFloat64()*0.35)
	if s.random.IntN(pauses) == 0 {
		own *= 2 + 10*s.random.Float64()
	}
	i := s.incidents.hits(at, FaultLatency, w)
	if i == nil {
		i = s.incidents.hits(at, FaultSlowDatabase, w)
	}
	if i != nil {
		own = own*i.factor + 0.25
	}
	at += int64(own * 0.5e9)
	ok = s.random.Float64() >= w.errorRate
	if i := s.incidents.hits(at, FaultHTTPErrors, w); i != nil && s.random.Float64() < i.factor {
		return at + int64(own*0.1e9), false
	}
	for _, c := range w.calls {
		if s.random.Float64() >= c.probability {
			continue
		}
		if i := s.incidents.hits(at, FaultTrafficLoss, c.to); i != nil && i.caller == w {
			continue
		}
		if !s.reaches(p, c.to, at) {
			continue
		}
		done, succeeded := s.call(p, c, at, trace, instrumented)
		if !succeeded && w.retries {
			done, succeeded = s.call(p, c, done, trace, instrumented)
		}
		at = done
		if !succeeded && c.critical {
			ok = false
			break
		}
	}
	if s.proxies.tells && ok {
		at, ok = s.proxies.askOutside(p, at, trace, instrumented)
	}
	return at + int64(own*0.5e9), ok
}

// call is one request of a pod to another workload, over a connection of its own or one that is kept.
func (s *simulation) call(source *pod, c *call, at int64, trace traceContext, instrumented bool) (end int64, ok bool) {
	if len(s.incidents) > 0 && at < s.incidents[0].from {
		c.made++
	}
	client := s.spans.start(trace, source, instrumented)
	start := at
	at += 200_000 + s.random.Int64N(300_000) // to the other node and through both ztunnels
	if dead := s.incidents.nodeDead(at, source.node); dead != nil && (dead.whole || source.workload.mesh) {
		if dead.whole {
			return at, false
		}
		// Without its ztunnel the pod reaches nobody, and nobody tells of it.
		end = at + int64(time.Millisecond)
		client.finishClient(c, start, end, 0, true)
		return end, false
	}
	if s.incidents.uncaptured(source, at) != nil {
		client.finishClient(c, start, at, 0, true)
		return at, false
	}
	destination := s.choose(c.to, at, source)
	conn := &connection{source: source, destination: destination, to: c.to, opened: at, port: uint16(32768 + s.random.IntN(28000))}
	if failed, done := s.fails(conn, c, at); failed {
		client.finishClient(c, start, done, 0, true)
		return done, false
	}
	conn.tunnelPort = s.tunnel(source, destination)
	conn.through()
	at += s.proxies.hindered(conn, at)

	requestSent := c.sent + s.random.Int64N(32)
	requestRecv := c.recv + s.random.Int64N(1+c.recv/4)
	if s.incidents.hits(at, FaultPacketLoss, c.to) != nil {
		at += lost(s.random)
	}
	if s.incidents.hits(at, FaultUnanswered, c.to) != nil && s.random.Float64() < 0.93 {
		end = at + int64(time.Millisecond) + s.random.Int64N(int64(4*time.Millisecond))
		client.finishClient(c, start, end, 0, true)
		s.leave(conn, end, end+int64(time.Hour), requestSent, 0)
		return end, false
	}
	server := s.spans.start(client.child(trace), destination, c.to.instrumented && c.to.http)
	serverStart := at
	if s.incidents.hits(at, FaultHang, c.to) != nil {
		end = max(at, s.incidents.hits(at, FaultHang, c.to).until) + s.random.Int64N(int64(time.Second))
	} else {
		end, ok = s.work(destination, at, server.child(trace), c.to.instrumented && c.to.http)
	}
	status := 200
	if !ok {
		status, requestRecv = 500, 80+s.random.Int64N(40)
	}
	server.finishServer(c, conn, serverStart, end, status)
	end += 200_000 + s.random.Int64N(300_000) + s.proxies.hindered(conn, end)
	if deadline := start + s.patience; s.patience > 0 && end > deadline {
		client.finishClient(c, start, deadline, 0, true)
		s.leave(conn, deadline, end, requestSent, requestRecv)
		return deadline, false
	}
	client.finishClient(c, start, end, status, !ok)

	cut := source.workload.mesh && c.to.mesh && s.incidents.hits(at, FaultConnectionReset, c.to) != nil && s.random.Float64() < 0.9
	if cut || c.frail && s.random.IntN(cuts) == 0 {
		conn.sourceError = "receive: Connection reset by peer (os error 104)"
		conn.destinationError = "receive: Connection reset by peer (os error 104)"
		conn.through()
		ok = false
		requestRecv = 0
	}
	if c.keepAlive && ok {
		s.keep(conn, at, end, requestSent, requestRecv)
		return end, ok
	}
	conn.sent, conn.recv = requestSent, requestRecv
	s.open(conn)
	s.close(conn, end)
	return end, ok
}

// drained is what a ztunnel says of what it closes as it or the pod goes.
const drained = "connection closed due to connection drain"

func (s *simulation) tunnel(source, destination *pod) uint16 {
	key := [2]*pod{source, destination}
	port, ok := s.hbone[key]
	if !ok {
		port = uint16(32768 + s.random.IntN(28000))
		s.hbone[key] = port
	}
	return port
}

// keep sends a request over the pair's kept connection, opening one if there is none.
func (s *simulation) keep(conn *connection, at, end, sent, recv int64) {
	key := poolKey{conn.source, conn.destination}
	kept, ok := s.pool[key]
	if !ok {
		kept = conn
		s.pool[key] = kept
		s.open(kept)
		until := at + int64(20*time.Second) + s.random.Int64N(int64(100*time.Second))
		for _, p := range []*pod{conn.source, conn.destination} {
			until = min(until, p.until)
			for _, i := range s.incidents {
				if !i.stops(p.node) || at >= i.from || until < i.from {
					continue
				}
				until = i.from
				if i.drains {
					until -= int64(time.Millisecond)
					kept.sourceError, kept.destinationError = drained, drained
				}
			}
		}
		until = max(until, end)
		if until == conn.destination.until {
			kept.destinationError = drained
		}
		s.queue.schedule(until, func() { delete(s.pool, key) })
		s.close(kept, until)
	}
	s.queue.schedule(end, func() {
		kept.sent += sent
		kept.recv += recv
		s.each(kept, end, (*ztunnel).carried)
		kept.live = [2]int64{kept.sent, kept.recv}
	})
}

func (s *simulation) open(conn *connection) {
	s.proxies.named(conn)
	s.queue.schedule(conn.opened, func() {
		if conn.accepted == 0 {
			s.each(conn, conn.opened, (*ztunnel).opened)
		} else {
			s.side(conn, conn.opened, true, (*ztunnel).opened)
		}
	})
	if conn.accepted != 0 {
		s.queue.schedule(conn.accepted, func() { s.side(conn, conn.accepted, false, (*ztunnel).opened) })
	}
}

func (s *simulation) close(conn *connection, at int64) {
	// The server's side closes first.
	s.queue.schedule(at-150_000, func() {
		if conn.destination != nil && !conn.destinationSilent {
			s.side(conn, at-150_000, false, (*ztunnel).closed)
		}
	})
	s.queue.schedule(at, func() { s.side(conn, at, true, (*ztunnel).closed) })
}

func (s *simulation) each(conn *connection, at int64, do func(*ztunnel, *connection, bool, int64)) {
	s.side(conn, at, true, do)
	if conn.destination != nil && !conn.destinationSilent {
		s.side(conn, at, false, do)
	}
}

// side lets the ztunnel of one side see the connection, if there is one that can.
func (s *simulation) side(conn *connection, at int64, outbound bool, do func(*ztunnel, *connection, bool, int64)) {
	p := conn.source
	if !outbound {
		p = conn.destination
	}
	if !p.workload.mesh || s.incidents.silent(at, p.node) {
		return
	}
	do(s.ztunnels[p.node], conn, outbound, at)
}
