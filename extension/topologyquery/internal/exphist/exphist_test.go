package exphist

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// index is the bucket of a value.
func index(scale int32, v float64) int32 {
	return int32(math.Ceil(math.Log2(v) * math.Exp2(float64(scale))))
}

func TestQuantilesLieWithinABucket(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, scale := range []int32{-1, 0, 3, 4, 8} {
		var h Histogram
		values := make([]float64, 5000)
		for i := range values {
			values[i] = math.Exp(random.NormFloat64())
			h.Add(scale, index(scale, values[i]), 1)
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
	h.Add(0, 1, 1)
	h.Quantiles([]float64{0.5, 0.99}, out)
	assert.Zero(t, out[0])
	assert.Greater(t, out[1], 1.0)
	assert.LessOrEqual(t, out[1], 2.0)
}

// total sums buckets of a histogram in a scale that is coarser than all.
func total(h *Histogram) map[int32]uint64 {
	out := map[int32]uint64{}
	for i, n := range h.Counts {
		if n > 0 {
			out[Downscale(h.Offset+int32(i), h.Scale-MinScale)] += n
		}
	}
	return out
}

func TestMergeAndSubtractAreInverse(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		var before, grown Histogram
		for range random.IntN(50) {
			before.Add(random.Int32N(6)-1, random.Int32N(400)-200, random.Uint64N(9))
		}
		before.AddZero(random.Uint64N(3))
		for range random.IntN(50) {
			grown.Add(random.Int32N(6)-1, random.Int32N(400)-200, random.Uint64N(9))
		}
		after := before.Clone()
		after.Merge(&grown)
		require.Equal(t, before.Count+grown.Count, after.Count)
		after.Subtract(&before)
		assert.Equal(t, grown.Count, after.Count)
		assert.Equal(t, total(&grown), total(after))
	}
}

func TestWidthIsBounded(t *testing.T) {
	var h Histogram
	h.Add(8, -1<<30, 1)
	h.Add(8, 1<<30, 1)
	assert.LessOrEqual(t, len(h.Counts), maxBuckets)
	assert.EqualValues(t, 2, h.Count)
}

func TestBucketFromBounds(t *testing.T) {
	for scale := int32(MinScale); scale <= MaxScale; scale++ {
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
