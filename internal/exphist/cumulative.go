package exphist

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
)

// Cumulative remembers the last point of a cumulative exponential histogram. What a point adds is decided by cumulative.Counter,
// on the count.
type Cumulative struct {
	cumulative.Counter[uint64]

	zero   uint64
	sum    float64
	scale  int32
	offset int32
	counts []uint64
}

// Advance adds what a point adds to the points before it to a histogram, and returns the number of values. Values below 0 count
// as 0. A point that no histogram can have is cumulative.Invalid.
func (c *Cumulative) Advance(l Layout, point pmetric.ExponentialHistogramDataPoint, into *Histogram) (uint64, cumulative.Change) {
	if !valid(point) {
		return 0, cumulative.Invalid
	}
	_, change := c.Counter.Advance(point.StartTimestamp(), point.Timestamp(), point.Count())
	switch change {
	case cumulative.Late, cumulative.Invalid, cumulative.Unchanged:
		return 0, change
	case cumulative.First, cumulative.Reset:
		c.zero, c.sum, c.counts = 0, 0, c.counts[:0]
	}
	scale, offset, buckets := point.Scale(), point.Positive().Offset(), point.Positive().BucketCounts()
	zero, sum := zeros(point), finite(point.Sum())
	var added uint64
	if change != cumulative.First || c.First != cumulative.Baseline {
		added = c.addDifference(l, scale, offset, buckets, into)
		zeros := zero - min(zero, c.zero)
		added += zeros
		if added > 0 && point.HasMin() && point.HasMax() {
			into.bound(max(finite(point.Min()), 0), max(finite(point.Max()), 0))
		}
		into.Count += added
		into.Zero += zeros
		into.Sum += max(sum-c.sum, 0)
	}
	c.zero, c.sum, c.scale, c.offset = zero, sum, scale, offset
	c.counts = c.counts[:0]
	for i := range buckets.Len() {
		c.counts = append(c.counts, buckets.At(i))
	}
	return added, change
}

// addDifference adds what buckets hold more than those of the last point. Where one of both is finer it is brought to the
// other's scale.
func (c *Cumulative) addDifference(l Layout, scale, offset int32, buckets pcommon.UInt64Slice, into *Histogram) (added uint64) {
	if len(c.counts) > 0 && scale > c.scale {
		// Finer than before: the last point's buckets cannot be divided.
		var now Histogram
		now.Scale, now.Offset = scale, offset
		now.Counts = buckets.AsRaw()
		now.Downscale(scale - c.scale)
		before := Histogram{Count: 1, Scale: c.scale, Offset: c.offset, Counts: c.counts}
		now.Sub(&before)
		into.merge(l, now.Scale, now.Offset, now.Counts)
		return now.Count
	}
	shift := c.scale - scale
	var chunk [160]uint64
	for from := 0; from < buckets.Len(); from += len(chunk) {
		n := chunked(buckets, from, chunk[:])
		for i, count := range c.counts {
			if k := int((c.offset+int32(i))>>shift-offset) - from; k >= 0 && k < n {
				chunk[k] -= min(chunk[k], count)
			}
		}
		for _, count := range chunk[:n] {
			added += count
		}
		into.merge(l, scale, offset+int32(from), chunk[:n])
	}
	return added
}
