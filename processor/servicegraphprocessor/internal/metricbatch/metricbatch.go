// Package metricbatch builds the metrics of one emission.
package metricbatch

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Batch holds the metrics of one scope, all of them cumulative.
type Batch struct {
	metrics pmetric.Metrics
	scope   pmetric.ScopeMetrics
}

// NewBatch returns a batch without metrics.
func NewBatch(scope, version string) *Batch {
	b := &Batch{metrics: pmetric.NewMetrics()}
	b.scope = b.metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	b.scope.Scope().SetName(scope)
	b.scope.Scope().SetVersion(version)
	return b
}

func (b *Batch) metric(name, description, unit string) pmetric.Metric {
	metric := b.scope.Metrics().AppendEmpty()
	metric.SetName(name)
	metric.SetDescription(description)
	metric.SetUnit(unit)
	return metric
}

// Sum adds a counter and returns its points, to be filled.
func (b *Batch) Sum(name, description, unit string) pmetric.NumberDataPointSlice {
	sum := b.metric(name, description, unit).SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return sum.DataPoints()
}

// UpDown adds a sum that may fall.
func (b *Batch) UpDown(name, description, unit string) pmetric.NumberDataPointSlice {
	sum := b.metric(name, description, unit).SetEmptySum()
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return sum.DataPoints()
}

// Gauge adds a gauge.
func (b *Batch) Gauge(name, description, unit string) pmetric.NumberDataPointSlice {
	return b.metric(name, description, unit).SetEmptyGauge().DataPoints()
}

// Exponential adds an exponential histogram.
func (b *Batch) Exponential(name, description, unit string) pmetric.ExponentialHistogramDataPointSlice {
	histogram := b.metric(name, description, unit).SetEmptyExponentialHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return histogram.DataPoints()
}

// Histogram adds a histogram with explicit bounds.
func (b *Batch) Histogram(name, description, unit string) pmetric.HistogramDataPointSlice {
	histogram := b.metric(name, description, unit).SetEmptyHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return histogram.DataPoints()
}

// Trimmed are the metrics that have points.
func (b *Batch) Trimmed() pmetric.Metrics {
	b.scope.Metrics().RemoveIf(func(metric pmetric.Metric) bool {
		switch metric.Type() {
		case pmetric.MetricTypeSum:
			return metric.Sum().DataPoints().Len() == 0
		case pmetric.MetricTypeGauge:
			return metric.Gauge().DataPoints().Len() == 0
		case pmetric.MetricTypeExponentialHistogram:
			return metric.ExponentialHistogram().DataPoints().Len() == 0
		case pmetric.MetricTypeHistogram:
			return metric.Histogram().DataPoints().Len() == 0
		}
		return true
	})
	return b.metrics
}

// Append adds a point of a counter that counts from start.
func Append(to pmetric.NumberDataPointSlice, start, now pcommon.Timestamp, value uint64) pmetric.NumberDataPoint {
	p := to.AppendEmpty()
	p.SetStartTimestamp(start)
	p.SetTimestamp(now)
	p.SetIntValue(int64(value))
	return p
}
