package cause

import (
	"slices"
	"time"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// destinations groups what is left by what is called.
type destinations struct{ store *observe.Store }

func (f destinations) find(open []Blame) (found []*Explanation, rest []Blame) {
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
			e = &Explanation{Diagnosis: Diagnosis{Root: subject(key.app)}}
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
	return found, nil
}

// policyBehind names the policy of a denial that does not say: one that changed just before, where the root lives.
func (f destinations) policyBehind(e *Explanation) string {
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
