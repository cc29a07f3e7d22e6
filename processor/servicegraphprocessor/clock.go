package servicegraphprocessor

import (
	"math"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

const (
	// maxNodes bounds the nodes whose heartbeats are told apart.
	maxNodes = 20_000
	// forgotten is how long a node must be silent before nothing is expected of it any more.
	forgotten = pcommon.Timestamp(24 * time.Hour)
	// reunion is how long, by the wall clock, all nodes are waited for once one is heard again after none was: it is the graph
	// that was cut off, and each sends what it kept as soon as it can connect. maxReunion bounds that for as long as they do.
	reunion    = 30 * time.Second
	maxReunion = 2 * time.Minute
)

// clock is the data's own time: the time before which every node has said all it has to say. A node that falls more
// than lateness behind the others is not waited for, unless nobody was heard before.
type clock struct {
	lateness time.Duration
	nodes    map[string]nodeTime
	// named tells that a node was heard: what belongs to no node (istiod's stream) says nothing about time then.
	named  bool
	newest pcommon.Timestamp
	time   pcommon.Timestamp
	step   pcommon.Timestamp // between the newest heartbeats

	// By the wall clock: when a node was heard last, from when and until when all nodes are waited for. Meanwhile what they
	// send is taken in the order of its times; waiting is what each has at the door, furthest the newest of it ever.
	heard, reunited, until time.Time
	progressed             bool // since they began to be waited for
	waiting                map[string]pcommon.Timestamp
	furthest               pcommon.Timestamp
	// replay tells that the data comes from a recording, whose pauses mean nothing.
	replay bool
}

// nodeTime is the time before which a node has said all; settled is what it was at the last flush, stored what is stored of it.
type nodeTime struct{ at, settled, stored pcommon.Timestamp }

func newClock(lateness time.Duration) clock {
	return clock{lateness: lateness, nodes: map[string]nodeTime{}, waiting: map[string]pcommon.Timestamp{}}
}

// heartbeat takes over a node's own time, heard at a time of the wall clock. It tells whether that has a say.
func (c *clock) heartbeat(node string, at pcommon.Timestamp, wall time.Time) bool {
	if node == "" && c.named {
		return false
	}
	if node != "" && !c.named {
		c.named, c.newest = true, 0
		clear(c.nodes)
	}
	last, known := c.nodes[node]
	if !known && len(c.nodes) >= maxNodes {
		return false
	}
	c.hear(wall)
	c.progressed = true
	if !known || at > last.at {
		last.at = at
		c.nodes[naming.Intern(node)] = last
	}
	if at > c.newest {
		if c.newest > 0 {
			c.step = at - c.newest
		}
		c.newest = at
	}
	if at+pcommon.Timestamp(c.lateness) < max(c.newest, c.furthest) && wall.Before(c.until) {
		// It catches up.
		c.until = earlier(latest(c.until, wall.Add(c.lateness)), c.reunited.Add(maxReunion))
	}
	return true
}

// hear notes that some node was heard, and whether none was for long.
func (c *clock) hear(wall time.Time) {
	if c.silent(wall) {
		c.reunited, c.until, c.furthest, c.progressed = wall, wall.Add(reunion), 0, false
	}
	c.heard = wall
}

// silent tells whether no node was heard for so long that all of them must have been kept from speaking. Who waits in vain for
// others, and comes again, does not begin another wait.
func (c *clock) silent(wall time.Time) bool {
	return (c.progressed || c.reunited.IsZero()) && c.named && !c.replay && len(c.nodes) > 0 && wall.Sub(c.heard) > max(c.lateness, 3*time.Duration(c.step))
}

// reuniting tells whether what nodes send must be taken in the order of its times.
func (c *clock) reuniting(wall time.Time) bool { return wall.Before(c.until) || c.silent(wall) }

// knock notes what a node has at the door.
func (c *clock) knock(node string, at pcommon.Timestamp, wall time.Time) {
	c.hear(wall)
	if _, known := c.waiting[node]; known || len(c.waiting) < maxNodes {
		c.waiting[naming.Intern(node)] = at
	}
	c.furthest = max(c.furthest, at)
}

// admitted is the newest time of which what nodes have at the door may be taken: nobody who is waited for has anything older.
func (c *clock) admitted() pcommon.Timestamp {
	admitted := pcommon.Timestamp(math.MaxUint64)
	for node, n := range c.nodes {
		if head := max(n.at, c.waiting[node]); head >= c.time {
			admitted = min(admitted, head)
		}
	}
	for node, at := range c.waiting {
		if _, known := c.nodes[node]; !known && at >= c.time {
			admitted = min(admitted, at)
		}
	}
	return admitted
}

// advance moves the time up to what the heartbeats allow at a time of the wall clock.
func (c *clock) advance(wall time.Time) {
	now := c.newest
	reunited := wall.Before(c.until)
	for node, n := range c.nodes {
		switch {
		case n.at+pcommon.Timestamp(c.lateness) >= c.newest, reunited && n.at >= c.time:
			now = min(now, n.at)
		case n.at+forgotten < c.newest:
			delete(c.nodes, node)
		}
	}
	c.time = max(c.time, now)
}

// heardOf is the time before which a node had said all it had to say by the last flush; of one that is not known nothing is
// expected.
func (c *clock) heardOf(node string) pcommon.Timestamp {
	if n, ok := c.nodes[node]; ok && node != "" {
		return n.settled
	}
	return math.MaxUint64
}

// flushed notes that what nodes said so far is counted.
func (c *clock) flushed() {
	for node, n := range c.nodes {
		if n.settled != n.at {
			n.settled = n.at
			c.nodes[node] = n
		}
	}
}

// restore takes up a node's time from before a restart: it is expected to be heard again.
func (c *clock) restore(node string, at pcommon.Timestamp) {
	c.named = c.named || node != ""
	c.nodes[node] = nodeTime{at, at, at}
	c.newest = max(c.newest, at)
}

// catchUp moves the time up to the newest heartbeat, whoever lags behind.
func (c *clock) catchUp() { c.time = max(c.time, c.newest) }

// set moves the time by other means than heartbeats.
func (c *clock) set(now pcommon.Timestamp) { c.time = max(c.time, now) }

// beats tells whether any heartbeat was heard.
func (c *clock) beats() bool { return !c.heard.IsZero() }

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
