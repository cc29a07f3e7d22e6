package observe

import (
	"math"
	"time"
)

// Slots is how many intervals a window remembers.
const Slots = 60

// MinSlot is the shortest slot: below it too little happens in one to be worth counting apart.
const MinSlot = 5 * time.Second

// Lane is one thing that a window counts.
type Lane uint8

// What a window counts in each slot.
const (
	Opened Lane = iota
	Closed
	Failed
	Requests
	RequestsFailed
	Timed
	Slow
	Bytes
	Unanswered
	Lasted   // connections that ended and of which it is known how long they lasted
	Lifetime // how long these lasted together, in LifetimeUnits
	Active   // 1 if anything happened at all
	lanes
)

// LifetimeUnit is what Lifetime counts.
const LifetimeUnit = 100 * time.Microsecond

// Window counts events in slots of data time, newest Slots of them, and keeps a fading memory of older ones.
type Window struct {
	length int64 // of a slot, in ns
	first  int64 // number of the slot in which counting began
	newest int64
	counts [Slots][lanes]uint32
	totals [lanes]uint64
	life   [lanes]uint64
	bad    uint64 // one bit a slot: part of a fault, so not of what is normal
	past   [lanes]float64
	// forgiven is, for each lane, the time before which what was bad has been dealt with.
	forgiven [lanes]int64
	slots    float64 // how many slots past stands for
}

func (w *Window) reset(length time.Duration, at int64) {
	*w = Window{length: int64(length), newest: slotOf(at, int64(length))}
	w.first = w.newest
}

// slotOf is the slot of events before time t: a point at t counts what happened before t.
func slotOf(t, length int64) int64 { return (t - 1) / length }

// Length of a slot.
func (w *Window) Length() time.Duration { return time.Duration(w.length) }

// Advance moves the window on so that it holds the slot that ends at t or later.
func (w *Window) Advance(t int64) {
	target := slotOf(t, w.length)
	if target <= w.newest {
		return
	}
	if target-w.newest > 2*Slots {
		for range Slots {
			w.step()
		}
		w.newest = target
		return
	}
	for w.newest < target {
		w.step()
	}
}

func (w *Window) step() {
	w.newest++
	index := w.newest % Slots
	leaving := &w.counts[index]
	if w.newest-w.first >= Slots {
		if w.bad&(1<<index) == 0 {
			w.remember(leaving)
		}
	}
	for lane, n := range leaving {
		w.totals[lane] -= uint64(n)
		leaving[lane] = 0
	}
	w.bad &^= 1 << index
}

// Half of what was normal an hour (or, with long slots, ten windows) ago is forgotten.
func (w *Window) remember(slot *[lanes]uint32) {
	halfLife := max(float64(time.Hour), 10*Slots*float64(w.length))
	fade := math.Exp2(-float64(w.length) / halfLife)
	for lane, n := range slot {
		w.past[lane] = w.past[lane]*fade + float64(n)
	}
	w.slots = w.slots*fade + 1
}

// Add counts n events before t. It tells whether they were young enough to count.
func (w *Window) Add(t int64, lane Lane, n uint64) bool {
	w.Advance(t)
	slot := slotOf(t, w.length)
	if slot <= w.newest-Slots || slot < w.first-Slots {
		return false
	}
	w.first = min(w.first, slot)
	cell := &w.counts[slot%Slots][lane]
	if lane == Active {
		n = uint64(1 - min(*cell, 1))
	}
	n = min(n, uint64(math.MaxUint32-*cell))
	*cell += uint32(n)
	w.totals[lane] += n
	w.life[lane] += n
	return true
}

// Total of all slots.
func (w *Window) Total(lane Lane) uint64 { return w.totals[lane] }

// Ever is how much was ever counted.
func (w *Window) Ever(lane Lane) uint64 { return w.life[lane] }

// Slot is the count of the slot in which what is reported at t happened.
func (w *Window) Slot(t int64, lane Lane) uint64 {
	slot := slotOf(t, w.length)
	if slot > w.newest || slot <= w.newest-Slots {
		return 0
	}
	return uint64(w.counts[slot%Slots][lane])
}

// At is the count of the slot that many slots before the newest.
func (w *Window) At(lane Lane, age int) uint64 {
	if age >= w.Known() {
		return 0
	}
	return uint64(w.counts[(w.newest-int64(age))%Slots][lane])
}

// Sum of the newest slots, the one that is still filling among them.
func (w *Window) Sum(lane Lane, slots int) uint64 {
	var sum uint64
	for age := range min(slots, w.Known()) {
		sum += uint64(w.counts[(w.newest-int64(age))%Slots][lane])
	}
	return sum
}

// Age is how many slots before the newest that one lies in which what is reported at t happened.
func (w *Window) Age(t int64) int { return int(max(w.newest-slotOf(t, w.length), 0)) }

// Until is the sum of that many slots up to the one in which what is reported at t happened.
func (w *Window) Until(t int64, lane Lane, slots int) uint64 {
	later := w.Age(t)
	return w.Sum(lane, later+slots) - w.Sum(lane, later)
}

// Known is how many slots have been counted, at most Slots.
func (w *Window) Known() int { return int(min(w.newest-w.first+1, Slots)) }

// Start is the time at which the slot that many slots before the newest began.
func (w *Window) Start(age int) int64 { return (w.newest - int64(age)) * w.length }

// SlotsFor is the number of slots that cover a duration, at least one, at most Slots.
func (w *Window) SlotsFor(d time.Duration) int {
	return int(min(max((int64(d)+w.length-1)/w.length, 1), Slots))
}

// Forgive ends a fault: what a lane counted before t no longer speaks for a new one.
func (w *Window) Forgive(lane Lane, t int64) { w.forgiven[lane] = max(w.forgiven[lane], t) }

// Since is how many of the newest slots are to be looked at for a fault in a lane.
func (w *Window) Since(lane Lane) int {
	known := w.Known()
	for age := range known {
		if w.Start(age) < w.forgiven[lane] {
			return age
		}
	}
	return known
}

// MarkBad keeps the slots since a time out of what is taken for normal.
func (w *Window) MarkBad(since int64) {
	for age := range w.Known() {
		if w.Start(age)+w.length <= since {
			return
		}
		w.bad |= 1 << ((w.newest - int64(age)) % Slots)
	}
}

// Usual tells whether a slot is part of what is normal.
func (w *Window) Usual(age int) bool { return w.bad&(1<<((w.newest-int64(age))%Slots)) == 0 }

// Accept makes normal what was kept out of it.
func (w *Window) Accept() { w.bad = 0 }

// Forget makes what a lane counted in slots that ended by t as if it had never been.
func (w *Window) Forget(lane Lane, t int64) {
	w.past[lane] = 0
	for age := range w.Known() {
		if w.Start(age)+w.length > t {
			continue
		}
		cell := &w.counts[(w.newest-int64(age))%Slots][lane]
		w.totals[lane] -= uint64(*cell)
		*cell = 0
	}
}

// Normal sums a lane over all that was normal: what left the window and the slots older than age.
func (w *Window) Normal(lane Lane, age int) float64 {
	sum := w.past[lane]
	for ; age < w.Known(); age++ {
		if w.Usual(age) {
			sum += float64(w.counts[(w.newest-int64(age))%Slots][lane])
		}
	}
	return sum
}

// NormalSlots is how many slots Normal sums over.
func (w *Window) NormalSlots(age int) float64 {
	n := w.slots
	for ; age < w.Known(); age++ {
		if w.Usual(age) {
			n++
		}
	}
	return n
}
