package endpoints

import (
	"cmp"
	"math"
	"slices"

	"github.com/nephilia/nephilia/internal/exphist"
)

// The steps of time in which requests are counted, in milliseconds, and up to which age.
const (
	fine, fineAge     = 10_000, 20 * 60_000
	middle, middleAge = 5 * 60_000, 24 * 3600_000
	coarse            = 3600_000
)

// scale is the resolution of durations: 8 buckets from one power of two to the next.
const scale = 3

// noTime is the bucket of requests that took no time.
const noTime = math.MinInt16

// series is what happened at an endpoint as one source tells, by time.
type series struct {
	slots []slot
	size  int64
}

// slot is what happened in [start, start+width).
type slot struct {
	start     int64
	cells     []cell
	durations []bucket
	width     int32
	// changed since it was kept on disk last.
	changed bool
}

// cell is the requests of a caller with a code.
type cell struct {
	caller           uint32
	code             uint16
	requests, failed uint32
}

type bucket struct {
	index int16
	count uint32
}

// The sizes of things in memory, with what holds them.
const (
	slotBytes, cellBytes, bucketBytes = 80, 16, 8
)

func (s *series) bytes() int64 { return s.size }

func (s *slot) bytes() int64 {
	return slotBytes + cellBytes*int64(cap(s.cells)) + bucketBytes*int64(cap(s.durations))
}

// in tells whether any of the slot lies in a query's time.
func (s *slot) in(q *Query) bool { return s.start+int64(s.width) > q.Start && s.start < q.End }

// widthAt is the step of counts of an age.
func widthAt(age, fineFor int64) int64 {
	switch {
	case age <= fineFor:
		return fine
	case age <= middleAge:
		return middle
	}
	return coarse
}

// add counts a request and returns the bytes that it took.
func (s *series) add(r *Request, caller uint32, now int64) int64 {
	at := s.at(r.Time, now)
	one := &s.slots[at]
	before := one.bytes()
	if len(one.cells) == 0 {
		before = 0
	}
	one.changed = true
	one.count(cell{caller: caller, code: r.Code, requests: 1, failed: one32(r.Failed)})
	switch {
	case r.Seconds > 0:
		one.took(bucket{int16(max(exphist.Index(r.Seconds, scale), noTime+1)), 1})
	case r.Seconds == 0:
		one.took(bucket{noTime, 1})
	}
	grown := one.bytes() - before
	s.size += grown
	return grown
}

func one32(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// at finds or makes the slot of a time.
func (s *series) at(t, now int64) int {
	i := len(s.slots)
	for i > 0 && s.slots[i-1].start > t {
		i--
	}
	if i > 0 && t < s.slots[i-1].start+int64(s.slots[i-1].width) {
		return i - 1
	}
	width := widthAt(now-t, fineAge)
	start := t - t%width
	if i > 0 {
		start = max(start, s.slots[i-1].start+int64(s.slots[i-1].width))
	}
	end := t - t%width + width
	if i < len(s.slots) {
		end = min(end, s.slots[i].start)
	}
	s.slots = slices.Insert(s.slots, i, slot{start: start, width: int32(end - start)})
	return i
}

func (s *slot) count(c cell) {
	for i := range s.cells {
		if one := &s.cells[i]; one.caller == c.caller && one.code == c.code {
			one.requests += c.requests
			one.failed += c.failed
			return
		}
	}
	s.cells = append(s.cells, c)
}

func (s *slot) took(b bucket) {
	i, found := slices.BinarySearchFunc(s.durations, b.index, func(one bucket, index int16) int { return cmp.Compare(one.index, index) })
	if found {
		s.durations[i].count += b.count
		return
	}
	s.durations = slices.Insert(s.durations, i, b)
}

func (s *slot) merge(from *slot) {
	for _, c := range from.cells {
		s.count(c)
	}
	for _, b := range from.durations {
		s.took(b)
	}
	s.changed = s.changed || from.changed
}

// merge adds the counts of another series.
func (s *series) merge(from *series) {
	for i := range from.slots {
		one := &from.slots[i]
		at := s.find(one)
		s.size -= s.slots[at].bytes()
		s.slots[at].merge(one)
		s.size += s.slots[at].bytes()
	}
}

// find finds or makes the slot in which another one's counts belong.
func (s *series) find(of *slot) int {
	i := len(s.slots)
	for i > 0 && s.slots[i-1].start > of.start {
		i--
	}
	if i > 0 && of.start < s.slots[i-1].start+int64(s.slots[i-1].width) {
		return i - 1
	}
	s.slots = slices.Insert(s.slots, i, slot{start: of.start, width: of.width})
	s.size += s.slots[i].bytes()
	return i
}

// fold puts together what is older than fineFor, and forgets what ended before a time.
func (s *series) fold(now, before, fineFor int64) {
	s.slots = slices.DeleteFunc(s.slots, func(one slot) bool { return one.start+int64(one.width) <= before })
	kept := s.slots[:0]
	s.size = 0
	for i := range s.slots {
		one := &s.slots[i]
		width := widthAt(now-one.start, fineFor)
		if last := len(kept) - 1; last >= 0 && width > fine && kept[last].start/width == one.start/width {
			kept[last].merge(one)
			kept[last].width = int32(one.start + int64(one.width) - kept[last].start)
			continue
		}
		kept = append(kept, *one)
	}
	clear(s.slots[len(kept):])
	s.slots = kept
	for i := range s.slots {
		s.size += s.slots[i].bytes()
	}
}
