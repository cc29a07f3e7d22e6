package observe

import (
	"slices"

	"github.com/nephilia/nephilia/internal/outage"
)

// recentSlots is how many slots a reason remembers.
const recentSlots = 16

// Reason is one way in which an edge's connections failed.
type Reason struct {
	Type, Policy string
	First, Last  int64
	Hits         uint64
	recent       [recentSlots]struct {
		slot  int64
		count uint32
	}
	// Told is when the server's side gave this reason last: what it tells of has reached it.
	Told int64
	// Records is how many flow records gave this reason since the last quiet time, which the counters may not know yet.
	Records     uint64
	recordsLast int64
	Evidence    []outage.Evidence
}

const (
	maxReasons  = 12
	maxEvidence = 3
)

// reasonIn is the reason of a list, which forgets the one that was seen last longest ago.
func reasonIn(list *[]Reason, errorType, policy string, t int64) *Reason {
	for i := range *list {
		if r := &(*list)[i]; r.Type == errorType && r.Policy == policy {
			return r
		}
	}
	if len(*list) >= maxReasons {
		oldest := 0
		for i := range *list {
			if (*list)[i].Last < (*list)[oldest].Last {
				oldest = i
			}
		}
		*list = slices.Delete(*list, oldest, oldest+1)
	}
	*list = append(*list, Reason{Type: errorType, Policy: policy, First: t, Last: t})
	return &(*list)[len(*list)-1]
}

func (r *Reason) add(t, length int64, n uint64) {
	slot := slotOf(t, length)
	cell := &r.recent[slot%recentSlots]
	if cell.slot != slot {
		cell.slot, cell.count = slot, 0
	}
	cell.count += uint32(n)
	r.Hits += n
	r.First = min(r.First, t)
	r.Last = max(r.Last, t)
}

// Recent is the number of hits in slots that end after the time, and in how many of those slots there were any.
func (r *Reason) Recent(p *Pair, since int64) (hits uint64, slots int) {
	for i := range r.recent {
		cell := &r.recent[i]
		if cell.count > 0 && (cell.slot+1)*p.Win.length > since {
			hits += uint64(cell.count)
			slots++
		}
	}
	return hits, slots
}

func (r *Reason) addRecord(t int64, e outage.Evidence) {
	if t-r.recordsLast > burstGap {
		r.Records = 0
	}
	r.Records++
	r.recordsLast = max(r.recordsLast, t)
	if len(r.Evidence) == maxEvidence {
		copy(r.Evidence[1:], r.Evidence[2:])
		r.Evidence = r.Evidence[:maxEvidence-1]
	}
	r.Evidence = append(r.Evidence, e)
}

// RecordsSince is the number of flow records that gave this reason in the present run.
func (r *Reason) RecordsSince(since int64) uint64 {
	if r.recordsLast < since {
		return 0
	}
	return r.Records
}
