package ingest

import (
	"hash/maphash"
	"math/bits"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
)

// series is what is remembered of one incoming series.
type series struct {
	edge *live.Edge
	// reason and response are what a series of failures or responses counts.
	reason   live.Reason
	response live.Response
	stored   *history.Series
	// counter is the last point; of a gauge, its time.
	counter cumulative.Counter[uint64]
	// buckets are those of a histogram's last point.
	buckets *exphist.Histogram
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
	kindResponses
)

type role struct {
	kind  kind
	field live.Field
}

var roles = map[string]role{
	semconv.MetricEdgeOpened:             {kindField, live.Opened},
	semconv.MetricEdgeClosed:             {kindField, live.Closed},
	semconv.MetricEdgeFailed:             {kind: kindFailed},
	semconv.MetricEdgeUnanswered:         {kindField, live.Unanswered},
	semconv.MetricEdgeActive:             {kind: kindActive},
	semconv.MetricEdgeIO:                 {kind: kindIO},
	semconv.MetricEdgeConnectionDuration: {kind: kindConnectionDuration},
	semconv.MetricEdgeRequests:           {kindField, live.Requests},
	semconv.MetricEdgeRequestsFailed:     {kindField, live.RequestsFailed},
	semconv.MetricEdgeRequestDuration:    {kind: kindRequestDuration},
	semconv.MetricEdgeResponses:          {kind: kindResponses},
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

// step takes over a cumulative point's value and returns what it counts. zeroAt, unless 0, is where the counter began. A point of a
// series of unknown past counts nothing and moves the coverage.
func (b *batch) step(s *series, r role, start, at pcommon.Timestamp, value uint64) (added uint64, change cumulative.Change, zeroAt int64) {
	from, t, before := millis(start), millis(at), millis(s.counter.Time)
	began := b.began(s, from, t)
	if !began {
		s.counter.First = cumulative.Baseline
	}
	added, change = s.counter.Advance(start, at, value)
	switch {
	case change == cumulative.Late:
		b.dropped["late"]++
	case change == cumulative.Reset:
		zeroAt = max(min(from, t-1), before+1)
	case change == cumulative.First && began:
		zeroAt = max(min(from, t-1), t-refresh, 1)
	case change == cumulative.First && r.kind != kindOther:
		b.coverage = max(b.coverage, t)
	}
	return added, change, zeroAt
}
