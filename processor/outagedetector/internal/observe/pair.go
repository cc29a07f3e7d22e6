package observe

import (
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// App is a workload by its app: what roots, edges and impact name.
type App struct {
	Name outage.Name
	// In and Out are the edges to and from it.
	In, Out   []*Pair
	Endpoints []*Endpoint
	Budgets   []*Budget
}

// Pair is an edge between two apps: all of its workloads, ports and protocols together.
type Pair struct {
	Source, Destination *App
	Win                 Window
	Rules               *rules.RuleSet
	// Faults is what is wrong with the edge now, one of each family.
	Faults [Families]Fault
	// Reasons are the ways in which connections failed, newest first to be forgotten.
	Reasons []Reason
	// Connections is how many are open.
	Connections int64
	// LastActive is the newest time before which anything happened.
	LastActive int64
	// Lull is the longest time that lay between two signs of life, lullEnd when the second was.
	Lull, lullEnd int64
	// LastSuccess is the newest time before which a connection or request went well, 0 if none ever did.
	LastSuccess int64
	// FirstSeen is when the edge appeared.
	FirstSeen int64

	// Barred tells that what fails is denied as it always was.
	Barred bool
	// Waypoint is what its connections pass on their way, "namespace/name"; empty if nothing.
	Waypoint string
	// Tunnelled tells that its connections are the mesh's.
	Tunnelled bool

	keys    int
	cadence cadence
	native  bool // the service graph reports it
	hasL7   bool // and its requests
	dirty   bool
	judged  bool // in the set of pairs with something wrong
	queued  bool // in the queue of pairs that may fall silent
	bursts  [lanes]burst
	marks   [lanes]uint64
	// records are the failed flow records of the client's and of the server's side since the last mark.
	records [2]uint64
}

// Family is a way for an edge to be wrong.
type Family uint8

// The families of faults of an edge.
const (
	Connections Family = iota
	RequestErrors
	Latency
	Silence
	Stalled
	Families
)

// Fault is what is wrong with an edge.
type Fault struct {
	On      bool
	Rule    *rules.Rule
	Since   int64 // when it began
	Fired   int64 // when it was noticed
	LastBad int64 // the newest boundary before which something failed
	// Recovered is the boundary before which things went well again.
	Recovered int64
	// Quiet tells that nothing was attempted since LastBad, so that it is unknown whether it still fails.
	Quiet         bool
	Failed, Total uint64 // since it began
	// Well is how much went well since LastBad.
	Well  uint64
	Ratio float64
	// Kind is the outage's kind as this fault alone would name it; Policy is the policy that denies.
	Kind, Policy string
	// Source is the source of telemetry that is lost.
	Source string
	// Base is what the edge had counted when the fault began: bad events and all.
	Base [2]uint64
	// WellBase is how much had gone well at LastBad.
	WellBase uint64
	// Cause is the edge whose fault explained this one last, CauseFamily which fault it is.
	Cause       *Pair
	CauseFamily Family
	// Ended is when the fault was last seen to be over.
	Ended int64
	// Outage is the id of the outage that explains the fault, empty while none does.
	Outage string
}

// burst remembers when a run of bad events began: flow records tell it to the microsecond, points to the boundary.
type burst struct {
	first, last int64
	// exact tells that a record gave the first time.
	exact bool
	// before is what had been counted when it began: bad events and all.
	before [2]uint64
}

const burstGap = int64(30 * time.Second)

// recorded takes over a bad event of a flow record.
func (p *Pair) recorded(lane Lane, t int64) {
	b := &p.bursts[lane]
	switch {
	case t-b.last > burstGap:
		p.begin(b, lane, t)
		b.exact = true
	case t < b.first || !b.exact:
		b.first, b.exact = t, true
	}
	b.last = max(b.last, t)
}

// counted takes over bad events between two boundaries.
func (p *Pair) counted(lane Lane, from, t int64) {
	b := &p.bursts[lane]
	if from-b.last > burstGap {
		p.begin(b, lane, from)
	}
	b.last = max(b.last, t)
}

func (p *Pair) begin(b *burst, lane Lane, t int64) {
	*b = burst{first: t, before: [2]uint64{p.marks[lane], p.marks[totalOf[lane]]}}
}

// totalOf is the lane of which another counts a part.
var totalOf = [lanes]Lane{Failed: Closed, RequestsFailed: Requests, Slow: Timed}

// lullMemory is for how long a lull is remembered.
const lullMemory = int64(24 * time.Hour)

// alive takes over a sign of life.
func (p *Pair) alive(t int64) {
	if t <= p.LastActive {
		return
	}
	if lull := t - p.LastActive; p.LastActive > 0 && (lull >= p.Lull || t-p.lullEnd > lullMemory) {
		p.Lull, p.lullEnd = lull, t
	}
	p.LastActive = t
}

// Mark remembers what has been counted up to a boundary, so that what begins afterwards is counted from there.
func (p *Pair) Mark() { p.marks, p.records = p.Win.life, [2]uint64{} }

// Succeeded tells whether anything went well since the last mark. A failure whose reason is still being looked for is among the
// connections that ended but not yet among the failed ones; its flow record tells.
func (p *Pair) Succeeded() bool {
	gained := func(lane Lane) uint64 { return p.Win.life[lane] - p.marks[lane] }
	return gained(Closed) > max(gained(Failed), p.records[0], p.records[1]) || gained(Requests) > gained(RequestsFailed)
}

// LastBad is the newest time at which something bad was counted in a lane, as exactly as known; 0 if never.
func (p *Pair) LastBad(lane Lane) int64 { return p.bursts[lane].last }

// Began is when the run of a lane's events that reaches into [from, to) began, as exactly as known.
// With it comes what had been counted before; ok is false if nothing more exact than from is known.
func (p *Pair) Began(lane Lane, from, to int64) (began int64, before [2]uint64, ok bool) {
	b := &p.bursts[lane]
	if b.first >= from-p.Win.length && b.first < to {
		return b.first, b.before, true
	}
	return from, before, false
}

// Wrong tells whether any family is at fault.
func (p *Pair) Wrong() bool {
	for i := range p.Faults {
		if p.Faults[i].On {
			return true
		}
	}
	return false
}

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

func (p *Pair) reason(errorType, policy string, t int64) *Reason {
	for i := range p.Reasons {
		if r := &p.Reasons[i]; r.Type == errorType && r.Policy == policy {
			return r
		}
	}
	if len(p.Reasons) >= maxReasons {
		oldest := 0
		for i := range p.Reasons {
			if p.Reasons[i].Last < p.Reasons[oldest].Last {
				oldest = i
			}
		}
		p.Reasons = slices.Delete(p.Reasons, oldest, oldest+1)
	}
	p.Reasons = append(p.Reasons, Reason{Type: errorType, Policy: policy, First: t, Last: t})
	return &p.Reasons[len(p.Reasons)-1]
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

// Endpoint is one pod that serves.
type Endpoint struct {
	App  *App
	Pod  string
	Node string
	Win  Window
	// Reason is the newest error type.
	Reason     string
	LastReason int64
	// Fault is what is wrong with the pod's connections, Errors with its answers.
	Fault, Errors Fault
	// Tunnel is when the pod's node last refused the tunnel itself, as seen by a client's ztunnel.
	Tunnel   int64
	closed   counter
	requests counter
	failed   []reasonCounter
	errors   counter
	dirty    bool
}

type reasonCounter struct {
	errorType, policy string
	counter
}
