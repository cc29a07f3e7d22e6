package scrape

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Tracker remembers the cumulative series of one target's last successful scrape and gives points their start
// timestamps:
//   - In the target's very first scrape a series starts at that scrape: start = timestamp. Its value is what went before,
//     a baseline that a consumer must not count.
//   - A series that is new later counts from zero at the previous successful scrape, and so does one whose value fell.
//   - Every other series keeps its start.
//
// A ztunnel neither forgets nor resets a single series, so there one that fell or went away tells that the process began
// anew, and with it every series counts from zero, even those that are above their old value already. Waypoints
// do forget series, so there each is judged alone.
//
// A tracker holds as many series as one scrape may have. It is not safe for use by several goroutines.
type Tracker struct {
	series     map[uint64]tracked
	last       time.Time
	generation uint64
	incomplete bool
	restarts   uint64
}

type tracked struct {
	start      pcommon.Timestamp
	value      float64
	generation uint64
}

// NewTracker returns the memory of a target that has not been scraped.
func NewTracker() *Tracker { return &Tracker{series: map[uint64]tracked{}} }

// Restarts is the number of times that the target was seen to have begun anew.
func (t *Tracker) Restarts() uint64 { return t.restarts }

// cumulative is a point that waits for its start timestamp.
type cumulative struct {
	series uint64
	value  float64
	point  interface{ SetStartTimestamp(pcommon.Timestamp) }
}

// assign gives a successful scrape's points their starts. incomplete tells that series were left out of it.
func (t *Tracker) assign(kind Kind, at time.Time, points []cumulative, incomplete bool) {
	now := pcommon.NewTimestampFromTime(at)
	previous := pcommon.NewTimestampFromTime(t.last)
	// Times that step back, as when a recording begins again, make the memory worthless.
	if !at.After(t.last) {
		clear(t.series)
		t.last = time.Time{}
	}
	first := t.last.IsZero()
	restarted := !first && kind == Ztunnel && t.restarted(points, incomplete)
	if restarted {
		t.restarts++
	}
	t.generation++
	for _, p := range points {
		old, known := t.series[p.series]
		start := old.start
		switch {
		case first:
			start = now
		case restarted || !known || p.value < old.value:
			start = previous
		}
		p.point.SetStartTimestamp(start)
		t.series[p.series] = tracked{start: start, value: p.value, generation: t.generation}
	}
	for key, s := range t.series {
		if s.generation != t.generation {
			delete(t.series, key)
		}
	}
	t.last = at
	t.incomplete = incomplete
}

func (t *Tracker) restarted(points []cumulative, incomplete bool) bool {
	seen := 0
	for _, p := range points {
		old, known := t.series[p.series]
		if known && p.value < old.value {
			return true
		}
		if known {
			seen++
		}
	}
	return seen < len(t.series) && !incomplete && !t.incomplete
}
