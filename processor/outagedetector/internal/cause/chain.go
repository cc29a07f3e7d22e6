package cause

import (
	"cmp"
	"slices"
	"time"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// chains follows failing calls downstream: a callee that fails because what it calls fails is not the root.
type chains struct {
	store *observe.Store
	wrong map[*observe.Pair]Blame
}

func newChains(store *observe.Store, wrong []Blame) *chains {
	c := &chains{store: store, wrong: make(map[*observe.Pair]Blame, len(wrong))}
	for _, b := range wrong {
		c.wrong[b.Pair] = b
	}
	return c
}

const (
	// weakShare is how many of a callee's failures its own failing calls must be able to account for.
	weakShare = 0.3
	// headStart is by how much an effect may seem to begin before its cause: reports of the two come apart.
	headStart = int64(15 * time.Second)
	maxDepth  = 32
)

// explain returns the fault at the end of the chain that explains b, false if b itself is the end.
func (c *chains) explain(b Blame) (Blame, bool) {
	path, seen := []Blame{b}, map[*observe.Pair]bool{b.Pair: true}
	for len(path) < maxDepth {
		next, ok := c.downstream(path[len(path)-1], seen)
		if !ok {
			if next, ok = c.exit(path, seen); !ok {
				break
			}
		}
		seen[next.Pair] = true
		path = append(path, next)
	}
	root := path[len(path)-1]
	if circle := c.circle(path); circle != nil {
		root = slices.MinFunc(circle, func(a, b Blame) int {
			first, _ := a.span()
			second, _ := b.span()
			return cmp.Or(cmp.Compare(first, second), comparePairs(a.Pair, b.Pair))
		})
	}
	return root, root.Pair != b.Pair
}

// circle is the part of a path that leads back into itself: apps that call each other, each failing because the other does. Nil if
// there is none.
func (c *chains) circle(path []Blame) []Blame {
	back, ok := c.downstream(path[len(path)-1], nil)
	if !ok {
		return nil
	}
	if from := slices.IndexFunc(path, func(b Blame) bool { return b.Pair == back.Pair }); from >= 0 {
		return path[from:]
	}
	return nil
}

// exit is what explains a circle from outside.
func (c *chains) exit(path []Blame, seen map[*observe.Pair]bool) (Blame, bool) {
	for _, b := range slices.Backward(c.circle(path)) {
		if next, ok := c.downstream(b, seen); ok {
			return next, true
		}
	}
	return Blame{}, false
}

// downstream is the failing call of b's destination that best explains b.
func (c *chains) downstream(b Blame, seen map[*observe.Pair]bool) (Blame, bool) {
	if behind, ok := c.behind(b); ok && !seen[behind.Pair] {
		return behind, true
	}
	// A connection that cannot be made fails at the callee itself, whatever the callee calls.
	if b.Family != observe.RequestErrors && b.Family != observe.Latency && b.Family != observe.Stalled && b.Family != observe.NoAnswer || b.Fault().Kind == rules.KindPolicyDenied {
		return Blame{}, false
	}
	var best Blame
	var most float64
	for _, out := range b.Pair.Destination.Out {
		if seen[out] {
			continue
		}
		candidate, weight := c.accounts(b, out)
		if weight > most {
			best, most = candidate, weight
		}
	}
	return best, most > 0
}

// behind is what fails behind the waypoint of an edge whose connections are cut: the client's ztunnel knows no more.
func (c *chains) behind(b Blame) (Blame, bool) {
	if b.Family != observe.Connections || b.Fault().Kind != rules.KindConnectionReset {
		return Blame{}, false
	}
	for _, in := range b.Pair.Destination.In {
		if other, ok := c.wrong[in]; ok && in.Behind && !b.Pair.Behind && in.Waypoint == b.Pair.Waypoint && other.Family == observe.Connections {
			return other, true
		}
	}
	return Blame{}, false
}

// accounts tells how much of b's failures those of a call of its destination can account for, 0 for too little.
func (c *chains) accounts(b Blame, out *observe.Pair) (Blame, float64) {
	since, failed := c.began(b)
	other, ok := c.wrong[out]
	if !ok {
		return c.weak(b, out)
	}
	theirs := other.Fault()
	if other.Family == observe.Latency && !out.RequestsTimed() && judge.WellForOthers(out, c.store.Now) {
		return Blame{}, 0
	}
	if other.Family == observe.Silence || out.Onset(other.Family) > since+headStart+int64(out.Win.Length()) {
		return Blame{}, 0
	}
	// Slowness passes as slowness or as failure; failure passes as failure, and as slowness where callers retry.
	if other.Family == observe.Latency && b.Family == observe.RequestErrors && theirs.Total < failed/4 {
		return Blame{}, 0
	}
	share := c.share(b, max(theirs.Failed, 1))
	if theirs.Failed < 5 || failed < 5 {
		share = max(share, weakShare)
	}
	if share < weakShare && !c.went(b, other) {
		return Blame{}, 0
	}
	return other, share
}

// went tells whether b has already been put down to another fault, or to what that one is put down to, and may stay so for as long as it goes on:
// what is counted of the two may change apart.
func (c *chains) went(b, other Blame) bool {
	cause := b.Fault().Cause
	return !b.Weak && cause != nil && (cause == other.Pair || cause == other.Fault().Cause)
}

// began is since when a blame is seen, and how much failed.
func (c *chains) began(b Blame) (since int64, failed uint64) {
	if f := b.Fault(); !b.Weak {
		return f.Since, f.Failed
	}
	since, _ = b.span()
	slots := b.Pair.Win.SlotsFor(time.Duration(c.store.Now - since))
	return since, b.Pair.Win.Sum(badLane[b.Family], slots)
}

// few is up to how many failures of a caller the rule of what it calls can be merely late.
const few = 12

// weak is a call that fails too seldom for its own rule but as often as its caller's failures need.
func (c *chains) weak(b Blame, out *observe.Pair) (Blame, float64) {
	since, failed := c.began(b)
	failsOthers := c.failsOthers(out)
	if b.Family != observe.Stalled && failsOthers && starved(out, since, c.store.Now) {
		return Blame{Pair: out, Family: observe.Stalled, Weak: true}, weakShare
	}
	if failed > few && !failsOthers {
		return Blame{}, 0
	}
	out.Win.Advance(c.store.Now)
	if b.Family == observe.Stalled {
		// What waits for an answer that waits for another one.
		slots := out.Win.SlotsFor(time.Duration(c.store.Now - since))
		if out.Win.Sum(observe.Opened, slots) > 0 && out.Win.Sum(observe.Closed, slots) == 0 {
			return Blame{Pair: out, Family: observe.Stalled, Weak: true}, weakShare
		}
		return Blame{}, 0
	}
	slots := out.Win.SlotsFor(time.Duration(c.store.Now-since) + out.Win.Length())
	least := 0.3
	if failsOthers {
		least = 0.1
	}
	for _, lane := range [...]struct {
		family observe.Family
		total  observe.Lane
	}{
		{observe.Connections, observe.Closed}, {observe.NoAnswer, observe.Closed}, {observe.RequestErrors, observe.Requests}, {observe.Latency, observe.Timed},
	} {
		if lane.family == observe.Latency && (b.Family == observe.RequestErrors && !failsOthers || !out.RequestsTimed() && judge.WellForOthers(out, c.store.Now)) || lane.family == observe.Connections && out.Barred {
			continue
		}
		bad, total := out.Win.Sum(badLane[lane.family], slots), out.Win.Sum(lane.total, slots)
		if bad == 0 || float64(bad) < least*float64(total) && !unusual(out, lane.family, lane.total, slots) {
			continue
		}
		if share := c.share(b, bad); share >= weakShare {
			return Blame{Pair: out, Family: lane.family, Weak: true}, share
		}
	}
	return Blame{}, 0
}

// failsOthers tells whether what an edge leads to fails other callers, by rules of their own.
func (c *chains) failsOthers(out *observe.Pair) bool {
	for _, in := range out.Destination.In {
		if other, ok := c.wrong[in]; ok && in != out && !other.Weak && other.Family != observe.Silence {
			return true
		}
	}
	return false
}

const (
	// oddFailures is how unlikely a call's failures must be for them to account for its caller's.
	oddFailures = 1e-3
	// leastNoise is the share of failures that is normal everywhere.
	leastNoise = 0.01
)

// unusual tells whether a call fails more often than it usually does.
func unusual(p *observe.Pair, family observe.Family, total observe.Lane, slots int) bool {
	w, bad := &p.Win, badLane[family]
	usual := (w.Normal(bad, slots) + 1) / (w.Normal(total, slots) + 1/leastNoise)
	return stats.BinomialTail(w.Sum(bad, slots), w.Sum(total, slots), max(usual, leastNoise)) <= oddFailures
}

// share is how much of what fails into b's destination the failures of one of its calls make up.
func (c *chains) share(b Blame, failed uint64) float64 {
	var into uint64
	if b.Weak {
		_, into = c.began(b)
	}
	for _, in := range b.Pair.Destination.In {
		if other, ok := c.wrong[in]; ok && other.Family != observe.Connections {
			into += other.Fault().Failed
		}
	}
	return min(float64(failed)/float64(max(into, 1)), 1)
}

// weakKind is the kind of a fault that its own rule has not found yet.
func weakKind(b Blame) (string, *rules.Rule) {
	id := rules.HTTPErrors
	switch b.Family {
	case observe.Stalled:
		id = rules.StalledConnections
	case observe.NoAnswer:
		id = rules.NoAnswer
	case observe.Latency:
		if id = rules.SlowRequests; !b.Pair.RequestsTimed() {
			id = rules.SlowConnections
		}
	case observe.Connections:
		id = rules.Refused
		var newest int64
		for i := range b.Pair.Reasons {
			if r := &b.Pair.Reasons[i]; r.Last > newest {
				newest, id = r.Last, rules.ForReason(r.Type)
			}
		}
	}
	rule := rules.Named(id)
	return rule.Kind, rule
}
