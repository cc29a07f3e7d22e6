// Package exphist is the base-2 exponential histogram of durations and other values that are not negative, in OpenTelemetry's
// numbering: bucket i of scale s holds the values in (base^i, base^(i+1)] with base = 2^(2^-s). Prometheus's native histograms
// number the same buckets from 1 (point.go).
//
// The receiver fills histograms with the durations of connections, the service graph adds up what several series add
// (Cumulative), and the query extension merges, subtracts and reads them.
package exphist

import (
	"math"
	"slices"
)

const (
	// MaxScale is the finest scale that OpenTelemetry's producers use.
	MaxScale = 20
	// MinScale is the coarsest.
	MinScale = -10
	// smallest is the least normal number; what lies below counts as zero.
	smallest = 0x1p-1022
)

// Layout is the resolution of histograms: Scale is the finest they may have, MaxBuckets their width, beyond which the resolution is
// halved. The widest that is of use is 160 times 2^Scale.
type Layout struct {
	Scale      int32
	MaxBuckets int
}

// Default is what OpenTelemetry's SDKs use.
var Default = Layout{Scale: MaxScale, MaxBuckets: 160}

// Histogram holds values. The zero value is empty and ready to use. An empty one has no scale; one that holds nothing but zeros has
// none either, so that whatever comes first decides.
type Histogram struct {
	// Count is the number of all values, Zero that of those that are 0.
	Count, Zero uint64
	Sum         float64
	// Min and Max are the least and the greatest value as far as they are known, both 0 if nothing is.
	Min, Max float64

	Scale int32
	// Offset is the number of the first bucket, that of Counts[0].
	Offset int32
	Counts []uint64
}

// Reset empties the histogram and keeps its memory.
func (h *Histogram) Reset() { *h = Histogram{Counts: h.Counts[:0]} }

// Set replaces the content by buckets, which are copied, and zeros.
func (h *Histogram) Set(scale, offset int32, counts []uint64, zero uint64) {
	*h = Histogram{Count: zero, Zero: zero, Scale: scale, Offset: offset, Counts: append(h.Counts[:0], counts...)}
	for _, n := range counts {
		h.Count += n
	}
}

// Clone returns a copy.
func (h *Histogram) Clone() *Histogram {
	c := *h
	c.Counts = slices.Clone(h.Counts)
	return &c
}

// Add adds n times a value. What is not a number of at least 0 counts as 0.
func (h *Histogram) Add(l Layout, value float64, n uint64) {
	if n == 0 {
		return
	}
	if !(value > 0) {
		value = 0
	}
	value = min(value, math.MaxFloat64)
	h.bound(value, value)
	h.Count += n
	h.Sum += value * float64(n)
	if value < smallest {
		h.Zero += n
		return
	}
	if len(h.Counts) > 0 {
		if at := Index(value, h.Scale) - h.Offset; at >= 0 && int(at) < len(h.Counts) {
			h.Counts[at] += n
			return
		}
	}
	h.addOne(l, l.Scale, Index(value, l.Scale), n)
}

// AddZero adds n times 0.
func (h *Histogram) AddZero(n uint64) {
	h.Zero += n
	h.Count += n
}

// AddBucket adds n values of unknown size within a bucket of any scale.
func (h *Histogram) AddBucket(l Layout, scale, index int32, n uint64) {
	if n == 0 {
		return
	}
	h.Count += n
	if scale == h.Scale && len(h.Counts) > 0 {
		if at := int64(index) - int64(h.Offset); at >= 0 && at < int64(len(h.Counts)) {
			h.Counts[at] += n
			return
		}
	}
	h.addOne(l, scale, index, n)
}

func (h *Histogram) addOne(l Layout, scale, index int32, n uint64) {
	limit := indexLimit(scale)
	if at := min(max(int64(index), -limit), limit) >> max(scale-h.Scale, 0); len(h.Counts) > 0 && scale >= h.Scale {
		low, high := min(at, int64(h.Offset)), max(at, int64(h.Offset)+int64(len(h.Counts))-1)
		if high-low < int64(l.MaxBuckets) && h.Scale <= l.Scale {
			h.Cover(int32(low), int32(high))
			h.Counts[at-int64(h.Offset)] += n
			return
		}
	}
	one := [1]uint64{n}
	h.merge(l, scale, index, one[:])
}

// Merge adds the values of another histogram.
func (h *Histogram) Merge(l Layout, other *Histogram) {
	if other == nil || other.Count == 0 {
		return
	}
	if other.Min != 0 || other.Max != 0 || other.Zero == other.Count {
		h.bound(other.Min, other.Max)
	}
	h.Count += other.Count
	h.Sum += other.Sum
	h.Zero += other.Zero
	h.merge(l, other.Scale, other.Offset, other.Counts)
}

// Sub takes away an earlier state of the same histogram. What would become negative becomes zero. The bounds of what remains are
// those of all.
func (h *Histogram) Sub(earlier *Histogram) {
	if earlier == nil || earlier.Count == 0 {
		return
	}
	h.Zero -= min(h.Zero, earlier.Zero)
	h.Sum = max(h.Sum-earlier.Sum, 0)
	if len(earlier.Counts) > 0 && len(h.Counts) > 0 {
		h.Downscale(h.Scale - earlier.Scale)
		shift, offset := uint(earlier.Scale-h.Scale), int(h.Offset)
		for i, n := range earlier.Counts {
			if at := (int(earlier.Offset)+i)>>shift - offset; at >= 0 && at < len(h.Counts) {
				h.Counts[at] -= min(h.Counts[at], n)
			}
		}
	}
	h.Count = h.Zero
	for _, n := range h.Counts {
		h.Count += n
	}
}

// DropLowest takes away the n smallest values and their share of the sum.
func (h *Histogram) DropLowest(n uint64) {
	if n == 0 {
		return
	}
	if n >= h.Count {
		h.Reset()
		return
	}
	h.Sum *= float64(h.Count-n) / float64(h.Count)
	h.Count -= n
	take := min(n, h.Zero)
	h.Zero -= take
	n -= take
	for i := 0; i < len(h.Counts) && n > 0; i++ {
		take := min(n, h.Counts[i])
		h.Counts[i] -= take
		n -= take
	}
}

// Downscale halves the resolution by times; nothing happens unless by is positive.
func (h *Histogram) Downscale(by int32) {
	if by <= 0 {
		return
	}
	h.Scale -= by
	if len(h.Counts) == 0 {
		return
	}
	by = min(by, 31)
	old, offset := h.Offset, h.Offset>>by
	// Buckets only ever move to the left, so that the memory can be shared.
	last := 0
	for i, n := range h.Counts {
		if at := int((old+int32(i))>>by - offset); i == 0 || at > last {
			h.Counts[at] = n
			last = at
		} else {
			h.Counts[at] += n
		}
	}
	h.Counts = h.Counts[:last+1]
	h.Offset = offset
}

// Fit brings a histogram from elsewhere into a layout.
func (h *Histogram) Fit(l Layout) {
	h.Downscale(h.Scale - l.Scale)
	for len(h.Counts) > l.MaxBuckets && h.Scale > MinScale {
		h.Downscale(1)
	}
}

// Each calls f with every bucket's geometric middle and count, from the smallest.
func (h *Histogram) Each(f func(value float64, n uint64)) {
	if h.Zero > 0 {
		f(0, h.Zero)
	}
	width := math.Exp2(math.Ldexp(1, -int(h.Scale)))
	for i, n := range h.Counts {
		if n > 0 {
			f(Upper(h.Scale, h.Offset+int32(i)-1)*math.Sqrt(width), n)
		}
	}
}

// Quantiles writes the values below which the fractions qs of all values lie to out. qs must rise. Within a bucket
// values are taken to lie evenly on the logarithmic scale, as histogram_quantile does for native histograms.
// An empty histogram gives NaN.
func (h *Histogram) Quantiles(qs, out []float64) {
	if h.Count == 0 {
		for i := range qs {
			out[i] = math.NaN()
		}
		return
	}
	next := 0
	for next < len(qs) && qs[next]*float64(h.Count) <= float64(h.Zero) && h.Zero > 0 {
		out[next] = 0
		next++
	}
	below := float64(h.Zero)
	for i, n := range h.Counts {
		if next == len(qs) {
			return
		}
		if n == 0 {
			continue
		}
		for next < len(qs) && qs[next]*float64(h.Count) <= below+float64(n) {
			fraction := (qs[next]*float64(h.Count) - below) / float64(n)
			out[next] = math.Exp2((float64(h.Offset+int32(i)) + fraction) * math.Exp2(-float64(h.Scale)))
			next++
		}
		below += float64(n)
	}
	for ; next < len(qs); next++ {
		out[next] = Upper(h.Scale, h.Offset+int32(len(h.Counts))-1)
	}
}

func (h *Histogram) bound(low, high float64) {
	if h.Count == 0 || low < h.Min {
		h.Min = low
	}
	if h.Count == 0 || high > h.Max {
		h.Max = high
	}
}

// merge adds buckets of a scale. The result is as fine as the coarser of both, and as the layout allows.
func (h *Histogram) merge(l Layout, scale, offset int32, counts []uint64) {
	first, last := occupied(counts)
	if first > last {
		return
	}
	// What is beyond every value's bucket counts in the outermost.
	limit := indexLimit(scale)
	lowest := min(max(int64(offset)+int64(first), -limit), limit)
	highest := min(max(int64(offset)+int64(last), -limit), limit)
	empty := len(h.Counts) == 0
	target := min(scale, l.Scale)
	if !empty {
		target = min(target, h.Scale)
	}
	var low, high int64
	for {
		low, high = lowest>>(scale-target), highest>>(scale-target)
		if !empty {
			shift := h.Scale - target
			low = min(low, int64(h.Offset)>>shift)
			high = max(high, (int64(h.Offset)+int64(len(h.Counts))-1)>>shift)
		}
		if high-low < int64(l.MaxBuckets) || target <= MinScale {
			break
		}
		target--
	}
	if empty {
		h.Scale, h.Offset = target, int32(low)
	} else {
		h.Downscale(h.Scale - target)
	}
	h.Cover(int32(low), int32(high))
	shift := scale - target
	if shift == 0 && highest-lowest == int64(last-first) {
		// The common case: both lie alike.
		to := h.Counts[lowest-int64(h.Offset):]
		for i, n := range counts[first : last+1] {
			to[i] += n
		}
		return
	}
	for i := first; i <= last; i++ {
		if n := counts[i]; n > 0 {
			index := min(max(int64(offset)+int64(i), -limit), limit)
			h.Counts[index>>shift-int64(h.Offset)] += n
		}
	}
}

// Cover makes room for the buckets from low to high.
func (h *Histogram) Cover(low, high int32) {
	if len(h.Counts) == 0 {
		h.Offset = low
	}
	low = min(low, h.Offset)
	front := int(h.Offset) - int(low)
	old := len(h.Counts)
	size := max(old+front, int(high)-int(low)+1)
	if size == old {
		return
	}
	if cap(h.Counts) < size {
		counts := make([]uint64, size, max(8, size+size/2))
		copy(counts[front:], h.Counts)
		h.Counts = counts
	} else {
		h.Counts = h.Counts[:size]
		copy(h.Counts[front:], h.Counts[:old])
		clear(h.Counts[:front])
		clear(h.Counts[front+old:])
	}
	h.Offset = low
}

func occupied(counts []uint64) (first, last int) {
	last = len(counts) - 1
	for first <= last && counts[first] == 0 {
		first++
	}
	for last >= first && counts[last] == 0 {
		last--
	}
	return first, last
}
