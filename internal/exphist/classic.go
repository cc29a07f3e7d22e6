package exphist

import (
	"fmt"
	"math"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Form says as which histograms Prometheus gets exponential ones.
type Form string

// The forms. Who cannot read native histograms reads classic ones.
const (
	Native  Form = "native"
	Classic Form = "classic"
	Both    Form = "both"
)

// Validate implements xconfmap.Validator.
func (f Form) Validate() error {
	switch f {
	case Native, Classic, Both:
		return nil
	}
	return fmt.Errorf("histograms must be native, classic or both, not %q", string(f))
}

// Classic histograms have powers of two as bounds: those are bounds of exponential ones of every scale from 0 on, so that their counts are
// exact and never go back when a scale becomes coarser.
const (
	firstExponent = -9 // 2 ms
	lastExponent  = 4  // 16 s

	ClassicBuckets = lastExponent - firstExponent + 1
)

// ClassicBounds are the upper bounds of classic buckets, without the infinite one.
var ClassicBounds = func() (bounds [ClassicBuckets]float64) {
	for i := range bounds {
		bounds[i] = math.Ldexp(1, firstExponent+i)
	}
	return bounds
}()

// ClassicCounts are the values of a point in each bucket, and in the last those beyond.
func ClassicCounts(point pmetric.ExponentialHistogramDataPoint) (counts [ClassicBuckets + 1]uint64) {
	counts[0] = point.ZeroCount()
	for _, n := range point.Negative().BucketCounts().All() {
		counts[0] += n
	}
	offset, scale := int64(point.Positive().Offset()), point.Scale()
	for i, n := range point.Positive().BucketCounts().All() {
		upper := offset + int64(i) + 1 // the bucket ends at 2^(upper/2^scale)
		if scale >= 0 {
			by := min(scale, 32)
			upper = (upper + int64(1)<<by - 1) >> by
		} else {
			upper <<= min(-scale, 20)
		}
		counts[min(max(upper-firstExponent, 0), ClassicBuckets)] += n
	}
	return counts
}

// AddClassic puts a classic histogram beside each exponential one among metrics, or in its place.
func AddClassic(metrics pmetric.MetricSlice, form Form) {
	if form == Native {
		return
	}
	for i := range metrics.Len() {
		if metrics.At(i).Type() != pmetric.MetricTypeExponentialHistogram {
			continue
		}
		to := metrics.AppendEmpty()
		from := metrics.At(i) // after the slice has grown
		to.SetName(from.Name())
		to.SetDescription(from.Description())
		to.SetUnit(from.Unit())
		classic := to.SetEmptyHistogram()
		classic.SetAggregationTemporality(from.ExponentialHistogram().AggregationTemporality())
		for _, p := range from.ExponentialHistogram().DataPoints().All() {
			q := classic.DataPoints().AppendEmpty()
			p.Attributes().CopyTo(q.Attributes())
			q.SetStartTimestamp(p.StartTimestamp())
			q.SetTimestamp(p.Timestamp())
			q.SetFlags(p.Flags())
			q.SetCount(p.Count())
			q.SetSum(p.Sum())
			counts := ClassicCounts(p)
			q.ExplicitBounds().FromRaw(ClassicBounds[:])
			q.BucketCounts().FromRaw(counts[:])
		}
	}
	if form == Classic {
		metrics.RemoveIf(func(m pmetric.Metric) bool { return m.Type() == pmetric.MetricTypeExponentialHistogram })
	}
}
