package httpapi

import (
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/internal/semconv"
)

// window is a range of data time in unix milliseconds.
type window struct{ start, end int64 }

// dataClock is the data's own clock. sources.Tracker is one.
type dataClock interface {
	// Clock returns the first and the newest time of the data in unix milliseconds, 0 before any.
	Clock() (first, now int64)
	Replay() (r sources.Replay, ok bool)
}

// ranges reads the ranges of requests, which are in the data's time.
type ranges struct {
	data dataClock
	wall func() time.Time
	// most bounds a range.
	most time.Duration
}

// defaultRange is the range where none is asked for.
const defaultRange = 5 * time.Minute

// now is the data's time in unix milliseconds, 0 before any data.
func (s *ranges) now() int64 {
	_, now := s.data.Clock()
	return now
}

// window reads start and end. Without an end it is the data's newest; without a start it is five minutes before, or,
// in a replay that is done, the recording's beginning.
func (s *ranges) window(p *params) window { return s.windowOf(p, defaultRange) }

func (s *ranges) windowOf(p *params, fallback time.Duration) window {
	start, end := p.time("start"), p.time("end")
	if p.err != nil {
		return window{}
	}
	first, now := s.data.Clock()
	if now == 0 {
		now = s.wall().UnixMilli()
	}
	w := window{end: now}
	if !end.IsZero() {
		w.end = end.UnixMilli()
	}
	switch {
	case !start.IsZero():
		w.start = start.UnixMilli()
	default:
		w.start = w.end - fallback.Milliseconds()
		if r, ok := s.data.Replay(); ok && semconv.ReplayEnded(r.State) && end.IsZero() && first != 0 {
			// What happened before the first boundary belongs to the recording as well.
			w.start = first - time.Minute.Milliseconds()
		}
	}
	switch {
	case w.end < w.start:
		p.fail("end", "lies before start")
	case w.end-w.start > s.most.Milliseconds():
		p.fail("start", "the range is longer than "+s.most.String())
	}
	return w
}

// lastMilli is the last time that JSON can say.
const lastMilli = 253402300799999

// timeOf is a time of the data as JSON has it, nil for one that it cannot say.
func timeOf(ms int64) *time.Time {
	if ms <= 0 || ms > lastMilli {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}
