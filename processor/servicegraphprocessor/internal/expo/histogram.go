// Package expo is a base-2 exponential histogram of bounded size that adds up others' increments.
package expo

import (
	"math"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

const (
	// MaxSize is the number of buckets that a histogram holds at most; beyond, its resolution is halved.
	MaxSize = 160

	maxScale = 20
	minScale = -10
)

// Histogram holds non-negative observations. The zero value is empty and ready to use.
type Histogram struct {
	Count uint64
	Zero  uint64
	Sum   float64
	Min   float64
	Max   float64

	scale  int32
	offset int32
	counts []uint64
}

// Reset empties the histogram and keeps its memory.
func (h *Histogram) Reset() {
	counts := h.counts[:0]
	*h = Histogram{counts: counts}
}

// Observe adds n observations of a value; what is not a number of at least 0 counts as 0.
func (h *Histogram) Observe(value float64, n uint64) {
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
	scale := h.scale
	if len(h.counts) == 0 {
		scale = maxScale
	}
	one := [1]uint64{n}
	h.merge(scale, index(value, scale), one[:])
}

const smallest = 0x1p-1022

// Add adds another histogram's observations.
func (h *Histogram) Add(other *Histogram) {
	if other.Count == 0 {
		return
	}
	h.bound(other.Min, other.Max)
	h.Count += other.Count
	h.Sum += other.Sum
	h.Zero += other.Zero
	h.merge(other.scale, other.offset, other.counts)
}

// DropLowest takes away the n smallest observations and their share of the sum.
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
	for i := 0; i < len(h.counts) && n > 0; i++ {
		take := min(n, h.counts[i])
		h.counts[i] -= take
		n -= take
	}
}

// Each calls f with every bucket's geometric middle and count, from the smallest.
func (h *Histogram) Each(f func(value float64, n uint64)) {
	if h.Zero > 0 {
		f(0, h.Zero)
	}
	width := math.Exp2(math.Ldexp(1, -int(h.scale)))
	for i, n := range h.counts {
		if n > 0 {
			lower := math.Exp2(math.Ldexp(float64(h.offset+int32(i)), -int(h.scale)))
			f(lower*math.Sqrt(width), n)
		}
	}
}

// CopyTo writes the histogram as a data point's value.
func (h *Histogram) CopyTo(point pmetric.ExponentialHistogramDataPoint) {
	point.SetCount(h.Count)
	point.SetSum(h.Sum)
	point.SetZeroCount(h.Zero)
	point.SetScale(h.scale)
	if h.Count > 0 {
		point.SetMin(h.Min)
		point.SetMax(h.Max)
	}
	first, last := occupied(h.counts)
	if first > last {
		return
	}
	point.Positive().SetOffset(h.offset + int32(first))
	point.Positive().BucketCounts().FromRaw(h.counts[first : last+1])
}

func (h *Histogram) bound(low, high float64) {
	if h.Count == 0 || low < h.Min {
		h.Min = low
	}
	if h.Count == 0 || high > h.Max {
		h.Max = high
	}
}

func (h *Histogram) merge(scale, offset int32, counts []uint64) {
	first, last := occupied(counts)
	if first > last {
		return
	}
	lowest, highest := offset+int32(first), offset+int32(last)
	target := scale
	empty := len(h.counts) == 0
	if !empty {
		target = min(h.scale, scale)
	}
	var low, high int32
	for {
		low, high = lowest>>(scale-target), highest>>(scale-target)
		if !empty {
			shift := h.scale - target
			low = min(low, h.offset>>shift)
			high = max(high, (h.offset+int32(len(h.counts))-1)>>shift)
		}
		if int64(high)-int64(low) < MaxSize || target <= minScale {
			break
		}
		target--
	}
	if empty {
		h.scale, h.offset = target, low
	} else {
		h.downscale(h.scale - target)
	}
	h.grow(low, high)
	for i := first; i <= last; i++ {
		if counts[i] > 0 {
			h.counts[((offset+int32(i))>>(scale-target))-h.offset] += counts[i]
		}
	}
}

func (h *Histogram) downscale(by int32) {
	if by <= 0 || len(h.counts) == 0 {
		return
	}
	offset := h.offset >> by
	size := 0
	for i, n := range h.counts {
		at := int((h.offset+int32(i))>>by - offset)
		if i == 0 || at >= size {
			h.counts[at] = n
			size = at + 1
		} else {
			h.counts[at] += n
		}
	}
	h.counts = h.counts[:size]
	h.offset = offset
	h.scale -= by
}

// grow makes room for the buckets from low to high.
func (h *Histogram) grow(low, high int32) {
	if len(h.counts) == 0 {
		h.offset = low
	}
	front := int(h.offset - min(low, h.offset))
	size := max(len(h.counts)+front, int(high-min(low, h.offset))+1)
	if size == len(h.counts) {
		return
	}
	old := len(h.counts)
	if cap(h.counts) < size {
		counts := make([]uint64, size, min(max(size, 2*cap(h.counts)), max(size, MaxSize)))
		copy(counts[front:], h.counts)
		h.counts = counts
	} else {
		h.counts = h.counts[:size]
		copy(h.counts[front:], h.counts[:old])
		clear(h.counts[:front])
		clear(h.counts[front+old:])
	}
	h.offset -= int32(front)
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

// index is the bucket that holds a value: bucket i covers (base^i, base^(i+1)].
func index(value float64, scale int32) int32 {
	fraction, exponent := math.Frexp(value)
	if fraction == 0.5 {
		// An exact power of two is the upper bound of its bucket.
		if scale <= 0 {
			return int32(exponent-2) >> -scale
		}
		return int32(exponent-1)<<scale - 1
	}
	if scale <= 0 {
		return int32(exponent-1) >> -scale
	}
	return int32(math.Ceil(math.Ldexp(math.Log2(value), int(scale)))) - 1
}
