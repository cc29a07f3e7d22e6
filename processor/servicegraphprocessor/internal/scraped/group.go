package scraped

import (
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

const (
	// scrapeSkew is how far apart two nodes are scraped: until then one of them is merely not read yet.
	scrapeSkew = 15 * time.Second
	// scrapeLag is how long a scraped count waits for the access log to tell it better.
	scrapeLag = 10 * time.Second
)

// group is one edge as ztunnels' own counters tell it, reconciled between the two reporters.
type group struct {
	flow         edges.Flow
	start, first pcommon.Timestamp

	pending  [2]increment // not reconciled yet
	failures [2][]failure
	standing standing
	open     openBytes
	leads    leads
	totals   totals
	// logged is what the access log had counted when counters were first read that were not at zero then.
	logged struct {
		closed uint64
		known  bool
	}
	// answered tells that a waypoint's client received something since its failures were last counted.
	answered bool

	bound          bound
	touched, waits bool
}

// increment is what one reporter counted.
type increment struct {
	counts
	failed []reconcile.Failed
}

// failure is how often one reporter's connections failed for a reason, as the connections that were closed and, from ztunnel 1.29 on,
// those that failed tell it: the same ones.
type failure struct {
	reason         reconcile.Reason
	closed, failed uint64
}

// standing are the counters of each reporter as they stand.
type standing struct {
	// current are the series' own values, before those that they had when their targets were first seen.
	current, before [2]levels
	serving         [2]int // series of opened connections that targets which answer tell
	series          [2]int
}

// leads compare what the two reporters count.
type leads struct {
	plain    [plainCounters]reconcile.Lead
	failures reconcile.Failures
}

// totals are the reconciled increments. sure are those that the access log had time to tell; recent were counted at recentAt
// and will be sure next.
type totals struct {
	counted, recent, sure total
	recentAt              pcommon.Timestamp
}

// bound is where a group shows: the edges of a family, the first of them primary, or one made for it.
type bound struct {
	family  *edges.Family
	primary *edges.Edge
	own     edges.Target
}

type total struct {
	counts
	failed []edges.FailedCount
}

func (t *total) set(from *total) {
	t.counts = from.counts
	t.failed = append(t.failed[:0], from.failed...)
}

func (t *total) equal(other *total) bool {
	return t.counts == other.counts && slices.Equal(t.failed, other.failed)
}

func (t *total) addFailed(counted []reconcile.Failed) {
	for _, f := range counted {
		t.failed = edges.AddFailed(t.failed, f.Reason, f.N)
	}
}

func (t *Table) groupOf(flow edges.Flow, start, at pcommon.Timestamp) *group {
	if g, ok := t.groups[flow]; ok {
		return g
	}
	if start == 0 || start > at {
		start = at
	}
	g := &group{flow: flow, start: start, first: at}
	t.groups[flow] = g
	return g
}

// ends are what both reporters know of a flow; the service is the source's to know, the destination can only guess it.
type ends struct {
	source, destination edge.Party
	mutualTLS           bool
}

func (g *group) ends() ends { return ends{g.flow.Source, g.flow.Destination, g.flow.MutualTLS} }

// tell notes that one more series of a reporter tells of a group, or one less.
func (t *Table) tell(g *group, by side, n int) {
	g.standing.series[by] += n
	if by != bySource {
		return
	}
	switch at := g.ends(); g.standing.series[by] {
	case n:
		t.told[at] = append(t.told[at], g)
	case 0:
		if t.told[at] = slices.DeleteFunc(t.told[at], func(other *group) bool { return other == g }); len(t.told[at]) == 0 {
			delete(t.told, at)
		}
	}
}

// teller is the group that a group's connections belong to: another one where only the destination tells of the group and the
// source of the same connections knows better; nil if there are several of those.
func (t *Table) teller(g *group) *group {
	if g.standing.series[bySource] > 0 {
		return g
	}
	switch told := t.told[g.ends()]; len(told) {
	case 0:
		return g
	case 1:
		return told[0]
	}
	return nil
}

// awaitsSource tells whether a group is a guess of the destination's that the source's counters may soon replace.
func (t *Table) awaitsSource(g *group, m moment.Moment) bool {
	return g.standing.series[bySource] == 0 && g.flow.MutualTLS && t.names.InMesh(g.flow.Source) && !m.Final && !m.Past(g.first, scrapeSkew)
}

func (t *Table) touch(g *group) {
	if !g.touched {
		g.touched = true
		t.touched = append(t.touched, g)
	}
}

// serve notes that a series of opened connections is, or is no longer, told by a target that answers.
func (s *standing) serve(by side, up bool) {
	if up {
		s.serving[by]++
	} else if s.serving[by] > 0 {
		s.serving[by]--
	}
}

func (g *group) report(s *series, n uint64) {
	if s.counter != counterFailed {
		g.pending[s.side].counts[s.counter] += n
	}
	if s.counter == counterFailed || s.counter == counterClosed && s.flagged {
		g.fail(s, n)
	}
}

// fail counts what failed for a reason beyond what is counted of it already.
func (g *group) fail(s *series, n uint64) {
	all := &g.failures[s.side]
	i := slices.IndexFunc(*all, func(f failure) bool { return f.reason == s.reason })
	if i < 0 {
		i = len(*all)
		*all = append(*all, failure{reason: s.reason}) // the reasons are few
	}
	f := &(*all)[i]
	before := max(f.closed, f.failed)
	if s.counter == counterClosed {
		f.closed += n
	} else {
		f.failed += n
	}
	if more := max(f.closed, f.failed) - before; more > 0 {
		pending := &g.pending[s.side]
		pending.failed = append(pending.failed, reconcile.Failed{Reason: s.reason, N: more})
	}
}

// active is the number of open connections: as the source's targets tell it while they answer.
func (s *standing) active() uint64 {
	by := bySource
	if s.serving[bySource] == 0 && s.serving[byDestination] > 0 {
		by = byDestination
	}
	return s.current[by].active()
}

// activeBefore is what was open when the counters were first read. The end that was read later may have seen more by
// then, which the other's increments count already.
func (s *standing) activeBefore() uint64 {
	source, destination := s.before[bySource], s.before[byDestination]
	switch {
	case source[counterOpened] == 0:
		return destination.active()
	case destination[counterOpened] == 0:
		return source.active()
	}
	return min(source.active(), destination.active())
}

func (g *group) reconcile(now pcommon.Timestamp, limits reconcile.Limits, scratch []reconcile.Failed) []reconcile.Failed {
	s, d := &g.pending[bySource], &g.pending[byDestination]
	l, counted := &g.leads, &g.totals.counted
	for c := range counted.counts {
		bySource, byDestination := l.plain[c].Apply(now, s.counts[c], d.counts[c], limits)
		counted.counts[c] += bySource + byDestination
	}
	scratch = l.failures.Apply(now, s.failed, d.failed, limits, scratch[:0])
	counted.addFailed(scratch)
	for by := range g.pending {
		g.pending[by] = increment{failed: g.pending[by].failed[:0]}
	}
	return scratch
}

// Settle brings the edges up to date with what ztunnels' own counters tell. What flows tell must have been settled before.
func (t *Table) Settle(m moment.Moment) {
	for i, g := range t.touched {
		g.touched = false
		t.touched[i] = nil
		if t.leadsToWaypoint(g) {
			g.leaveOutClosings()
		} else if t.hopOf(g).Kind == naming.HopBehind {
			g.leaveOutPooled()
		}
		t.reported = g.reconcile(m.Now, t.cfg.Reconcile, t.reported)
		if !g.waits {
			g.waits = true
			t.waiting = append(t.waiting, g)
		}
	}
	t.touched = t.touched[:0]
	left := t.waiting[:0]
	for _, g := range t.waiting {
		if g.waits = t.settle(g, m); g.waits {
			left = append(left, g)
		}
	}
	clear(t.waiting[len(left):])
	t.waiting = left
	for _, e := range t.edges.Changed() {
		if e.Primary() && t.primary[e] != nil {
			e.Show()
			t.primary[e].raise(e)
		}
	}
}

// settle hands a group's values to its edges and tells whether it has to be looked at again.
func (t *Table) settle(g *group, m moment.Moment) (waits bool) {
	if failures := &g.leads.failures; failures.Held() > 0 {
		t.reported = failures.Release(m.Now, t.cfg.Reconcile, t.reported[:0])
		if m.Final {
			t.reported = failures.Flush(t.reported)
		}
		g.totals.counted.addFailed(t.reported)
		waits = failures.Held() > 0
	}
	if !t.bind(g, m) {
		return true
	}
	if g.age(m) {
		waits = true
	}
	all := g.bound.family.Edges()
	g.open.removeProcess(all)
	for i, e := range all {
		active := uint64(0)
		if i == 0 {
			active = g.standing.active()
			t.lead(g, e)
		}
		news := e.SetOpen(active, i == 0)
		news = e.Show() || news
		if i == 0 {
			news = g.raise(e) || news
		}
		if news || !e.Emitted() {
			t.edges.Touch(e, m.Now)
		}
	}
	return waits
}

// age makes counts sure: at once where no access log tells the edge, else once the log had time to. It tells whether
// some are not sure yet.
func (g *group) age(m moment.Moment) bool {
	t := &g.totals
	if !g.hasLog() {
		t.sure.set(&t.counted)
		return false
	}
	if m.Past(t.recentAt, scrapeLag) {
		t.sure.set(&t.recent)
		t.recent.set(&t.counted)
		t.recentAt = m.Now
	}
	return !t.sure.equal(&t.counted)
}

// hasLog tells whether an access log tells one of the group's edges.
func (g *group) hasLog() bool {
	return slices.ContainsFunc(g.bound.family.Edges(), func(e *edges.Edge) bool {
		return e.Users() > 1 || (e.Users() == 1 && g.bound.own.Edge != e)
	})
}

// bind finds the edges of a group: those that the access log told, else one made from the mesh's state. False means
// that there is none yet.
func (t *Table) bind(g *group, m moment.Moment) bool {
	if t.teller(g) != g {
		t.release(g, m.Now)
		return true
	}
	flow, waypoint := g.flow, ""
	switch hop := t.hopOf(g); {
	case hop.Kind == naming.HopBehind:
		waypoint = hop.Waypoint
	case hop.Kind == naming.HopThrough && len(hop.Backends) > 1:
		// Where the access log tells of the connections, it gives them to the backends.
		if !t.flows.Empty() {
			t.release(g, m.Now)
			return true
		}
	case hop.Kind == naming.HopThrough:
		flow.Destination, waypoint = naming.PartyOf(hop.Backends[0]), hop.Waypoint
	}
	family := t.edges.Family(flow)
	if len(family.Edges()) == 0 {
		if g.totals.counted.counts == (counts{}) && g.standing.active() == 0 {
			return true
		}
		if t.awaitsSource(g, m) {
			return false
		}
		port, known := t.names.OnlyPort(flow.Service)
		if !known && !m.Final && !m.Past(g.first, t.cfg.ResolveHold) {
			return false
		}
		if !t.names.Known() && !t.flows.Empty() {
			// The access log names pods, the counters workloads: without the mesh's state nobody can tell that they
			// speak of the same connections, and they must not count twice.
			t.release(g, m.Now)
			return true
		}
		key := edge.Key{
			Source: flow.Source, Destination: flow.Destination,
			Service: flow.Service, Port: port, Security: semconv.SecurityNone, Waypoint: waypoint,
		}
		if flow.MutualTLS {
			key.Security = semconv.SecurityMutualTLS
		}
		t.edges.Point(&g.bound.own, t.edges.Find(key, t.names.Protocol(key.Service, key.Port), g.start))
		family = t.edges.Family(flow)
	}
	if family != g.bound.family {
		t.leave(g, m.Now)
		g.bound.family = family
	}
	return true
}

// lead makes an edge the one on which a group's values show.
func (t *Table) lead(g *group, e *edges.Edge) {
	if last := g.bound.primary; last != e && t.primary[last] == g {
		delete(t.primary, last)
	}
	g.bound.primary = e
	t.primary[e] = g
}

// release takes a group off its edges.
func (t *Table) release(g *group, now pcommon.Timestamp) {
	t.leave(g, now)
	t.edges.Clear(&g.bound.own)
}

// leave takes a group off its family: what it counted as open there is open elsewhere.
func (t *Table) leave(g *group, now pcommon.Timestamp) {
	if t.primary[g.bound.primary] == g {
		delete(t.primary, g.bound.primary)
		for _, e := range g.bound.family.Edges() {
			if e.SetOpen(0, false) {
				t.edges.Touch(e, now)
			}
		}
	}
	g.bound.family, g.bound.primary = nil, nil
}

// forgetGroup drops a group of which no series is left: nobody tells of the edges' open connections any more.
func (t *Table) forgetGroup(g *group) {
	if t.primary[g.bound.primary] == g {
		delete(t.primary, g.bound.primary)
		for _, e := range g.bound.family.Edges() {
			e.ClearOpen()
		}
	}
	t.edges.Clear(&g.bound.own)
	delete(t.groups, g.flow)
}

// raise shows on the primary edge what the counters tell beyond what the access log told.
func (g *group) raise(e *edges.Edge) bool {
	all := g.bound.family.Edges()
	var others edges.Connections
	var othersFailed uint64
	for _, other := range all {
		if other != e {
			others.Closed += other.Logged.Closed
			others.Sent += other.Logged.Sent
			others.Received += other.Logged.Received
			othersFailed += edges.FailedTotal(other.Logged.Failed)
		}
	}
	t := &g.totals
	c := edges.Counters{
		Opened:          g.logged.closed + g.standing.activeBefore() + beyond(t.counted.counts[counterOpened], others.Closed),
		Closed:          beyond(t.sure.counts[counterClosed], others.Closed),
		Failed:          t.sure.failed,
		FailedElsewhere: othersFailed,
	}
	if c.HasLog = g.hasLog(); c.HasLog {
		c.Sent, c.Received = g.open.of(all)
		c.Sent += e.Logged.Sent
		c.Received += e.Logged.Received
	} else {
		c.Sent, c.Received = beyond(t.counted.counts[counterSent], others.Sent), beyond(t.counted.counts[counterReceived], others.Received)
	}
	return e.Raise(&c)
}

// beyond is how much more a is than b.
func beyond(a, b uint64) uint64 { return a - min(a, b) }
