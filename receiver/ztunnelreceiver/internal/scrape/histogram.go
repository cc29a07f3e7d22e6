package scrape

import (
	"cmp"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// A classic histogram arrives as one series for each bucket, one for the sum and one for the count.
type histogram struct {
	key      uint64
	family   family
	labels   labels.Labels // with the name and bound of one of its series
	buckets  []bucket
	sum      float64
	count    float64
	hasSum   bool
	hasCount bool
	bad      bool // stated twice or not readable
	large    bool
}

type bucket struct {
	bound float64
	count float64 // of observations up to bound
}

func (p *parse) histogramSeries(set labels.Labels, suffix string, value float64) {
	var hash uint64
	hash, p.hashBuffer = set.HashWithoutLabels(p.hashBuffer, labels.BucketLabel)
	key := hash ^ xxhash.Sum64String(p.family.name)
	h, known := p.histograms[key]
	if !known {
		if !p.admit(key) {
			return
		}
		h = &histogram{key: key, family: p.family, labels: set}
		p.histograms[key] = h
		p.order = append(p.order, h)
	}
	switch suffix {
	case "_sum":
		h.bad = h.bad || h.hasSum
		h.sum, h.hasSum = value, true
	case "_count":
		h.bad = h.bad || h.hasCount
		h.count, h.hasCount = value, true
	case "_bucket":
		bound, ok := parseBound(set.Get(labels.BucketLabel))
		h.bad = h.bad || !ok
		if len(h.buckets) >= p.options.MaxBuckets {
			h.large = true
			return
		}
		h.buckets = append(h.buckets, bucket{bound: bound, count: value})
	}
}

func (p *parse) finishHistograms() {
	for _, h := range p.order {
		switch {
		case h.large:
			p.stats.Oversized++
		case !h.consistent():
			p.stats.BadValues++
		case !p.whole && perEdge([]byte(h.family.name)) && p.tracker.unchanged(h.key, h.count):
			p.cumulative = append(p.cumulative, cumulative{series: h.key, value: h.count})
			p.stats.Unchanged++
		default:
			p.appendHistogram(h)
		}
	}
}

// consistent sorts the buckets, completes the count, and tells whether the parts agree.
func (h *histogram) consistent() bool {
	if h.bad {
		return false
	}
	slices.SortFunc(h.buckets, func(a, b bucket) int { return cmp.Compare(a.bound, b.bound) })
	last := bucket{bound: math.Inf(-1)}
	for _, b := range h.buckets {
		if b.bound == last.bound || !isCount(b.count) || b.count < last.count {
			return false
		}
		last = b
	}
	if math.IsInf(last.bound, 1) {
		if h.hasCount && h.count != last.count {
			return false
		}
		h.count, h.hasCount = last.count, true
		h.buckets = h.buckets[:len(h.buckets)-1]
	}
	return h.hasCount && isCount(h.count) && (len(h.buckets) == 0 || h.count >= h.buckets[len(h.buckets)-1].count)
}

func (p *parse) appendHistogram(h *histogram) {
	p.family = h.family
	point := p.metric(h.family.name, model.MetricTypeHistogram).Histogram().DataPoints().AppendEmpty()
	point.SetTimestamp(p.at)
	point.SetCount(uint64(h.count))
	if h.hasSum && !math.IsNaN(h.sum) && !math.IsInf(h.sum, 0) {
		point.SetSum(h.sum)
	}
	point.ExplicitBounds().EnsureCapacity(len(h.buckets))
	point.BucketCounts().EnsureCapacity(len(h.buckets) + 1)
	below := 0.0
	for _, b := range h.buckets {
		point.ExplicitBounds().Append(b.bound)
		point.BucketCounts().Append(uint64(b.count - below))
		below = b.count
	}
	point.BucketCounts().Append(uint64(h.count - below))
	putLabels(point.Attributes(), h.labels)
	point.Attributes().Remove(labels.BucketLabel)
	p.cumulative = append(p.cumulative, cumulative{
		series: h.key,
		value:  h.count,
		point:  point,
	})
	p.stats.Points++
}

func isCount(value float64) bool {
	return value >= 0 && value < 1<<63 && value == math.Trunc(value)
}
