package observe

import (
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// App is a workload by its app: what roots, edges and impact name.
type App struct {
	Name outage.Name
	// In and Out are the edges to and from it.
	In, Out   []*Pair
	Endpoints []*Endpoint
	Budgets   []*Budget
	// external tells that it is an address that nothing in the mesh has.
	external bool
}

// Pair is an edge between two apps: all of its workloads, ports and protocols together.
type Pair struct {
	Source, Destination *App
	Win                 Window
	Rules               *rules.RuleSet
	Activity
	// Faults is what is wrong with the edge now, one of each family.
	Faults [Families]Fault
	// Reasons are the ways in which connections failed, newest first to be forgotten.
	Reasons []Reason
	// Denied are the policies by which waypoints denied requests.
	Denied []Reason
	// Connections is how many are open.
	Connections int64
	// Barred tells that what fails is denied as it always was.
	Barred bool
	Way
	// Rows are its requests, interval by interval; nil where points tell of them often.
	Rows *Rows

	told  told
	runs  runs
	queue queued
}

// Way is how an edge's connections go.
type Way struct {
	// Waypoint is what they pass, "namespace/name"; empty if nothing.
	Waypoint string
	// Behind tells that the source is that waypoint itself: what fails are the connections that it makes for its clients.
	Behind bool
	// Tunnelled tells that they are the mesh's.
	Tunnelled bool
	// Apart is between which nodes they fail.
	Apart Apart
}

// Apart is the two nodes between which all tunnels of an edge fail that do.
type Apart struct {
	// From is the callers' node, To the callees'.
	From, To string
	// Last is when one failed last, and Mixed tells that others failed between other nodes about then.
	Last  int64
	Mixed bool
}

// failed takes over that a tunnel from one node to another failed.
func (a *Apart) failed(from, to string, t int64) {
	switch {
	case t-a.Last > int64(time.Minute):
		*a = Apart{From: from, To: to}
	case a.From != from || a.To != to:
		a.Mixed = true
	}
	a.Last = max(a.Last, t)
}

// Activity is when an edge was in use.
type Activity struct {
	// FirstSeen is when the edge appeared, LastActive the newest time before which anything happened.
	FirstSeen, LastActive int64
	// LastSuccess is the newest time before which a connection or request went well, 0 if none ever did.
	LastSuccess int64
	// Lull is the longest time that lay between two signs of life, lullEnd when the second was.
	Lull, lullEnd int64
	// Lasted is how many seconds the connections that ended last took on average.
	Lasted float64
}

// told is who tells of an edge, and how often.
type told struct {
	series  int  // how many series
	native  bool // the service graph reports it
	hasL7   bool // and its requests
	timed   bool // and how long they take
	cadence cadence
	early   early
}

// queued tells for what an edge waits.
type queued struct {
	dirty  bool // changed since it was judged
	judged bool // in the set of edges with something wrong
	silent bool // in the queue of edges that may fall silent
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
	NoAnswer
	Families
)

// Fault is what is wrong with an edge, a pod, a node or an objective.
type Fault struct {
	On      bool
	Rule    *rules.Rule
	Since   int64 // when it began
	Fired   int64 // when it was noticed
	LastBad int64 // the newest boundary before which something failed
	// Recovered is the boundary before which things went well again.
	Recovered int64
	// Ended is when the fault was last seen to be over.
	Ended int64
	// Quiet tells that nothing was attempted since LastBad, so that it is unknown whether it still fails.
	Quiet bool
	// Chronic tells that it ended because what fails is as it always was on the edge.
	Chronic bool
	// Kind is the outage's kind as this fault alone would name it; Policy is the policy that denies.
	Kind, Policy string
	// Source is the source of telemetry that is lost.
	Source string
	Tally
	Explained
}

// Tally is how much is bad in a fault.
type Tally struct {
	Failed, Total uint64 // since it began
	Ratio         float64
	// Base is what the edge had counted when the fault began: bad events and all.
	Base [2]uint64
	// Well is how much went well since LastBad, WellBase how much had until then.
	Well, WellBase uint64
	// Times is how many times longer than usual requests take, 0 where that is not what is wrong.
	Times float64
}

// Explained is what explains a fault.
type Explained struct {
	// Cause is the edge whose fault explained this one last, CauseFamily which fault it is.
	Cause       *Pair
	CauseFamily Family
	// Outage is the id of the outage that explains the fault, empty while none does.
	Outage string
	// Began is when that outage began, Until the newest boundary at which it explained the fault.
	Began, Until int64
	// Attributed tells that the fault is part of an incident whose root is known.
	Attributed bool
}

// alive takes over a sign of life.
func (a *Activity) alive(t int64) {
	if t <= a.LastActive {
		return
	}
	if lull := t - a.LastActive; a.LastActive > 0 && (lull >= a.Lull || t-a.lullEnd > lullMemory) {
		a.Lull, a.lullEnd = lull, t
	}
	a.LastActive = t
}

// lullMemory is for how long a lull is remembered.
const lullMemory = int64(24 * time.Hour)

// runs remembers when the present runs of bad events began, and what had been counted by the last boundary.
type runs struct {
	bursts [lanes]burst
	marks  [lanes]uint64
	// records are the failed flow records of the client's and of the server's side since the last mark.
	records [2]uint64
}

// burst remembers when a run of bad events began: flow records tell it to the microsecond, points to the boundary.
type burst struct {
	first, last int64
	// exact tells that a record gave the first time.
	exact bool
	// before is what had been counted when it began: bad events and all.
	before [2]uint64
	// opened is when the first connection of the run was opened that never got an answer, 0 if there is none.
	opened int64
}

const burstGap = int64(30 * time.Second)

// recorded takes over a bad event of a flow record.
func (r *runs) recorded(lane Lane, t int64) {
	b := &r.bursts[lane]
	switch {
	case t-b.last > burstGap:
		r.begin(b, lane, t)
		b.exact = true
	case t < b.first || !b.exact:
		b.first, b.exact = t, true
	}
	b.last = max(b.last, t)
}

// counted takes over bad events between two boundaries.
func (r *runs) counted(lane Lane, from, t int64) {
	b := &r.bursts[lane]
	if from-b.last > burstGap {
		r.begin(b, lane, from)
	}
	b.last = max(b.last, t)
}

func (r *runs) begin(b *burst, lane Lane, t int64) {
	*b = burst{first: t, before: [2]uint64{r.marks[lane], r.marks[totalOf[lane]]}}
}

// totalOf is the lane of which another counts a part.
var totalOf = [lanes]Lane{Failed: Closed, RequestsFailed: Requests, Slow: Timed, Unanswered: Closed}

// waited takes over that a failed connection had been open since a time and never got an answer.
func (r *runs) waited(opened int64) {
	if b := &r.bursts[Failed]; b.opened == 0 || opened < b.opened {
		b.opened = opened
	}
}

// Onset is since when what a fault is about has been wrong: connections that hang are known to fail only once they are given up.
func (p *Pair) Onset(family Family) int64 {
	since := p.Faults[family].Since
	switch opened := p.runs.bursts[Failed].opened; {
	case family == Connections && opened > 0:
		since = min(since, opened)
	case family == NoAnswer:
		since -= int64(p.Lasted * float64(time.Second))
	}
	return since
}

// Mark remembers what has been counted up to a boundary, so that what begins afterwards is counted from there.
func (p *Pair) Mark() { p.runs.marks, p.runs.records = p.Win.life, [2]uint64{} }

// Clients are the edges of those for whom a waypoint makes an edge's connections; none if it is no waypoint's.
func (p *Pair) Clients() (edges []*Pair) {
	if !p.Behind {
		return nil
	}
	for _, in := range p.Destination.In {
		if in.Waypoint == p.Waypoint && !in.Behind {
			edges = append(edges, in)
		}
	}
	return edges
}

// RequestsTimed tells whether it is known how long requests take: of a server without spans their number may be all.
func (p *Pair) RequestsTimed() bool { return p.told.timed }

// Succeeded tells whether anything went well since the last mark. A failure whose reason is still being looked for is among the
// connections that ended but not yet among the failed ones; its flow record tells.
func (p *Pair) Succeeded() bool {
	gained := func(lane Lane) uint64 { return p.Win.life[lane] - p.runs.marks[lane] }
	return gained(Closed) > max(gained(Failed), p.runs.records[0], p.runs.records[1]) || gained(Requests) > gained(RequestsFailed)
}

// LastBad is the newest time at which something bad was counted in a lane, as exactly as known; 0 if never.
func (p *Pair) LastBad(lane Lane) int64 { return p.runs.bursts[lane].last }

// Began is when the run of a lane's events that reaches into [from, to) began, as exactly as known.
// With it comes what had been counted before; ok is false if nothing more exact than from is known.
func (p *Pair) Began(lane Lane, from, to int64) (began int64, before [2]uint64, ok bool) {
	b := &p.runs.bursts[lane]
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

// reset sizes the edge's slots. What came before is forgotten.
func (p *Pair) reset(length time.Duration, t int64) {
	p.Win.reset(length, t)
	p.runs, p.Rows = runs{}, nil
}

// row takes over what a point at t tells of requests.
func (p *Pair) row(t int64, i stats.Interval) {
	if p.Rows != nil {
		p.Rows.add(t, i)
		return
	}
	p.told.early.add(t, i)
	if p.Win.Length() >= SparseSlot {
		p.Rows = newRows(p.Win.Length(), &p.told.early)
	}
}

// forgotten tells whether an edge can go: nothing tells of it, nothing is wrong with it, and the last that was heard is long ago.
func (p *Pair) forgotten(now int64) bool {
	heard := max(p.FirstSeen, p.LastActive)
	for i := range p.runs.bursts {
		heard = max(heard, p.runs.bursts[i].last)
	}
	return p.told.series <= 0 && !p.queue.judged && now-heard > forgetting
}
