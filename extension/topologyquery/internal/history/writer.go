package history

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
)

// maxSlack is how long, in milliseconds, what a process that was killed stored may be ahead of what the next one hears.
const maxSlack = 5 * 60 * 1000

// Series is one stored series' place in a Writer.
type Series struct {
	labels labels.Labels
	ref    storage.SeriesRef
	// last is what the newest stored sample says, lastTime its time.
	last     content
	lastTime int64
	pending  sample
	queued   bool
}

type sample struct {
	// zeroAt, unless 0, is where an explicit zero precedes the sample: a counter began there.
	zeroAt int64
	time   int64
	value  float64
	hist   *histogram.Histogram
	gauge  bool
}

// content is what a sample says, short.
type content struct {
	value float64
	count uint64
}

func (one *sample) content() content {
	if one.hist != nil {
		return content{one.hist.Sum, one.hist.Count}
	}
	return content{value: one.value}
}

// NewSeries returns the series of these labels.
func NewSeries(l labels.Labels) *Series { return &Series{labels: l} }

// Writer stores samples at a resolution: of each series the last value of each slot of time, stamped with the slot's
// end. Where a counter begins, an explicit zero is stored, so that differences count it whole.
// A Writer is not safe for concurrent use.
type Writer struct {
	appendable storage.Appendable
	resolution int64
	waiting    []*Series
	// resumed is the newest time of what was stored before this process.
	resumed int64
	dropped map[string]uint64 // by reason; bounded by the reasons in the code
	stored  uint64
}

// NewWriter returns a writer with a resolution in milliseconds.
func NewWriter(appendable storage.Appendable, resolution int64) *Writer {
	return &Writer{appendable: appendable, resolution: max(resolution, 1), dropped: map[string]uint64{}}
}

// Resume tells the writer the newest time that the storage holds: which series have a sample there is not known, and none may
// be written into the past.
func (w *Writer) Resume(newest int64) { w.resumed = newest }

// Batch collects the samples of one write; they become visible, and safe, with Commit.
type Batch struct {
	w        *Writer
	appender storage.Appender
}

// Batch begins a write.
func (w *Writer) Batch(ctx context.Context) *Batch {
	return &Batch{w: w, appender: w.appendable.Appender(ctx)}
}

// Holds tells whether the storage has a series of these labels in memory: one that was stored in the last hours.
func (b *Batch) Holds(s *Series) bool {
	refs, ok := b.appender.(storage.GetRef)
	if !ok {
		return false
	}
	ref, _ := refs.GetRef(s.labels, s.labels.Hash())
	return ref != 0
}

// Gauge takes a sample over that stands for itself.
func (b *Batch) Gauge(s *Series, t int64, v float64) {
	b.take(s, sample{time: t, value: v, gauge: true})
}

// Float takes a counter's sample over. zeroAt, unless 0, is the time at which the counter began.
func (b *Batch) Float(s *Series, zeroAt, t int64, v float64) {
	b.take(s, sample{zeroAt: zeroAt, time: t, value: v})
}

// Histogram takes a native histogram over. The histogram must not be modified afterwards.
func (b *Batch) Histogram(s *Series, zeroAt, t int64, h *histogram.Histogram) {
	b.take(s, sample{zeroAt: zeroAt, time: t, hist: h})
}

func (b *Batch) take(s *Series, next sample) {
	if s.queued {
		if next.zeroAt != 0 && s.pending.zeroAt == 0 {
			// The counter began anew: what it had reached before must not be lost.
			b.store(s, s.pending, s.pending.time)
		} else if live.SlotEnd(next.time, b.w.resolution) > live.SlotEnd(s.pending.time, b.w.resolution) {
			b.store(s, s.pending, live.SlotEnd(s.pending.time, b.w.resolution))
		} else if s.pending.zeroAt != 0 && next.zeroAt == 0 {
			next.zeroAt = s.pending.zeroAt
		}
	}
	s.pending = next
	if !s.queued {
		s.queued = true
		b.w.waiting = append(b.w.waiting, s)
	}
}

// store appends a sample at t, or after what is stored: what comes late within its slot, because its producer waited or was
// restarted, belongs to a time that the storage already holds a sample of, and must not be lost.
func (b *Batch) store(s *Series, one sample, t int64) {
	if resumed := b.w.resumed; s.ref == 0 && t <= resumed && resumed-t < maxSlack {
		s.lastTime = max(s.lastTime, resumed)
	}
	if t <= s.lastTime {
		if one.gauge || one.zeroAt == 0 && s.last == one.content() {
			return
		}
		t = s.lastTime + 1
	}
	if one.zeroAt != 0 {
		zero := max(min(one.zeroAt, t-1), s.lastTime+1)
		t = max(t, zero+1)
		b.append(s, sample{hist: zeroOf(one.hist)}, zero)
	}
	b.append(s, one, t)
}

func zeroOf(h *histogram.Histogram) *histogram.Histogram {
	if h == nil {
		return nil
	}
	return &histogram.Histogram{Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, CustomValues: h.CustomValues}
}

// maxBounds bounds the buckets of one explicit histogram that are stored.
const maxBounds = 200

// Explicit is a histogram with bounds of its own as it is stored: a native one with custom buckets. It is nil for one that contradicts itself.
func Explicit(point pmetric.HistogramDataPoint) *histogram.Histogram {
	bounds, counts := point.ExplicitBounds().AsRaw(), point.BucketCounts().AsRaw()
	if len(counts) != len(bounds)+1 || len(bounds) == 0 || len(bounds) > maxBounds {
		return nil
	}
	h := &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: point.Count(), Sum: point.Sum(), CustomValues: bounds,
		PositiveSpans: []histogram.Span{{Length: uint32(len(counts))}}, PositiveBuckets: make([]int64, len(counts)),
	}
	before := int64(0)
	for i, n := range counts {
		h.PositiveBuckets[i], before = int64(n)-before, int64(n)
	}
	if h.Validate() != nil {
		return nil
	}
	return h
}

func (b *Batch) append(s *Series, one sample, t int64) {
	var err error
	var ref storage.SeriesRef
	if one.hist != nil {
		ref, err = b.appender.AppendHistogram(s.ref, s.labels, t, one.hist, nil)
	} else {
		ref, err = b.appender.Append(s.ref, s.labels, t, one.value)
	}
	if err != nil {
		b.w.dropped[reason(err)]++
		return
	}
	s.ref = ref
	s.lastTime, s.last = max(s.lastTime, t), one.content()
	b.w.stored++
}

func reason(err error) string {
	switch {
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return "duplicate"
	case errors.Is(err, storage.ErrOutOfOrderSample), errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds):
		return "too_old"
	}
	return "other"
}

// Commit stores every slot that has ended by clock, all slots if final is true, and makes the batch visible.
func (b *Batch) Commit(clock int64, final bool) error {
	kept := b.w.waiting[:0]
	for _, s := range b.w.waiting {
		end := live.SlotEnd(s.pending.time, b.w.resolution)
		if end > clock {
			if !final {
				kept = append(kept, s)
				continue
			}
			end = max(clock, s.pending.time)
		}
		b.store(s, s.pending, end)
		s.queued = false
		s.pending = sample{}
	}
	clear(b.w.waiting[len(kept):])
	b.w.waiting = kept
	if err := b.appender.Commit(); err != nil {
		return fmt.Errorf("storing samples: %w", err)
	}
	return nil
}

// Dropped is the number of samples that the storage refused, by reason: duplicate, too_old or other.
func (w *Writer) Dropped() map[string]uint64 { return w.dropped }

// Stored is the number of samples stored.
func (w *Writer) Stored() uint64 { return w.stored }
