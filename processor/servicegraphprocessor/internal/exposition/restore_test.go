package exposition

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

func TestRestoreHistograms(t *testing.T) {
	metrics := pmetric.NewMetricSlice()
	gauge := func(name string, value float64, labels ...string) {
		var m pmetric.Metric
		found := false
		for _, one := range metrics.All() {
			if one.Name() == name {
				m, found = one, true
			}
		}
		if !found {
			m = metrics.AppendEmpty()
			m.SetName(name)
			m.SetEmptyGauge()
		}
		p := m.Gauge().DataPoints().AppendEmpty()
		p.SetTimestamp(7)
		p.SetDoubleValue(value)
		for i := 0; i < len(labels); i += 2 {
			p.Attributes().PutStr(labels[i], labels[i+1])
		}
	}
	const took = "istio_request_duration_milliseconds"
	for _, app := range []string{"a", "b"} {
		for i, le := range []string{"+Inf", "1", "5"} {
			gauge(took+"_bucket", []float64{9, 2, 6}[i], "app", app, "le", le)
		}
		gauge(took+"_sum", 30, "app", app)
		gauge(took+"_count", 9, "app", app)
	}
	gauge(took+"_bucket", 3, "app", "without a last one", "le", "1")
	gauge(took+"_bucket", 3, "app", "backwards", "le", "1")
	gauge(took+"_bucket", 2, "app", "backwards", "le", "+Inf")
	gauge(took+"_bucket", 2, "app", "no number", "le", "x")
	gauge("other_bucket", 1, "le", "1")
	gauge("istio_tcp_connections_opened_total", 5)
	gauge("istio_load_sum", 5)
	RestoreHistograms(metrics)
	var names []string
	for _, m := range metrics.All() {
		names = append(names, m.Name())
	}
	require.Equal(t, []string{"other_bucket", "istio_tcp_connections_opened_total", "istio_load_sum", took}, names)
	points := metrics.At(3).Histogram().DataPoints()
	require.Equal(t, 2, points.Len())
	for _, p := range points.All() {
		assert.EqualValues(t, 9, p.Count())
		assert.InDelta(t, 30, p.Sum(), 0)
		assert.EqualValues(t, 7, p.Timestamp())
		assert.Equal(t, []float64{1, 5}, p.ExplicitBounds().AsRaw())
		assert.Equal(t, []uint64{2, 4, 3}, p.BucketCounts().AsRaw())
		assert.Equal(t, 1, p.Attributes().Len(), fmt.Sprint(p.Attributes().AsRaw()))
	}
	before := metrics.Len()
	RestoreHistograms(metrics)
	assert.Equal(t, before, metrics.Len())
}
