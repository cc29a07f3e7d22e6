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

func (s *simulation) schedule(at int64, apply func()) {
	s.queue.sequence++
	heap.Push(&s.queue, effect{at, s.queue.sequence, apply})
}

// connection is one TCP connection as both ztunnels will tell of it.
type connection struct {
	source      *pod
	destination *pod // nil where none could be chosen
	to          *workload
	port        uint16 // the client's
	tunnelPort  uint16 // the HBONE connection's, as the server's side sees it
	opened      int64
	sent, recv  int64    // in the client's sense
	live        [2]int64 // what of them the counters already show
	// failure at either side; empty where that side is content, and silent where it says nothing at all.
	sourceError, destinationError string
	sourceFlag, destinationFlag   string
	destinationSilent             bool
	early                         bool // denied before there was an upstream: addresses only
}

type simulation struct {
	Options
	mesh     *mesh
	incident *incident
	random   *rand.Rand
	queue    effects
	end      int64
	pool     map[poolKey]*connection
	hbone    map[[2]*pod]uint16
	ztunnels map[string]*ztunnel
	spans    *spanWriter
	changes  []change
	denied   *call // a call that was denied from the start
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
	factor := 1 + 0.15*math.Sin(t/37)
	if s.DayCurve {
		factor *= 0.55 - 0.45*math.Cos(2*math.Pi*t/86400)
	}
	return factor
}

// arrive schedules root's next request after at (thinning a Poisson process of the highest rate).
func (s *simulation) arrive(root *workload, at int64) {
	const ceiling = 1.2
	for {
		at += int64(s.random.ExpFloat64() / (root.rate * ceiling) * 1e9)
		if at >= s.end {
			return
		}
		if s.random.Float64()*ceiling < s.load(at) {
			break
		}
	}
	s.schedule(at, func() {
		source := s.choose(root, at)
		if source != nil && !s.incident.nodeDead(at, source.node) {
			trace := s.newTrace()
			s.work(source, at, trace, root.instrumented)
		}
		s.arrive(root, at)
	})
}

func (s *simulation) choose(w *workload, at int64) *pod {
	ready := 0
	for _, p := range w.pods {
		if p.ready(at) {
			ready++
		}
	}
	if ready == 0 || s.incident.hits(at, FaultNoHealthyUpstream, w) {
		return nil
	}
	n := s.random.IntN(ready)
	for _, p := range w.pods {
		if p.ready(at) {
			if n == 0 {
				return p
			}
			n--
		}
	}
	return nil
}

// work is what a pod does for one request from at on: its own time and its calls, one after the other. It returns when
// it ends and whether it went well.
func (s *simulation) work(p *pod, at int64, trace traceContext, instrumented bool) (end int64, ok bool) {
	w := p.workload
	own := w.serviceTime * math.Exp(s.random.NormFloat64()*0.35)
	if s.incident.hits(at, FaultLatency, w) {
		own = own*s.incident.factor + 0.25
	}
	at += int64(own * 0.5e9)
	ok = s.random.Float64() >= w.errorRate
	if s.incident.hits(at, FaultHTTPErrors, w) && s.random.Float64() < s.incident.factor {
		return at + int64(own*0.1e9), false
	}
	for _, c := range w.calls {
		if s.random.Float64() >= c.probability {
			continue
		}
		if s.incident.hits(at, FaultTrafficLoss, c.to) && s.incident.caller == w {
			continue
		}
		done, succeeded := s.call(p, c, at, trace, instrumented)
		at = done
		if !succeeded && c.critical {
			ok = false
			break
		}
	}
	return at + int64(own*0.5e9), ok
}

// call is one request of a pod to another workload, over a connection of its own or one that is kept.
func (s *simulation) call(source *pod, c *call, at int64, trace traceContext, instrumented bool) (end int64, ok bool) {
	client := s.startSpan(trace, source, instrumented)
	start := at
	at += 200_000 + s.random.Int64N(300_000) // to the other node and through both ztunnels
	if s.incident.nodeDead(at, source.node) {
		// Without its ztunnel the pod reaches nobody, and nobody tells of it.
		end = at + int64(time.Millisecond)
		client.finishClient(s, c, start, end, 0, true)
		return end, false
	}
	destination := s.choose(c.to, at)
	conn := &connection{source: source, destination: destination, to: c.to, opened: at, port: uint16(32768 + s.random.IntN(28000))}
	if failed, done := s.fails(conn, c, at); failed {
		client.finishClient(s, c, start, done, 0, true)
		return done, false
	}
	conn.tunnelPort = s.tunnel(source, destination)

	requestSent := c.sent + s.random.Int64N(32)
	requestRecv := c.recv + s.random.Int64N(1+c.recv/4)
	server := s.startSpan(client.child(trace), destination, c.to.instrumented && c.to.http)
	serverStart := at
	end, ok = s.work(destination, at, server.child(trace), c.to.instrumented && c.to.http)
	status := 200
	if !ok {
		status, requestRecv = 500, 80+s.random.Int64N(40)
	}
	server.finishServer(s, c, conn, serverStart, end, status)
	end += 200_000 + s.random.Int64N(300_000)
	client.finishClient(s, c, start, end, status, !ok)

	if s.incident.hits(at, FaultConnectionReset, c.to) && s.random.Float64() < 0.9 {
		conn.sourceError = "receive: Connection reset by peer (os error 104)"
		conn.destinationError = "receive: Connection reset by peer (os error 104)"
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

// fails tells whether the connection cannot be had, and until when the client waits for that.
func (s *simulation) fails(conn *connection, c *call, at int64) (bool, int64) {
	done := at + 300_000 + s.random.Int64N(700_000)
	source, to := conn.source, c.to
	refused := s.incident.hits(at, FaultConnectionRefused, to) ||
		s.incident.hits(at, FaultPartialRefused, to) && conn.destination == s.incident.pod
	switch {
	case s.incident.at(at) && s.incident.fault == FaultIdentityError && s.incident.target == source.workload:
		conn.sourceError = "identity error: signing gRPC error (status: The service is currently unavailable, message: certificate request failed)"
		conn.sourceFlag, conn.destinationSilent = "IDENTITY_ERROR", true
	case conn.destination == nil:
		conn.sourceError = "no healthy upstream: " + to.vip.String()
		conn.early, conn.destinationSilent = true, true
	case s.denied == c || s.incident.hits(at, FaultPolicyDenied, to) && source.workload == s.incident.caller:
		policy := policyNamespace
		if s.denied == c {
			policy = "always-denied"
		}
		conn.sourceError, conn.sourceFlag = "http status: 401 Unauthorized", "CONNECT"
		conn.destinationError = "connection closed due to policy rejection: explicitly denied by: " + to.namespace + "/" + policy
		conn.destinationFlag = "DENY"
	case s.incident.nodeDead(at, conn.destination.node):
		conn.sourceError, conn.sourceFlag, conn.destinationSilent = "io error: Connection refused (os error 111)", "CONNECT", true
	case refused:
		conn.sourceError, conn.sourceFlag = "http status: 503 Service Unavailable", "CONNECT"
		conn.destinationError, conn.destinationFlag = "connection failed: Connection refused (os error 111)", "CONNECT"
	case s.incident.hits(at, FaultConnectionTimeout, to):
		done = at + connectTimeout
		conn.sourceError, conn.sourceFlag = "http status: 503 Service Unavailable", "CONNECT"
		conn.destinationError, conn.destinationFlag = "connection failed: Connection timed out (os error 110)", "CONNECT"
	case s.incident.hits(at, FaultTLSFailure, to):
		conn.sourceError, conn.sourceFlag = "tls error: tls handshake error: received fatal alert: CertificateUnknown", "TLS_FAILURE"
		conn.destinationSilent = true
	default:
		return false, 0
	}
	if conn.destination != nil {
		conn.tunnelPort = s.tunnel(source, conn.destination)
	}
	s.open(conn)
	s.close(conn, done)
	return true, done
}

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
			if s.incident != nil && s.incident.fault == FaultNodeDown && s.incident.node == p.node && at < s.incident.from {
				until = min(until, s.incident.from)
			}
		}
		until = max(until, end)
		s.schedule(until, func() { delete(s.pool, key) })
		s.close(kept, until)
	}
	s.schedule(end, func() {
		kept.sent += sent
		kept.recv += recv
		s.each(kept, end, (*ztunnel).carried)
		kept.live = [2]int64{kept.sent, kept.recv}
	})
}

func (s *simulation) open(conn *connection) {
	s.schedule(conn.opened, func() { s.each(conn, conn.opened, (*ztunnel).opened) })
}

func (s *simulation) close(conn *connection, at int64) {
	// The server's side closes first.
	s.schedule(at-150_000, func() {
		if conn.destination != nil && !conn.destinationSilent {
			s.side(conn, at-150_000, false, (*ztunnel).closed)
		}
	})
	s.schedule(at, func() { s.side(conn, at, true, (*ztunnel).closed) })
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
	if !p.workload.mesh || s.incident.nodeDead(at, p.node) || s.incident.nodeMute(at, p.node) {
		return
	}
	do(s.ztunnels[p.node], conn, outbound, at)
}
