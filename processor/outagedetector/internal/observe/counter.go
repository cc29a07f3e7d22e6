package observe

import (
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// counter turns a series of numbers into increments.
type counter struct{ cumulative.Counter[float64] }

type reasonCounter struct {
	errorType, policy string
	counter
}

// mostAdded bounds what one point may add, far above what any edge does and far below what sums overflow at.
const mostAdded = 1 << 40

// increment is what was added since the last point; fromZero tells whether a first point counts from zero.
func (c *counter) increment(point pmetric.NumberDataPoint, delta, fromZero bool) uint64 {
	value := cumulative.Number(point)
	if delta {
		if !(value > 0) {
			return 0
		}
		return uint64(min(value, mostAdded))
	}
	if !fromZero {
		c.First = cumulative.Baseline
	}
	added, _ := c.Advance(point.StartTimestamp(), point.Timestamp(), value)
	return uint64(min(added, mostAdded))
}

// timing turns a cumulative histogram of durations into increments over the latency buckets.
type timing struct {
	count  cumulative.Counter[uint64]
	sum    cumulative.Counter[float64]
	counts [stats.LatencyBuckets]uint32
	scale  int32
	// Usual is what the durations were while nothing was wrong.
	Usual stats.Latencies
}

// durations are what a point of a histogram tells: how many lie in each bucket, all of them, and the seconds that they took together; -1 if
// it does not say.
type durations struct {
	buckets bucketed
	count   uint64
	seconds float64
	scale   int32
}

type bucketed [stats.LatencyBuckets]uint32

func (b *bucketed) add(bucket int, n uint64) {
	b[bucket] = uint32(min(uint64(b[bucket])+min(n, math.MaxUint32), math.MaxUint32))
}

// mostSeconds bounds what a point's durations may add up to.
const mostSeconds = 1e12

// took is the seconds that durations took together; where the histogram does not say, as far as its buckets tell.
func (d *durations) took() (sum float64) {
	if d.seconds >= 0 {
		return min(d.seconds, mostSeconds)
	}
	for i, n := range d.buckets {
		if n > 0 {
			sum += float64(n) * stats.LatencyBound(i)
		}
	}
	return sum
}

func secondsOf[P interface {
	HasSum() bool
	Sum() float64
}](point P, seconds float64) float64 {
	if sum := point.Sum() * seconds; point.HasSum() && sum >= 0 {
		return sum
	}
	return -1
}

func fromExponential(point pmetric.ExponentialHistogramDataPoint, seconds float64) durations {
	d := durations{count: point.Count(), scale: scaleOf(point.Scale(), seconds), seconds: secondsOf(point, seconds)}
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
		d.buckets.add(int(min(max(bucket, 0), stats.LatencyBuckets-1)), n)
	}
	d.buckets.add(0, point.ZeroCount())
	return d
}

func fromExplicit(point pmetric.HistogramDataPoint, seconds float64) durations {
	d := durations{count: point.Count(), seconds: secondsOf(point, seconds)}
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
		d.buckets.add(stats.LatencyBucket(value*seconds), n)
	}
	return d
}

// scaleOf is the scale that matters for how a histogram's buckets fall into ours: finer ones than ours, in seconds, all fall
// alike.
func scaleOf(scale int32, seconds float64) int32 {
	if seconds == 1 {
		return min(scale, stats.LatencyScale)
	}
	return scale
}

// increment leaves in d what was added since the last point. It is false if that cannot be told.
func (t *timing) increment(d *durations, start, at pcommon.Timestamp, delta, fromZero bool) bool {
	if delta {
		return true
	}
	if !fromZero {
		t.count.First, t.sum.First = cumulative.Baseline, cumulative.Baseline
	}
	_, change := t.count.Advance(start, at, d.count)
	if change == cumulative.Late {
		return false
	}
	if added, change := t.sum.Advance(start, at, d.seconds); change == cumulative.Invalid {
		d.seconds = -1
	} else {
		d.seconds = added
	}
	before, rescaled := t.counts, d.scale != t.scale
	t.counts, t.scale = d.buckets, d.scale
	switch change {
	case cumulative.First:
		return fromZero
	case cumulative.Reset:
		return true
	}
	if rescaled {
		// Old and new buckets do not lie alike: one interval goes unjudged.
		return false
	}
	for i := range d.buckets {
		d.buckets[i] -= min(before[i], d.buckets[i])
	}
	return true
}
