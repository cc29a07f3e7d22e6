// Package cumulative tells what a point of a cumulative series adds to the points before it.
//
// The rules, of which the table in cumulative_test.go is the specification:
//   - The first point counts in full (FromZero), or not at all where its past was counted before or is unknown (Baseline).
//   - A point older than the last one is late and ignored.
//   - A value that is not lower counts by the difference.
//   - A lower value is a reset: it counts in full on top.
//   - Another start, earlier or later, is a new counter: it counts in full on top. At the same time as the last point nobody can
//     tell which of the two is newer, so that it is late.
//   - A point that starts at its own time continues the same counter: somebody else follows it from here on. A start of 0 is
//     not stated and continues too.
//
// Whoever follows cumulative series uses Counter: the service graph (flow aggregates, scraped counters, waypoints), the outage
// detector (edges), the query extension (edges, the history), and the receiver (scrapes).
package cumulative

import (
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Change is what a point says of its series.
type Change uint8

// The changes.
const (
	// First is the first point of a series.
	First Change = iota
	// Grew is one with a higher value.
	Grew
	// Unchanged is one with the same value.
	Unchanged
	// Reset is the first point of a counter that began anew.
	Reset
	// Late is one that is older than the last one. It counts nothing and leaves the Counter as it is.
	Late
	// Invalid is one whose value no counter has: negative, infinite or not a number. It counts nothing and leaves the Counter as it is.
	Invalid

	changes
)

// String is the change as a label's value.
func (c Change) String() string {
	return [changes]string{"first", "grew", "unchanged", "reset", "late", "invalid"}[c]
}

// Policy is how a series' first point counts.
type Policy uint8

// The policies.
const (
	// FromZero counts it in full: the series began under our eyes.
	FromZero Policy = iota
	// Baseline counts nothing: when the value came to be is not known.
	Baseline
)

// Value is what a counter may count in.
type Value interface{ ~uint64 | ~float64 }

// Counter remembers the last point of a cumulative series. The zero value has seen none and counts the first from zero. Its fields
// are for those that store it.
type Counter[V Value] struct {
	Start, Time pcommon.Timestamp
	Value       V
	// Known tells that there was a point.
	Known bool
	// First is how the first point counts; it matters only until then.
	First Policy
}

// Advance takes over a point and returns what it adds. It does not allocate.
func (c *Counter[V]) Advance(start, at pcommon.Timestamp, value V) (delta V, change Change) {
	if math.IsNaN(float64(value)) || value < 0 || math.IsInf(float64(value), 1) {
		return 0, Invalid
	}
	delta = value
	same := c.Start == start || start == at || start == 0 || c.Start == 0
	switch {
	case !c.Known:
		change = First
		if c.First == Baseline {
			delta = 0
		}
	case at < c.Time, at == c.Time && !same:
		return 0, Late
	case !same, value < c.Value:
		change = Reset
	case value == c.Value:
		delta, change = 0, Unchanged
	default:
		delta, change = value-c.Value, Grew
	}
	c.Start, c.Time, c.Value, c.Known = start, at, value, true
	return delta, change
}

// GoesBack tells whether a point that is not late has the stated start of the last one and a lower value. Of a producer whose counters get another
// start whenever they begin anew, such a point is no reset: it took up a state that it had stored earlier, and tells again what it had told.
func (c *Counter[V]) GoesBack(start, at pcommon.Timestamp, value V) bool {
	return c.Known && at >= c.Time && start != 0 && c.Start == start && value < c.Value
}
