package prometheusremotewriteexporter

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/xconfmap"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// TestStoreWithoutNativeHistograms sends to a store that refuses native histograms, as a Prometheus does without them.
func TestStoreWithoutNativeHistograms(t *testing.T) {
	names := make(chan []string, 10)
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		body, err = snappy.Decode(nil, body)
		assert.NoError(t, err)
		var request prompb.WriteRequest
		assert.NoError(t, request.Unmarshal(body))
		var got []string
		for _, series := range request.Timeseries {
			if len(series.Histograms) > 0 {
				http.Error(w, "native histograms are disabled", http.StatusInternalServerError)
				return
			}
			for _, label := range series.Labels {
				if label.Name == "__name__" && !slices.Contains(got, label.Value) {
					got = append(got, label.Value)
				}
			}
		}
		names <- got
	}))
	defer store.Close()

	factory := NewFactory()
	cfg := factory.CreateDefaultConfig()
	require.NoError(t, confmap.NewFromStringMap(map[string]any{
		"endpoint": store.URL, "histograms": "classic", "target_info": map[string]any{"enabled": false},
	}).Unmarshal(cfg))
	require.NoError(t, xconfmap.Validate(cfg))
	e, err := factory.CreateMetrics(context.Background(), exportertest.NewNopSettings(factory.Type()), cfg)
	require.NoError(t, err)
	assert.True(t, e.Capabilities().MutatesData)
	require.NoError(t, e.Start(context.Background(), componenttest.NewNopHost()))

	md := pmetric.NewMetrics()
	metrics := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	now := pcommon.NewTimestampFromTime(time.Unix(1_700_000_000, 0))
	closed := metrics.AppendEmpty()
	closed.SetName("mesh.edge.connections.closed")
	sum := closed.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	point := sum.DataPoints().AppendEmpty()
	point.SetTimestamp(now)
	point.SetIntValue(3)
	duration := metrics.AppendEmpty()
	duration.SetName("mesh.edge.request.duration")
	duration.SetUnit("s")
	histogram := duration.SetEmptyExponentialHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := histogram.DataPoints().AppendEmpty()
	p.SetTimestamp(now)
	p.SetCount(1)
	p.Positive().BucketCounts().FromRaw([]uint64{1})
	require.NoError(t, e.ConsumeMetrics(context.Background(), md))
	require.NoError(t, e.Shutdown(context.Background())) // sends what is queued
	assert.ElementsMatch(t, []string{
		"mesh_edge_connections_closed_total", "mesh_edge_request_duration_seconds_bucket", "mesh_edge_request_duration_seconds_sum", "mesh_edge_request_duration_seconds_count",
	}, <-names)
}

func TestConfig(t *testing.T) {
	cfg := NewFactory().CreateDefaultConfig()
	require.NoError(t, xconfmap.Validate(cfg))
	require.NoError(t, confmap.NewFromStringMap(map[string]any{"histograms": "all"}).Unmarshal(cfg))
	require.ErrorContains(t, xconfmap.Validate(cfg), "histograms must be native, classic or both")
}
