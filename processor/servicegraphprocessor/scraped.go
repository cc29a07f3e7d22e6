package servicegraphprocessor

import (
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

const (
	// scrapeSkew is how far apart two nodes are scraped: until then one of them is merely not read yet.
	scrapeSkew = 15 * time.Second
	// scrapeLag is how long a scraped count waits for the access log to tell it better.
	scrapeLag = 10 * time.Second
)

// scrapeGroup is one edge as ztunnels' own counters tell it, reconciled between the two reporters.
type scrapeGroup struct {
	flow    scrapedFlow
	start   pcommon.Timestamp
	first   pcommon.Timestamp
	users   int
	pending [2]scrapedCounts
	failed  [2][]reconcile.Failed
	// current are the series' own values, before those that they had when their targets were first seen.
	current, before [2]levels
	serving         [2]int
	carry

	opened, closed, sent, received reconcile.Lead
	failures                       reconcile.Failures

	// counted are the reconciled increments, sure those that the access log had time to tell; recent were counted at
	// recentAt and will be sure next.
	counted, recent, sure scrapedTotals
	recentAt              pcommon.Timestamp
	// logged is what the access log had counted when counters were first read that were not at zero then.
	logged struct {
		closed uint64
		known  bool
	}
	// answered tells that a waypoint's client received something since its failures were last counted.
	answered bool

	edges   []*edgeState
	own     target // the edge that was made for the group
	touched bool
	waits   bool
}

type scrapedCounts struct{ opened, closed, sent, received uint64 }

type scrapedTotals struct {
	scrapedCounts
	failed []failedCount
}

func (t *scrapedTotals) set(from *scrapedTotals) {
	t.scrapedCounts = from.scrapedCounts
	t.failed = append(t.failed[:0], from.failed...)
}

func (t *scrapedTotals) equal(other *scrapedTotals) bool {
	return t.scrapedCounts == other.scrapedCounts && slices.Equal(t.failed, other.failed)
}

// levels are the sums of the open connections' counters as they stand.
type levels struct{ opened, closed, sent, received int64 }

func (l *levels) add(c counter, n int64) {
	switch c {
	case counterOpened:
		l.opened += n
	case counterClosed:
		l.closed += n
	case counterSent:
		l.sent += n
	case counterReceived:
		l.received += n
	}
}

func (l *levels) active() uint64 { return uint64(max(l.opened-l.closed, 0)) }

// scrapedEdge is what a group tells of an edge.
type scrapedEdge struct {
	group   *scrapeGroup
	primary bool
	active  uint64
}

func (t *scrapeTable) group(flow scrapedFlow, start, at pcommon.Timestamp) *scrapeGroup {
	if group, ok := t.groups[flow]; ok {
		return group
	}
	if start == 0 || start > at {
		start = at
	}
	group := &scrapeGroup{flow: flow, start: start, first: at}
	t.groups[flow] = group
	return group
}

func (t *scrapeTable) touch(group *scrapeGroup) {
	if !group.touched {
		group.touched = true
		t.touched = append(t.touched, group)
	}
}

// serve notes that a series of opened connections is, or is no longer, told by a target that answers.
func (g *scrapeGroup) serve(by side, up bool) {
	if up {
		g.serving[by]++
	} else if g.serving[by] > 0 {
		g.serving[by]--
	}
}

func (g *scrapeGroup) report(s *scrapeSeries, n uint64) {
	counts := &g.pending[s.side]
	switch s.counter {
	case counterOpened:
		counts.opened += n
	case counterClosed:
		counts.closed += n
	case counterSent:
		counts.sent += n
	case counterReceived:
		counts.received += n
	case counterFailed:
		g.failed[s.side] = append(g.failed[s.side], reconcile.Failed{Reason: s.reason, N: n})
	}
}

// active is the number of open connections: as the source's targets tell it while they answer.
func (g *scrapeGroup) active() uint64 {
	by := bySource
	if g.serving[bySource] == 0 && g.serving[byDestination] > 0 {
		by = byDestination
	}
	return g.current[by].active()
}

// activeBefore is what was open when the counters were first read. The end that was read later may have seen more by
// then, which the other's increments count already.
func (g *scrapeGroup) activeBefore() uint64 {
	source, destination := g.before[bySource], g.before[byDestination]
	switch {
	case source.opened == 0:
		return destination.active()
	case destination.opened == 0:
		return source.active()
	}
	return min(source.active(), destination.active())
}

// leadsToWaypoint tells whether a group's connections end at a waypoint on their way. Where nobody tells the mesh's state, it
// shows by a tunnel that only its client's ztunnel tells of: none speaks for a waypoint.
func (g *graph) leadsToWaypoint(group *scrapeGroup) bool {
	if !g.directory.Known() {
		return group.flow.mutualTLS && group.current[byDestination] == levels{}
	}
	return g.directory.LeadsToWaypoint(group.flow.destination, group.flow.service)
}

// leaveOutClosings takes what failed on the way to a waypoint for answered where the client received something since the last
// time: ztunnel counts each connection that the waypoint closes first as a failed one, and its counters cannot tell it from
// one that failed.
func (g *scrapeGroup) leaveOutClosings() {
	g.answered = g.answered || g.pending[bySource].received > 0
	closings := func(f reconcile.Failed) bool { return f.Reason.Type == semconv.ErrorTypeConnectFailed }
	if g.answered && slices.ContainsFunc(g.failed[bySource], closings) {
		g.failed[bySource] = slices.DeleteFunc(g.failed[bySource], closings)
		g.answered = false
	}
}

func (g *scrapeGroup) reconcile(now pcommon.Timestamp, limits reconcile.Limits, scratch []reconcile.Failed) []reconcile.Failed {
	limits.Skew = max(limits.Skew, scrapeSkew)
	s, d := &g.pending[bySource], &g.pending[byDestination]
	count := func(lead *reconcile.Lead, source, destination uint64) uint64 {
		bySource, byDestination := lead.Apply(now, source, destination, limits)
		return bySource + byDestination
	}
	g.counted.opened += count(&g.opened, s.opened, d.opened)
	g.counted.closed += count(&g.closed, s.closed, d.closed)
	g.counted.sent += count(&g.sent, s.sent, d.sent)
	g.counted.received += count(&g.received, s.received, d.received)
	scratch = g.failures.Apply(now, g.failed[bySource], g.failed[byDestination], limits, scratch[:0])
	for _, f := range scratch {
		g.counted.failed = addFailed(g.counted.failed, f.Reason, f.N)
	}
	g.pending = [2]scrapedCounts{}
	g.failed[bySource], g.failed[byDestination] = g.failed[bySource][:0], g.failed[byDestination][:0]
	return scratch
}

// settleScrapes brings the edges up to date with what ztunnels' own counters tell.
func (g *graph) settleScrapes(now pcommon.Timestamp, force bool) {
	t := g.scrapes
	for i, group := range t.touched {
		group.touched = false
		t.touched[i] = nil
		if g.leadsToWaypoint(group) {
			group.leaveOutClosings()
		}
		t.reported = group.reconcile(now, g.limits, t.reported)
		if !group.waits {
			group.waits = true
			t.waiting = append(t.waiting, group)
		}
	}
	t.touched = t.touched[:0]
	left := t.waiting[:0]
	for _, group := range t.waiting {
		if group.waits = g.settleGroup(group, now, force); group.waits {
			left = append(left, group)
		}
	}
	clear(t.waiting[len(left):])
	t.waiting = left
}

// settleGroup hands a group's values to its edges and tells whether it has to be looked at again.
func (g *graph) settleGroup(group *scrapeGroup, now pcommon.Timestamp, force bool) (waits bool) {
	if group.failures.Held() > 0 {
		g.scrapes.reported = group.failures.Release(now, g.limits, g.scrapes.reported[:0])
		if force {
			g.scrapes.reported = group.failures.Flush(g.scrapes.reported)
		}
		for _, f := range g.scrapes.reported {
			group.counted.failed = addFailed(group.counted.failed, f.Reason, f.N)
		}
		waits = group.failures.Held() > 0
	}
	if !g.bind(group, now, force) {
		return true
	}
	if group.age(now) {
		waits = true
	}
	group.writeOff(group.edges)
	for i, e := range group.edges {
		if e.scraped == nil || e.scraped.group != group {
			e.scraped = &scrapedEdge{group: group}
		}
		e.scraped.primary = i == 0
		active := e.scraped.active
		e.scraped.active = 0
		if i == 0 {
			e.scraped.active = group.active()
		}
		if e.show() || active != e.scraped.active || e.emitted == 0 {
			g.edges.touch(e, now)
		}
	}
	return waits
}

// age makes counts sure: at once where no access log tells the edge, else once the log had time to. It tells whether
// some are not sure yet.
func (g *scrapeGroup) age(now pcommon.Timestamp) bool {
	if !g.hasLog() {
		g.sure.set(&g.counted)
		return false
	}
	if since(g.recentAt, now, scrapeLag) {
		g.sure.set(&g.recent)
		g.recent.set(&g.counted)
		g.recentAt = now
	}
	return !g.sure.equal(&g.counted)
}

// hasLog tells whether an access log tells one of the group's edges.
func (g *scrapeGroup) hasLog() bool {
	for _, e := range g.edges {
		if e.users > 1 || (e.users == 1 && g.own.edge != e) {
			return true
		}
	}
	return false
}

// bind finds the edges of a group: those that the access log told, else one made from the mesh's state. False means
// that there is none yet.
func (g *graph) bind(group *scrapeGroup, now pcommon.Timestamp, force bool) bool {
	flow, waypoint := group.flow, ""
	switch hop := g.directory.MergePartyHop(flow.source, flow.destination, flow.service); {
	case hop.Kind == naming.HopBehind, hop.Kind == naming.HopThrough && len(hop.Backends) > 1:
		group.edges = nil
		return true
	case hop.Kind == naming.HopThrough:
		flow.destination, waypoint = naming.PartyOf(hop.Backends[0]), hop.Waypoint
	}
	edges := g.edges.byFlow[flow]
	if len(edges) == 0 {
		if group.counted.scrapedCounts == (scrapedCounts{}) && group.active() == 0 {
			return true
		}
		port, known := g.directory.OnlyPort(flow.service)
		if !known && !force && !since(group.first, now, g.cfg.ResolveHold) {
			return false
		}
		if !g.directory.Known() && len(g.flows.pairs) > 0 {
			// The access log names pods, the counters workloads: without the mesh's state nobody can tell that they
			// speak of the same connections, and they must not count twice.
			group.edges = nil
			return true
		}
		key := edge.Key{
			Source: flow.source, Destination: flow.destination,
			Service: flow.service, Port: port, Security: semconv.SecurityNone, Waypoint: waypoint,
		}
		if flow.mutualTLS {
			key.Security = semconv.SecurityMutualTLS
		}
		g.use(&group.own, g.edges.find(key, g.directory.Protocol(key.Service, key.Port), group.start))
		edges = g.edges.byFlow[flow]
	}
	group.edges = edges
	return true
}

func (g *graph) releaseGroup(group *scrapeGroup) {
	for _, e := range group.edges {
		if e.scraped != nil && e.scraped.group == group {
			e.scraped = nil
		}
	}
	g.release(&group.own)
}

// show brings the values that leave up to date and tells whether any changed. Each is the larger of what the access
// log and what ztunnels' own counters tell: the log is silent about connections that are open, the counters about what
// was before they were first read.
func (e *edgeState) show() bool {
	before := e.shown.edgeCounts
	s := &e.shown
	s.closed = max(s.closed, e.closed)
	s.sent = max(s.sent, e.sent)
	s.received = max(s.received, e.received)
	changed := false
	for _, f := range e.failed {
		changed = s.raise(f) || changed
	}
	if e.scraped != nil && e.scraped.primary {
		changed = e.showScraped(e.scraped.group) || changed
	}
	s.opened = max(s.opened, s.closed)
	return changed || s.edgeCounts != before
}

func (e *edgeState) showScraped(g *scrapeGroup) (changed bool) {
	s := &e.shown
	var others scrapedCounts
	var othersFailed uint64
	for _, other := range g.edges {
		if other != e {
			others.closed += other.closed
			others.sent += other.sent
			others.received += other.received
			othersFailed += failedTotal(other.failed)
		}
	}
	s.closed = max(s.closed, lessAtMost(g.sure.closed, others.closed))
	if g.hasLog() {
		sent, received := g.open(g.edges)
		s.sent = max(s.sent, e.sent+sent)
		s.received = max(s.received, e.received+received)
	} else {
		s.sent = max(s.sent, lessAtMost(g.counted.sent, others.sent))
		s.received = max(s.received, lessAtMost(g.counted.received, others.received))
	}
	s.opened = max(s.opened, g.logged.closed+g.activeBefore()+lessAtMost(g.counted.opened, others.closed))

	// Failures beyond those that the access log told are counted under the counters' reasons. Of a connection that the log
	// told it knows better: what was answered and then closed with an error is failed to the counters.
	more := lessAtMost(failedTotal(g.sure.failed), othersFailed+failedTotal(s.failed))
	if g.hasLog() {
		more = min(more, lessAtMost(failedTotal(e.failed)+lessAtMost(s.closed, e.closed), failedTotal(s.failed)))
	}
	for _, f := range g.sure.failed {
		n := min(more, f.n)
		if n > 0 {
			s.failed = addFailed(s.failed, f.Reason, n)
			more -= n
			changed = true
		}
	}
	return changed
}

// raise shows a reason's failures, of which those beyond the log's were counted before under the counters' reasons.
func (s *shownCounts) raise(f failedCount) bool {
	for i := range s.failed {
		if s.failed[i].Reason == f.Reason {
			if s.failed[i].n >= f.n {
				return false
			}
			s.failed[i].n = f.n
			return true
		}
	}
	s.failed = append(s.failed, f)
	return true
}

func failedTotal(counts []failedCount) (n uint64) {
	for _, f := range counts {
		n += f.n
	}
	return n
}

func lessAtMost(a, b uint64) uint64 {
	if a <= b {
		return 0
	}
	return a - b
}
