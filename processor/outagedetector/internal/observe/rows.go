package observe

import (
	"time"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

const (
	// SparseSlot is from what length of slots on an edge's requests are compared with what is usual, interval by interval: where few
	// points tell of much, single ones must not decide.
	SparseSlot = 10 * time.Second
	// keptRows is how many of the newest intervals are kept one by one.
	keptRows = 48
)

// Rows are the requests of an edge of which points tell rarely, interval by interval: the newest ones, and what is usual. An interval
// becomes part of what is usual once the next but one begins.
type Rows struct {
	past stats.Past
	// length of an interval; the first point lies in the middle of one, so that no jitter moves a point into the next.
	length, phase  int64
	newest, learnt int64
	ring           [keptRows]row
	// apart is the time from which on intervals are not usual, 0 if there is none.
	apart int64
	told  bool
}

type row struct {
	number, at int64 // at is the time of its newest point
	counted    [4]float32
}

func newRows(length time.Duration, early *early) *Rows {
	r := &Rows{length: int64(length), learnt: -1}
	for i, e := range early.inOrder() {
		if i == 0 {
			r.phase = e.at - r.length/2
		}
		r.add(e.at, e.interval())
	}
	return r
}

// earlyTimes is of how many times what points told of requests is kept before it is known how far apart they are.
const earlyTimes = cadenceGaps + 1

// early is what points told at the newest times, one by one.
type early struct {
	ring [earlyTimes]row
	n    int
}

// add counts what a point at t tells; one that comes late is left out.
func (e *early) add(t int64, i stats.Interval) {
	if e.n > 0 {
		last := &e.ring[(e.n-1)%earlyTimes]
		if t < last.at {
			return
		}
		if t == last.at {
			sum := last.interval()
			sum.Add(i)
			last.set(sum)
			return
		}
	}
	next := &e.ring[e.n%earlyTimes]
	next.at = t
	next.set(i)
	e.n++
}

func (e *early) inOrder() []row {
	list := make([]row, 0, earlyTimes)
	for i := max(e.n-earlyTimes, 0); i < e.n; i++ {
		list = append(list, e.ring[i%earlyTimes])
	}
	return list
}

func (r *row) interval() stats.Interval {
	return stats.Interval{Calls: float64(r.counted[0]), Failed: float64(r.counted[1]), Timed: float64(r.counted[2]), Seconds: float64(r.counted[3])}
}

func (r *row) set(i stats.Interval) {
	r.counted = [4]float32{float32(i.Calls), float32(i.Failed), float32(i.Timed), float32(i.Seconds)}
}

func (r *Rows) number(t int64) int64 { return (t - r.phase) / r.length }

// row is that of a number, nil if it is not kept.
func (r *Rows) row(number int64) *row {
	if number < 0 || number > r.newest || number <= r.newest-keptRows {
		return nil
	}
	if found := &r.ring[number%keptRows]; found.number == number {
		return found
	}
	return nil
}

// add counts what a point at t tells.
func (r *Rows) add(t int64, i stats.Interval) {
	number := r.number(t)
	if number > r.newest {
		r.advance(number)
	}
	found := r.row(number)
	if found == nil {
		return
	}
	r.told = true
	found.at = max(found.at, t)
	sum := found.interval()
	sum.Add(i)
	found.set(sum)
}

// advance begins a new row; what came before the last one becomes usual.
func (r *Rows) advance(number int64) {
	for n := max(r.learnt+1, number-keptRows); n < number-1; n++ {
		if before := r.row(n); before != nil && (r.apart == 0 || before.at <= r.apart) {
			r.past.Learn(before.interval())
		}
	}
	r.learnt = max(r.learnt, number-2)
	r.newest = number
	r.ring[number%keptRows] = row{number: number}
}

// Normal is how the edge's calls usually go.
func (r *Rows) Normal() *stats.Normal { return r.past.Normal() }

// TakeTold tells whether a point told anything since it was asked last.
func (r *Rows) TakeTold() bool {
	told := r.told
	r.told = false
	return told
}

// Length of an interval.
func (r *Rows) Length() int64 { return r.length }

// At is the time of the newest point.
func (r *Rows) At() int64 { return r.ring[r.newest%keptRows].at }

// Latest are the newest interval and the one before it.
func (r *Rows) Latest() (before, newest stats.Interval) {
	if last := r.row(r.newest - 1); last != nil {
		before = last.interval()
	}
	return before, r.ring[r.newest%keptRows].interval()
}

// Began is when the interval began that lies that many before the newest.
func (r *Rows) Began(age int64) int64 { return r.At() - (age+1)*r.length }

// Since adds up what the intervals that began at a time or later say against the normal.
func (r *Rows) Since(t int64) (e stats.Evidence, sum stats.Interval) {
	n := r.Normal()
	for number := max(r.newest-keptRows+1, 0); number <= r.newest; number++ {
		if found := r.row(number); found != nil && found.at > t+r.length/2 {
			i := found.interval()
			e.Add(i, n)
			sum.Add(i)
		}
	}
	return e, sum
}

// SetApart keeps the intervals from a time on out of what is usual; 0 lets them in again.
func (r *Rows) SetApart(t int64) { r.apart = t }
