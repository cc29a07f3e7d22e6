package observe

import (
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// SLO is an objective for workloads.
type SLO struct {
	rules.Subject
	// Objective is the share that must be good. Threshold is what a request may take; 0 for an objective of availability.
	Objective float64
	Threshold time.Duration
}

func (o *SLO) matches(name outage.Name) bool {
	return (o.Namespace == "" || o.Namespace == name.Namespace) && (o.Workload == "" || o.Workload == name.Name)
}

// Budget counts good and bad over the windows of burn rates.
type Budget struct {
	SLO  *SLO
	Fast tally // minutes
	Slow tally // hours
	// Fault is the burn rate that fires now.
	Fault Fault
	limit int
}

func newBudget(slo *SLO) *Budget {
	b := &Budget{SLO: slo, Fast: tally{length: int64(time.Minute)}, Slow: tally{length: int64(time.Hour)}}
	if slo.Threshold > 0 {
		b.limit = stats.LatencyBucket(slo.Threshold.Seconds())
	}
	return b
}

// tallySlots covers six hours of minutes and more than three days of hours.
const tallySlots = 361

// tally is a ring of counts of all and of bad events.
type tally struct {
	length int64
	newest int64
	all    [tallySlots]uint32
	bad    [tallySlots]uint32
}

func (r *tally) add(t int64, all, bad uint64) {
	slot := slotOf(t, r.length)
	if r.newest == 0 {
		r.newest = slot
	}
	for r.newest < slot {
		if slot-r.newest > tallySlots {
			r.newest = slot - tallySlots
		}
		r.newest++
		r.all[r.newest%tallySlots], r.bad[r.newest%tallySlots] = 0, 0
	}
	if slot > r.newest-tallySlots {
		r.all[slot%tallySlots] += uint32(all)
		r.bad[slot%tallySlots] += uint32(bad)
	}
}

func (r *tally) sum(t int64, window time.Duration) (all, bad uint64) {
	last := slotOf(t, r.length)
	for slot := last; slot > last-int64(window)/r.length && slot > r.newest-tallySlots; slot-- {
		if slot <= r.newest && slot > 0 {
			all += uint64(r.all[slot%tallySlots])
			bad += uint64(r.bad[slot%tallySlots])
		}
	}
	return all, bad
}

// Sum of all and of bad events in a window that ends at t.
func (b *Budget) Sum(t int64, window time.Duration) (all, bad uint64) {
	if window <= 6*time.Hour {
		return b.Fast.sum(t, window)
	}
	return b.Slow.sum(t, window)
}

func (b *Budget) put(t int64, all, bad uint64) {
	b.Fast.add(t, all, bad)
	b.Slow.add(t, all, bad)
}

// An edge's failed requests and failed connections both use the budget; a failed connection carried no request.
func (b *Budget) add(t int64, lane Lane, n uint64) {
	if b.SLO.Threshold > 0 {
		return
	}
	switch lane {
	case Requests:
		b.put(t, n, 0)
	case RequestsFailed:
		b.put(t, 0, n)
	case Failed:
		b.put(t, n, n)
	}
}

func (b *Budget) addDurations(t int64, buckets *bucketed, all uint64) {
	if b.SLO.Threshold == 0 || all == 0 {
		return
	}
	var slow uint64
	for i := b.limit + 1; i < len(buckets); i++ {
		slow += uint64(buckets[i])
	}
	b.put(t, all, slow)
}
