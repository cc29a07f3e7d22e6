package cause

import (
	"slices"
	"time"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// policies groups denials by the policy that denies.
func (f *Finder) policies(found []*Explanation, open []Blame) ([]*Explanation, []Blame) {
	byPolicy := map[string]*Explanation{}
	var rest []Blame
	for _, b := range open {
		fault := b.Fault()
		if b.Family != observe.Connections || fault.Kind != rules.KindPolicyDenied || fault.Policy == "" {
			rest = append(rest, b)
			continue
		}
		e, ok := byPolicy[fault.Policy]
		if !ok {
			e = &Explanation{Kind: rules.KindPolicyDenied, Policy: fault.Policy, Rule: fault.Rule, Confirmed: true}
			byPolicy[fault.Policy] = e
			found = append(found, e)
		}
		e.Edges = append(e.Edges, b)
	}
	for _, e := range byPolicy {
		e.Root = subject(mostFailed(e.Edges, func(p *observe.Pair) *observe.App { return p.Destination }))
	}
	return found, rest
}

// destinations groups what is left by what is called.
func (f *Finder) destinations(found []*Explanation, open []Blame) []*Explanation {
	type group struct {
		app    *observe.App
		silent bool
	}
	groups := map[group]*Explanation{}
	silent := map[*observe.App]int{}
	for _, b := range open {
		if b.Family == observe.Silence {
			silent[b.Pair.Destination]++
		}
	}
	for _, b := range open {
		key := group{b.Pair.Destination, b.Family == observe.Silence}
		if key.silent && silent[b.Pair.Destination] == 1 {
			// One caller alone that no longer calls: nothing reached the callee, so it is the caller's doing.
			key.app = b.Pair.Source
		}
		e, ok := groups[key]
		if !ok {
			e = &Explanation{Root: subject(key.app)}
			groups[key] = e
			found = append(found, e)
		}
		e.Edges = append(e.Edges, b)
	}
	for _, e := range groups {
		e.Kind, e.Rule = dominantKind(e.Edges)
		if e.Kind == rules.KindPolicyDenied {
			e.Policy = f.policyBehind(e)
		}
	}
	// What is slow and what fails at one destination is one outage; so is what fell silent beside it.
	return mergeSameRoot(found)
}

func mergeSameRoot(found []*Explanation) []*Explanation {
	merged := found[:0]
	for _, e := range found {
		same := slices.IndexFunc(merged, func(other *Explanation) bool { return other.Root == e.Root && other.Policy == e.Policy })
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

// policyBehind names the policy of a denial that does not say: one that changed just before, where the root lives.
func (f *Finder) policyBehind(e *Explanation) string {
	first := int64(0)
	for _, b := range e.Edges {
		if since := b.Fault().Since; first == 0 || since < first {
			first = since
		}
	}
	for _, c := range slices.Backward(f.store.Mesh.Changes) {
		if c.Policy == "" || c.Gone || c.Time > first+int64(10*time.Second) || c.Time < first-int64(time.Minute) {
			continue
		}
		if p := f.store.Mesh.Policy(c.Policy); p != nil && (p.Namespace == e.Root.Namespace || p.Scope == "GLOBAL") {
			return c.Policy
		}
	}
	return ""
}

func mostFailed(edges []Blame, end func(*observe.Pair) *observe.App) *observe.App {
	failed := map[*observe.App]uint64{}
	var best *observe.App
	for _, b := range edges {
		app := end(b.Pair)
		failed[app] += b.Fault().Failed
		if best == nil || failed[app] > failed[best] ||
			failed[app] == failed[best] && observe.CompareNames(app.Name, best.Name) < 0 {
			best = app
		}
	}
	return best
}
