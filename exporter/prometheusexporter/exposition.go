package prometheusexporter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/nephilia/nephilia/internal/exphist"
)

// exposedType is Prometheus's type of a metric, and whether its points are such that Prometheus understands: not differences.
func exposedType(m pmetric.Metric) (kind dto.MetricType, cumulative bool) {
	switch m.Type() {
	case pmetric.MetricTypeSum:
		kind = dto.MetricType_GAUGE
		if m.Sum().IsMonotonic() {
			kind = dto.MetricType_COUNTER
		}
		return kind, m.Sum().AggregationTemporality() == pmetric.AggregationTemporalityCumulative
	case pmetric.MetricTypeHistogram:
		return dto.MetricType_HISTOGRAM, m.Histogram().AggregationTemporality() == pmetric.AggregationTemporalityCumulative
	case pmetric.MetricTypeExponentialHistogram:
		return dto.MetricType_HISTOGRAM, m.ExponentialHistogram().AggregationTemporality() == pmetric.AggregationTemporalityCumulative
	case pmetric.MetricTypeSummary:
		return dto.MetricType_SUMMARY, true
	default:
		return dto.MetricType_GAUGE, true
	}
}

// points is how many a metric has.
func points(m pmetric.Metric) int {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		return m.Gauge().DataPoints().Len()
	case pmetric.MetricTypeSum:
		return m.Sum().DataPoints().Len()
	case pmetric.MetricTypeHistogram:
		return m.Histogram().DataPoints().Len()
	case pmetric.MetricTypeExponentialHistogram:
		return m.ExponentialHistogram().DataPoints().Len()
	case pmetric.MetricTypeSummary:
		return m.Summary().DataPoints().Len()
	default:
		return 0
	}
}

// points takes those of a metric.
func (s *seriesStore) points(f *metricFamily, m pmetric.Metric, at pcommon.Timestamp) {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		s.numbers(f, m.Gauge().DataPoints(), at)
	case pmetric.MetricTypeSum:
		s.numbers(f, m.Sum().DataPoints(), at)
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			if found := slot(s, f, p, at); found != nil {
				m, err := explicit(p)
				s.convert(found, m, err)
			}
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			if found := slot(s, f, p, at); found != nil {
				s.exponential(found, p)
			}
		}
	case pmetric.MetricTypeSummary:
		for _, p := range m.Summary().DataPoints().All() {
			if found := slot(s, f, p, at); found != nil {
				found.summary = &dto.Summary{SampleCount: proto.Uint64(p.Count()), SampleSum: proto.Float64(p.Sum()), CreatedTimestamp: created(p.StartTimestamp())}
				for _, q := range p.QuantileValues().All() {
					found.summary.Quantile = append(found.summary.Quantile, &dto.Quantile{Quantile: proto.Float64(q.Quantile()), Value: proto.Float64(q.Value())})
				}
			}
		}
	}
}

func (s *seriesStore) numbers(f *metricFamily, points pmetric.NumberDataPointSlice, at pcommon.Timestamp) {
	for _, p := range points.All() {
		if found := slot(s, f, p, at); found != nil {
			if found.value = p.DoubleValue(); p.ValueType() == pmetric.NumberDataPointValueTypeInt {
				found.value = float64(p.IntValue())
			}
		}
	}
}

// exponential sets a series' histogram to those that are exposed of an exponential one.
func (s *seriesStore) exponential(found *series, p pmetric.ExponentialHistogramDataPoint) {
	if s.cfg.Histograms != exphist.Native {
		counts := exphist.ClassicCounts(p)
		found.classic = &counts
	}
	if s.cfg.Histograms == exphist.Classic {
		found.histogram = &dto.Histogram{SampleCount: proto.Uint64(p.Count()), SampleSum: proto.Float64(p.Sum()), CreatedTimestamp: created(p.StartTimestamp())}
		return
	}
	m, err := native(p)
	s.convert(found, m, err)
}

// withClassic is a histogram that has classic buckets as well.
func withClassic(h *dto.Histogram, counts *[exphist.ClassicBuckets + 1]uint64) *dto.Histogram {
	all := &dto.Histogram{
		SampleCount: h.SampleCount, SampleSum: h.SampleSum, CreatedTimestamp: h.CreatedTimestamp,
		Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, ZeroCount: h.ZeroCount,
		PositiveSpan: h.PositiveSpan, PositiveDelta: h.PositiveDelta, NegativeSpan: h.NegativeSpan, NegativeDelta: h.NegativeDelta,
		Bucket: make([]*dto.Bucket, exphist.ClassicBuckets),
	}
	buckets, below := make([]dto.Bucket, exphist.ClassicBuckets), make([]uint64, exphist.ClassicBuckets)
	var sum uint64
	for i := range buckets {
		sum += counts[i]
		below[i] = sum
		buckets[i].CumulativeCount, buckets[i].UpperBound = &below[i], &exphist.ClassicBounds[i]
		all.Bucket[i] = &buckets[i]
	}
	return all
}

// convert sets a series' histogram to that of a metric without labels. What has none yet shows an empty one.
func (s *seriesStore) convert(found *series, m prometheus.Metric, err error) {
	var written dto.Metric
	if err == nil {
		err = m.Write(&written)
	}
	switch {
	case err == nil:
		found.histogram = written.Histogram
	case found.histogram == nil:
		found.histogram = &dto.Histogram{}
		fallthrough
	default:
		s.refused[refusedHistogram]++
	}
}

// unnamed describes a histogram whose name and labels are known otherwise.
var unnamed = prometheus.NewDesc("histogram", "", nil, nil)

func explicit(p pmetric.HistogramDataPoint) (prometheus.Metric, error) {
	buckets := make(map[float64]uint64, p.ExplicitBounds().Len())
	var below uint64
	for i := range min(p.ExplicitBounds().Len(), p.BucketCounts().Len()) {
		below += p.BucketCounts().At(i)
		buckets[p.ExplicitBounds().At(i)] = below
	}
	return prometheus.NewConstHistogramWithCreatedTimestamp(unnamed, p.Count(), p.Sum(), buckets, start(p.StartTimestamp()))
}

// Prometheus knows scales up to maxScale, and takes buckets of a smaller width together.
const (
	maxScale             = 8
	defaultZeroThreshold = 1e-128
)

func native(p pmetric.ExponentialHistogramDataPoint) (prometheus.Metric, error) {
	scale := min(p.Scale(), maxScale)
	threshold := p.ZeroThreshold()
	if threshold == 0 {
		threshold = defaultZeroThreshold
	}
	return prometheus.NewConstNativeHistogram(unnamed, p.Count(), p.Sum(), buckets(p.Positive(), p.Scale()-scale), buckets(p.Negative(), p.Scale()-scale),
		p.ZeroCount(), scale, threshold, start(p.StartTimestamp()))
}

// buckets are those of one sign, each 2^narrower of them as one, by Prometheus's index: that of a bucket's upper bound.
func buckets(of pmetric.ExponentialHistogramDataPointBuckets, narrower int32) map[int]int64 {
	if of.BucketCounts().Len() == 0 {
		return nil
	}
	counts := make(map[int]int64, of.BucketCounts().Len())
	for i, count := range of.BucketCounts().All() {
		counts[int((of.Offset()+int32(i))>>narrower)+1] += int64(count)
	}
	return counts
}

// start is when a series began, if that is known.
func start(at pcommon.Timestamp) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return at.AsTime()
}

func created(at pcommon.Timestamp) *timestamppb.Timestamp {
	if at == 0 {
		return nil
	}
	return timestamppb.New(at.AsTime())
}

// exposed is a metric with all its series.
func (f *metricFamily) exposed(timestamps bool) *dto.MetricFamily {
	all := &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind, Metric: make([]*dto.Metric, len(f.samples))}
	metrics := make([]dto.Metric, len(f.samples))
	counters, gauges := []dto.Counter(nil), []dto.Gauge(nil)
	switch f.kind {
	case dto.MetricType_COUNTER:
		counters = make([]dto.Counter, len(f.samples))
	case dto.MetricType_GAUGE:
		gauges = make([]dto.Gauge, len(f.samples))
	}
	for i := range f.samples {
		of, m := &f.samples[i], &metrics[i]
		m.Label = of.labels
		switch f.kind {
		case dto.MetricType_COUNTER:
			m.Counter = &counters[i]
			m.Counter.Value, m.Counter.CreatedTimestamp = &of.value, created(of.start)
		case dto.MetricType_GAUGE:
			m.Gauge = &gauges[i]
			m.Gauge.Value = &of.value
		default:
			m.Histogram, m.Summary = of.histogram, of.summary
			if of.classic != nil {
				m.Histogram = withClassic(of.histogram, of.classic)
			}
		}
		if timestamps {
			m.TimestampMs = proto.Int64(of.observedAt.AsTime().UnixMilli())
		}
		all.Metric[i] = m
	}
	return all
}
