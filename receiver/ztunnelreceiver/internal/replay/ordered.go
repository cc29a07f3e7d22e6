package replay

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	// plausible is how far a part's time may lie from the recording's.
	plausible = 30 * 24 * time.Hour
	// leap is how far a part may be ahead of its predecessor without a second one that confirms it.
	leap = 10 * time.Minute
	// peeked is the number of timed parts that say where a file's time is.
	peeked = 9
	// confirmWithin is the number of parts among which one must confirm a leap.
	confirmWithin = 64
	// maxHeld bounds the parts of one source that wait for their turn.
	maxHeld = 8192
)

// ordered hands out the parts of a source in the order of believable times. A file's writers are threads, so times may
// go back by a jitter, within which parts are sorted. A time that is further back, or that is absurd, is replaced by the file's
// running time and counted.
type ordered struct {
	src    source
	kind   Kind
	name   string
	jitter int64
	report Report

	// base is about when the recording was made.
	base int64
	// running is the newest believable time of the file, floor that of the newest part handed out.
	running, floor int64
	started        bool

	// ahead was read to judge a time and waits to be judged itself; held is judged and waits for its turn.
	ahead []*Part
	held  partHeap
	free  []*Part
	seq   uint64
	err   error
}

// Report is told of what is wrong with a recording. Calls come from one goroutine.
type Report interface {
	// ClockOutlier tells that n times were replaced.
	ClockOutlier(kind Kind, name string, n int)
	// Unreadable tells that a part, or with final the rest of the file, was skipped.
	Unreadable(kind Kind, name string, final bool, err error)
	// UnknownFiles tells once of files in the folder that are none of a recording.
	UnknownFiles(directory string, names []string)
}

// read returns the source's next part, nil at its end.
func (o *ordered) read() *Part {
	for o.err == nil {
		part := o.alloc()
		err := o.src.next(part)
		if err == nil {
			part.Kind, part.Name = o.kind, o.name
			part.seq = o.seq
			o.seq++
			return part
		}
		o.recycle(part)
		if errors.Is(err, errBadPart) {
			o.report.Unreadable(o.kind, o.name, false, err)
			continue
		}
		o.err = err
		if !errors.Is(err, io.EOF) {
			o.report.Unreadable(o.kind, o.name, true, fmt.Errorf("the rest of the file: %w", err))
		}
	}
	return nil
}

// anchor reads the file's beginning and says when it was written: the median of the first times, 0 if there are none.
func (o *ordered) anchor() int64 {
	var times []int64
	for len(times) < peeked && len(o.ahead) < confirmWithin {
		part := o.read()
		if part == nil {
			break
		}
		o.ahead = append(o.ahead, part)
		if part.own != 0 {
			times = append(times, part.own)
		}
	}
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// start sets when the recording was made and what the file's own anchor is.
func (o *ordered) start(base, anchor int64) {
	o.base = base
	if distance(anchor, base) > int64(plausible) {
		anchor = base
	}
	o.running = anchor
	var times []int64
	for _, part := range o.ahead {
		if part.own != 0 && distance(part.own, base) <= int64(plausible) {
			times = append(times, part.own)
		}
	}
	if first, ok := firstInOrder(times); ok {
		o.running = first
	}
	o.floor = o.running - o.jitter
	o.started = true
}

// peek returns the part whose turn is next, nil at the end.
func (o *ordered) peek() *Part {
	for len(o.held) < maxHeld && (len(o.held) == 0 || o.running-o.held[0].own <= o.jitter) {
		part := o.shift()
		if part == nil {
			break
		}
		o.judge(part)
		heap.Push(&o.held, part)
	}
	if len(o.held) == 0 {
		return nil
	}
	return o.held[0]
}

// pop takes the part that peek returned.
func (o *ordered) pop() *Part {
	part := heap.Pop(&o.held).(*Part)
	o.floor = max(o.floor, part.own)
	return part
}

// firstInOrder is the first of the longest series of times that do not go back: parts may be far apart, and one that is absurd is not
// in line with the others.
func firstInOrder(times []int64) (first int64, ok bool) {
	longest := 0
	// length and head are those of the longest series that ends with a time.
	length, head := make([]int, len(times)), make([]int64, len(times))
	for i, t := range times {
		length[i], head[i] = 1, t
		for j := range i {
			if times[j] <= t && length[j]+1 > length[i] {
				length[i], head[i] = length[j]+1, head[j]
			}
		}
		if length[i] > longest {
			longest, first, ok = length[i], head[i], true
		}
	}
	return first, ok
}

func (o *ordered) shift() *Part {
	if len(o.ahead) == 0 {
		return o.read()
	}
	part := o.ahead[0]
	o.ahead = slices.Delete(o.ahead, 0, 1)
	return part
}

// judge gives the part a believable time.
func (o *ordered) judge(part *Part) {
	own := part.own
	switch {
	case own == 0:
		part.own, part.clamped = max(o.running, o.floor), true
		return
	case distance(own, o.base) > int64(plausible), own < o.running-o.jitter, own < o.floor,
		own > o.running+int64(leap) && !o.confirmed(own):
		part.own, part.clamped = max(o.running, o.floor), true
		o.report.ClockOutlier(o.kind, o.name, 1)
	default:
		o.running = max(o.running, own)
	}
}

// confirmed tells whether the parts behind one that leaps ahead have gone with it. At a file's end nothing can contradict.
func (o *ordered) confirmed(own int64) bool {
	for i := range confirmWithin {
		if i == len(o.ahead) {
			part := o.read()
			if part == nil {
				return true
			}
			o.ahead = append(o.ahead, part)
		}
		if next := o.ahead[i].own; next != 0 && distance(next, o.base) <= int64(plausible) {
			return next >= own-int64(leap)
		}
	}
	return false
}

func (o *ordered) alloc() *Part {
	if n := len(o.free); n > 0 {
		part := o.free[n-1]
		o.free = o.free[:n-1]
		return part
	}
	return &Part{}
}

func (o *ordered) recycle(part *Part) {
	const keep = 64 << 10
	raw := part.Raw[:0]
	if cap(raw) > keep {
		raw = nil
	}
	*part = Part{Raw: raw}
	if len(o.free) < maxHeld {
		o.free = append(o.free, part)
	}
}

func distance(a, b int64) int64 {
	if a < b {
		return b - a
	}
	return a - b
}

// partHeap is a min-heap on own time, then on the file's order.
type partHeap []*Part

func (h partHeap) Len() int { return len(h) }
func (h partHeap) Less(i, j int) bool {
	if h[i].own != h[j].own {
		return h[i].own < h[j].own
	}
	return h[i].seq < h[j].seq
}
func (h partHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *partHeap) Push(x any)   { *h = append(*h, x.(*Part)) }
func (h *partHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
