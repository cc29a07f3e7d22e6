package observe

import (
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// counter turns a cumulative series into increments.
type counter struct {
	previous float64
	start    pcommon.Timestamp
	seen     bool
}

// increment is what was added since the last point; fromZero tells whether a first point counts from zero.
func (c *counter) increment(point pmetric.NumberDataPoint, delta, fromZero bool) uint64 {
	value := point.DoubleValue()
	if point.ValueType() == pmetric.NumberDataPointValueTypeInt {
		value = float64(point.IntValue())
	}
	if math.IsNaN(value) || value < 0 {
		return 0
	}
	if delta {
		return wholeOf(value)
	}
	return c.step(value, point.StartTimestamp(), point.Timestamp(), fromZero)
}

// step returns what came on top. A point that starts at its own time holds what went before: somebody else follows the
// same counter from here on.
func (c *counter) step(value float64, start, at pcommon.Timestamp, fromZero bool) uint64 {
	added := value - c.previous
	switch {
	case !c.seen && !fromZero:
		added = 0
	case c.seen && (value < c.previous || start > c.start && c.start != 0 && start < at):
		added = value
	}
	c.seen, c.previous, c.start = true, value, start
	return wholeOf(added)
}

// mostAdded bounds what one point may add, far above what any edge does and far below what sums overflow at.
const mostAdded = 1 << 40

func wholeOf(added float64) uint64 { return uint64(min(added, mostAdded)) }

// timing turns a cumulative histogram of durations into increments over the latency buckets.
type timing struct {
	counts [stats.LatencyBuckets]uint32
	count  uint64
	start  pcommon.Timestamp
	scale  int32
	seen   bool
	// Usual is what the durations were while nothing was wrong.
	Usual stats.Latencies
}

type bucketed [stats.LatencyBuckets]uint32

func (b *bucketed) add(bucket int, n uint64) {
	b[bucket] = uint32(min(uint64(b[bucket])+min(n, math.MaxUint32), math.MaxUint32))
}

func fromExponential(point pmetric.ExponentialHistogramDataPoint, seconds float64) bucketed {
	var b bucketed
	shift := math.Log2(seconds)
	octaves := math.Exp2(-float64(point.Scale()))
	counts := point.Positive().BucketCounts()
	for i := range counts.Len() {
		n := counts.At(i)
		if n == 0 {
			continue
		}
		middle := (float64(point.Positive().Offset()) + float64(i) + 0.5) * octaves
		bucket := math.Ceil((middle+shift)*(1<<stats.LatencyScale)) + stats.LatencyOffset
		b.add(int(min(max(bucket, 0), stats.LatencyBuckets-1)), n)
	}
	b.add(0, point.ZeroCount())
	return b
}

func fromExplicit(point pmetric.HistogramDataPoint, seconds float64) bucketed {
	var b bucketed
	bounds, counts := point.ExplicitBounds(), point.BucketCounts()
	for i := range counts.Len() {
		n := counts.At(i)
		if n == 0 {
			continue
		}
		var value float64
		switch {
		case bounds.Len() == 0:
			continue
		case i < bounds.Len():
			value = bounds.At(i)
		default:
			// Beyond the last bound: somewhere above it.
			value = 2 * bounds.At(bounds.Len()-1)
		}
		b.add(stats.LatencyBucket(value*seconds), n)
	}
	return b
}

// scaleOf is the scale that matters for how a histogram's buckets fall into ours: finer ones than ours, in seconds, all fall
// alike.
func scaleOf(scale int32, seconds float64) int32 {
	if seconds == 1 {
		return min(scale, stats.LatencyScale)
	}
	return scale
}

// increment leaves in b what was added since the last point.
func (t *timing) increment(b *bucketed, count uint64, scale int32, start pcommon.Timestamp, delta, fromZero bool) bool {
	if delta {
		return true
	}
	known := t.seen
	reset := count < t.count || start > t.start && t.start != 0
	rescaled := known && scale != t.scale
	current := *b
	t.seen, t.count, t.start, t.scale = true, count, start, scale
	defer func() { t.counts = current }()
	switch {
	case !known && !fromZero, rescaled && !reset:
		// After a change of scale old and new buckets do not lie alike: one interval goes unjudged.
		return false
	case !known || reset:
		return true
	}
	for i := range b {
		if b[i] >= t.counts[i] {
			b[i] -= t.counts[i]
		} else {
			b[i] = 0
		}
	}
	return true
}
