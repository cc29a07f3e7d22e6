package edges

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/records"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
)

const (
	otherRoute = "other"
	// maxRecordRoutes bounds the routes of one edge that are read from a journal.
	maxRecordRoutes = 1 << 16
)

// Edge holds an edge's cumulative values.
type Edge struct {
	// ID identifies the edge for as long as it lives, also over a restart.
	ID  uint64
	Key edge.Key
	// Logged is what the access log told of it.
	Logged Connections

	start  pcommon.Timestamp
	routes []route
	// responses are the requests by what answered them, as far as that is known.
	responses responses.Counts
	overflow  bool
	open      open
	shown     shown

	seen         pcommon.Timestamp // the last news
	emitted      pcommon.Timestamp
	dirty        bool
	newer, older *Edge // in the order of emission
	users        int   // what leads here
}

// route holds the requests of one route of an edge.
type route struct {
	name          string
	total, failed uint64
	duration      exphist.Histogram
	changed       bool
}

// open is what ztunnels' own counters say of the edge's open connections.
type open struct {
	told, primary bool
	active        uint64
}

// shown are the values that left last. They draw on several sources and never go back.
type shown struct {
	counts
	failed []FailedCount
	// between is what of them counts between the services.
	between connections
}

type connections struct{ total, failed uint64 }

type counts struct{ opened, closed, sent, received uint64 }

// Start is the time from which the edge counts.
func (e *Edge) Start() pcommon.Timestamp { return e.start }

// Users is how many things lead to the edge.
func (e *Edge) Users() int { return e.users }

// Emitted tells whether the edge has left.
func (e *Edge) Emitted() bool { return e.emitted > 0 }

// HasRoutes tells whether requests were counted.
func (e *Edge) HasRoutes() bool { return len(e.routes) > 0 }

// Responses are the requests by what answered them, as far as that is known.
func (e *Edge) Responses() responses.Counts { return e.responses }

// Primary tells whether ztunnels' own counters, which know no ports, are shown on this edge.
func (e *Edge) Primary() bool { return e.open.primary }

// startsAt states an earlier start; once the edge has left, its start stays.
func (e *Edge) startsAt(start pcommon.Timestamp) {
	if e.emitted == 0 && start < e.start {
		e.start = start
	}
}

// expired tells whether an edge may be forgotten: nothing leads to it and there was no news of it for long.
func (e *Edge) expired(now pcommon.Timestamp, expiry time.Duration) bool {
	return e.users == 0 && !e.dirty && e.seen+pcommon.Timestamp(expiry) <= now
}

// SetOpen states how many connections are open, as ztunnels' own counters tell; it tells whether that is news. primary is
// whether their other values are shown on this edge as well.
func (e *Edge) SetOpen(active uint64, primary bool) bool {
	changed := active != e.open.active
	e.open = open{told: true, primary: primary, active: active}
	return changed
}

// ClearOpen takes back what SetOpen stated: nobody knows any more.
func (e *Edge) ClearOpen() { e.open = open{} }

// Show brings the values that leave up to date with what the access log told, and tells whether any changed.
func (e *Edge) Show() bool {
	s := &e.shown
	before := s.counts
	s.closed = max(s.closed, e.Logged.Closed)
	s.sent = max(s.sent, e.Logged.Sent)
	s.received = max(s.received, e.Logged.Received)
	s.opened = max(s.opened, s.closed)
	changed := s.counts != before
	for _, f := range e.Logged.Failed {
		changed = s.raise(f) || changed
	}
	return changed
}

// raise shows a reason's failures, of which those beyond the log's were counted before under the counters' reasons.
func (s *shown) raise(f FailedCount) bool {
	for i := range s.failed {
		if s.failed[i].Reason == f.Reason {
			if s.failed[i].N >= f.N {
				return false
			}
			s.failed[i].N = f.N
			return true
		}
	}
	s.failed = append(s.failed, f)
	return true
}

// Counters are what ztunnels' own counters tell of an edge at least. The access log is silent about connections that are open,
// the counters about what was before they were first read.
type Counters struct {
	Opened, Closed, Sent, Received uint64
	// Failed are the failures of all edges that the counters do not tell apart, FailedElsewhere those that the access log
	// told of the others.
	Failed          []FailedCount
	FailedElsewhere uint64
	// HasLog tells that an access log tells of the edge: of a connection that it told it knows better. What was answered and
	// then closed with an error is failed to the counters.
	HasLog bool
}

// Raise shows what the counters tell beyond what is shown already, and tells whether anything changed.
func (e *Edge) Raise(c *Counters) bool {
	s := &e.shown
	before := s.counts
	s.closed = max(s.closed, c.Closed)
	s.sent = max(s.sent, c.Sent)
	s.received = max(s.received, c.Received)
	s.opened = max(s.opened, c.Opened, s.closed)
	changed := s.counts != before
	// Failures beyond those that the access log told are counted under the counters' reasons.
	told := c.FailedElsewhere + FailedTotal(s.failed)
	more := beyond(FailedTotal(c.Failed), told)
	if c.HasLog {
		more = min(more, beyond(FailedTotal(e.Logged.Failed)+beyond(s.closed, e.Logged.Closed), FailedTotal(s.failed)))
	}
	for _, f := range c.Failed {
		if n := min(more, f.N); n > 0 {
			s.failed = AddFailed(s.failed, f.Reason, n)
			more -= n
			changed = true
		}
	}
	return changed
}

// beyond is how much more a is than b.
func beyond(a, b uint64) uint64 { return a - min(a, b) }

func (e *Edge) code(c *journal.Coder) {
	records.Party(c, &e.Key.Source)
	records.Party(c, &e.Key.Destination)
	c.Text(&e.Key.Service)
	c.Port(&e.Key.Port)
	records.Texts(c, &e.Key.Protocol, &e.Key.Security, &e.Key.Waypoint)
	c.Bool(&e.overflow)
	records.Time(c, &e.start)
	records.Time(c, &e.seen)
	records.Time(c, &e.emitted)
	e.Logged.Code(c)
	journal.Slice(c, &e.routes, maxRecordRoutes, func(r *route) {
		c.Text(&r.name)
		records.Count(c, &r.total)
		records.Count(c, &r.failed)
		r.duration.Code(c)
	})
	records.Count(c, &e.shown.opened)
	records.Count(c, &e.shown.closed)
	records.Count(c, &e.shown.sent)
	records.Count(c, &e.shown.received)
	codeFailed(c, &e.shown.failed)
}
