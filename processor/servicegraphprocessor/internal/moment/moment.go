// Package moment is what each part of the graph is told of when it settles.
package moment

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Moment is a time of the data's own clock up to which everything is settled.
type Moment struct {
	Now pcommon.Timestamp
	// Final tells that nothing stays held: the data ends here.
	Final bool
	// CatchingUp tells that the graph was cut off, so that the mesh's state may come later than the traffic it names.
	CatchingUp bool
}

// Past tells whether a duration has passed since a time.
func (m Moment) Past(from pcommon.Timestamp, d time.Duration) bool { return Since(from, m.Now, d) }

// Since tells whether a duration has passed from one time to another.
func Since(from, to pcommon.Timestamp, d time.Duration) bool {
	return to >= from && time.Duration(to-from) >= d
}

// Arrival bounds the times that data states: Now is the data's time when it arrives, Latest the newest that can be right.
type Arrival struct{ Now, Latest pcommon.Timestamp }

// Of is when something that ended at a time counts as arrived.
func (a Arrival) Of(end pcommon.Timestamp) pcommon.Timestamp { return max(a.Now, a.End(end)) }

// End is a time that something states, as far as it can be right.
func (a Arrival) End(end pcommon.Timestamp) pcommon.Timestamp { return min(end, a.Latest) }
