package stats

import "math"

// Latency buckets: four per octave from 0.1 ms to about two minutes. They are those of an exponential histogram of scale
// LatencyScale in seconds, so that any finer one falls into them as a whole.
const (
	LatencyBuckets = 82
	LatencyScale   = 2
	// LatencyOffset is how far a bucket's number lies above the exponential histogram's.
	LatencyOffset    = 53
	latencyPerOctave = 1 << LatencyScale
)

// LatencyBucket is the bucket of a duration in seconds.
func LatencyBucket(seconds float64) int {
	if !(seconds > 0) {
		return 0
	}
	return int(min(max(math.Ceil(math.Log2(seconds)*latencyPerOctave)+LatencyOffset, 0), LatencyBuckets-1))
}

// LatencyBound is the upper bound of a bucket in seconds.
func LatencyBound(bucket int) float64 {
	return math.Exp2(float64(bucket-LatencyOffset) / latencyPerOctave)
}

// Latencies is a histogram over the latency buckets; it forgets by halving.
type Latencies struct {
	counts [LatencyBuckets]float32
	total  float32
}

// Add counts n durations of a bucket.
func (l *Latencies) Add(bucket int, n float32) {
	l.counts[bucket] += n
	l.total += n
}

// Scale multiplies every count, so that the past fades.
func (l *Latencies) Scale(factor float32) {
	for i := range l.counts {
		l.counts[i] *= factor
	}
	l.total *= factor
}

// Total is the number of durations held.
func (l *Latencies) Total() float64 { return float64(l.total) }

// Median and MAD are robust location and spread, in buckets (a logarithmic scale).
func (l *Latencies) Median() int { return l.quantile(0.5) }

// MAD is the median absolute deviation from the median, in buckets, at least one.
func (l *Latencies) MAD(median int) int {
	half := l.total / 2
	sum := l.counts[median]
	distance := 0
	for sum < half && distance < LatencyBuckets {
		distance++
		if i := median - distance; i >= 0 {
			sum += l.counts[i]
		}
		if i := median + distance; i < LatencyBuckets {
			sum += l.counts[i]
		}
	}
	return max(distance, 1)
}

// Quantile is the bucket that holds the q-quantile.
func (l *Latencies) Quantile(q float64) int { return l.quantile(q) }

func (l *Latencies) quantile(q float64) int {
	rank := l.total * float32(q)
	var sum float32
	for i, c := range l.counts {
		sum += c
		if sum >= rank && sum > 0 {
			return i
		}
	}
	return 0
}

// Above is the share of durations in buckets above the given one.
func (l *Latencies) Above(bucket int) float64 {
	if l.total == 0 {
		return 0
	}
	var sum float32
	for i := bucket + 1; i < LatencyBuckets; i++ {
		sum += l.counts[i]
	}
	return float64(sum / l.total)
}
