package datatime

import (
	"math"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

const (
	// MaxNodes bounds the nodes that a Clock tells apart.
	MaxNodes = 20_000
	// forgotten is how long a node must be silent before nothing is expected of it any more.
	forgotten = pcommon.Timestamp(24 * time.Hour)
	// CatchUpWindow is how long, by the wall clock, all nodes are waited for once one is heard again after none was: it is the
	// consumer that was cut off, and each node sends what it kept as soon as it can connect. maxCatchUp bounds that for as long
	// as they do.
	CatchUpWindow = 30 * time.Second
	maxCatchUp    = 2 * time.Minute
	// maxAhead, and the lateness on top, is how far ahead of the wall clock a heartbeat may be in live mode.
	maxAhead = 30 * time.Second
	// problemLasts is how long a problem is listed, by the wall clock, when its node is not heard any more.
	problemLasts = 5 * time.Minute
)

// No time before minTime is data's, and in live mode none after the wall clock by more than a day. maxTime is the newest that
// time.Time.UnixNano can hold.
var (
	minTime = time.Date(2015, time.January, 1, 0, 0, 0, 0, time.UTC)
	maxTime = time.Unix(0, math.MaxInt64)
)

// Verdict is what became of a heartbeat.
type Verdict uint8

// The verdicts.
const (
	// Taken is a heartbeat that moved its node's time.
	Taken Verdict = iota
	// Repeated is one that said nothing new.
	Repeated
	// OutOfOrder is one that its sender sent before another that came first: something in between reorders batches.
	OutOfOrder
	// Ahead is one too far ahead of the wall clock to be believed.
	Ahead
	// Implausible is one whose time is none that data can have.
	Implausible
	// NoNode is one of no node, which says nothing about time where there are nodes.
	NoNode
	// NodeLimit is one of a new node beyond MaxNodes.
	NodeLimit

	verdicts
)

// String is the verdict as a label's value.
func (v Verdict) String() string {
	return [verdicts]string{"taken", "repeated", "out_of_order", "clock_ahead", "implausible_time", "no_node", "node_limit"}[v]
}

// Counts tells whether the heartbeat has a say: its node is alive and its clock is believed.
func (v Verdict) Counts() bool { return v <= OutOfOrder }

// Clock is the data's own time: the time before which every node has said all it has to say. A node that falls more than the
// lateness behind the others is not waited for, unless nobody was heard before. A node that is silent does not age: it keeps
// its own time.
//
// The zero Clock is not ready to use. A Clock is not safe for use by several goroutines. Times called wall are the wall
// clock's, which may step; with the monotonic reading of time.Now a step is no passing of time.
type Clock struct {
	nodes
	catchUp

	lateness time.Duration
	// named tells that a node was heard: what belongs to no node says nothing about time then.
	named bool
	time  pcommon.Timestamp
	step  pcommon.Timestamp // between the newest heartbeats
	// slowest is a node that the time was waiting for when all were looked at last.
	slowest string
	replay  bool
	counts  [verdicts]uint64
}

// catchUp is what a clock knows of an interruption. By the wall clock: when a node was heard last, from when and until when all
// nodes are waited for. Meanwhile what they send is taken in the order of its times; announced is the newest that each has to
// send, furthest the newest of it ever.
type catchUp struct {
	heard, began, until time.Time
	progressed          bool                         // since it began
	announced           map[string]pcommon.Timestamp // bounded by MaxNodes
	furthest            pcommon.Timestamp
}

// NewClock returns a clock that waits for nodes that are behind the others by no more than lateness.
func NewClock(lateness time.Duration) *Clock {
	return &Clock{lateness: lateness, nodes: nodes{byName: map[string]node{}}, catchUp: catchUp{announced: map[string]pcommon.Timestamp{}}}
}

// SetReplay tells that the data comes from a recording: its pauses mean nothing, and the wall clock has no say.
func (c *Clock) SetReplay() { c.replay = true }

// Now is the mesh's time; 0 before any.
func (c *Clock) Now() pcommon.Timestamp { return c.time }

// Named tells whether a node was heard, now or before a restart.
func (c *Clock) Named() bool { return c.named }

// Heard tells whether any heartbeat was believed since the start.
func (c *Clock) Heard() bool { return !c.heard.IsZero() }

// Count is how many heartbeats had a verdict.
func (c *Clock) Count(v Verdict) uint64 { return c.counts[v] }

// Plausible tells whether data can have a time: not before 2015 and, unless in a replay, not more than a day after wall.
func Plausible(at pcommon.Timestamp, wall time.Time, replay bool) bool {
	if replay {
		return at > 0 && at <= math.MaxInt64
	}
	return at >= stamp(minTime) && at <= stamp(wall.Add(24*time.Hour))
}

// Bounds are the first and the last time that is believed of a point.
func (c *Clock) Bounds(wall time.Time) (first, last pcommon.Timestamp) {
	if c.replay {
		return 1, math.MaxInt64
	}
	return stamp(minTime), c.limit(wall)
}

// Believed is the time that a point is taken for: its own, or in live mode wall's where it is too far ahead of that.
func (c *Clock) Believed(at pcommon.Timestamp, wall time.Time) pcommon.Timestamp {
	if at > c.limit(wall) {
		return stamp(wall)
	}
	return at
}

// limit is the newest time that is believed.
func (c *Clock) limit(wall time.Time) pcommon.Timestamp {
	if c.replay {
		return math.MaxInt64
	}
	return stamp(wall.Add(maxAhead + c.lateness))
}

// Limit is the newest time that is believed at wall.
func (c *Clock) Limit(wall time.Time) pcommon.Timestamp { return c.limit(wall) }

// Hear takes over a heartbeat that arrives at wall.
func (c *Clock) Hear(beat Beat, wall time.Time) Verdict {
	verdict := c.hear(beat, wall)
	c.counts[verdict]++
	return verdict
}

func (c *Clock) hear(beat Beat, wall time.Time) Verdict {
	if beat.Node == "" && c.named {
		return NoNode
	}
	n, known := c.byName[beat.Node]
	if !known && len(c.byName) >= MaxNodes {
		return NodeLimit
	}
	c.Heal(wall)
	n.seen, n.heard = wall, max(n.heard, c.newest)
	if n.heard == 0 {
		n.heard = min(stamp(wall), beat.Time) // the first ever
	}
	if beat.Time > c.limit(wall) {
		// The node is alive, but its clock cannot be right.
		n.offset = time.Duration(min(beat.Time, math.MaxInt64) - stamp(wall))
		c.put(beat.Node, n)
		if !Plausible(beat.Time, wall, false) {
			return Implausible
		}
		return Ahead
	}
	if !Plausible(beat.Time, wall, c.replay) {
		return Implausible
	}
	if beat.Node != "" && !c.named {
		c.named, c.newest = true, 0
		delete(c.byName, "")
	}
	c.listen(wall)
	c.progressed = true
	verdict := Taken
	sequenced := beat.Sequence > 0 && n.sequence > 0
	switch {
	case sequenced && beat.Start == n.start && beat.Sequence < n.sequence:
		verdict = OutOfOrder
	case beat.Time > n.at:
		n.at = beat.Time
	case beat.Time < n.at && sequenced && (beat.Start > n.start || beat.Start == n.start && beat.Sequence > n.sequence):
		// Sent later, of an earlier time: the node's clock was set back.
		n.at, n.settled = beat.Time, min(n.settled, beat.Time)
	default:
		verdict = Repeated
	}
	if verdict != OutOfOrder && beat.Sequence > 0 {
		n.start, n.sequence = beat.Start, beat.Sequence
	}
	n.offset = c.behind(beat.Time, wall)
	if beat.Time > c.newest {
		if c.newest > 0 {
			c.step = beat.Time - c.newest
		}
		c.newest = beat.Time
	}
	n.heard = max(n.heard, c.newest)
	c.put(beat.Node, n)
	if beat.Time+pcommon.Timestamp(c.lateness) < max(c.newest, c.furthest) && wall.Before(c.until) {
		// It catches up.
		c.until = earlier(latest(c.until, wall.Add(c.lateness)), c.began.Add(maxCatchUp))
	}
	return verdict
}

// behind is by how much a time lies too far behind the wall clock, as a negative duration; 0 if it does not, or where that
// does not mean anything.
func (c *Clock) behind(at pcommon.Timestamp, wall time.Time) time.Duration {
	if c.replay || wall.Before(c.until) || at+pcommon.Timestamp(maxAhead+c.lateness) >= stamp(wall) {
		return 0
	}
	return -time.Duration(stamp(wall) - at)
}

// Heal brings back what lies too far ahead of the wall clock: the clock was set back, or what was restored was written while
// it was ahead. It tells whether the mesh's time went back. Advance does it, too.
func (c *Clock) Heal(wall time.Time) bool {
	limit := c.limit(wall)
	if c.time <= limit && c.newest <= limit && c.furthest <= limit {
		return false
	}
	now := stamp(wall)
	c.newest, c.furthest = 0, min(c.furthest, now)
	for name, n := range c.byName {
		if n.at > limit {
			n.at, n.settled, n.stored = now, min(n.settled, now), 0
		}
		n.heard = min(n.heard, now)
		c.byName[name] = n
		c.newest = max(c.newest, n.at)
	}
	if c.time <= limit {
		return false
	}
	c.time = now
	return true
}

// Advance moves the time up to what the heartbeats allow at a time of the wall clock. It tells whether the time had to go back,
// because it was ahead of the wall clock.
func (c *Clock) Advance(wall time.Time) (back bool) {
	back = c.Heal(wall)
	now := c.newest
	// Who is a little ahead of the wall clock does not make the others late.
	newest := c.newest
	if !c.replay {
		newest = min(newest, stamp(wall))
	}
	catchingUp := wall.Before(c.until)
	awaited := func(n *node) bool {
		return n.offset <= 0 && (n.at+pcommon.Timestamp(c.lateness) >= newest || catchingUp && n.at >= c.time)
	}
	if n, known := c.byName[c.slowest]; known && n.at <= c.time && awaited(&n) {
		return back // still waited for
	}
	for name, n := range c.byName {
		switch {
		case max(n.at, n.heard)+forgotten < c.newest:
			delete(c.byName, name)
		case awaited(&n) && n.at <= now:
			now, c.slowest = n.at, name
		}
	}
	c.time = max(c.time, now)
	return back
}

// listen notes that some node was heard, and whether none was for long.
func (c *Clock) listen(wall time.Time) {
	if gone := c.heard.Sub(wall); gone > 0 {
		// The wall clock was set back.
		c.heard, c.began, c.until = c.heard.Add(-gone), c.began.Add(-gone), c.until.Add(-gone)
	}
	if c.silent(wall) {
		c.began, c.until, c.furthest, c.progressed = wall, wall.Add(CatchUpWindow), 0, false
	}
	c.heard = wall
}

// silent tells whether no node was heard for so long that all of them must have been kept from speaking. Who waits in vain for
// others, and comes again, does not begin another wait.
func (c *Clock) silent(wall time.Time) bool {
	return (c.progressed || c.began.IsZero()) && c.named && !c.replay && len(c.byName) > 0 && wall.Sub(c.heard) > max(c.lateness, 3*time.Duration(c.step))
}

// CatchingUp tells whether what nodes send must be taken in the order of its times.
func (c *Clock) CatchingUp(wall time.Time) bool { return wall.Before(c.until) || c.silent(wall) }

// CatchUpEnds is when catching up ends at the latest, by what is known now.
func (c *catchUp) CatchUpEnds() time.Time { return c.until }

// Announce notes what a node has to send. It is false if the time is not to be believed, and nobody need wait for it.
func (c *Clock) Announce(name string, at pcommon.Timestamp, wall time.Time) bool {
	if at > c.limit(wall) {
		return false
	}
	c.listen(wall)
	if _, known := c.announced[name]; known || len(c.announced) < MaxNodes {
		c.announced[strings.Clone(name)] = at
	}
	c.furthest = max(c.furthest, at)
	return true
}

// Withdraw takes back what a node announced: it was taken, or its sender gave up.
func (c *catchUp) Withdraw(name string) { delete(c.announced, name) }

// Announced is what a node has to send; 0 if nothing.
func (c *catchUp) Announced(name string) pcommon.Timestamp { return c.announced[name] }

// Admitted is the newest time of which what nodes announced may be taken: nobody who is waited for has anything older.
func (c *Clock) Admitted() pcommon.Timestamp {
	admitted := pcommon.Timestamp(math.MaxUint64)
	for name, n := range c.byName {
		if head := max(n.at, c.announced[name]); n.offset <= 0 && head >= c.time {
			admitted = min(admitted, head)
		}
	}
	for name, at := range c.announced {
		if _, known := c.byName[name]; !known && at >= c.time {
			admitted = min(admitted, at)
		}
	}
	return admitted
}

// Forget takes note that a node is gone for good.
func (c *Clock) Forget(name string) {
	delete(c.byName, name)
	delete(c.announced, name)
}

// Restore takes up a node's time from before a restart: it is expected to be heard again. Once the wall clock is known, a time
// ahead of it is brought back to it.
func (c *Clock) Restore(name string, at pcommon.Timestamp) {
	if _, known := c.byName[name]; at > math.MaxInt64 || !known && len(c.byName) >= MaxNodes {
		return
	}
	c.named = c.named || name != ""
	c.put(name, node{at: at, settled: at, stored: at, heard: at})
	c.newest = max(c.newest, at)
}

// RestoreTime takes up the mesh's time from before a restart.
func (c *Clock) RestoreTime(at pcommon.Timestamp) { c.time = min(at, math.MaxInt64) }

// SkipToNewest moves the time up to the newest heartbeat, whoever lags behind.
func (c *Clock) SkipToNewest() { c.time = max(c.time, c.newest) }

// Set moves the time forward by other means than heartbeats.
func (c *Clock) Set(now pcommon.Timestamp) { c.time = max(c.time, now) }

// stamp is a time as data has it; what cannot be is the nearest that can.
func stamp(t time.Time) pcommon.Timestamp {
	switch {
	case t.Before(time.Unix(0, 0)):
		return 0
	case t.After(maxTime):
		return math.MaxInt64
	}
	return pcommon.Timestamp(t.UnixNano())
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
