package expo

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

func point(h *Histogram, start, at pcommon.Timestamp) pmetric.ExponentialHistogramDataPoint {
	p := pmetric.NewExponentialHistogramDataPoint()
	h.CopyTo(p)
	p.SetStartTimestamp(start)
	p.SetTimestamp(at)
	return p
}

func buckets(h *Histogram) (n uint64) {
	n = h.Zero
	for _, c := range h.counts {
		n += c
	}
	return n
}

func TestObserveKeepsQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var values []float64
	for range 10_000 {
		v := math.Exp(random.NormFloat64() * 3)
		values = append(values, v)
		h.Observe(v, 1)
	}
	require.EqualValues(t, len(values), h.Count)
	require.Equal(t, h.Count, buckets(&h))
	require.LessOrEqual(t, len(h.counts), MaxSize)
	// Every value lies within the bucket that counted it.
	var below uint64
	h.Each(func(middle float64, n uint64) {
		below += n
		edge := middle * math.Sqrt(math.Exp2(math.Ldexp(1, -int(h.scale))))
		exact := uint64(0)
		for _, v := range values {
			if v <= edge*(1+1e-9) {
				exact++
			}
		}
		require.Equal(t, exact, below, "up to %g", edge)
	})
}

func TestPowersOfTwoBelongToTheBucketBelow(t *testing.T) {
	for _, scale := range []int32{-3, -1, 0, 1, 5, 20} {
		for exponent := -40; exponent <= 40; exponent++ {
			i := index(math.Ldexp(1, exponent), scale)
			lower := math.Exp2(math.Ldexp(float64(i), -int(scale)))
			upper := math.Exp2(math.Ldexp(float64(i+1), -int(scale)))
			v := math.Ldexp(1, exponent)
			require.Less(t, lower, v, "scale %d exponent %d", scale, exponent)
			require.GreaterOrEqual(t, upper*(1+1e-12), v, "scale %d exponent %d", scale, exponent)
		}
	}
}

func TestExtremes(t *testing.T) {
	var h Histogram
	for _, v := range []float64{0, -1, math.NaN(), math.Inf(1), math.SmallestNonzeroFloat64, math.MaxFloat64, 1} {
		h.Observe(v, 1)
	}
	assert.EqualValues(t, 7, h.Count)
	assert.Equal(t, h.Count, buckets(&h))
	assert.LessOrEqual(t, len(h.counts), MaxSize)
}

func TestCumulativeTellsIncrements(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var source, sum Histogram
	var c Cumulative
	for i := range 500 {
		for range random.IntN(5) {
			source.Observe(math.Exp(random.NormFloat64()*float64(1+i/100)), 1)
		}
		c.Advance(point(&source, 1, pcommon.Timestamp(i+2)), &sum)
		require.Equal(t, source.Count, sum.Count)
		require.Equal(t, sum.Count, buckets(&sum))
		require.InEpsilon(t, source.Sum+1, sum.Sum+1, 1e-9)
	}
}

func TestCumulativeStartsAnew(t *testing.T) {
	var c Cumulative
	var first, second, sum Histogram
	first.Observe(1, 5)
	second.Observe(2, 3)
	require.EqualValues(t, 5, c.Advance(point(&first, 1, 10), &sum))
	require.EqualValues(t, 0, c.Advance(point(&first, 1, 5), &sum), "an older point")
	require.EqualValues(t, 3, c.Advance(point(&second, 10, 20), &sum), "a new start")
	require.EqualValues(t, 0, c.Advance(point(&first, 1, 30), &sum), "an older start")
	require.EqualValues(t, 8, sum.Count)
	require.Equal(t, sum.Count, buckets(&sum))
}

func TestHostilePointsAreIgnored(t *testing.T) {
	for name, change := range map[string]func(pmetric.ExponentialHistogramDataPoint){
		"scale":  func(p pmetric.ExponentialHistogramDataPoint) { p.SetScale(100) },
		"offset": func(p pmetric.ExponentialHistogramDataPoint) { p.Positive().SetOffset(math.MaxInt32) },
		"buckets": func(p pmetric.ExponentialHistogramDataPoint) {
			p.Positive().BucketCounts().FromRaw(make([]uint64, 1<<16))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var h, sum Histogram
			h.Observe(1, 1)
			p := point(&h, 1, 2)
			change(p)
			var c Cumulative
			assert.Zero(t, c.Advance(p, &sum))
			assert.Zero(t, sum.Count)
		})
	}
}

func TestDropLowest(t *testing.T) {
	var h Histogram
	h.Observe(0, 2)
	h.Observe(1, 3)
	h.Observe(100, 1)
	h.DropLowest(4)
	assert.EqualValues(t, 2, h.Count)
	assert.Equal(t, h.Count, buckets(&h))
	assert.Zero(t, h.Zero)
	h.DropLowest(9)
	assert.Zero(t, h.Count)
}

func TestAdvanceAllocatesNothing(t *testing.T) {
	var source, delta Histogram
	for i := range 20 {
		source.Observe(float64(i+1), 1)
	}
	p := point(&source, 1, 2)
	var c Cumulative
	c.Advance(p, &delta)
	at := pcommon.Timestamp(3)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		at++
		p.SetTimestamp(at)
		p.SetCount(p.Count() + 1)
		p.Positive().BucketCounts().SetAt(0, p.Positive().BucketCounts().At(0)+1)
		delta.Reset()
		c.Advance(p, &delta)
	}))
}

func BenchmarkAdvance(b *testing.B) {
	var source, delta Histogram
	for i := range 40 {
		source.Observe(float64(i+1), 1)
	}
	p := point(&source, 1, 2)
	var c Cumulative
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.SetTimestamp(pcommon.Timestamp(i + 3))
		p.SetCount(p.Count() + 1)
		p.Positive().BucketCounts().SetAt(0, p.Positive().BucketCounts().At(0)+1)
		delta.Reset()
		c.Advance(p, &delta)
	}
}
