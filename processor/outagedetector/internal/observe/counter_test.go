package observe

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// What began shortly before the first observation counts from zero, but for what an earlier process has seen.
func TestSeriesOfAnEarlierProcess(t *testing.T) {
	second := func(n int64) pcommon.Timestamp { return pcommon.Timestamp(n * 1e9) }
	fresh, resumed := Clock{Begin: 100e9}, Clock{Begin: 100e9, Resumed: true}
	assert.True(t, fresh.fromZero(second(95), 101e9))
	assert.False(t, fresh.fromZero(second(85), 101e9))
	assert.False(t, resumed.fromZero(second(95), 101e9))
	assert.True(t, resumed.fromZero(second(100), 101e9))
	assert.True(t, resumed.fromZero(second(95), 200e9))
}

// TestCounters reads points as the service graph and others send them; what a cumulative one adds is package cumulative's.
func TestCounters(t *testing.T) {
	point := func(value float64, at pcommon.Timestamp) pmetric.NumberDataPoint {
		p := pmetric.NewNumberDataPoint()
		p.SetStartTimestamp(1)
		p.SetTimestamp(at)
		p.SetDoubleValue(value)
		return p
	}
	var c, fresh counter
	assert.EqualValues(t, 10, c.increment(point(10, 5), false, true))
	assert.EqualValues(t, 4, c.increment(point(14, 6), false, false))
	assert.Zero(t, c.increment(point(math.NaN(), 7), false, true))
	assert.EqualValues(t, mostAdded, c.increment(point(1e300, 8), false, true))
	assert.Zero(t, fresh.increment(point(10, 5), false, false), "nobody knows when it came to be")
	assert.EqualValues(t, 7, fresh.increment(point(7, 6), true, true))
	assert.Zero(t, fresh.increment(point(-7, 7), true, true))
	assert.Zero(t, fresh.increment(point(math.NaN(), 8), true, true))
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
		at := pcommon.Timestamp(1)
		add := func(point pmetric.ExponentialHistogramDataPoint) (b bucketed, judged bool) {
			told := fromExponential(point, 1)
			at++
			judged = timing.increment(&told, 1, at, false, true)
			return told.buckets, judged
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
