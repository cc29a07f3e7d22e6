package observe

import "github.com/nephilia/nephilia/processor/outagedetector/internal/rules"

// leastDurations is how many durations must be known before any can be called slow.
const leastDurations = 30

// slowAbove is the bucket above which a duration is slow for the route; 0 while too little is known.
func (t *timing) slowAbove(rule *rules.Rule) int {
	if rule == nil || t.Usual.Total() < leastDurations {
		return 0
	}
	median, high, factor := t.Usual.Median(), t.Usual.Quantile(0.98), factorBuckets(rule.Factor)
	// Where some requests take another way than the others the deviation is as wide as the two are apart: beyond all that there ever
	// was is slow nevertheless.
	deviation := min(6*t.Usual.MAD(median), high-median+factor)
	return max(median+deviation, median+factor, high)
}

// factorBuckets is how many latency buckets (four an octave) a factor spans.
func factorBuckets(factor float64) int {
	buckets := 0
	for f := 1.0; f < factor; f *= 1.189207115002721 {
		buckets++
	}
	return buckets
}
