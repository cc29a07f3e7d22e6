package observe

import "time"

const (
	// cadenceGaps is how many gaps between changes of an edge are kept, busyGaps over how many of them its cadence is taken if they tell of
	// much. All of them must lie on one beat if they do not.
	cadenceGaps = 8
	busyGaps    = 4
	// slowBeat is how far apart changes must be for their beat to be no chance, offBeat what part of it they may be off.
	slowBeat = 30 * time.Second
	offBeat  = 50
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
// of those. Of an edge that only scrapes tell of, rare changes show it too.
func (c *cadence) interval(scraped bool) time.Duration {
	if c.known < busyGaps {
		return 0
	}
	least, told := c.gap(0), uint64(0)
	for i := range busyGaps {
		least = min(least, c.gap(i))
		told += c.counts[c.index(i)]
	}
	if told < leastPerChange*busyGaps {
		if least = c.beat(); least == 0 || !scraped {
			return 0
		}
	}
	slots := (time.Duration(least) + MinSlot/2) / MinSlot
	if slots < 2 {
		return 0
	}
	return slots * MinSlot
}

func (c *cadence) index(age int) int { return (c.next + 2*cadenceGaps - 1 - age) % cadenceGaps }

func (c *cadence) gap(age int) int64 { return c.gaps[c.index(age)] }

// beat is the shortest gap if all are multiples of it, as where something rare is scraped; 0 if they are not.
func (c *cadence) beat() int64 {
	if c.known < cadenceGaps {
		return 0
	}
	least := c.gaps[0]
	for _, gap := range c.gaps {
		least = min(least, gap)
	}
	for _, gap := range c.gaps {
		off := gap % least
		if off = min(off, least-off); offBeat*off > least {
			return 0
		}
	}
	if least < int64(slowBeat) {
		return 0
	}
	return least
}
