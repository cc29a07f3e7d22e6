package servicegraphprocessor

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// maxNodes bounds the nodes whose heartbeats are told apart.
const maxNodes = 20_000

// clock is the data's own time: the time before which every node has said all it has to say. A node that falls more
// than lateness behind the others is not waited for.
type clock struct {
	lateness time.Duration
	nodes    map[string]pcommon.Timestamp
	newest   pcommon.Timestamp
	time     pcommon.Timestamp
}

func newClock(lateness time.Duration) clock {
	return clock{lateness: lateness, nodes: map[string]pcommon.Timestamp{}}
}

// heartbeat takes over a node's own time.
func (c *clock) heartbeat(node string, at pcommon.Timestamp) {
	last, known := c.nodes[node]
	if !known && len(c.nodes) >= maxNodes {
		return
	}
	if !known || at > last {
		c.nodes[intern(node)] = at
	}
	c.newest = max(c.newest, at)
}

// advance moves the time up to what the heartbeats allow.
func (c *clock) advance() {
	now := c.newest
	for node, at := range c.nodes {
		switch {
		case at+pcommon.Timestamp(c.lateness) >= c.newest:
			now = min(now, at)
		case at+pcommon.Timestamp(10*time.Minute) < c.newest:
			delete(c.nodes, node)
		}
	}
	c.time = max(c.time, now)
}

// catchUp moves the time up to the newest heartbeat, whoever lags behind.
func (c *clock) catchUp() { c.time = max(c.time, c.newest) }

// set moves the time by other means than heartbeats.
func (c *clock) set(now pcommon.Timestamp) { c.time = max(c.time, now) }

// beats tells whether any heartbeat was ever seen.
func (c *clock) beats() bool { return c.newest > 0 }
