package observe

import "time"

const (
	// cadenceGaps is over how many gaps between changes an edge's cadence is taken.
	cadenceGaps = 4
	// leastPerChange is how many events a change must tell of on average: single ones are rare, not scraped rarely.
	leastPerChange = 3
)

// cadence learns how far apart the times are at which an edge's counters change. An edge of which scrapes tell changes
// with every scrape, by all that happened since the last one; one of which logs or spans tell changes whenever anything
// happens.
type cadence struct {
	last   int64
	gaps   [cadenceGaps]int64
	counts [cadenceGaps]uint64
	next   int
	known  int
}

// note takes over n events that are told at a time.
func (c *cadence) note(t int64, n uint64) {
	switch {
	case c.last == 0:
		c.last = t
		return
	case t < c.last:
		return
	case t == c.last:
		if c.known > 0 {
			c.counts[(c.next+cadenceGaps-1)%cadenceGaps] += n
		}
		return
	}
	c.gaps[c.next], c.counts[c.next] = t-c.last, n
	c.next = (c.next + 1) % cadenceGaps
	c.known = min(c.known+1, cadenceGaps)
	c.last = t
}

// interval is the distance between changes, in whole slots of the shortest length; 0 while it is not known or below two
// of those.
func (c *cadence) interval() time.Duration {
	if c.known < cadenceGaps {
		return 0
	}
	least, told := c.gaps[0], uint64(0)
	for i := range c.gaps {
		least = min(least, c.gaps[i])
		told += c.counts[i]
	}
	slots := (time.Duration(least) + MinSlot/2) / MinSlot
	if slots < 2 || told < leastPerChange*cadenceGaps {
		return 0
	}
	return slots * MinSlot
}
