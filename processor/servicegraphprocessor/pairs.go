package servicegraphprocessor

import (
	"cmp"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/expo"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

// end names one end of a pair as the logs do: by pod, or by address where the log names none.
type end struct{ pod, namespace, address string }

// pairKey identifies the connections that two reporters see: a client, a server and the server's port. Both ends know
// these; the service is the client's to know, the server's end can only guess it.
type pairKey struct {
	source, destination end
	port                uint16
	overflow            bool
}

// pair reconciles what the two ends of the same connections report.
type pair struct {
	key                 pairKey
	source, destination edge.Party
	clusters            [2]string
	addresses           [2]string

	closed, sent, received, durations reconcile.Lead
	failures                          reconcile.Failures

	ways          []way
	reporters     [2]string // the node that reported each end last
	hasSource     bool
	sourceWay     int // the way of the source's last report
	pendingFailed [2][]reconcile.Failed

	first, seen pcommon.Timestamp
	users       int
	touched     bool
	waits       bool

	// id and series are for what is stored; saving tells that the pair waits to be.
	id     uint64
	series []*flowSeries
	saving bool

	resolution
}

// resolution is who the ends are, as of a generation of the mesh's state.
type resolution struct {
	generation                uint64
	resolved                  bool
	sourcePod, destinationPod *mesh.Workload
	endpoint                  *endpoint
}

// way is what distinguishes connections of a pair that lead to different edges.
type way struct {
	service, security string
	bySource          bool
	start             pcommon.Timestamp
	pending           [2]flowCounts
	credit            flowCredit
	target            target
	saved             uint64 // the stored id of the target's edge
	// hop is what becomes of the way if it leads to or from a waypoint, as of a version of the names;
	// shares are the connections given to each of several backends.
	hop     naming.Hop
	version uint64
	shares  naming.Shares
}

// flowCounts are increments of one reporter.
type flowCounts struct {
	closed, sent, received uint64
	duration               expo.Histogram
}

// flowCredit is what was reconciled and waits for its edge.
type flowCredit struct {
	closed, sent, received uint64
	failed                 []failedCount
	duration               expo.Histogram
}

func (c *flowCredit) empty() bool {
	return c.closed == 0 && c.sent == 0 && c.received == 0 && len(c.failed) == 0 && c.duration.Count == 0
}

func (c *flowCredit) reset() {
	c.closed, c.sent, c.received = 0, 0, 0
	c.failed = c.failed[:0]
	c.duration.Reset()
}

// pairOf finds or creates the pair of a flow series.
func (g *graph) pairOf(key *flowKey, at pcommon.Timestamp) *pair {
	id := pairKey{port: key.port, overflow: key.overflow}
	if !key.overflow {
		id.source = g.endOf(key.sourceNamespace, key.sourcePod, key.sourceAddress)
		id.destination = g.endOf(key.destinationNamespace, key.destinationPod, key.destinationAddress)
	}
	if p, ok := g.flows.pairs[id]; ok {
		p.seen = max(p.seen, at)
		return p
	}
	p := &pair{
		key:       id,
		clusters:  [2]string{key.sourceCluster, key.destinationCluster},
		addresses: [2]string{key.sourceAddress, key.destinationAddress},
		first:     max(g.clock.time, at), seen: at,
	}
	g.flows.pairs[id] = p
	return p
}

// endOf names an end by its pod; an early denial is logged with addresses only, which the mesh's state may name.
func (g *graph) endOf(namespace, pod, address string) end {
	if pod == "" {
		if w := g.directory.HolderOf(address); w != nil {
			return end{pod: w.Name, namespace: w.Namespace}
		}
		return end{address: address}
	}
	return end{pod: pod, namespace: namespace}
}

func (p *pair) way(service, security string, start pcommon.Timestamp) int {
	for i := range p.ways {
		w := &p.ways[i]
		if w.service == service && w.security == security {
			w.start = min(w.start, start)
			return i
		}
	}
	p.ways = append(p.ways, way{service: service, security: security, start: start})
	return len(p.ways) - 1
}

func (p *pair) fail(by side, reason reconcile.Reason, way int, n uint64) {
	p.pendingFailed[by] = append(p.pendingFailed[by], reconcile.Failed{Reason: reason, Way: way, N: n})
}

// settlePair counts what the pair's ends reported since the last flush, once each, and credits it to its edges.
func (g *graph) settlePair(p *pair, now pcommon.Timestamp) {
	limits := g.limits
	limits.Heard = [2]pcommon.Timestamp{g.heardOf(p, bySource), g.heardOf(p, byDestination)}
	pending := p.totals()
	source, destination := p.closed.Apply(now, pending[bySource].closed, pending[byDestination].closed, limits)
	if n := p.closed.TakeSettled(); n > 0 {
		g.telemetry.ServiceGraphSettled.Add(g.ctx, int64(n))
	}
	p.share(source, destination, func(c *flowCounts) *uint64 { return &c.closed }, func(c *flowCredit) *uint64 { return &c.closed })
	source, destination = p.sent.Apply(now, pending[bySource].sent, pending[byDestination].sent, limits)
	p.share(source, destination, func(c *flowCounts) *uint64 { return &c.sent }, func(c *flowCredit) *uint64 { return &c.sent })
	source, destination = p.received.Apply(now, pending[bySource].received, pending[byDestination].received, limits)
	p.share(source, destination, func(c *flowCounts) *uint64 { return &c.received }, func(c *flowCredit) *uint64 { return &c.received })

	source, destination = p.durations.Apply(now, pending[bySource].durations, pending[byDestination].durations, limits)
	p.shareDurations(source, destination)

	for i := range p.pendingFailed[byDestination] {
		f := &p.pendingFailed[byDestination][i]
		f.Way = p.wayOf(byDestination, f.Way)
	}
	g.flows.counted = p.failures.Apply(now, p.pendingFailed[bySource], p.pendingFailed[byDestination], limits, g.flows.counted[:0])
	p.pendingFailed[bySource] = p.pendingFailed[bySource][:0]
	p.pendingFailed[byDestination] = p.pendingFailed[byDestination][:0]
	p.creditFailed(g.flows.counted)
}

// heardOf is the time before which one end of a pair has said all it has to say: what it has not reported until then it will
// report, if it is late and not gone.
func (g *graph) heardOf(p *pair, by side) pcommon.Timestamp {
	node := p.reporters[by]
	if pod := [...]*mesh.Workload{p.sourcePod, p.destinationPod}[by]; node == "" && pod != nil && pod.InMesh() {
		node = pod.Node
	}
	return g.clock.heardOf(node)
}

func (p *pair) creditFailed(counted []reconcile.Failed) {
	for _, f := range counted {
		credit := &p.ways[f.Way].credit
		credit.failed = addFailed(credit.failed, f.Reason, f.N)
	}
}

type pendingTotals struct{ closed, sent, received, durations uint64 }

func (p *pair) totals() (totals [2]pendingTotals) {
	for i := range p.ways {
		for by := range totals {
			counts := &p.ways[i].pending[by]
			totals[by].closed += counts.closed
			totals[by].sent += counts.sent
			totals[by].received += counts.received
			totals[by].durations += counts.duration.Count
		}
	}
	return totals
}

// wayOf is the way that a report's connections took: where the source reports, it is the source that knows.
func (p *pair) wayOf(by side, reported int) int {
	if by == byDestination && p.hasSource && !p.ways[reported].bySource {
		return p.sourceWay
	}
	return reported
}

// share distributes what counts of one quantity over the ways that reported it, and empties what was pending.
func (p *pair) share(source, destination uint64, pending func(*flowCounts) *uint64, credit func(*flowCredit) *uint64) {
	left := [2]uint64{source, destination}
	for i := range p.ways {
		for by := range left {
			n := pending(&p.ways[i].pending[by])
			take := min(*n, left[by])
			left[by] -= take
			*n = 0
			if take > 0 {
				*credit(&p.ways[p.wayOf(side(by), i)].credit) += take
			}
		}
	}
}

func (p *pair) shareDurations(source, destination uint64) {
	left := [2]uint64{source, destination}
	for i := range p.ways {
		for by := range left {
			h := &p.ways[i].pending[by].duration
			if h.Count == 0 {
				continue
			}
			take := min(h.Count, left[by])
			left[by] -= take
			if take > 0 {
				h.DropLowest(h.Count - take)
				p.ways[p.wayOf(side(by), i)].credit.duration.Add(h)
			}
			h.Reset()
		}
	}
}

// deliver hands the pair's credit to its edges, if they can be named yet; it tells whether something is left to wait
// for. With force nothing waits.
func (g *graph) deliver(p *pair, now pcommon.Timestamp, force bool) (waits bool) {
	if force && p.failures.Held() > 0 {
		g.flows.counted = p.failures.Flush(g.flows.counted[:0])
		p.creditFailed(g.flows.counted)
	}
	waits = p.failures.Held() > 0
	p.correctGuesses()
	for i := range p.ways {
		w := &p.ways[i]
		if w.credit.empty() {
			continue
		}
		if !g.resolve(p, now, force) || (!force && g.awaitsSource(p, w, now)) {
			waits = true
			continue
		}
		g.creditEndpoint(p, &w.credit, w.start, now)
		g.creditWay(p, w, now)
		w.credit.reset()
	}
	return waits
}

// correctGuesses moves what was held back under a service that the destination's end guessed to the one that the
// source's end told meanwhile.
func (p *pair) correctGuesses() {
	if !p.hasSource || len(p.ways) < 2 {
		return
	}
	for i := range p.ways {
		w := &p.ways[i]
		if w.bySource || w.credit.empty() {
			continue
		}
		told := &p.ways[p.sourceWay]
		told.credit.add(&w.credit)
		told.start = min(told.start, w.start)
		w.credit.reset()
	}
}

func (c *flowCredit) add(other *flowCredit) {
	c.closed += other.closed
	c.sent += other.sent
	c.received += other.received
	for _, f := range other.failed {
		c.failed = addFailed(c.failed, f.Reason, f.n)
	}
	c.duration.Add(&other.duration)
}

// awaitsSource tells whether the way is a guess of the destination's end that the source's will soon replace.
func (g *graph) awaitsSource(p *pair, w *way, now pcommon.Timestamp) bool {
	return !w.bySource && !p.hasSource && p.sourcePod != nil && p.sourcePod.InMesh() && w.target.edge == nil &&
		!since(p.first, now, g.cfg.Reconcile.ReasonHold)
}

// resolve names the pair's ends; false means that it is worth waiting for the mesh's state.
func (g *graph) resolve(p *pair, now pcommon.Timestamp, force bool) bool {
	d := g.directory
	if p.resolved && (p.generation == d.Version() || !d.Known()) {
		return true
	}
	if p.key.overflow {
		p.resolved, p.generation = true, d.Version()
		return true
	}
	source, destination := g.find(p.key.source), g.find(p.key.destination)
	if p.resolved {
		// Who was known once keeps that name when the mesh's state forgets it, or does not know it yet after a restart.
		source, destination = cmp.Or(source, p.sourcePod), cmp.Or(destination, p.destinationPod)
	}
	if !p.resolved && !force && g.stateMayBeLate(p.first, now) &&
		(g.mayAppear(source, p.key.source) || g.mayAppear(destination, p.key.destination)) {
		return false
	}
	named := p.resolved
	changed := p.apply(source, destination, d.Version())
	if !changed {
		return true
	}
	if source != nil || !named {
		p.source = g.party(source, p.key.source, p.clusters[0])
	}
	if destination != nil || !named {
		p.destination = g.party(destination, p.key.destination, p.clusters[1])
	}
	p.endpoint = g.endpointOf(p, destination)
	for i := range p.ways {
		g.release(&p.ways[i].target)
	}
	return true
}

// apply takes over a resolution and tells whether it differs from the last one.
func (p *pair) apply(source, destination *mesh.Workload, generation uint64) bool {
	changed := !p.resolved || !sameWorkload(p.sourcePod, source) || !sameWorkload(p.destinationPod, destination)
	p.resolved, p.generation = true, generation
	p.sourcePod, p.destinationPod = source, destination
	return changed
}

func sameWorkload(a, b *mesh.Workload) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a == b || naming.PartyOf(a) == naming.PartyOf(b) && a.Node == b.Node && a.Name == b.Name
}

func (g *graph) find(e end) *mesh.Workload {
	if e.pod != "" {
		return g.directory.Pod(e.namespace, e.pod)
	}
	return g.directory.HolderOf(e.address)
}

// stateMayBeLate tells whether the mesh's state may not have said yet what it knows of something that was first seen at a time.
// Whoever was cut off hears of minutes in seconds, but of the mesh's state only once its stream is back.
func (g *graph) stateMayBeLate(first, now pcommon.Timestamp) bool {
	return !since(first, now, g.cfg.ResolveHold) || g.clock.reuniting(g.now())
}

// mayAppear tells whether an end that is not known may be named later: any, as long as nothing is known about the
// mesh; a pod always, because its own event may be on its way. Where no source tells of the mesh nothing will be.
func (g *graph) mayAppear(w *mesh.Workload, e end) bool {
	return w == nil && !g.directory.Meshless(g.clock.time) && (!g.directory.Known() || e.pod != "")
}

func (g *graph) party(w *mesh.Workload, e end, cluster string) edge.Party {
	if w != nil {
		return naming.PartyOf(w)
	}
	if e.pod != "" {
		g.telemetry.ServiceGraphUnresolved.Add(g.ctx, 1)
		return edge.Party{Workload: e.pod, Namespace: e.namespace, App: e.pod, Cluster: cluster}
	}
	party, ok := g.directory.Externals.Name(e.address)
	if !ok {
		g.overflowed("external")
	}
	return party
}

// creditWay hands a way's credit to its edge.
func (g *graph) creditWay(p *pair, w *way, now pcommon.Timestamp) {
	e := g.edgeOf(p, w)
	if e == nil {
		return
	}
	e.startsAt(w.start)
	e.addFlows(&w.credit)
	g.edges.touch(e, now)
}

// startsAt states an earlier start; once the edge has left, its start stays.
func (e *edgeState) startsAt(start pcommon.Timestamp) {
	if e.emitted == 0 && start < e.start {
		e.start = start
	}
}

func (e *edgeState) addFlows(c *flowCredit) {
	e.closed += c.closed
	e.sent += c.sent
	e.received += c.received
	e.duration.Add(&c.duration)
	for _, f := range c.failed {
		reason := f.Reason
		if len(e.failed) >= maxReasons {
			reason.Policy = ""
		}
		e.failed = addFailed(e.failed, reason, f.n)
	}
}

// edgeOf finds the edge that a way leads to; nil if it is none of its own.
func (g *graph) edgeOf(p *pair, w *way) *edgeState {
	if w.target.edge != nil && len(w.hop.Backends) < 2 && w.version == g.directory.Version() {
		return w.target.edge
	}
	w.version = g.directory.Version()
	if p.key.overflow {
		g.use(&w.target, g.edges.overflow(w.start))
		return w.target.edge
	}
	key := edge.Key{
		Source:      p.source,
		Destination: p.destination,
		Service:     w.service,
		Port:        p.key.port,
		Security:    w.security,
	}
	if key.Security == "" {
		key.Security = semconv.SecurityUnknown
	}
	w.hop = g.directory.MergeHop(p.sourcePod, p.destinationPod, w.service, p.addresses[1])
	switch w.hop.Kind {
	case naming.HopBehind:
		g.release(&w.target)
		return nil
	case naming.HopThrough:
		backend := g.directory.Assign(&w.shares, p.source, w.service, w.hop.Backends, w.credit.closed)
		key.Destination = naming.PartyOf(backend)
		key.Port = naming.BackendPort(backend, w.service, p.key.port)
		key.Waypoint = w.hop.Waypoint
	}
	g.use(&w.target, g.edges.find(key, g.directory.Protocol(key.Service, key.Port), w.start))
	return w.target.edge
}

// target is the edge that something leads to.
type target struct{ edge *edgeState }

func (g *graph) use(t *target, e *edgeState) {
	g.release(t)
	t.edge = e
	e.users++
}

func (g *graph) release(t *target) {
	if t.edge != nil {
		t.edge.users--
		t.edge = nil
	}
}

// since tells whether a duration has passed from one time to another.
func since(from, to pcommon.Timestamp, d time.Duration) bool {
	return to >= from && time.Duration(to-from) >= d
}
