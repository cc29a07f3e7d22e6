// Package reconcile counts each connection once although its two ends report it independently.
//
// Each end says how many connections of a pair it has seen so far. Where both see everything, the larger of the two
// counts is the number of connections: the other end is merely late. Where an end missed some (its ztunnel was
// killed), that end stays behind for good, and a connection that later only the first end misses must still count.
// The package therefore settles an excess that outlasts any lateness: it becomes part of the base from which both
// ends are compared.
package reconcile

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Limits says how lateness is told from loss.
type Limits struct {
	// Window is how long an excess of one end must last before it is settled.
	Window time.Duration
	// Skew is the lateness of one end against the other that is ordinary. At high rates some connections are always
	// between their two reports; those are not settled.
	Skew time.Duration
	// Heard is the time before which the source and the destination had said all they have to say when Apply was called last; 0
	// is always. An excess is settled only in time of which the other end was heard: one that is cut off will tell what it saw.
	Heard [2]pcommon.Timestamp
	// Hold is how long a failure without a telling reason waits for the other end's. It is shorter than Window.
	Hold time.Duration
}

// Lead compares the increments of one quantity of a pair as its two ends report them.
// The zero value is ready to use.
type Lead struct {
	lead    int64 // source minus destination since the base; at most one of them is ahead
	low     int64 // the least |lead| since the sign of lead last changed or the excess was last settled
	lag     uint64
	settled uint64
	since   pcommon.Timestamp
	changed pcommon.Timestamp
}

// Apply takes over what the ends reported up to now since the last call, and returns how much of it counts: what
// the source was first to report and what the destination was. Their sum does not depend on which end reports first.
func (l *Lead) Apply(now pcommon.Timestamp, source, destination uint64, limits Limits) (bySource, byDestination uint64) {
	l.settle(now, limits)
	before := l.lead
	bySource = l.addSource(source)
	byDestination = l.addDestination(destination)
	l.note(now, before, source, destination)
	return bySource, byDestination
}

// Ahead is the number that only the source (positive) or only the destination (negative) has reported so far.
func (l *Lead) Ahead() int64 { return l.lead }

// TakeSettled returns how much was settled since the last call: what only one end ever reported.
func (l *Lead) TakeSettled() uint64 {
	n := l.settled
	l.settled = 0
	return n
}

// Rewind takes note that the clock went back to a time.
func (l *Lead) Rewind(now pcommon.Timestamp) {
	l.since, l.changed = min(l.since, now), min(l.changed, now)
}

func (l *Lead) addSource(n uint64) uint64 {
	counted := n
	if l.lead < 0 {
		counted -= min(n, uint64(-l.lead))
	}
	l.lead += int64(n)
	return counted
}

func (l *Lead) addDestination(n uint64) uint64 {
	counted := n
	if l.lead > 0 {
		counted -= min(n, uint64(l.lead))
	}
	l.lead -= int64(n)
	return counted
}

func (l *Lead) note(now pcommon.Timestamp, before int64, source, destination uint64) {
	l.changed = now
	if l.lead == 0 || (l.lead > 0) != (before > 0) || before == 0 {
		l.since, l.low, l.lag = now, abs(l.lead), 0
		return
	}
	l.low = min(l.low, abs(l.lead))
	if l.lead > 0 {
		l.lag += destination
	} else {
		l.lag += source
	}
}

// settle looks at up to two windows: the one that ran until the last change, and the silence since.
func (l *Lead) settle(now pcommon.Timestamp, limits Limits) {
	behind := limits.Heard[0]
	if l.lead > 0 {
		behind = limits.Heard[1]
	}
	if behind > 0 {
		now = min(now, behind)
	}
	for l.lead != 0 && elapsed(l.since, now) >= limits.Window {
		excess := l.low - underway(l.lag, elapsed(l.since, l.changed), limits.Skew)
		if excess > 0 {
			l.settled += uint64(excess)
			if l.lead > 0 {
				l.lead -= excess
			} else {
				l.lead += excess
			}
		}
		restart := l.changed
		if l.since == l.changed {
			restart = now
		}
		l.since, l.low, l.lag = restart, abs(l.lead), 0
	}
}

// underway is how many of n reports within a span of time are ordinarily still to come at any moment.
func underway(n uint64, span, skew time.Duration) int64 {
	if n == 0 {
		return 0
	}
	if span <= skew {
		return int64(n)
	}
	return int64(float64(n) * float64(skew) / float64(span))
}

func elapsed(from, to pcommon.Timestamp) time.Duration {
	if to <= from {
		return 0
	}
	return time.Duration(to - from)
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
