package httpapi

import (
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits on lists.
const (
	defaultLimit = 100
	maxLimit     = 1000
	// maxText bounds a parameter's length.
	maxText = 512
)

// params reads query parameters and keeps the first error.
type params struct {
	values url.Values
	err    error
}

func (p *params) fail(name, detail string) {
	if p.err == nil {
		p.err = badParameter(name, detail)
	}
}

// single refuses parameters that are given more than once, where only one of them could count.
func (p *params) single() {
	for name, values := range p.values {
		if len(values) > 1 && name != "attributes" {
			p.fail(name, "is given more than once")
		}
	}
}

func (p *params) text(name string) string {
	value := p.values.Get(name)
	if len(value) > maxText {
		p.fail(name, "is too long")
		return ""
	}
	return value
}

func (p *params) oneOf(name, fallback string, allowed ...string) string {
	value := p.text(name)
	if value == "" {
		return fallback
	}
	if !slices.Contains(allowed, value) {
		p.fail(name, "must be one of "+strings.Join(allowed, ", "))
	}
	return value
}

func (p *params) boolean(name string) bool {
	value := p.text(name)
	if value == "" {
		return false
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		p.fail(name, "must be true or false")
	}
	return b
}

func (p *params) limit(fallback, most int) int {
	value := p.text("limit")
	if value == "" {
		return fallback
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		p.fail("limit", "must be a number from 1 to "+strconv.Itoa(most))
		return fallback
	}
	return n
}

// time reads an RFC 3339 time or unix seconds; the zero time where it is absent.
func (p *params) time(name string) time.Time {
	value := p.text(name)
	if value == "" {
		return time.Time{}
	}
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		if math.IsNaN(seconds) || seconds < 0 || seconds > 253402300799 {
			p.fail(name, "is out of range")
			return time.Time{}
		}
		return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
	}
	// A plus sign that was not escaped arrives as a space.
	t, err := time.Parse(time.RFC3339Nano, strings.ReplaceAll(value, " ", "+"))
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		p.fail(name, "must be a time as of RFC 3339, or unix seconds")
		return time.Time{}
	}
	return t.UTC()
}

// number reads a cursor.
func (p *params) number(name string) uint64 {
	value := p.text(name)
	if value == "" {
		return 0
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		p.fail(name, "is no cursor of this API")
	}
	return n
}

// duration reads a duration such as 250ms or 1.5s.
func (p *params) duration(name string) time.Duration {
	value := p.text(name)
	if value == "" {
		return 0
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		p.fail(name, "must be a duration such as 250ms or 5s")
	}
	return d
}

// window is a range of data time in unix milliseconds.
type window struct{ start, end int64 }

// window reads start and end. Without an end it is the data's newest; without a start it is five minutes before, or,
// in a replay that is done, the recording's beginning.
func (s *Server) window(p *params) window { return s.windowOf(p, defaultRange) }

func (s *Server) windowOf(p *params, fallback time.Duration) window {
	start, end := p.time("start"), p.time("end")
	if p.err != nil {
		return window{}
	}
	first, now := s.Sources.Clock()
	if now == 0 {
		now = s.now().UnixMilli()
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
		if r, ok := s.Sources.Replay(); ok && r.State == "done" && end.IsZero() && first != 0 {
			// What happened before the first boundary belongs to the recording as well.
			w.start = first - time.Minute.Milliseconds()
		}
	}
	switch {
	case w.end < w.start:
		p.fail("end", "lies before start")
	case w.end-w.start > s.Limits.MaxRange.Milliseconds():
		p.fail("start", "the range is longer than "+s.Limits.MaxRange.String())
	}
	return w
}

// defaultRange is the range where none is asked for.
const defaultRange = 5 * time.Minute
