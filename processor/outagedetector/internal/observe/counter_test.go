package observe

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

func TestCounterSteps(t *testing.T) {
	type point struct {
		value     float64
		start, at pcommon.Timestamp
		want      uint64
	}
	for name, points := range map[string][]point{
		"goes on":                   {{10, 1, 5, 10}, {14, 1, 6, 4}},
		"begins anew with less":     {{10, 1, 5, 10}, {3, 1, 6, 3}},
		"begins anew with more":     {{10, 1, 5, 10}, {12, 5, 6, 12}},
		"is followed by another":    {{10, 1, 5, 10}, {12, 8, 8, 2}, {15, 8, 9, 3}},
		"begins anew under another": {{10, 1, 5, 10}, {4, 8, 8, 4}, {5, 8, 9, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var c counter
			for i, p := range points {
				assert.Equal(t, p.want, c.step(p.value, p.start, p.at, true), "point %d", i)
			}
		})
	}
}

// TestRescaledHistograms widens an exponential histogram, as a jump in latency does: what was added is judged all the same.
func TestRescaledHistograms(t *testing.T) {
	observed := func(scale int32, values map[float64]uint64) pmetric.ExponentialHistogramDataPoint {
		point := pmetric.NewExponentialHistogramDataPoint()
		point.SetScale(scale)
		index := func(v float64) int32 { return int32(math.Ceil(math.Log2(v)*math.Exp2(float64(scale)))) - 1 }
		low, high := int32(math.MaxInt32), int32(math.MinInt32)
		for v := range values {
			low, high = min(low, index(v)), max(high, index(v))
		}
		counts := make([]uint64, high-low+1)
		total := uint64(0)
		for v, n := range values {
			counts[index(v)-low] += n
			total += n
		}
		point.Positive().SetOffset(low)
		point.Positive().BucketCounts().FromRaw(counts)
		point.SetCount(total)
		return point
	}
	for _, scale := range []int32{2, 3, 4, 5} {
		var timing timing
		add := func(point pmetric.ExponentialHistogramDataPoint) (b bucketed, judged bool) {
			b = fromExponential(point, 1)
			judged = timing.increment(&b, point.Count(), scaleOf(point.Scale(), 1), 1, false, true)
			return b, judged
		}
		_, judged := add(observed(6, map[float64]uint64{0.009: 40, 0.010: 300, 0.011: 60, 0.013: 5}))
		assert.True(t, judged)
		b, judged := add(observed(scale, map[float64]uint64{0.009: 41, 0.010: 300, 0.011: 60, 0.013: 5, 0.4: 70}))
		assert.True(t, judged, "scale %d", scale)
		want := bucketed{}
		want[stats.LatencyBucket(0.009)], want[stats.LatencyBucket(0.4)] = 1, 70
		assert.Equal(t, want, b, "scale %d", scale)
	}
}

func TestLatencyBuckets(t *testing.T) {
	for bucket := 1; bucket < stats.LatencyBuckets-1; bucket++ {
		bound := stats.LatencyBound(bucket)
		assert.Equal(t, bucket, stats.LatencyBucket(bound*0.999))
		assert.Equal(t, bucket+1, stats.LatencyBucket(bound*1.001))
	}
	assert.Zero(t, stats.LatencyBucket(0))
	assert.Zero(t, stats.LatencyBucket(-1))
	assert.Zero(t, stats.LatencyBucket(math.NaN()))
	assert.Equal(t, stats.LatencyBuckets-1, stats.LatencyBucket(math.Inf(1)))
}
