// Package exphist merges, subtracts and reads base-2 exponential histograms, the common form of OpenTelemetry's
// exponential and Prometheus's native histograms. Only the positive half is kept: durations are not negative.
package exphist

import (
	"math"
)

// MaxScale and MinScale bound the scales that both OpenTelemetry's producers and Prometheus accept.
const (
	MaxScale = 8
	MinScale = -4

	// maxBuckets bounds a histogram's width; beyond it the scale is halved, as OpenTelemetry's producers do.
	maxBuckets = 1 << 14
)

// Histogram counts values in buckets: bucket i of scale s holds the values in (base^(i-1), base^i] with
// base = 2^(2^-s). This is Prometheus's numbering; OpenTelemetry's index is one less.
// The zero value is empty, with the finest scale.
type Histogram struct {
	scaled bool
	Scale  int32
	// Offset is the index of Counts[0].
	Offset int32
	Counts []uint64
	Zero   uint64
	Count  uint64
	Sum    float64
}

// Reset empties the histogram and keeps its memory.
func (h *Histogram) Reset() {
	h.scaled, h.Scale, h.Offset, h.Counts, h.Zero, h.Count, h.Sum = false, 0, 0, h.Counts[:0], 0, 0, 0
}

// Load replaces the histogram's content. The counts are copied.
func (h *Histogram) Load(scale, offset int32, counts []uint64, zero uint64) {
	h.scaled, h.Scale, h.Offset, h.Zero, h.Count, h.Sum = true, scale, offset, zero, zero, 0
	h.Counts = append(h.Counts[:0], counts...)
	for _, n := range counts {
		h.Count += n
	}
}

// SetScale states the scale of what is added next; it only ever lowers a histogram's own.
func (h *Histogram) SetScale(scale int32) {
	scale = min(max(scale, MinScale), MaxScale)
	if !h.scaled {
		h.scaled, h.Scale = true, scale
		return
	}
	if scale < h.Scale {
		h.downscale(h.Scale - scale)
	}
}

// AddZero adds n values of zero.
func (h *Histogram) AddZero(n uint64) {
	h.Zero += n
	h.Count += n
}

// Add adds n values to the bucket index of the given scale.
func (h *Histogram) Add(scale, index int32, n uint64) {
	if n == 0 {
		return
	}
	h.SetScale(scale)
	h.add(Downscale(index, scale-h.Scale), n)
}

// Downscale is the index, in a scale lowered by shift, of the bucket that holds bucket index.
func Downscale(index, shift int32) int32 {
	if shift <= 0 {
		return index
	}
	return ((index - 1) >> shift) + 1
}

func (h *Histogram) add(index int32, n uint64) {
	h.Count += n
	if len(h.Counts) == 0 {
		h.Offset = index
		h.Counts = append(h.Counts, n)
		return
	}
	at := int64(index) - int64(h.Offset)
	if width := max(at+1, int64(len(h.Counts))) - min(at, 0); width > maxBuckets {
		if h.Scale > MinScale {
			h.downscale(1)
			h.Count -= n
			h.add(Downscale(index, 1), n)
			return
		}
		at = min(max(at, 0), int64(len(h.Counts))-1)
	}
	switch {
	case at < 0:
		grow := int(-at)
		length := len(h.Counts)
		for range grow {
			h.Counts = append(h.Counts, 0)
		}
		copy(h.Counts[grow:], h.Counts[:length])
		clear(h.Counts[:grow])
		h.Offset = index
		h.Counts[0] = n
	case at >= int64(len(h.Counts)):
		for int64(len(h.Counts)) < at {
			h.Counts = append(h.Counts, 0)
		}
		h.Counts = append(h.Counts, n)
	default:
		h.Counts[at] += n
	}
}

func (h *Histogram) downscale(shift int32) {
	old, offset := h.Counts, h.Offset
	h.Scale -= shift
	if len(old) == 0 {
		return
	}
	h.Offset = Downscale(offset, shift)
	// Buckets only ever move to the left, so that the memory can be shared.
	last := int32(-1)
	for i, n := range old {
		at := Downscale(offset+int32(i), shift) - h.Offset
		if at > last {
			old[at] = n
			last = at
		} else {
			old[at] += n
		}
	}
	h.Counts = old[:last+1]
}

// Merge adds the other histogram.
func (h *Histogram) Merge(other *Histogram) {
	if other == nil || other.Count == 0 {
		return
	}
	h.AddZero(other.Zero)
	h.Sum += other.Sum
	if len(other.Counts) == 0 {
		return
	}
	h.SetScale(other.Scale)
	for i, n := range other.Counts {
		if n != 0 {
			// SetScale may lower h's scale again while adding.
			h.add(Downscale(other.Offset+int32(i), other.Scale-h.Scale), n)
		}
	}
}

// Subtract takes away an earlier state of the same histogram. What would become negative becomes zero.
func (h *Histogram) Subtract(earlier *Histogram) {
	if earlier == nil || earlier.Count == 0 {
		return
	}
	h.Zero -= min(h.Zero, earlier.Zero)
	h.Sum = max(h.Sum-earlier.Sum, 0)
	if len(earlier.Counts) > 0 && h.scaled && earlier.Scale < h.Scale {
		h.downscale(h.Scale - earlier.Scale)
	}
	for i, n := range earlier.Counts {
		at := int64(Downscale(earlier.Offset+int32(i), earlier.Scale-h.Scale)) - int64(h.Offset)
		if at >= 0 && at < int64(len(h.Counts)) {
			h.Counts[at] -= min(h.Counts[at], n)
		}
	}
	h.Count = h.Zero
	for _, n := range h.Counts {
		h.Count += n
	}
}

// Clone returns a copy.
func (h *Histogram) Clone() *Histogram {
	c := *h
	c.Counts = append([]uint64(nil), h.Counts...)
	return &c
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
	var below float64
	next := 0
	for next < len(qs) && qs[next]*float64(h.Count) <= float64(h.Zero) && h.Zero > 0 {
		out[next] = 0
		next++
	}
	below = float64(h.Zero)
	for i, n := range h.Counts {
		if next == len(qs) {
			return
		}
		if n == 0 {
			continue
		}
		for next < len(qs) && qs[next]*float64(h.Count) <= below+float64(n) {
			fraction := (qs[next]*float64(h.Count) - below) / float64(n)
			out[next] = math.Exp2((float64(h.Offset+int32(i)) - 1 + fraction) * math.Exp2(-float64(h.Scale)))
			next++
		}
		below += float64(n)
	}
	for ; next < len(qs); next++ {
		out[next] = Upper(h.Scale, h.Offset+int32(len(h.Counts))-1)
	}
}

// Upper is a bucket's upper bound.
func Upper(scale, index int32) float64 {
	return math.Exp2(float64(index) * math.Exp2(-float64(scale)))
}

// Bucket is the scale and the index of the bucket with these bounds; ok is false where they are none of an
// exponential histogram's.
func Bucket(lower, upper float64) (scale, index int32, ok bool) {
	if lower <= 0 || upper <= lower || math.IsInf(upper, 0) {
		return 0, 0, false
	}
	width := math.Log2(upper) - math.Log2(lower)
	exact := -math.Log2(width)
	scale = int32(math.Round(exact))
	if scale < MinScale || scale > MaxScale || math.Abs(exact-float64(scale)) > 0.01 {
		return 0, 0, false
	}
	return scale, int32(math.Round(math.Log2(upper) * math.Exp2(float64(scale)))), true
}
