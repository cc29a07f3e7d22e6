package scrape

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Tracker remembers the cumulative series of one target's last successful scrape and gives points their start
// timestamps:
//   - In the target's very first scrape a series starts at that scrape: start = timestamp. Its value is what went before,
//     a baseline that a consumer must not count. Where the target says how long it has run, and that is not for long, it starts there.
//   - A series that is new later counts from zero at the previous successful scrape, and so does one whose value fell.
//   - Every other series keeps its start.
//
// A ztunnel neither forgets nor resets a single series, so there one that fell or went away tells that the process began
// anew, and with it every series counts from zero, even those that are above their old value already. Waypoints
// do forget series, so there each is judged alone.
//
// A tracker is bounded by the series that one scrape may have. It is not safe for use by several goroutines.
type Tracker struct {
	series map[uint64]tracked
	// texts finds series by how they are written.
	texts map[uint64]uint64
	last  time.Time
	// told is when all series left last.
	told       time.Time
	generation uint64
	incomplete bool
	restarts   uint64
}

type tracked struct {
	start      pcommon.Timestamp
	value      float64
	generation uint64
	text       uint64
}

// NewTracker returns the memory of a target that has not been scraped.
func NewTracker() *Tracker { return &Tracker{series: map[uint64]tracked{}, texts: map[uint64]uint64{}} }

// Restarts is the number of times that the target was seen to have begun anew.
func (t *Tracker) Restarts() uint64 { return t.restarts }

// Repeat lets the next scrape tell all series, because of what was told some was lost.
func (t *Tracker) Repeat() { t.told = time.Time{} }

// cumulative is a point that waits for its start timestamp; without a point, a series that did not change. The text is
// zero for what is written in several series.
type cumulative struct {
	series, text uint64
	value        float64
	point        interface{ SetStartTimestamp(pcommon.Timestamp) }
}

// whole tells whether a scrape at that time is to tell all series. Times that step back, as when a recording begins
// again, make the memory worthless.
func (t *Tracker) whole(at time.Time, refresh time.Duration) bool {
	return refresh <= 0 || t.told.IsZero() || !at.After(t.last) || at.Sub(t.told) >= refresh
}

func (t *Tracker) unchanged(series uint64, value float64) bool {
	old, known := t.series[series]
	return known && old.value == value
}

// maxUptime is how long a target may have run for its series to start with it.
const maxUptime = time.Minute

// assign gives a successful scrape's points their starts. A target that ran for uptime has counted since, if that is not 0; restarted tells
// that it began anew; incomplete, that series were left out of the scrape; whole, that it tells also what did not change.
func (t *Tracker) assign(at time.Time, points []cumulative, uptime time.Duration, restarted, incomplete, whole bool) {
	now := pcommon.NewTimestampFromTime(at)
	previous := pcommon.NewTimestampFromTime(t.last)
	if !at.After(t.last) {
		clear(t.series)
		clear(t.texts)
		t.last = time.Time{}
	}
	first := t.last.IsZero()
	began := now
	if uptime > 0 && uptime <= maxUptime {
		began = pcommon.NewTimestampFromTime(at.Add(-uptime))
	}
	if restarted {
		t.restarts++
	}
	t.generation++
	for _, p := range points {
		old, known := t.series[p.series]
		start := old.start
		switch {
		case first:
			start = began
		case restarted || !known || p.value < old.value:
			start = previous
		}
		if p.point != nil {
			p.point.SetStartTimestamp(start)
		}
		if p.text != old.text {
			delete(t.texts, old.text)
			t.texts[p.text] = p.series
		}
		t.series[p.series] = tracked{start: start, value: p.value, generation: t.generation, text: p.text}
	}
	for key, s := range t.series {
		if s.generation != t.generation {
			delete(t.series, key)
			delete(t.texts, s.text)
		}
	}
	if whole {
		t.told = at
	}
	t.last = at
	t.incomplete = incomplete
}

// restarted tells whether a scrape shows that its target began anew.
func (t *Tracker) restarted(kind Kind, at time.Time, points []cumulative, incomplete bool) bool {
	if t.last.IsZero() || !at.After(t.last) || kind != Ztunnel {
		return false
	}
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
