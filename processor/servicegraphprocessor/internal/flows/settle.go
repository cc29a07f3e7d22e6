package flows

import (
	"cmp"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// Settle reconciles what flows reported since it was called last, and adds it to the edges.
func (t *Table) Settle(m moment.Moment) {
	for i, p := range t.touched {
		p.touched = false
		t.touched[i] = nil
		t.reconcile(p, m.Now)
		if !p.waits {
			p.waits = true
			t.waiting = append(t.waiting, p)
		}
	}
	t.touched = t.touched[:0]
	left := t.waiting[:0]
	for _, p := range t.waiting {
		t.save(p)
		failures := &p.leads.failures
		if failures.Held() > 0 {
			t.counted = failures.Release(m.Now, t.cfg.Reconcile, t.counted[:0])
			p.creditFailed(t.counted)
		}
		switch p.waits = t.deliver(p, m); {
		case p.waits:
			left = append(left, p)
		case len(p.series) == 0:
			t.forget(p)
		}
	}
	clear(t.waiting[len(left):])
	t.waiting = left
}

// reconcile counts what the pair's ends reported since the last time, once each.
func (t *Table) reconcile(p *pair, now pcommon.Timestamp) {
	limits := t.cfg.Reconcile
	limits.Heard = [2]pcommon.Timestamp{t.heardOf(p, bySource), t.heardOf(p, byDestination)}
	l := &p.leads
	for q := range l.counts {
		source, destination := p.pending(quantity(q))
		source, destination = l.counts[q].Apply(now, source, destination, limits)
		if quantity(q) == durations {
			p.shareDurations(source, destination)
		} else {
			p.share(quantity(q), source, destination)
		}
	}
	if n := l.counts[closed].TakeSettled(); n > 0 {
		t.telemetry.Settled(n)
	}

	for i := range p.pendingFailed[byDestination] {
		f := &p.pendingFailed[byDestination][i]
		f.Route = p.routeOf(byDestination, f.Route)
	}
	t.counted = l.failures.Apply(now, p.pendingFailed[bySource], p.pendingFailed[byDestination], limits, t.counted[:0])
	p.pendingFailed[bySource] = p.pendingFailed[bySource][:0]
	p.pendingFailed[byDestination] = p.pendingFailed[byDestination][:0]
	p.creditFailed(t.counted)
}

// heardOf is the time before which one end of a pair has said all it has to say: what it has not reported until then it will
// report, if it is late and not gone.
func (t *Table) heardOf(p *pair, by side) pcommon.Timestamp {
	node := p.reporters[by]
	if pod := p.who.pods[by]; node == "" && pod != nil && pod.InMesh() {
		node = pod.Node
	}
	return t.clock.Settled(node)
}

// deliver adds the pair's credit to its edges, if they can be named yet; it tells whether something is left to wait for.
func (t *Table) deliver(p *pair, m moment.Moment) (waits bool) {
	failures := &p.leads.failures
	if m.Final && failures.Held() > 0 {
		t.counted = failures.Flush(t.counted[:0])
		p.creditFailed(t.counted)
	}
	waits = failures.Held() > 0
	p.correctGuesses()
	for i := range p.routes {
		r := &p.routes[i]
		if r.credit.Empty() {
			continue
		}
		// No ztunnel speaks for a waypoint: its word is not awaited.
		if !t.resolver.resolve(p, m) ||
			(!m.Final && !t.names.IsWaypoint(p.who.pods[bySource]) && p.awaitsSource(r, m, t.cfg.Reconcile.Hold)) {
			waits = true
			continue
		}
		t.creditEndpoint(p, r, m.Now)
		t.store.Edges.Add(t.edgeOf(p, r), &r.credit, r.start, m.Now)
		r.credit.Reset()
	}
	return waits
}

// awaitsSource tells whether the route is a guess of the destination's end that the source's will soon replace.
func (p *pair) awaitsSource(r *route, m moment.Moment, hold time.Duration) bool {
	source := p.who.pods[bySource]
	return !r.bySource && !p.hasSource && source != nil && source.InMesh() && r.target.Edge == nil &&
		!m.Past(p.first, hold)
}

// edgeOf finds the edge that a route leads to.
func (t *Table) edgeOf(p *pair, r *route) *edges.Edge {
	table := t.store.Edges
	if r.target.Edge != nil && len(r.hop.Backends) < 2 && r.version == t.names.Version() {
		return r.target.Edge
	}
	r.version = t.names.Version()
	if p.key.overflow {
		table.Point(&r.target, table.Overflow(r.start))
		return r.target.Edge
	}
	key := edge.Key{
		Source:      p.who.parties[bySource],
		Destination: p.who.parties[byDestination],
		Service:     r.service,
		Port:        cmp.Or(p.who.port, p.key.port),
		Security:    cmp.Or(r.security, semconv.SecurityUnknown),
	}
	if called := p.who.called; called != nil && key.Service == "" {
		key.Service = called.Hostname
	}
	r.hop = t.names.MergeHop(p.who.pods[bySource], p.who.pods[byDestination], r.service, p.who.addresses[byDestination])
	switch r.hop.Kind {
	case naming.HopBehind:
		key.Waypoint = r.hop.Waypoint
	case naming.HopThrough:
		backend := t.names.Weights.Assign(&r.shares, key.Source, r.service, r.hop.Backends, r.credit.Closed)
		key.Destination = naming.PartyOf(backend)
		key.Port = naming.BackendPort(backend, r.service, p.key.port)
		key.Waypoint = r.hop.Waypoint
	}
	table.Point(&r.target, table.Find(key, t.names.Protocol(key.Service, key.Port), r.start))
	return r.target.Edge
}

func (t *Table) creditEndpoint(p *pair, r *route, now pcommon.Timestamp) {
	start := r.start
	if p.who.endpoint.Gone() {
		p.who.endpoint = t.resolver.endpointOf(p)
		start = t.store.Emitted()
	}
	if p.who.endpoint != nil {
		t.store.Endpoints.Add(p.who.endpoint, &r.credit, start, now)
	}
}
