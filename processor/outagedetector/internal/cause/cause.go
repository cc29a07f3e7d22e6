// Package cause finds what explains the faults that were judged: callers of a failing callee are impact and not roots, what
// fails together on a node, at a policy, at a destination or at a source has one cause.
package cause

import (
	"cmp"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// Types of roots.
const (
	TypeWorkload     = "workload"
	TypeService      = "service"
	TypeNode         = "node"
	TypeControlPlane = "control_plane"
)

// ControlPlane is istiod as outages name it.
var ControlPlane = outage.Subject{Type: TypeControlPlane, Namespace: "istio-system", Name: "istiod"}

// Blame is one fault of one edge.
type Blame struct {
	Pair   *observe.Pair
	Family observe.Family
	// Weak tells that the edge's own rule has not fired, but its callers' failures have it as their only explanation.
	Weak bool
}

// Fault is the fault itself.
func (b Blame) Fault() *observe.Fault { return &b.Pair.Faults[b.Family] }

// span is from when to when it is seen.
func (b Blame) span() (since, lastBad int64) {
	if f := b.Fault(); !b.Weak {
		return f.Since, f.LastBad
	}
	lane, w := badLane[b.Family], &b.Pair.Win
	for age := range w.SlotsFor(weakWindow) {
		if w.At(lane, age) == 0 {
			continue
		}
		since = w.Start(age)
		lastBad = max(lastBad, since+int64(w.Length()))
	}
	return since, lastBad
}

// badLane is where a family's bad events are counted.
var badLane = [observe.Families]observe.Lane{
	observe.Connections: observe.Failed, observe.RequestErrors: observe.RequestsFailed, observe.Latency: observe.Slow, observe.Stalled: observe.Opened,
}

// weakWindow is how far back the failures of a call are looked for whose rule has not fired.
const weakWindow = time.Minute

// Explanation is one cause with all that it explains.
type Explanation struct {
	Root     outage.Subject
	Kind     string
	Policy   string
	Rule     *rules.Rule
	Severity string
	Since    int64
	LastBad  int64
	// Recovered is when things went well again, 0 while they do not.
	Recovered int64
	// Edges fail because of the root; Felt fail because those do.
	Edges, Felt   []Blame
	Failed, Total uint64
	// Pods are those at fault where it is not all of the root's; AllPods tells that it is all of them.
	Pods, Nodes []string
	AllPods     bool
	// Through tells that the root stands between the edges' ends: what it leads to is cut off with it.
	Through    bool
	Source     string // of telemetry, where that is what is lost
	Candidates []outage.Candidate
	Evidence   []outage.Evidence
	// Confirmed tells that nothing still to come is likely to change the root; Suspected that it may soon turn out to be a node's doing.
	Confirmed, Suspected bool
}

// Finder explains faults.
type Finder struct {
	store *observe.Store
	judge *judge.Judge
}

// New returns a finder over what was observed and judged.
func New(store *observe.Store, j *judge.Judge) *Finder { return &Finder{store: store, judge: j} }

// Primary is the fault that stands for an edge: a broken connection says more than the failed request on it.
func Primary(p *observe.Pair) (observe.Family, bool) {
	for _, family := range [...]observe.Family{
		observe.Connections, observe.Stalled, observe.RequestErrors, observe.Latency, observe.Silence,
	} {
		if p.Faults[family].On {
			return family, true
		}
	}
	return 0, false
}

// Explain returns the causes of everything that is wrong now, in a stable order.
func (f *Finder) Explain() []*Explanation {
	now := f.store.Now
	wrong := f.wrong()
	chains := newChains(f.store, wrong)
	var open []Blame // what no downstream fault explains
	felt := map[*observe.Pair]*observe.Pair{}
	added := map[*observe.Pair]bool{}
	for _, b := range wrong {
		root, ok := chains.explain(b)
		if !ok {
			if !echo(b) {
				open = append(open, b)
			}
			continue
		}
		b.Fault().Cause, b.Fault().CauseFamily = root.Pair, root.Family
		felt[b.Pair] = root.Pair
		if root.Weak && !added[root.Pair] {
			added[root.Pair] = true
			open = append(open, root)
		}
	}
	var found []*Explanation
	found, open = f.nodes(found, open, now)
	found = f.controlPlane(found)
	found, open = f.policies(found, open)
	found, open = f.commonNodes(found, open, now)
	found, open = f.waypoints(found, open)
	found, open = f.sources(found, open)
	found = f.destinations(found, open)
	f.attachFelt(found, wrong, felt)
	for _, e := range found {
		f.finish(e, found, now)
	}
	found = f.identities(found)
	found = f.budgets(found)
	found = f.telemetry(found)
	return found
}

// echoing is how much later than its cause is seen to end a fault's last failure may be.
const echoing = int64(20 * time.Second)

// echo tells whether a fault is only what is left of one whose cause has ended: nothing failed since then but what was under way.
func echo(b Blame) bool {
	f := b.Fault()
	if f.Cause == nil {
		return false
	}
	cause := &f.Cause.Faults[f.CauseFamily]
	return !cause.On && cause.Ended > 0 && f.LastBad-cause.Ended <= max(echoing, 2*int64(b.Pair.Win.Length()))
}

func (f *Finder) wrong() []Blame {
	var wrong []Blame
	for p := range f.store.Edges.Faulty {
		if family, ok := Primary(p); ok {
			wrong = append(wrong, Blame{Pair: p, Family: family})
		}
	}
	slices.SortFunc(wrong, func(a, b Blame) int { return comparePairs(a.Pair, b.Pair) })
	return wrong
}

func comparePairs(a, b *observe.Pair) int {
	return cmp.Or(observe.CompareNames(a.Source.Name, b.Source.Name), observe.CompareNames(a.Destination.Name, b.Destination.Name))
}

func take(e *Explanation, open []Blame, belongs func(Blame) bool) (rest []Blame) {
	for _, b := range open {
		if belongs(b) {
			e.Edges = append(e.Edges, b)
		} else {
			rest = append(rest, b)
		}
	}
	return rest
}

func (f *Finder) controlPlane(found []*Explanation) []*Explanation {
	c := &f.judge.ControlPlane
	if !c.Fault.On {
		return found
	}
	return append(found, &Explanation{
		Root: ControlPlane, Kind: c.Fault.Kind, Rule: c.Fault.Rule, Severity: c.Fault.Rule.Severity, Since: c.Fault.Since,
		LastBad: c.Fault.LastBad, Recovered: c.Fault.Recovered, Failed: c.Fault.Failed, Total: c.Fault.Total,
		Nodes: slices.Clone(c.Nodes), Evidence: slices.Clone(c.Evidence), Confirmed: true,
	})
}

func subject(app *observe.App) outage.Subject {
	return outage.Subject{Type: TypeWorkload, Namespace: app.Name.Namespace, Name: app.Name.Name}
}

// rank orders families by how much they say about a cause.
func rank(family observe.Family) int {
	switch family {
	case observe.Connections:
		return 0
	case observe.Stalled:
		return 1
	case observe.RequestErrors:
		return 2
	case observe.Latency:
		return 3
	}
	return 4
}

// dominantKind is the kind of most failures among the families that say most.
func dominantKind(edges []Blame) (string, *rules.Rule) {
	best := 5
	for _, b := range edges {
		best = min(best, rank(b.Family))
	}
	failed := map[string]uint64{}
	var kind string
	var rule *rules.Rule
	for _, b := range edges {
		if rank(b.Family) != best {
			continue
		}
		f := b.Fault()
		k, r := f.Kind, f.Rule
		if b.Weak {
			k, r = weakKind(b)
		}
		failed[k] += max(f.Failed, 1)
		if rule == nil || failed[k] > failed[kind] {
			kind, rule = k, r
		}
	}
	return kind, rule
}
