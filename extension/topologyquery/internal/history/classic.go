package history

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/nephilia/nephilia/internal/exphist"
)

// classicQuerier shows native histograms also as classic ones, which most clients ask for: the series x_bucket, x_count and x_sum are made of
// those of x where nothing of their name is stored. A series' samples are read when it is.
type classicQuerier struct{ storage.Querier }

// part is a series that a classic histogram consists of.
type part string

const (
	partBucket part = "_bucket"
	partCount  part = "_count"
	partSum    part = "_sum"
)

// histogramOf reads the name of a classic series: the matchers of the histogram that it is a part of, and those of the label le.
func histogramOf(matchers []*labels.Matcher) (of, bounds []*labels.Matcher, which part, ok bool) {
	for _, m := range matchers {
		switch {
		case m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual:
			for _, which = range [...]part{partBucket, partCount, partSum} {
				if name, found := strings.CutSuffix(m.Value, string(which)); found {
					of, ok = append(of, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, name)), true
					break
				}
			}
		case m.Name == labels.BucketLabel:
			bounds = append(bounds, m)
		default:
			of = append(of, m)
		}
	}
	return of, bounds, which, ok
}

// Select implements storage.Querier.
func (q classicQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	stored := q.Querier.Select(ctx, sorted, hints, matchers...)
	of, bounds, which, ok := histogramOf(matchers)
	if !ok {
		return stored
	}
	if stored.Next() {
		return &begun{SeriesSet: stored}
	}
	if stored.Err() != nil {
		return stored
	}
	var list []storage.Series
	histograms := q.Querier.Select(ctx, false, hints, of...)
	for histograms.Next() {
		list = appendParts(list, histograms.At(), which, bounds)
	}
	if sorted {
		slices.SortFunc(list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	}
	return &listed{list: list, from: histograms, at: -1}
}

// appendParts adds the series of a part of a histogram: of buckets one each, which have the bounds that the first sample has.
func appendParts(list []storage.Series, of storage.Series, which part, bounds []*labels.Matcher) []storage.Series {
	it := of.Iterator(nil)
	if kind := it.Next(); kind != chunkenc.ValHistogram && kind != chunkenc.ValFloatHistogram {
		return list
	}
	name := of.Labels().Get(model.MetricNameLabel) + string(which)
	if which != partBucket {
		return append(list, &partSeries{of: of, which: which, labels: labels.NewBuilder(of.Labels()).Set(model.MetricNameLabel, name).Labels()})
	}
	_, first := it.AtFloatHistogram(nil)
	uppers := exphist.ClassicBounds[:]
	if first.UsesCustomBuckets() {
		uppers = first.CustomValues
	}
	for _, upper := range append(slices.Clone(uppers), math.Inf(1)) {
		le := strconv.FormatFloat(upper, 'f', -1, 64)
		if slices.ContainsFunc(bounds, func(m *labels.Matcher) bool { return !m.Matches(le) }) {
			continue
		}
		l := labels.NewBuilder(of.Labels()).Set(model.MetricNameLabel, name).Set(labels.BucketLabel, le).Labels()
		list = append(list, &partSeries{of: of, which: which, upper: upper, labels: l})
	}
	return list
}

// LabelValues implements storage.LabelQuerier.
func (q classicQuerier) LabelValues(
	ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher,
) ([]string, annotations.Annotations, error) {
	values, warnings, err := q.Querier.LabelValues(ctx, name, hints, matchers...)
	of, bounds, which, ok := histogramOf(matchers)
	switch {
	case err != nil || len(values) > 0 || !ok:
		return values, warnings, err
	case name != labels.BucketLabel || which != partBucket:
		return q.Querier.LabelValues(ctx, name, hints, of...)
	}
	var list []storage.Series
	histograms := q.Querier.Select(ctx, false, nil, of...)
	for histograms.Next() {
		list = appendParts(list[:0], histograms.At(), which, bounds)
		for _, s := range list {
			values = append(values, s.Labels().Get(labels.BucketLabel))
		}
		slices.Sort(values)
		values = slices.Compact(values)
	}
	return values, histograms.Warnings(), histograms.Err()
}

// LabelNames implements storage.LabelQuerier.
func (q classicQuerier) LabelNames(ctx context.Context, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	names, warnings, err := q.Querier.LabelNames(ctx, hints, matchers...)
	of, _, which, ok := histogramOf(matchers)
	if err != nil || len(names) > 0 || !ok {
		return names, warnings, err
	}
	names, warnings, err = q.Querier.LabelNames(ctx, hints, of...)
	if which == partBucket && len(names) > 0 {
		names = append(names, labels.BucketLabel)
		slices.Sort(names)
	}
	return names, warnings, err
}

// begun is a set of which the first series was reached already.
type begun struct {
	storage.SeriesSet
	asked bool
}

func (s *begun) Next() bool {
	if !s.asked {
		s.asked = true
		return true
	}
	return s.SeriesSet.Next()
}

// listed is a list of series that were made of a set's.
type listed struct {
	list []storage.Series
	from storage.SeriesSet
	at   int
}

func (s *listed) Next() bool {
	s.at++
	return s.at < len(s.list)
}

func (s *listed) At() storage.Series                { return s.list[s.at] }
func (s *listed) Err() error                        { return s.from.Err() }
func (s *listed) Warnings() annotations.Annotations { return s.from.Warnings() }

// partSeries is a part of a histogram's series.
type partSeries struct {
	of     storage.Series
	which  part
	upper  float64
	labels labels.Labels
}

func (s *partSeries) Labels() labels.Labels { return s.labels }

func (s *partSeries) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	var samples partSamples
	var read *histogram.FloatHistogram
	it := s.of.Iterator(nil)
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		if kind != chunkenc.ValFloat {
			var at int64
			at, read = it.AtFloatHistogram(read)
			samples = append(samples, partSample{at, s.value(read)})
		}
	}
	return partIterator{storage.NewListSeriesIterator(samples), it.Err()}
}

// value is a sample's.
func (s *partSeries) value(h *histogram.FloatHistogram) float64 {
	switch {
	case s.which == partSum || value.IsStaleNaN(h.Sum):
		return h.Sum
	case s.which == partCount || math.IsInf(s.upper, 1):
		return h.Count
	}
	return below(h, s.upper)
}

// partIterator gives samples, and the error that ended them.
type partIterator struct {
	chunkenc.Iterator
	err error
}

func (it partIterator) Err() error { return it.err }

// partSample is a number at a time. It implements chunks.Sample.
type partSample struct {
	at    int64
	value float64
}

func (s partSample) T() int64                    { return s.at }
func (partSample) ST() int64                     { return 0 }
func (s partSample) F() float64                  { return s.value }
func (partSample) H() *histogram.Histogram       { return nil }
func (partSample) FH() *histogram.FloatHistogram { return nil }
func (partSample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s partSample) Copy() chunks.Sample         { return s }

// partSamples implements storage.Samples.
type partSamples []partSample

func (s partSamples) Get(i int) chunks.Sample { return s[i] }
func (s partSamples) Len() int                { return len(s) }

// roundoff is by what a bucket's computed bound may be beyond the one that it is.
const roundoff = 1e-9

// below is how many values are not above a bound.
func below(h *histogram.FloatHistogram, upper float64) float64 {
	sum := 0.0
	if !h.UsesCustomBuckets() {
		sum = h.ZeroCount
		for it := h.NegativeBucketIterator(); it.Next(); {
			sum += it.At().Count
		}
	}
	for it := h.PositiveBucketIterator(); it.Next(); {
		bucket := it.At()
		if bucket.Upper > upper*(1+roundoff) {
			break
		}
		sum += bucket.Count
	}
	return sum
}
