package ztunnelreceiver

import "time"

const (
	// maxSkip is by how many intervals a machine may be late before its clock is said to have been set forward.
	maxSkip = 30
	// maxAhead is by how many intervals the clock may be behind the last boundary before it is said to have been set back. A little is waited for.
	maxAhead = 3
	// early is the part of an interval that a timer may be early.
	early = 10
)

// boundaries gives the times at which telemetry leaves: multiples of the interval, ever later unless the clock is set back.
type boundaries struct {
	interval time.Duration
	last     time.Time
}

// begin sets the last boundary: last, from before a restart, if it can be, else the one before now. It tells whether the clock
// was set back meanwhile.
func (b *boundaries) begin(now, last time.Time) (stepped bool) {
	b.last = now.UTC().Truncate(b.interval)
	if last.After(now.Add(maxAhead * b.interval)) {
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
	if wait > maxAhead*b.interval {
		// The clock was set back. Its seconds are still as long as before.
		return b.interval
	}
	return max(wait, 0)
}

// advance gives the boundary to flush after having waited; due is false if it is not time yet. It tells whether the clock was set: then
// the boundaries begin anew at the time that it shows.
func (b *boundaries) advance(now time.Time) (at time.Time, due, stepped bool) {
	at = now.UTC().Truncate(b.interval)
	switch ahead := b.next().Sub(now); {
	case ahead > maxAhead*b.interval:
		stepped = true
	case ahead > b.interval/early:
		return b.last, false, false
	case ahead > 0:
		at = b.next()
	default:
		stepped = at.Sub(b.last) > maxSkip*b.interval
	}
	b.last = at
	return at, true, stepped
}
