package stats

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWilsonLower(t *testing.T) {
	// Known values of the 95 % interval's lower end.
	for _, test := range []struct {
		k, n uint64
		want float64
	}{
		{0, 0, 0},
		{0, 10, 0},
		{1, 1, 0.2065},
		{3, 3, 0.4385},
		{5, 10, 0.2366},
		{10, 10, 0.7225},
		{58, 58, 0.9379},
		{12, 10, 0.7225},
	} {
		assert.InDelta(t, test.want, WilsonLower(test.k, test.n), 5e-4, "%d of %d", test.k, test.n)
	}
}

// TestBinomialTail holds the tail to the sum of its terms.
func TestBinomialTail(t *testing.T) {
	for _, p := range []float64{0.001, 0.01, 0.1, 0.5, 0.9} {
		for n := uint64(1); n <= 60; n++ {
			for k := uint64(math.Floor(float64(n)*p)) + 1; k <= n; k++ {
				exact := 0.0
				for i := k; i <= n; i++ {
					exact += math.Exp(logBinomial(i, n, p))
				}
				assert.InEpsilon(t, exact, BinomialTail(k, n, p), 1e-6, "%d of %d at %v", k, n, p)
			}
		}
	}
	assert.InDelta(t, 1, BinomialTail(0, 10, 0.5), 0)
	assert.InDelta(t, 1, BinomialTail(3, 10, 0.5), 0, "below the mean")
	assert.InDelta(t, 1, BinomialTail(3, 10, 1), 0)
	assert.Zero(t, BinomialTail(11, 10, 0.5))
	assert.Zero(t, BinomialTail(1, 10, 0))
	assert.Greater(t, BinomialTail(20, 1e9, 1e-9), 0.0)
}

func TestLikelihoodRatio(t *testing.T) {
	assert.Positive(t, LikelihoodRatio(1, 20, 0.02, 0.8), "nearly all well fits health better")
	assert.Negative(t, LikelihoodRatio(15, 20, 0.02, 0.8))
	assert.InDelta(t, math.Log(0.5/0.25), LikelihoodRatio(1, 1, 0.5, 0.25), 1e-12)
}

func TestSilence(t *testing.T) {
	assert.InDelta(t, 1, Silence(0), 0)
	assert.InDelta(t, 1, Silence(-3), 0)
	assert.InDelta(t, math.Exp(-7), Silence(7), 1e-12)
}

func TestLatencyBuckets(t *testing.T) {
	for _, seconds := range []float64{0.0002, 0.001, 0.013, 0.5, 1, 7, 60} {
		bucket := LatencyBucket(seconds)
		assert.LessOrEqual(t, seconds, LatencyBound(bucket))
		assert.Greater(t, seconds, LatencyBound(bucket-1))
	}
	assert.Zero(t, LatencyBucket(0))
	assert.Zero(t, LatencyBucket(-1))
	assert.Zero(t, LatencyBucket(math.NaN()))
	assert.Equal(t, LatencyBuckets-1, LatencyBucket(1e9))
	assert.Equal(t, LatencyBuckets-1, LatencyBucket(math.Inf(1)))
}

func TestLatencies(t *testing.T) {
	var l Latencies
	assert.Zero(t, l.Median())
	assert.Zero(t, l.Above(0))
	l.Add(10, 50)
	l.Add(12, 30)
	l.Add(30, 20)
	assert.InDelta(t, 100, l.Total(), 0)
	assert.Equal(t, 10, l.Median())
	assert.Equal(t, 1, l.MAD(10), "half of all lie at the median")
	assert.Equal(t, 12, l.Quantile(0.8))
	assert.Equal(t, 30, l.Quantile(0.98))
	assert.InDelta(t, 0.2, l.Above(12), 1e-6)
	l.Scale(0.5)
	assert.InDelta(t, 50, l.Total(), 0)
	assert.Equal(t, 10, l.Median())
	l.Add(40, 200)
	assert.Equal(t, 40, l.Median(), "what is new weighs more than what fades")
}
