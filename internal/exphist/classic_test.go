package exphist

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

func TestClassicBucketsAreExactAtEveryScale(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for scale := int32(0); scale <= MaxScale; scale++ {
		var h Histogram
		var want [ClassicBuckets + 1]uint64
		for n := range 3_000 {
			v := math.Exp2(random.Float64()*18 - 12)
			if n%10 == 0 {
				v = ClassicBounds[n/10%ClassicBuckets] // belongs to its own bucket
			}
			h.Add(Layout{Scale: scale, MaxBuckets: maxStored}, v, 1)
			at := 0
			for at < ClassicBuckets && v > ClassicBounds[at] {
				at++
			}
			want[at]++
		}
		h.Add(Default, 0, 2)
		want[0] += 2
		require.Equal(t, want, ClassicCounts(pointOf(&h, 1, 2)), "scale %d, now %d", scale, h.Scale)
	}
}

func TestAddClassic(t *testing.T) {
	batch := func() pmetric.MetricSlice {
		metrics := pmetric.NewMetricSlice()
		metrics.AppendEmpty().SetEmptyGauge()
		m := metrics.AppendEmpty()
		m.SetName("mesh.edge.request.duration")
		m.SetUnit("s")
		var h Histogram
		h.Add(Default, 0.3, 4)
		p := pointOf(&h, 5, 7)
		p.Attributes().PutStr("http_route", "/")
		p.CopyTo(m.SetEmptyExponentialHistogram().DataPoints().AppendEmpty())
		m.ExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		return metrics
	}
	types := func(form Form) (all []pmetric.MetricType) {
		metrics := batch()
		AddClassic(metrics, form)
		for _, m := range metrics.All() {
			all = append(all, m.Type())
		}
		return all
	}
	gauge, native, classic := pmetric.MetricTypeGauge, pmetric.MetricTypeExponentialHistogram, pmetric.MetricTypeHistogram
	assert.Equal(t, []pmetric.MetricType{gauge, native}, types(Native))
	assert.Equal(t, []pmetric.MetricType{gauge, classic}, types(Classic))
	assert.Equal(t, []pmetric.MetricType{gauge, native, classic}, types(Both))

	metrics := batch()
	AddClassic(metrics, Classic)
	m := metrics.At(1)
	assert.Equal(t, "mesh.edge.request.duration", m.Name())
	assert.Equal(t, "s", m.Unit())
	assert.Equal(t, pmetric.AggregationTemporalityCumulative, m.Histogram().AggregationTemporality())
	p := m.Histogram().DataPoints().At(0)
	assert.EqualValues(t, 4, p.Count())
	assert.InDelta(t, 1.2, p.Sum(), 1e-9)
	assert.EqualValues(t, 5, p.StartTimestamp())
	assert.EqualValues(t, 7, p.Timestamp())
	assert.Equal(t, map[string]any{"http_route": "/"}, p.Attributes().AsRaw())
	assert.Equal(t, p.ExplicitBounds().Len()+1, p.BucketCounts().Len())
	assert.EqualValues(t, 4, p.BucketCounts().At(8), "up to half a second")

	require.NoError(t, Both.Validate())
	require.ErrorContains(t, Form("all").Validate(), "native, classic or both")
}
