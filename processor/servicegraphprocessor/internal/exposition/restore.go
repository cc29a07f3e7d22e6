package exposition

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// labelBound is the label of a classic histogram's bucket.
const labelBound = "le"

// maxRestored bounds the histograms, and their buckets, that are made of one metric of a batch.
const maxRestored = 100_000

// restoring is a histogram whose series come one by one.
type restoring struct {
	attrs   pcommon.Map
	at      pcommon.Timestamp
	buckets []bucket
	sum     float64
}

// bucket is how many values are not above a bound.
type bucket struct{ upper, count float64 }

// RestoreHistograms makes histograms of Istio's series whose types were lost on their way, as in a Prometheus's federation: x_bucket and x_sum
// become x. The gauges go.
func RestoreHistograms(metrics pmetric.MetricSlice) {
	var found map[string]map[string]*restoring // by name and labels; bounded by maxRestored
	for _, metric := range metrics.All() {
		name, ok := untyped(metric, "_bucket")
		if !ok {
			continue
		}
		of := map[string]*restoring{}
		for _, p := range metric.Gauge().DataPoints().All() {
			restore(of, p)
		}
		if found == nil {
			found = map[string]map[string]*restoring{}
		}
		found[name] = of
	}
	if found == nil {
		return
	}
	for _, metric := range metrics.All() {
		if name, ok := untyped(metric, "_sum"); ok {
			for _, p := range metric.Gauge().DataPoints().All() {
				if r := found[name][identityOf(p.Attributes())]; r != nil {
					r.sum = p.DoubleValue()
				}
			}
		}
	}
	metrics.RemoveIf(func(metric pmetric.Metric) bool {
		for _, suffix := range [...]string{"_bucket", "_sum", "_count"} {
			if name, ok := untyped(metric, suffix); ok && found[name] != nil {
				return true
			}
		}
		return false
	})
	for name, of := range found {
		metric := metrics.AppendEmpty()
		metric.SetName(name)
		histogram := metric.SetEmptyHistogram()
		histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		for _, r := range of {
			r.appendTo(histogram.DataPoints())
		}
	}
}

// untyped is the name without a suffix of a gauge of Istio's that is none.
func untyped(metric pmetric.Metric, suffix string) (name string, ok bool) {
	if metric.Type() != pmetric.MetricTypeGauge || !strings.HasPrefix(metric.Name(), "istio_") {
		return "", false
	}
	return strings.CutSuffix(metric.Name(), suffix)
}

func restore(of map[string]*restoring, p pmetric.NumberDataPoint) {
	if p.Flags().NoRecordedValue() {
		return
	}
	le, _ := p.Attributes().Get(labelBound)
	upper, err := strconv.ParseFloat(le.AsString(), 64)
	if err != nil || math.IsNaN(upper) {
		return
	}
	id := identityOf(p.Attributes())
	r := of[id]
	if r == nil {
		if len(of) >= maxRestored {
			return
		}
		r = &restoring{attrs: p.Attributes(), at: p.Timestamp()}
		of[id] = r
	}
	count := p.DoubleValue()
	if p.ValueType() == pmetric.NumberDataPointValueTypeInt {
		count = float64(p.IntValue())
	}
	if len(r.buckets) < maxRestored {
		r.buckets = append(r.buckets, bucket{upper, count})
	}
}

// identityOf tells histograms apart: all labels but the bound's.
func identityOf(attrs pcommon.Map) string {
	pairs := make([]string, 0, attrs.Len())
	for name, value := range attrs.All() {
		if name != labelBound {
			pairs = append(pairs, name+"\x00"+value.AsString())
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "\x00")
}

// appendTo adds the histogram, unless its buckets contradict each other.
func (r *restoring) appendTo(points pmetric.HistogramDataPointSlice) {
	slices.SortFunc(r.buckets, func(a, b bucket) int { return cmp.Compare(a.upper, b.upper) })
	last := len(r.buckets) - 1
	if !math.IsInf(r.buckets[last].upper, 1) {
		return
	}
	bounds, counts, below := make([]float64, 0, last), make([]uint64, 0, last+1), 0.0
	for i, b := range r.buckets {
		if !(b.count >= below && b.count <= maxCount) || i > 0 && b.upper == r.buckets[i-1].upper {
			return
		}
		counts = append(counts, uint64(b.count-below))
		below = b.count
		if i < last {
			bounds = append(bounds, b.upper)
		}
	}
	p := points.AppendEmpty()
	for name, value := range r.attrs.All() {
		if name != labelBound {
			p.Attributes().PutStr(name, value.AsString())
		}
	}
	p.SetTimestamp(r.at)
	p.SetCount(uint64(below))
	p.SetSum(r.sum)
	p.ExplicitBounds().FromRaw(bounds)
	p.BucketCounts().FromRaw(counts)
}
