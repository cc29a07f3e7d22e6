package exphist

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
)

// durations is a layout as the receiver has it.
var durations = Layout{Scale: 3, MaxBuckets: 160}

func pointOf(h *Histogram, start, at pcommon.Timestamp) pmetric.ExponentialHistogramDataPoint {
	p := pmetric.NewExponentialHistogramDataPoint()
	h.CopyTo(p)
	p.SetStartTimestamp(start)
	p.SetTimestamp(at)
	return p
}

func buckets(h *Histogram) (n uint64) {
	n = h.Zero
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// at is what a histogram holds at a scale that is coarser than its own.
func at(h *Histogram, scale int32) map[int32]uint64 {
	out := map[int32]uint64{}
	for i, n := range h.Counts {
		if n > 0 {
			out[(h.Offset+int32(i))>>(h.Scale-scale)] += n
		}
	}
	return out
}

func TestIndexIsTheBucketThatHoldsTheValue(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for scale := int32(MinScale); scale <= MaxScale; scale++ {
		for range 2_000 {
			v := math.Exp2(random.Float64()*60 - 30)
			i := Index(v, scale)
			require.Greater(t, v, Upper(scale, i-1)*(1-1e-12), "scale %d value %g index %d", scale, v, i)
			require.LessOrEqual(t, v, Upper(scale, i)*(1+1e-12), "scale %d value %g index %d", scale, v, i)
		}
		for exponent := -40; exponent <= 40; exponent++ {
			// A power of two is the upper bound of its bucket.
			v := math.Ldexp(1, exponent)
			i := Index(v, scale)
			require.Less(t, Upper(scale, i-1), v, "scale %d exponent %d", scale, exponent)
			require.GreaterOrEqual(t, Upper(scale, i)*(1+1e-12), v, "scale %d exponent %d", scale, exponent)
			if scale >= 0 && scale <= maxTable {
				assert.Equal(t, int32(exponent)<<scale-1, i)
				assert.Equal(t, int32(exponent)<<scale, Index(math.Nextafter(v, math.Inf(1)), scale))
			}
		}
	}
}

func TestEveryValueStaysInItsBucket(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layout Layout
		spread float64 // powers of two
		coarse bool
	}{
		{"narrow", durations, 4, false},
		{"as wide as it can be", durations, 19, false},
		{"coarsened", durations, 55, true},
		{"few buckets", Layout{3, 8}, 30, true},
		{"as fine as can be", Default, 10, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(3, 4))
			var h Histogram
			var sum float64
			var values []float64
			for range 5_000 {
				v := math.Exp2(random.Float64()*tt.spread - 30)
				values = append(values, v)
				sum += v
				h.Add(tt.layout, v, 1)
				require.LessOrEqual(t, len(h.Counts), tt.layout.MaxBuckets)
			}
			h.Add(tt.layout, 0, 1)
			h.Add(tt.layout, -5, 1)
			want := map[int32]uint64{}
			for _, v := range values {
				want[Index(v, h.Scale)]++
			}
			assert.Equal(t, want, at(&h, h.Scale))
			assert.Equal(t, tt.coarse, h.Scale < tt.layout.Scale)
			assert.EqualValues(t, 2, h.Zero)
			assert.EqualValues(t, len(values)+2, h.Count)
			assert.InEpsilon(t, sum, h.Sum, 1e-9)
			assert.Zero(t, h.Min)
			assert.InDelta(t, slices.Max(values), h.Max, 0)
		})
	}
}

func TestExtremes(t *testing.T) {
	var h Histogram
	for _, v := range []float64{0, -1, math.NaN(), math.Inf(1), math.SmallestNonzeroFloat64, math.MaxFloat64, 1} {
		h.Add(Default, v, 1)
	}
	h.Add(Default, 1, 0)
	assert.EqualValues(t, 7, h.Count)
	assert.Equal(t, h.Count, buckets(&h))
	assert.LessOrEqual(t, len(h.Counts), Default.MaxBuckets)
	for _, index := range []int32{-1 << 30, 1 << 30, math.MinInt32, math.MaxInt32} {
		h.AddBucket(Default, 8, index, 1)
	}
	assert.EqualValues(t, 11, h.Count)
	assert.Equal(t, h.Count, buckets(&h))
	assert.LessOrEqual(t, len(h.Counts), Default.MaxBuckets)
}

func TestQuantilesLieWithinABucket(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, scale := range []int32{-1, 0, 3, 4, 8} {
		var h Histogram
		values := make([]float64, 5000)
		for i := range values {
			values[i] = math.Exp(random.NormFloat64())
			h.AddBucket(NativeLayout, scale, Index(values[i], scale), 1)
		}
		slices.Sort(values)
		qs := []float64{0, 0.5, 0.9, 0.99, 1}
		out := make([]float64, len(qs))
		h.Quantiles(qs, out)
		for i, q := range qs[1:] {
			want := values[min(int(q*float64(len(values))), len(values)-1)]
			assert.InDelta(t, math.Log2(want), math.Log2(out[i+1]), math.Exp2(-float64(scale))+1e-9, "scale %d q %v", scale, q)
		}
	}
}

func TestQuantilesOfZerosAndNothing(t *testing.T) {
	var h Histogram
	out := make([]float64, 2)
	h.Quantiles([]float64{0.5, 0.99}, out)
	assert.True(t, math.IsNaN(out[0]))
	h.AddZero(9)
	h.AddBucket(Default, 0, 0, 1)
	h.Quantiles([]float64{0.5, 0.99}, out)
	assert.Zero(t, out[0])
	assert.Greater(t, out[1], 1.0)
	assert.LessOrEqual(t, out[1], 2.0)
	h.Count += 5 // a count that its buckets do not hold
	h.Quantiles([]float64{0.99}, out)
	assert.InDelta(t, 2.0, out[0], 0)
}

func TestMergeAndSubAreInverse(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	fill := func(h *Histogram) {
		for range random.IntN(50) {
			h.AddBucket(NativeLayout, random.Int32N(6)-1, random.Int32N(400)-200, random.Uint64N(9))
		}
		h.AddZero(random.Uint64N(3))
	}
	for range 200 {
		var before, grown Histogram
		fill(&before)
		fill(&grown)
		after := before.Clone()
		after.Merge(NativeLayout, &grown)
		require.Equal(t, before.Count+grown.Count, after.Count)
		require.Equal(t, after.Count, buckets(after))
		after.Sub(&before)
		assert.Equal(t, grown.Count, after.Count)
		assert.Equal(t, at(&grown, -4), at(after, -4))
	}
	var h Histogram
	h.Add(Default, 1, 1)
	h.Merge(Default, nil)
	h.Sub(nil)
	assert.EqualValues(t, 1, h.Count)
}

func TestDropLowest(t *testing.T) {
	var h Histogram
	h.Add(Default, 0, 2)
	h.Add(Default, 1, 3)
	h.Add(Default, 100, 1)
	h.DropLowest(0)
	h.DropLowest(4)
	assert.EqualValues(t, 2, h.Count)
	assert.Equal(t, h.Count, buckets(&h))
	assert.Zero(t, h.Zero)
	var seen uint64
	h.Each(func(_ float64, n uint64) { seen += n })
	assert.Equal(t, h.Count, seen)
	h.DropLowest(9)
	assert.Zero(t, h.Count)
}

func TestBucketFromBounds(t *testing.T) {
	for scale := int32(NativeMinScale); scale <= NativeMaxScale; scale++ {
		for _, at := range []int32{-50, -1, 0, 1, 2, 77} {
			if math.Abs(float64(at)*math.Exp2(-float64(scale))) > 500 {
				continue
			}
			gotScale, gotIndex, ok := Bucket(Upper(scale, at-1), Upper(scale, at))
			require.True(t, ok)
			assert.Equal(t, [2]int32{scale, at}, [2]int32{gotScale, gotIndex})
		}
	}
	for _, bounds := range [][2]float64{{0, 1}, {1, 1}, {1, 1.7}, {2, 1}, {1, math.Inf(1)}, {math.NaN(), 2}} {
		_, _, ok := Bucket(bounds[0], bounds[1])
		assert.False(t, ok, "%v", bounds)
	}
}

func TestNativeAndBack(t *testing.T) {
	var h Histogram
	h.AddZero(3)
	for i, n := range []uint64{5, 0, 0, 2, 1, 0, 9} {
		h.AddBucket(NativeLayout, 3, int32(i)-3, n)
	}
	h.Sum = 12
	native := h.Native(1e-128)
	require.NoError(t, native.Validate())
	back := FromNative(native.ToFloat(nil))
	assert.Equal(t, h.Count, back.Count)
	assert.Equal(t, at(&h, 3), at(back, 3))
	assert.InDelta(t, h.Sum, back.Sum, 0)
	assert.Nil(t, FromNative(nil))
	assert.Empty(t, new(Histogram).Native(0).PositiveSpans)
}

func TestPointAndBack(t *testing.T) {
	var h, back Histogram
	for i := range 100 {
		h.Add(Default, float64(i), uint64(i))
	}
	require.True(t, back.Load(Default, pointOf(&h, 1, 2)))
	assert.Equal(t, at(&h, h.Scale), at(&back, h.Scale))
	assert.Equal(t, [4]float64{h.Sum, h.Min, h.Max, float64(h.Count)}, [4]float64{back.Sum, back.Min, back.Max, float64(back.Count)})
	require.True(t, back.Load(Layout{2, 8}, pointOf(&h, 1, 2)))
	assert.LessOrEqual(t, len(back.Counts), 8)
	assert.Equal(t, h.Count, back.Count)
}

func TestCumulativeTellsIncrements(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var source, sum Histogram
	var c Cumulative
	for i := range 500 {
		for range random.IntN(5) {
			source.Add(Default, math.Exp(random.NormFloat64()*float64(1+i/100)), 1)
		}
		c.Advance(Default, pointOf(&source, 1, pcommon.Timestamp(i+2)), &sum)
		require.Equal(t, source.Count, sum.Count)
		require.Equal(t, sum.Count, buckets(&sum))
		require.InEpsilon(t, source.Sum+1, sum.Sum+1, 1e-9)
	}
}

func TestCumulativeFollowsTheCounter(t *testing.T) {
	var c Cumulative
	var first, second, sum Histogram
	first.Add(Default, 1, 5)
	second.Add(Default, 2, 3)
	for _, tt := range []struct {
		name      string
		h         *Histogram
		start, at pcommon.Timestamp
		delta     uint64
		change    cumulative.Change
	}{
		{"the first", &first, 1, 10, 5, cumulative.First},
		{"an older point", &first, 1, 5, 0, cumulative.Late},
		{"nothing new", &first, 1, 11, 0, cumulative.Unchanged},
		{"a new start", &second, 10, 20, 3, cumulative.Reset},
		{"an earlier start", &first, 1, 30, 5, cumulative.Reset},
		{"somebody else goes on", &first, 40, 40, 0, cumulative.Unchanged},
	} {
		delta, change := c.Advance(Default, pointOf(tt.h, tt.start, tt.at), &sum)
		assert.Equal(t, tt.delta, delta, tt.name)
		assert.Equal(t, tt.change, change, tt.name)
	}
	assert.EqualValues(t, 13, sum.Count)
	assert.Equal(t, sum.Count, buckets(&sum))

	sum.Reset()
	c = Cumulative{}
	c.First = cumulative.Baseline
	delta, change := c.Advance(Default, pointOf(&first, 1, 10), &sum)
	assert.Zero(t, delta)
	assert.Equal(t, cumulative.First, change)
	first.Add(Default, 1, 2)
	delta, _ = c.Advance(Default, pointOf(&first, 1, 20), &sum)
	assert.EqualValues(t, 2, delta)
	assert.EqualValues(t, 2, sum.Count)
}

// TestCumulativeOfAnotherScale has a producer that refines its histogram, and one whose buckets fall although the count rose: neither
// counts the whole again.
func TestCumulativeOfAnotherScale(t *testing.T) {
	var coarse, fine, sum Histogram
	for _, v := range []float64{1, 2, 3, 4} {
		coarse.Add(Layout{0, 160}, v, 10)
		fine.Add(Layout{5, 160}, v, 10)
	}
	fine.Add(Layout{5, 160}, 3, 2)
	var c Cumulative
	c.Advance(Default, pointOf(&coarse, 1, 10), &sum)
	delta, change := c.Advance(Default, pointOf(&fine, 1, 20), &sum)
	assert.EqualValues(t, 2, delta)
	assert.Equal(t, cumulative.Grew, change)

	fine.Counts[len(fine.Counts)-1]--
	fine.Add(Layout{5, 160}, 1, 5)
	delta, change = c.Advance(Default, pointOf(&fine, 1, 30), &sum)
	assert.EqualValues(t, 5, delta)
	assert.Equal(t, cumulative.Grew, change)
	assert.Equal(t, sum.Count, buckets(&sum))
}

func TestHostilePointsAreRefused(t *testing.T) {
	for name, change := range map[string]func(pmetric.ExponentialHistogramDataPoint){
		"scale":   func(p pmetric.ExponentialHistogramDataPoint) { p.SetScale(100) },
		"offset":  func(p pmetric.ExponentialHistogramDataPoint) { p.Positive().SetOffset(math.MaxInt32) },
		"below":   func(p pmetric.ExponentialHistogramDataPoint) { p.Positive().SetOffset(math.MinInt32) },
		"count":   func(p pmetric.ExponentialHistogramDataPoint) { p.Positive().BucketCounts().SetAt(0, math.MaxUint64) },
		"zeros":   func(p pmetric.ExponentialHistogramDataPoint) { p.SetZeroCount(math.MaxUint64) },
		"nothing": func(p pmetric.ExponentialHistogramDataPoint) { p.SetFlags(p.Flags().WithNoRecordedValue(true)) },
		"buckets": func(p pmetric.ExponentialHistogramDataPoint) {
			p.Positive().BucketCounts().FromRaw(make([]uint64, 1<<16))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var h, sum Histogram
			h.Add(Default, 1, 1)
			p := pointOf(&h, 1, 2)
			change(p)
			var c Cumulative
			_, verdict := c.Advance(Default, p, &sum)
			assert.Equal(t, cumulative.Invalid, verdict)
			assert.Zero(t, sum.Count)
			assert.False(t, h.Load(Default, p))
			assert.Zero(t, h.Count)
		})
	}
}

func TestWarmHistogramsDoNotAllocate(t *testing.T) {
	var h, sum, delta Histogram
	add := func() {
		for _, v := range []float64{1e-9, 1e-3, 3600, 0, 0.02} {
			h.Add(durations, v, 1)
		}
	}
	add()
	assert.Zero(t, testing.AllocsPerRun(100, add))
	sum.Merge(durations, &h)
	assert.Zero(t, testing.AllocsPerRun(100, func() { sum.Merge(durations, &h) }))

	p := pointOf(&h, 1, 2)
	var c Cumulative
	c.Advance(durations, p, &delta)
	now := pcommon.Timestamp(3)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		now++
		p.SetTimestamp(now)
		p.SetCount(p.Count() + 1)
		p.Positive().BucketCounts().SetAt(0, p.Positive().BucketCounts().At(0)+1)
		delta.Reset()
		c.Advance(durations, p, &delta)
	}))
}

// FuzzHistogram adds, merges, subtracts and follows whatever comes: no value is lost, no histogram grows beyond its layout.
func FuzzHistogram(f *testing.F) {
	f.Add([]byte{1, 3, 200, 7, 2, 9, 80, 1}, int32(3), int32(-40))
	f.Add([]byte{255, 0, 0, 255}, int32(20), int32(math.MaxInt32))
	f.Fuzz(func(t *testing.T, data []byte, scale, offset int32) {
		p := pmetric.NewExponentialHistogramDataPoint()
		p.SetScale(scale)
		p.Positive().SetOffset(offset)
		var count uint64
		for _, b := range data {
			p.Positive().BucketCounts().Append(uint64(b) << (b % 50))
			count += uint64(b) << (b % 50)
		}
		p.SetCount(count)
		p.SetTimestamp(1)
		check := func(h *Histogram) {
			if h.Count != buckets(h) || len(h.Counts) > max(durations.MaxBuckets, 8) {
				t.Fatalf("%d values, %d in %d buckets", h.Count, buckets(h), len(h.Counts))
			}
		}
		var h, sum Histogram
		var c Cumulative
		ok := h.Load(durations, p)
		if delta, change := c.Advance(durations, p, &sum); ok != (change == cumulative.First) || delta != h.Count {
			t.Fatal("loaded", ok, h.Count, "advanced", change, delta)
		}
		check(&h)
		check(&sum)
		for i, b := range data {
			sum.Add(durations, math.Float64frombits(uint64(b)<<56|uint64(i)<<48), uint64(b))
			sum.AddBucket(durations, int32(b%30)-10, offset*int32(b), 1)
			check(&sum)
		}
		merged := h.Clone()
		merged.Merge(durations, &sum)
		check(merged)
		if merged.Count != h.Count+sum.Count {
			t.Fatal("merging loses values")
		}
		merged.Sub(&sum)
		if merged.Count != h.Count {
			t.Fatal("subtracting does not undo merging")
		}
		merged.Quantiles([]float64{0.5, 0.99}, make([]float64, 2))
		merged.Fit(NativeLayout)
		if merged.Scale >= NativeMinScale {
			if err := merged.Native(0).Validate(); err != nil && !math.IsNaN(merged.Sum) {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, 1024)
	for i := range values {
		values[i] = math.Exp(random.NormFloat64()) / 100
	}
	for name, layout := range map[string]Layout{"scale=3": durations, "scale=20": Default} {
		b.Run(name, func(b *testing.B) {
			var h Histogram
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				h.Add(layout, values[i%len(values)], 1)
			}
		})
	}
}

func BenchmarkFresh(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		var h Histogram
		for i := range 32 {
			h.Add(durations, float64(i)/100, 1)
		}
	}
}

func BenchmarkMerge(b *testing.B) {
	var h, sum Histogram
	for i := range 40 {
		h.Add(durations, float64(i+1), 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		sum.Merge(durations, &h)
	}
}

func BenchmarkAdvance(b *testing.B) {
	var source, delta Histogram
	for i := range 40 {
		source.Add(Default, float64(i+1), 1)
	}
	p := pointOf(&source, 1, 2)
	var c Cumulative
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.SetTimestamp(pcommon.Timestamp(i + 3))
		p.SetCount(p.Count() + 1)
		p.Positive().BucketCounts().SetAt(0, p.Positive().BucketCounts().At(0)+1)
		delta.Reset()
		c.Advance(Default, p, &delta)
	}
}
