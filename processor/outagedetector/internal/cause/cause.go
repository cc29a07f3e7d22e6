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
var ControlPlane = judge.Istiod

// Blame is one fault of one edge.
type Blame struct {
	Pair   *observe.Pair
	Family observe.Family
	// Weak tells that the edge's own rule has not fired, but its callers' failures have it as their only explanation.
	Weak bool
}

// Fault is the fault itself.
func (b Blame) Fault() *observe.Fault { return &b.Pair.Faults[b.Family] }

// blame puts an edge's fault down to another one, and with it what else callers see of the same.
func (b Blame) blame(root Blame) {
	b.Fault().Cause, b.Fault().CauseFamily = root.Pair, root.Family
	for _, family := range [...]observe.Family{observe.Stalled, observe.NoAnswer, observe.RequestErrors, observe.Latency} {
		if f := &b.Pair.Faults[family]; f.On && b.Family != observe.Silence {
			f.Cause, f.CauseFamily = root.Pair, root.Family
		}
	}
	if f := &b.Pair.Faults[observe.Connections]; f.On && f.Ratio < mereShare && b.Family != observe.Silence {
		f.Cause, f.CauseFamily = root.Pair, root.Family
	}
}

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
	observe.Connections: observe.Failed, observe.RequestErrors: observe.RequestsFailed, observe.Latency: observe.Slow, observe.Stalled: observe.Opened, observe.NoAnswer: observe.Unanswered,
}

// weakWindow is how far back the failures of a call are looked for whose rule has not fired.
const weakWindow = time.Minute

// Explanation is one cause with all that it explains.
type Explanation struct {
	Diagnosis
	Period
	Extent
	Candidates []outage.Candidate
	Evidence   []outage.Evidence
	// Confirmed tells that nothing still to come is likely to change the root; Suspected that it may soon turn out to be a node's doing,
	// Waiting that it may be that of what the root waits for.
	Confirmed, Suspected, Waiting bool
}

// Diagnosis is what is wrong, and with whom.
type Diagnosis struct {
	Root outage.Subject
	// Former is the root by which the same was known before more was told, nil if there is none.
	Former   *outage.Subject
	Kind     string
	Policy   string
	Rule     *rules.Rule
	Severity string
	// Source is the source of telemetry that is lost.
	Source string
	// Through tells that the root stands between the edges' ends: what it leads to is cut off with it.
	Through bool
}

// Period is from when to when something fails.
type Period struct {
	Since, LastBad int64
	// Recovered is when things went well again, 0 while they do not.
	Recovered int64
}

// Extent is what fails, and how much of it.
type Extent struct {
	// Edges fail because of the root; Affected fail because those do.
	Edges, Affected []Blame
	// Told are edges that are not known by connections: who asks for names that are not resolved.
	Told          []outage.Edge
	Failed, Total uint64
	// Pods are those at fault where it is not all of the root's; AllPods tells that it is all of them.
	Pods, Nodes []string
	AllPods     bool
}

// finder takes out of the faults that nothing explains yet those that one sort of cause does.
type finder interface {
	find(open []Blame) (found []*Explanation, rest []Blame)
}

// companion adds what is wrong apart from edges, unless what was found says so already.
type companion interface {
	join(found []*Explanation) []*Explanation
}

// Finder explains faults.
type Finder struct {
	store      *observe.Store
	finders    []finder
	companions []companion
	finish     finish
	attributed attributed
	standing   standing
}

// New returns a finder over what was observed and judged.
func New(store *observe.Store, j *judge.Judge) *Finder {
	w := waypoints{store}
	p := placement{store, w}
	return &Finder{
		store:      store,
		finders:    []finder{nodesDown{store, p}, uncaptured{store, j}, overloaded{store, j}, unresolved{store, j}, controlPlane{j}, policies{}, partitions{store, p}, nodesFailing{store, p}, w, unsigned{store}, sources{store}, destinations{store}},
		companions: []companion{certificates{j}, budgets{store}, telemetry{store}},
		finish:     finish{store, j, p, weighing{store, p}},
		attributed: attributed{j.Attribution},
		standing:   standing{&j.Chronic},
	}
}

// Explain returns the causes of everything that is wrong now, in a stable order.
func (f *Finder) Explain() []*Explanation {
	wrong := f.standing.without(wrongEdges(f.store.Edges.Faulty))
	causes := map[*observe.Pair]*observe.Pair{}
	incidents, rest := f.attributed.find(wrong)
	chains := newChains(f.store, rest)
	incidents = outsideCause(incidents, chains, causes)
	var open []Blame // what no downstream fault explains
	added := map[*observe.Pair]bool{}
	for _, b := range rest {
		root, ok := chains.explain(b)
		if !ok {
			if !echo(b) {
				open = append(open, b)
			}
			continue
		}
		b.blame(root)
		causes[b.Pair] = root.Pair
		if root.Weak && !added[root.Pair] {
			added[root.Pair] = true
			open = append(open, root)
		}
	}
	var found []*Explanation
	for _, finder := range f.finders {
		var more []*Explanation
		more, open = finder.find(open)
		found = append(found, more...)
	}
	found = append(found, incidents...)
	// What is slow and what fails at one destination is one outage; so is what fell silent beside it.
	found = mergeSameRoot(found)
	attachAffected(found, wrong, causes)
	for _, e := range found {
		f.finish.complete(e)
	}
	for _, companion := range f.companions {
		found = companion.join(found)
	}
	return found
}

const (
	// mereShare is below what share of failed connections many more failed requests say more, and manyMore how many times more.
	mereShare = 0.25
	manyMore  = 4
)

// Primary is the fault that stands for an edge: a broken connection says more than the failed request on it, unless few are broken and
// many requests fail.
func Primary(p *observe.Pair) (observe.Family, bool) {
	if f := &p.Faults[observe.Connections]; f.On && f.Ratio < mereShare && f.Kind != rules.KindPolicyDenied {
		for _, family := range [...]observe.Family{observe.RequestErrors, observe.Latency} {
			if other := &p.Faults[family]; other.On && other.Failed > manyMore*f.Failed {
				return family, true
			}
		}
	}
	for _, family := range [...]observe.Family{
		observe.Connections, observe.Stalled, observe.NoAnswer, observe.RequestErrors, observe.Latency, observe.Silence,
	} {
		if p.Faults[family].On {
			return family, true
		}
	}
	return 0, false
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

func wrongEdges(faulty map[*observe.Pair]struct{}) []Blame {
	wrong := make([]Blame, 0, len(faulty))
	for p := range faulty {
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

// take moves the blames that belong to part of an explanation there: to its edges, or to what fails or is silent because of them.
func take(into *[]Blame, open []Blame, belongs func(Blame) bool) (rest []Blame) {
	for _, b := range open {
		if belongs(b) {
			*into = append(*into, b)
		} else {
			rest = append(rest, b)
		}
	}
	return rest
}

func subject(app *observe.App) outage.Subject {
	return outage.Subject{Type: TypeWorkload, Namespace: app.Name.Namespace, Name: app.Name.Name}
}

// rank orders families by how much they say about a cause.
func rank(family observe.Family) int {
	switch family {
	case observe.Connections:
		return 0
	case observe.Stalled, observe.NoAnswer:
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

// mergeSameRoot makes one explanation of those with the same root and policy.
func mergeSameRoot(found []*Explanation) []*Explanation {
	merged := found[:0]
	for _, e := range found {
		same := slices.IndexFunc(merged, func(other *Explanation) bool {
			return other.Root == e.Root && other.Policy == e.Policy && !rules.Apart(other.Kind, e.Kind)
		})
		if same < 0 {
			merged = append(merged, e)
			continue
		}
		into := merged[same]
		into.Edges = append(into.Edges, e.Edges...)
		if into.Kind == rules.KindTrafficLoss || into.Kind == rules.KindLatency {
			into.Kind, into.Rule = dominantKind(into.Edges)
		}
	}
	return merged
}
