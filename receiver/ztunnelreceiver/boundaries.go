package ztunnelreceiver

import "time"

const (
	// maxSkip is by how many intervals a machine may be late before its clock is said to have jumped.
	maxSkip = 30
	// maxAhead is how far the last boundary before a restart may lie in the future and still be believed.
	maxAhead = time.Hour
)

// boundaries gives the times at which telemetry leaves: multiples of the interval, ever later, whatever the clock does.
type boundaries struct {
	interval time.Duration
	last     time.Time
	// behind is set while the clock shows a time before the last boundary.
	behind bool
}

// begin sets the last boundary: last, from before a restart, if it can be, else the one before now. It tells whether the clock
// seems to have been set back meanwhile.
func (b *boundaries) begin(now, last time.Time) (stepped bool) {
	b.last = now.UTC().Truncate(b.interval)
	if last.After(now.Add(maxAhead)) {
		return true
	}
	if last.After(b.last) {
		b.last = last
	}
	return false
}

// next is the boundary that comes next, if nothing happens to the clock.
func (b *boundaries) next() time.Time { return b.last.Add(b.interval) }

// wait is how long to wait for it.
func (b *boundaries) wait(now time.Time) time.Duration {
	wait := b.next().Sub(now)
	if wait > 2*b.interval {
		// The clock was set back. Its seconds are still as long as before.
		return b.interval
	}
	return max(wait, 0)
}

// advance gives the boundary to flush after having waited. It tells whether the clock jumped.
func (b *boundaries) advance(now time.Time) (at time.Time, stepped bool) {
	at = now.UTC().Truncate(b.interval)
	switch {
	case !at.After(b.last):
		at = b.next()
		stepped = !b.behind && at.Sub(now) > b.interval
		b.behind = b.behind || stepped
	case at.Sub(b.last) > maxSkip*b.interval:
		stepped = true
		b.behind = false
	default:
		b.behind = false
	}
	b.last = at
	return at, stepped
}
