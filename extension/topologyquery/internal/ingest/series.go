package ingest

import (
	"hash/maphash"
	"math/bits"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/exphist"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/semconv"
)

// series is what is remembered of one incoming series.
type series struct {
	edge    *live.Edge
	reason  live.Reason
	stored  *history.Series
	start   int64
	time    int64
	value   uint64
	buckets exphist.Histogram
	known   bool
}

// kind is what a metric means to the live graph.
type kind uint8

const (
	kindOther kind = iota
	kindField
	kindIO
	kindFailed
	kindActive
	kindConnectionDuration
	kindRequestDuration
)

type role struct {
	kind  kind
	field live.Field
}

var roles = map[string]role{
	semconv.MetricEdgeOpened:             {kindField, live.Opened},
	semconv.MetricEdgeClosed:             {kindField, live.Closed},
	semconv.MetricEdgeFailed:             {kind: kindFailed},
	semconv.MetricEdgeActive:             {kind: kindActive},
	semconv.MetricEdgeIO:                 {kind: kindIO},
	semconv.MetricEdgeConnectionDuration: {kind: kindConnectionDuration},
	semconv.MetricEdgeRequests:           {kindField, live.Requests},
	semconv.MetricEdgeRequestsFailed:     {kindField, live.RequestsFailed},
	semconv.MetricEdgeRequestDuration:    {kind: kindRequestDuration},
}

// identity hashes what tells a series apart; the seed is random, so that nobody can choose names that collide.
type identity struct{ seed, second maphash.Seed }

type seriesKey [2]uint64

func newIdentity() identity { return identity{maphash.MakeSeed(), maphash.MakeSeed()} }

// of returns the key of a point. The order of the attributes does not matter.
func (id identity) of(resource seriesKey, metric string, attrs pcommon.Map) seriesKey {
	sum := seriesKey{
		resource[0] + bits.RotateLeft64(maphash.String(id.seed, metric), 7),
		resource[1] + bits.RotateLeft64(maphash.String(id.second, metric), 7),
	}
	own := id.ofMap(attrs)
	return seriesKey{sum[0] ^ own[0]*0x9e3779b97f4a7c15, sum[1] ^ own[1]*0x9e3779b97f4a7c15}
}

func (id identity) ofMap(attrs pcommon.Map) seriesKey {
	var sum seriesKey
	for name, value := range attrs.All() {
		var v [2]uint64
		switch value.Type() {
		case pcommon.ValueTypeStr:
			v[0], v[1] = maphash.String(id.seed, value.Str()), maphash.String(id.second, value.Str())
		case pcommon.ValueTypeInt:
			v[0] = uint64(value.Int()) * 0xbf58476d1ce4e5b9
			v[1] = v[0]
		default:
			text := value.AsString()
			v[0], v[1] = maphash.String(id.seed, text), maphash.String(id.second, text)
		}
		sum[0] += mix(maphash.String(id.seed, name), v[0])
		sum[1] += mix(maphash.String(id.second, name), v[1])
	}
	return sum
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xe7037ed1a0b428db)
	return hi ^ lo
}

// Times of docs/data-model.md, rule 3, in milliseconds: a producer repeats an unchanged series within refresh; what
// was not heard of within settle after the first data is new.
const (
	refresh = 60_000
	settle  = 2 * refresh
)

// maxBuckets bounds the buckets of an incoming histogram; OpenTelemetry's default is 160.
const maxBuckets = 4096

// step is what a cumulative point adds to what is known.
type step struct {
	// take is false where the point says nothing new.
	take bool
	// fresh tells that the point counts from zero: the series is new, or began anew.
	fresh bool
	// baseline tells that the point only states where a series of unknown past stands.
	baseline bool
	// zeroAt, unless 0, is where the counter began.
	zeroAt int64
}

// step decides what a cumulative point (start, t) counts; began tells that a series that was not known counts from zero, and
// lower that its value lies below the known one.
func (s *series) step(began bool, start, t int64, lower bool) step {
	switch {
	case !s.known && began:
		return step{take: true, fresh: true, zeroAt: max(min(start, t-1), t-refresh, 1)}
	case !s.known:
		return step{take: true, baseline: true}
	case t < s.time:
		return step{}
	case start > s.start && start != 0 && s.start != 0 || lower:
		return step{take: true, fresh: true, zeroAt: max(min(start, t-1), s.time+1)}
	case start < s.start && start != 0:
		return step{}
	}
	return step{take: true}
}

// bucketsOf reads a point's positive buckets in exphist's numbering.
func bucketsOf(point pmetric.ExponentialHistogramDataPoint, into *exphist.Histogram) {
	into.Reset()
	into.AddZero(point.ZeroCount())
	counts := point.Positive().BucketCounts()
	scale := min(max(point.Scale(), -10), 20)
	// OpenTelemetry allows finer scales than Prometheus: halve until it fits.
	shift := max(scale-exphist.MaxScale, 0)
	into.SetScale(scale - shift)
	for i := range counts.Len() {
		if n := counts.At(i); n != 0 {
			into.Add(scale-shift, exphist.Downscale(point.Positive().Offset()+int32(i)+1, shift), n)
		}
	}
	into.Sum = point.Sum()
}
