package exphist

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

const (
	// NativeMinScale is the coarsest scale of Prometheus's native histograms.
	NativeMinScale = -4
	// NativeMaxScale is the finest.
	NativeMaxScale = 8
	// maxPointBuckets bounds the buckets of a point that is read; OpenTelemetry's default is 160.
	maxPointBuckets = 4096
	// maxCount bounds a single count, so that sums of many cannot overflow.
	maxCount = 1 << 53
)

// valid tells whether a point is one that a histogram can have.
func valid(point pmetric.ExponentialHistogramDataPoint) bool {
	scale, positive := point.Scale(), point.Positive()
	buckets := positive.BucketCounts()
	if point.Flags().NoRecordedValue() || scale > MaxScale || scale < MinScale || buckets.Len() > maxPointBuckets ||
		point.Negative().BucketCounts().Len() > maxPointBuckets || point.ZeroCount() > maxCount {
		return false
	}
	limit := indexLimit(scale)
	if int64(positive.Offset()) < -limit || int64(positive.Offset())+int64(buckets.Len()) > limit {
		return false
	}
	for i := range buckets.Len() {
		if buckets.At(i) > maxCount {
			return false
		}
	}
	return true
}

// zeros are a point's values of 0 and below: durations are not negative.
func zeros(point pmetric.ExponentialHistogramDataPoint) (n uint64) {
	n = point.ZeroCount()
	negative := point.Negative().BucketCounts()
	for i := range negative.Len() {
		n += min(negative.At(i), maxCount)
	}
	return n
}

func finite(sum float64) float64 {
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return 0
	}
	return sum
}

// Load replaces the histogram by a point's value. It is false, and the histogram empty, if the point is none that a histogram can
// have. The count is that of the point's buckets.
func (h *Histogram) Load(l Layout, point pmetric.ExponentialHistogramDataPoint) bool {
	h.Reset()
	if !valid(point) {
		return false
	}
	buckets := point.Positive().BucketCounts()
	for i := range buckets.Len() {
		h.Counts = append(h.Counts, buckets.At(i))
		h.Count += buckets.At(i)
	}
	h.AddZero(zeros(point))
	h.Scale, h.Offset, h.Sum = point.Scale(), point.Positive().Offset(), finite(point.Sum())
	if point.HasMin() && point.HasMax() {
		h.Min, h.Max = max(finite(point.Min()), 0), max(finite(point.Max()), 0)
	}
	h.Fit(l)
	return true
}

// CopyTo writes the histogram as a point's value.
func (h *Histogram) CopyTo(point pmetric.ExponentialHistogramDataPoint) {
	point.SetCount(h.Count)
	point.SetSum(h.Sum)
	point.SetZeroCount(h.Zero)
	point.SetScale(h.Scale)
	if h.Count > 0 {
		point.SetMin(h.Min)
		point.SetMax(h.Max)
	}
	first, last := occupied(h.Counts)
	if first > last {
		return
	}
	point.Positive().SetOffset(h.Offset + int32(first))
	point.Positive().BucketCounts().FromRaw(h.Counts[first : last+1])
}

// Native is the histogram as Prometheus's. Its scale must lie within Prometheus's.
func (h *Histogram) Native(zeroThreshold float64) *histogram.Histogram {
	native := &histogram.Histogram{
		Schema: h.Scale, ZeroThreshold: zeroThreshold, ZeroCount: h.Zero, Count: h.Count, Sum: h.Sum,
	}
	var last int64
	gap := int32(0)
	for i, n := range h.Counts {
		if n == 0 {
			gap++
			continue
		}
		if len(native.PositiveSpans) == 0 {
			native.PositiveSpans = append(native.PositiveSpans, histogram.Span{Offset: h.Offset + int32(i) + 1})
		} else if gap > 0 {
			native.PositiveSpans = append(native.PositiveSpans, histogram.Span{Offset: gap})
		}
		gap = 0
		native.PositiveSpans[len(native.PositiveSpans)-1].Length++
		native.PositiveBuckets = append(native.PositiveBuckets, int64(n)-last)
		last = int64(n)
	}
	return native
}

// NativeLayout is the layout of histograms that Prometheus can have.
var NativeLayout = Layout{Scale: NativeMaxScale, MaxBuckets: 1 << 14}

// FromNative reads the positive half of Prometheus's histogram, and its zeros. Buckets with bounds of their own count at their upper ones.
func FromNative(native *histogram.FloatHistogram) *Histogram {
	if native == nil {
		return nil
	}
	h := &Histogram{}
	h.AddZero(uint64(native.ZeroCount + 0.5))
	for it := native.PositiveBucketIterator(); it.Next(); {
		bucket := it.At()
		if native.UsesCustomBuckets() {
			if math.IsInf(bucket.Upper, 1) {
				bucket.Upper = bucket.Lower
			}
			h.Add(NativeLayout, bucket.Upper, uint64(bucket.Count+0.5))
			continue
		}
		h.AddBucket(NativeLayout, native.Schema, bucket.Index-1, uint64(bucket.Count+0.5))
	}
	h.Sum = native.Sum
	return h
}

// chunked copies a point's buckets, from one on, to chunk and returns how many.
func chunked(buckets pcommon.UInt64Slice, from int, chunk []uint64) int {
	n := min(len(chunk), buckets.Len()-from)
	for i := range n {
		chunk[i] = buckets.At(from + i)
	}
	return n
}
