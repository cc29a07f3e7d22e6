package flows

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

// end names one end of a pair: by pod as the logs do, or by address where the log names none. Of connections that cross between
// networks, both ends' ztunnels know no more than the client's app, which is its address within a namespace, and the service, whose
// host name is its address.
type end struct{ pod, namespace, address string }

func (e end) isApp() bool { return e.pod == "" && e.namespace != "" }

// pairKey identifies the connections that two reporters see: a client, a server and the server's port. Both ends know
// these; the service is the client's to know, the server's end can only guess it.
type pairKey struct {
	source, destination end
	port                uint16
	overflow            bool
}

// pair reconciles what the two ends of the same connections report.
type pair struct {
	key pairKey
	who who

	leads  leads
	routes []route
	// series are those that tell of the pair, reporters the node that reported each end last.
	series        []*series
	reporters     [2]string
	hasSource     bool
	sourceRoute   int // the route of the source's last report
	pendingFailed [2][]reconcile.Failed

	first, seen    pcommon.Timestamp
	touched, waits bool

	// id is the pair's in what is recorded; saving tells that it waits to be.
	id     uint64
	saving bool
}

// leads compare what the two ends report.
type leads struct {
	counts   [durations + 1]reconcile.Lead
	failures reconcile.Failures
}

// route is what distinguishes connections of a pair that lead to different edges.
type route struct {
	service, security string
	bySource          bool
	start             pcommon.Timestamp
	pending           [2]increment
	credit            edges.Connections // reconciled, waiting for its edge
	target            edges.Target
	restored          uint64 // the target's id, when the route was read from a journal
	// hop is what becomes of the route if it leads to or from a waypoint, as of a version of the names;
	// shares are the connections given to each of several backends.
	hop     naming.Hop
	version uint64
	shares  naming.Shares
}

// increment is what one reporter told since it was last settled.
type increment struct {
	counts   [sums]uint64
	duration exphist.Histogram
}

// take takes over what was reported at one end of a pair that turned out to be this one before anybody was told of it.
func (p *pair) take(other *pair, by side) {
	other.pendingFailed[by] = other.leads.failures.Flush(other.pendingFailed[by])
	p.first = min(p.first, other.first)
	for i := range other.routes {
		from := &other.routes[i]
		at := p.route(from.service, from.security, from.start)
		to := &p.routes[at].pending[by]
		for q, counted := range [...]uint64{from.credit.Closed, from.credit.Sent, from.credit.Received, from.credit.Unanswered} {
			to.counts[q] += counted + from.pending[by].counts[q]
		}
		to.duration.Merge(exphist.Default, &from.credit.Duration)
		to.duration.Merge(exphist.Default, &from.pending[by].duration)
		for _, f := range from.credit.Failed {
			p.fail(by, f.Reason, at, f.N)
		}
		for _, f := range other.pendingFailed[by] {
			if f.Route == i {
				p.fail(by, f.Reason, at, f.N)
			}
		}
		from.credit.Reset()
		from.pending[by] = increment{}
	}
	other.pendingFailed[by] = nil
}

// servers are the pods that the server's end of connections to a service tells of.
type servers struct {
	last    end
	several bool
}

// pairOf finds or creates the pair of a flow series.
func (t *Table) pairOf(key *flowKey, id pairKey, at, now pcommon.Timestamp) *pair {
	if p, ok := t.pairs[id]; ok {
		p.seen = max(p.seen, at)
		return p
	}
	p := &pair{key: id, first: max(now, at), seen: at}
	p.who.clusters = [2]string{key.sourceCluster, key.destinationCluster}
	p.who.addresses = [2]string{key.sourceAddress, key.destinationAddress}
	t.pairs[id] = p
	return p
}

// join makes a series one of those that tell of the pair.
func (p *pair) join(s *series, key *flowKey, start pcommon.Timestamp) {
	s.pair, s.route = p, p.route(key.service, key.security, start)
	if key.side == bySource {
		p.routes[s.route].bySource = true
	}
	p.report(key)
	p.series = append(p.series, s)
}

// report notes who tells of the pair.
func (p *pair) report(key *flowKey) {
	p.reporters[key.side] = key.node
	if key.side == byDestination && key.destinationPod != "" {
		server := end{pod: key.destinationPod, namespace: key.destinationNamespace}
		p.who.servers.several = p.who.servers.several || p.who.servers.last != (end{}) && p.who.servers.last != server
		p.who.servers.last = server
	}
}

// route finds or creates the route of a service and security, by its number.
func (p *pair) route(service, security string, start pcommon.Timestamp) int {
	for i := range p.routes {
		r := &p.routes[i]
		if r.service == service && r.security == security {
			r.start = min(r.start, start)
			return i
		}
	}
	p.routes = append(p.routes, route{service: service, security: security, start: start})
	return len(p.routes) - 1
}

func (p *pair) fail(by side, reason reconcile.Reason, route int, n uint64) {
	p.pendingFailed[by] = append(p.pendingFailed[by], reconcile.Failed{Reason: reason, Route: route, N: n})
}

func (p *pair) creditFailed(counted []reconcile.Failed) {
	for _, f := range counted {
		credit := &p.routes[f.Route].credit
		credit.Failed = edges.AddFailed(credit.Failed, f.Reason, f.N)
	}
}

// routeOf is the route that a report's connections took: where the source reports, it is the source that knows.
func (p *pair) routeOf(by side, reported int) int {
	if by == byDestination && p.hasSource && !p.routes[reported].bySource {
		return p.sourceRoute
	}
	return reported
}

func (i *increment) of(q quantity) uint64 {
	if q == durations {
		return i.duration.Count
	}
	return i.counts[q]
}

// pending is how much of a quantity each reporter told since it was last settled.
func (p *pair) pending(q quantity) (source, destination uint64) {
	for i := range p.routes {
		source += p.routes[i].pending[bySource].of(q)
		destination += p.routes[i].pending[byDestination].of(q)
	}
	return source, destination
}

// share distributes what counts of a sum over the routes that reported it, and empties what was pending.
func (p *pair) share(q quantity, source, destination uint64) {
	left := [2]uint64{source, destination}
	for i := range p.routes {
		for by := range left {
			n := &p.routes[i].pending[by].counts[q]
			take := min(*n, left[by])
			left[by] -= take
			*n = 0
			if take > 0 {
				credit := &p.routes[p.routeOf(side(by), i)].credit
				*[...]*uint64{&credit.Closed, &credit.Sent, &credit.Received, &credit.Unanswered}[q] += take
			}
		}
	}
}

func (p *pair) shareDurations(source, destination uint64) {
	left := [2]uint64{source, destination}
	for i := range p.routes {
		for by := range left {
			h := &p.routes[i].pending[by].duration
			if h.Count == 0 {
				continue
			}
			take := min(h.Count, left[by])
			left[by] -= take
			if take > 0 {
				h.DropLowest(h.Count - take)
				p.routes[p.routeOf(side(by), i)].credit.Duration.Merge(exphist.Default, h)
			}
			h.Reset()
		}
	}
}

// correctGuesses moves what was held back under a service that the destination's end guessed to the one that the
// source's end told meanwhile.
func (p *pair) correctGuesses() {
	if !p.hasSource || len(p.routes) < 2 {
		return
	}
	for i := range p.routes {
		r := &p.routes[i]
		if r.bySource || r.credit.Empty() {
			continue
		}
		told := &p.routes[p.sourceRoute]
		told.credit.Add(&r.credit)
		told.start = min(told.start, r.start)
		r.credit.Reset()
	}
}
