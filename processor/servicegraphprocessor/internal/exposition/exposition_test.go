package exposition

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

func TestValue(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(p pmetric.NumberDataPoint)
		want uint64
		ok   bool
	}{
		{"an integer", func(p pmetric.NumberDataPoint) { p.SetIntValue(7) }, 7, true},
		{"a float", func(p pmetric.NumberDataPoint) { p.SetDoubleValue(7.6) }, 8, true},
		{"nothing", func(pmetric.NumberDataPoint) {}, 0, false},
		{"a negative integer", func(p pmetric.NumberDataPoint) { p.SetIntValue(-1) }, 0, false},
		{"a negative float", func(p pmetric.NumberDataPoint) { p.SetDoubleValue(-1) }, 0, false},
		{"not a number", func(p pmetric.NumberDataPoint) { p.SetDoubleValue(math.NaN()) }, 0, false},
		{"infinity", func(p pmetric.NumberDataPoint) { p.SetDoubleValue(math.Inf(1)) }, 0, false},
		{"more than can be added up", func(p pmetric.NumberDataPoint) { p.SetIntValue(math.MaxInt64) }, 0, false},
		{"a stale marker", func(p pmetric.NumberDataPoint) {
			p.SetIntValue(7)
			p.SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
		}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pmetric.NewNumberDataPoint()
			tt.set(p)
			got, ok := Value(p)
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.ok, ok)
		})
	}
}

func TestSeriesAreTheirLabels(t *testing.T) {
	targets := NewTargets[int](10)
	hash := func(kind uint64, labels ...string) uint64 {
		attrs := pcommon.NewMap()
		for i := 0; i < len(labels); i += 2 {
			attrs.PutStr(labels[i], labels[i+1])
		}
		return targets.Hash(kind, attrs)
	}
	assert.Equal(t, hash(1, "a", "1", "b", "2"), hash(1, "b", "2", "a", "1"), "in any order")
	assert.NotEqual(t, hash(1, "a", "1", "b", "2"), hash(1, "a", "2", "b", "1"))
	assert.NotEqual(t, hash(1, "a", "1"), hash(2, "a", "1"))
	assert.NotEqual(t, hash(1, "a", ""), hash(1))
}

func TestTargetsAreBoundedAndForgotten(t *testing.T) {
	targets := NewTargets[int](2)
	source := Source{Instance: "10.0.0.1:15020", Node: "node-a"}
	require.Nil(t, targets.Known(&source))
	target := targets.Of(&source)
	require.Same(t, target, targets.Known(&source))
	target.Scrape(5)
	target.Scrape(9)
	assert.EqualValues(t, 5, target.First)
	for id := range uint64(2) {
		require.False(t, targets.Full())
		targets.Add(target, id, new(int))
	}
	require.True(t, targets.Full())
	keep := func(*Target[int], uint64, *int) {}
	targets.Sweep(pcommon.Timestamp(time.Hour), time.Minute, keep)
	require.NotNil(t, targets.Known(&source), "it has series")
	targets.Sweep(pcommon.Timestamp(time.Hour), time.Minute, func(target *Target[int], id uint64, _ *int) { targets.Remove(target, id) })
	require.Nil(t, targets.Known(&source))
	require.False(t, targets.Full())
}

func TestFailedRequests(t *testing.T) {
	for _, tt := range []struct {
		code, flags, grpc string
		want              bool
	}{
		{"200", "-", "", false},
		{"404", "-", "", false},
		{"500", "-", "", true},
		{"503", "UH", "", true},
		{"0", "DC", "", false},
		{"0", "-", "", false},
		{"0", "UR", "", true},
		{"503", "UC,DC", "", false},
		{"101", "UC", "", false},
		{"200", "-", "14", true},
		{"200", "-", "5", false},
		{"", "", "", false},
	} {
		l := Labels{Code: tt.code, Flags: tt.flags, GRPCStatus: tt.grpc}
		assert.Equal(t, tt.want, l.Failed(), "%+v", tt)
	}
}

func TestRestoreCounter(t *testing.T) {
	gauge := func(name string) pmetric.Metric {
		m := pmetric.NewMetric()
		m.SetName(name)
		m.SetEmptyGauge().DataPoints().AppendEmpty().SetDoubleValue(7)
		return m
	}
	m := gauge("istio_tcp_connections_opened_total")
	RestoreCounter(m)
	require.Equal(t, pmetric.MetricTypeSum, m.Type())
	assert.True(t, m.Sum().IsMonotonic())
	assert.Equal(t, pmetric.AggregationTemporalityCumulative, m.Sum().AggregationTemporality())
	assert.InDelta(t, 7, m.Sum().DataPoints().At(0).DoubleValue(), 0)
	for _, name := range []string{"istio_xds_connected", "other_total"} {
		m := gauge(name)
		RestoreCounter(m)
		assert.Equal(t, pmetric.MetricTypeGauge, m.Type(), name)
	}
}
