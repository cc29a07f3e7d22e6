package flow

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// within says whether v lies in the bucket: (base^index, base^(index+1)].
func within(v float64, index int32, scale int) bool {
	base := func(i int32) float64 { return math.Exp2(float64(i) * math.Exp2(-float64(scale))) }
	const slack = 1e-12
	return v > base(index)*(1-slack) && v <= base(index+1)*(1+slack)
}

func TestBucketIndex(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for scale := 1; scale <= maxHistogramScale; scale++ {
		b := newBucketing(scale, defaultBuckets)
		for range 20_000 {
			v := math.Exp2(rng.Float64()*60 - 30)
			require.True(t, within(v, b.index(v), scale), "scale %d value %g index %d", scale, v, b.index(v))
		}
		for exponent := -30; exponent <= 30; exponent++ {
			// A power of two is the upper bound of its bucket.
			assert.Equal(t, int32(exponent<<scale)-1, b.index(math.Exp2(float64(exponent))))
			assert.Equal(t, int32(exponent<<scale), b.index(math.Nextafter(math.Exp2(float64(exponent)), math.Inf(1))))
		}
	}
}

// TestHistogramKeepsEveryValueInItsBucket compares with buckets counted at the histogram's final scale.
func TestHistogramKeepsEveryValueInItsBucket(t *testing.T) {
	for _, tt := range []struct {
		name    string
		buckets int
		spread  float64 // powers of two
		coarse  bool
	}{
		{"narrow", 160, 4, false},
		{"as wide as it can be", 160, 19, false},
		{"coarsened", 160, 55, true},
		{"few buckets", 8, 30, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			b := newBucketing(defaultHistogramScale, tt.buckets)
			var h histogram
			var values []int64
			for range 5_000 {
				v := int64(math.Exp2(rng.Float64() * tt.spread))
				values = append(values, v)
				h.add(&b, v)
				require.LessOrEqual(t, len(h.buckets), tt.buckets)
			}
			h.add(&b, 0)
			h.add(&b, -5)
			assert.Equal(t, uint64(2), h.zero)
			assert.Equal(t, uint64(len(values)+2), h.count)
			assert.Equal(t, tt.coarse, int(h.scale) < defaultHistogramScale)

			want := map[int32]uint64{}
			sum := 0.0
			for _, v := range values {
				want[b.index(float64(v)/1e9)>>(defaultHistogramScale-int(h.scale))]++
				sum += float64(v) / 1e9
			}
			got := map[int32]uint64{}
			for i, n := range h.buckets {
				if n > 0 {
					got[h.offset+int32(i)] = n
				}
			}
			assert.Equal(t, want, got)
			assert.InEpsilon(t, sum, h.sum, 1e-9)
		})
	}
}

func TestWarmHistogramDoesNotAllocate(t *testing.T) {
	b := newBucketing(defaultHistogramScale, defaultBuckets)
	var h histogram
	values := []int64{1, int64(time.Millisecond), int64(time.Hour), 0, int64(20 * time.Millisecond)}
	add := func() {
		for _, v := range values {
			h.add(&b, v)
		}
	}
	add()
	assert.Zero(t, testing.AllocsPerRun(100, add))
}
