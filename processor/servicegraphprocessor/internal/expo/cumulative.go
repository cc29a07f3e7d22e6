package expo

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Cumulative remembers the last point of a cumulative exponential histogram and tells what came on top.
type Cumulative struct {
	start  pcommon.Timestamp
	time   pcommon.Timestamp
	known  bool
	count  uint64
	zero   uint64
	sum    float64
	scale  int32
	offset int32
	counts []uint64
}

// Advance adds the observations since the last point to into and returns their number. A point that begins later than
// the last one, or holds less, counts in full; one that is older than the last is ignored.
// Negative observations count as zero.
func (c *Cumulative) Advance(point pmetric.ExponentialHistogramDataPoint, into *Histogram) uint64 {
	if c.known && (point.Timestamp() < c.time || point.StartTimestamp() < c.start) {
		return 0
	}
	scale := point.Scale()
	positive := point.Positive()
	buckets := positive.BucketCounts()
	if scale > maxScale || scale < minScale || buckets.Len() > 4*MaxSize {
		return 0
	}
	if limit := indexLimit(scale); int64(positive.Offset()) < -limit || int64(positive.Offset())+int64(buckets.Len()) > limit {
		return 0
	}
	fresh := !c.known || point.StartTimestamp() > c.start || point.Count() < c.count
	if !fresh && point.Count() == c.count {
		c.time = point.Timestamp()
		return 0
	}
	var delta Histogram
	delta.Count = point.Count()
	delta.Sum = point.Sum()
	delta.Zero = point.ZeroCount()
	negative := point.Negative().BucketCounts()
	for i := range negative.Len() {
		delta.Zero += negative.At(i)
	}
	zero := delta.Zero
	if !fresh && c.subtractable(scale, positive.Offset(), buckets, delta.Zero) {
		delta.Count -= c.count
		delta.Sum = max(delta.Sum-c.sum, 0)
		delta.Zero -= c.zero
		into.addDifference(scale, positive.Offset(), buckets, c)
	} else {
		into.addBuckets(scale, positive.Offset(), buckets)
	}
	if point.HasMin() && point.HasMax() {
		into.bound(max(point.Min(), 0), max(point.Max(), 0))
	}
	into.Count += delta.Count
	into.Sum += delta.Sum
	into.Zero += delta.Zero

	c.known, c.start, c.time = true, point.StartTimestamp(), point.Timestamp()
	c.count, c.zero, c.sum = point.Count(), zero, point.Sum()
	c.scale, c.offset = scale, positive.Offset()
	c.counts = c.counts[:0]
	for i := range buckets.Len() {
		c.counts = append(c.counts, buckets.At(i))
	}
	return delta.Count
}

// indexLimit is the bucket index that no float64 exceeds.
func indexLimit(scale int32) int64 {
	const exponents = 1100
	if scale < 0 {
		return exponents>>-scale + 2
	}
	return exponents << scale
}

// subtractable tells whether the last point's buckets all lie within a newer point's.
func (c *Cumulative) subtractable(scale, offset int32, buckets pcommon.UInt64Slice, zero uint64) bool {
	if scale > c.scale || zero < c.zero {
		return false
	}
	shift := c.scale - scale
	for i := 0; i < len(c.counts); {
		at := (c.offset + int32(i)) >> shift
		var sum uint64
		for ; i < len(c.counts) && (c.offset+int32(i))>>shift == at; i++ {
			sum += c.counts[i]
		}
		k := int(at - offset)
		if sum > 0 && (k < 0 || k >= buckets.Len() || buckets.At(k) < sum) {
			return false
		}
	}
	return true
}

func (h *Histogram) addBuckets(scale, offset int32, buckets pcommon.UInt64Slice) {
	var chunk [MaxSize]uint64
	for from := 0; from < buckets.Len(); from += MaxSize {
		n := min(MaxSize, buckets.Len()-from)
		for i := range n {
			chunk[i] = buckets.At(from + i)
		}
		h.merge(scale, offset+int32(from), chunk[:n])
	}
}

func (h *Histogram) addDifference(scale, offset int32, buckets pcommon.UInt64Slice, last *Cumulative) {
	shift := last.scale - scale
	var chunk [MaxSize]uint64
	for from := 0; from < buckets.Len(); from += MaxSize {
		n := min(MaxSize, buckets.Len()-from)
		for i := range n {
			chunk[i] = buckets.At(from + i)
		}
		for i, count := range last.counts {
			if k := int((last.offset+int32(i))>>shift-offset) - from; k >= 0 && k < n {
				chunk[k] -= count
			}
		}
		h.merge(scale, offset+int32(from), chunk[:n])
	}
}
