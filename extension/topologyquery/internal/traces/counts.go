package traces

import (
	"context"
	"math/bits"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/records"
)

// Counts are spans by when they began and how long they took.
type Counts struct {
	Start       time.Time `json:"start"`
	StepSeconds float64   `json:"step_seconds"`
	// BoundsMS are the upper bounds of the durations; the last range has none.
	BoundsMS []float64 `json:"bounds_ms"`
	// Spans and Errors are by step of time, and in it by range of durations.
	Spans  [][]uint64 `json:"spans"`
	Errors [][]uint64 `json:"errors"`
}

const (
	// shortest is the bound of the first range of durations; each is twice the one before.
	shortest = 128 * time.Microsecond
	// durationRanges reach to 128 µs × 2^22, nine minutes.
	durationRanges = 24
)

// Count counts the spans that a query selects, in so many steps of its range.
func (s *Store) Count(ctx context.Context, q Query, steps int) (*Counts, error) {
	from, until := nanos(q.Start), nanos(q.End)
	step := max((until-from+int64(steps)-1)/int64(steps), 1)
	out := &Counts{Start: q.Start, StepSeconds: time.Duration(step).Seconds()}
	for i := range durationRanges - 1 {
		out.BoundsMS = append(out.BoundsMS, float64(shortest<<i)/1e6)
	}
	for range steps {
		out.Spans, out.Errors = append(out.Spans, make([]uint64, durationRanges)), append(out.Errors, make([]uint64, durationRanges))
	}
	err := records.Blocks(ctx, s.table, &records.Query{From: from, Until: until, Where: q.where()}, func(b *records.Block, _ int64) bool {
		times, durations := b.Times(), b.Numbers(fieldDuration)
		statuses, codes := b.Codes(fieldStatus)
		failed := int32(slices.Index(statuses, "error"))
		for _, row := range b.Rows {
			var d int64
			if int(row) < len(durations) {
				d = durations[row]
			}
			cell := min(bits.Len64(uint64(max(d, 0))/uint64(shortest)), durationRanges-1)
			at := min(int((times[row]-from)/step), steps-1)
			out.Spans[at][cell]++
			if int(row) < len(codes) && codes[row] == failed {
				out.Errors[at][cell]++
			}
		}
		return true
	})
	return out, err
}
