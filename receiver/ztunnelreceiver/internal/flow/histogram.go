package flow

import "math"

const (
	maxHistogramScale     = 8
	defaultHistogramScale = 3
	minBuckets            = 8
	maxBuckets            = 320
	defaultBuckets        = 160
)

// bucketing maps values to the buckets of a base-2 exponential histogram: at scale s, bucket i holds the values
// in (base^i, base^(i+1)] with base = 2^(2^-s).
type bucketing struct {
	scale      int
	maxBuckets int
	// bounds[k] is 2^(k/2^scale), the upper bounds within one power of two, as the mantissa of a float64.
	bounds []uint64
}

const (
	mantissaBits = 52
	mantissaMask = 1<<mantissaBits - 1
	exponentBias = 1023
)

func newBucketing(scale, buckets int) bucketing {
	b := bucketing{scale: scale, maxBuckets: buckets}
	for k := range 1 << scale {
		bound := math.Exp2(float64(k) / float64(int(1)<<scale))
		b.bounds = append(b.bounds, math.Float64bits(bound)&mantissaMask)
	}
	return b
}

// index returns the bucket of a positive, normal value.
func (b *bucketing) index(v float64) int32 {
	bits := math.Float64bits(v)
	exponent := int(bits>>mantissaBits) - exponentBias
	mantissa := bits & mantissaMask
	// Bounds are inclusive upwards: exactly 2^exponent belongs to the bucket below.
	lo, hi := 0, len(b.bounds)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if b.bounds[mid] < mantissa {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return int32(exponent<<b.scale + lo - 1)
}

// histogram is one exponential histogram of durations. Its buckets grow as needed up to the bound, then it
// coarsens; once it has them it does not allocate.
type histogram struct {
	count, zero uint64
	sum         float64
	scale       int8
	offset      int32
	buckets     []uint64
}

// add records a duration in nanoseconds.
func (h *histogram) add(b *bucketing, nanos int64) {
	h.count++
	if nanos <= 0 {
		h.zero++
		return
	}
	seconds := float64(nanos) / 1e9
	h.sum += seconds
	if len(h.buckets) == 0 {
		h.scale = int8(b.scale)
	}
	index := b.index(seconds) >> (b.scale - int(h.scale))
	if len(h.buckets) == 0 {
		h.offset = index
		h.buckets = append(h.buckets, 1)
		return
	}
	low, high := min(index, h.offset), max(index, h.offset+int32(len(h.buckets))-1)
	if shift := coarsening(low, high, b.maxBuckets); shift > 0 {
		h.downscale(shift)
		index >>= shift
		low, high = low>>shift, high>>shift
	}
	h.cover(low, high, b.maxBuckets)
	h.buckets[index-h.offset]++
}

// coarsening returns by how many powers of two the buckets must widen so that low to high fit.
func coarsening(low, high int32, limit int) int {
	shift := 0
	for int(high)-int(low)+1 > limit {
		low >>= 1
		high >>= 1
		shift++
	}
	return shift
}

// downscale merges 2^shift buckets into one.
func (h *histogram) downscale(shift int) {
	offset := h.offset >> shift
	last := (h.offset + int32(len(h.buckets)) - 1) >> shift
	merged := h.buckets[:0]
	for i, n := range h.buckets {
		at := int((h.offset+int32(i))>>shift - offset)
		if at == len(merged) {
			merged = append(merged, n)
		} else {
			merged[at] += n
		}
	}
	h.buckets = merged[:last-offset+1]
	h.offset = offset
	h.scale -= int8(shift)
}

// coarsen fits a histogram from elsewhere into the bounds of b.
func (h *histogram) coarsen(b *bucketing) {
	if len(h.buckets) == 0 {
		return
	}
	shift := max(0, int(h.scale)-b.scale)
	low, high := h.offset>>shift, (h.offset+int32(len(h.buckets))-1)>>shift
	if shift += coarsening(low, high, b.maxBuckets); shift > 0 {
		h.downscale(shift)
	}
}

// cover makes buckets for low to high, which fit into limit.
func (h *histogram) cover(low, high int32, limit int) {
	size := int(high-low) + 1
	before := int(h.offset - low)
	if size == len(h.buckets) {
		return
	}
	old := len(h.buckets)
	if size > cap(h.buckets) {
		grown := make([]uint64, size, min(limit, max(16, size+size/2)))
		copy(grown[before:], h.buckets)
		h.buckets = grown
	} else {
		h.buckets = h.buckets[:size]
		copy(h.buckets[before:before+old], h.buckets[:old])
		clear(h.buckets[:before])
		clear(h.buckets[before+old:])
	}
	h.offset = low
}
