package observe

import "github.com/nephilia/nephilia/processor/outagedetector/internal/rules"

// leastDurations is how many durations must be known before any can be called slow.
const leastDurations = 30

// slowAbove is the bucket above which a duration is slow for the route; 0 while too little is known.
func (t *timing) slowAbove(set *rules.Set) int {
	rule := set.Get(rules.SlowRequests)
	if rule == nil || t.Usual.Total() < leastDurations {
		return 0
	}
	median := t.Usual.Median()
	limit := median + max(6*t.Usual.MAD(median), factorBuckets(rule.Factor))
	return max(limit, t.Usual.Quantile(0.98))
}

// factorBuckets is how many latency buckets (four an octave) a factor spans.
func factorBuckets(factor float64) int {
	buckets := 0
	for f := 1.0; f < factor; f *= 1.189207115002721 {
		buckets++
	}
	return buckets
}
