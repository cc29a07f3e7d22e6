package cause

import (
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// policies groups denials by the policy that denies.
type policies struct{}

func (policies) find(open []Blame) (found []*Explanation, rest []Blame) {
	byPolicy := map[string]*Explanation{}
	for _, b := range open {
		fault := b.Fault()
		if b.Family != observe.Connections && b.Family != observe.RequestErrors || fault.Kind != rules.KindPolicyDenied || fault.Policy == "" {
			rest = append(rest, b)
			continue
		}
		e, ok := byPolicy[fault.Policy]
		if !ok {
			e = &Explanation{Diagnosis: Diagnosis{Kind: rules.KindPolicyDenied, Policy: fault.Policy, Rule: fault.Rule}, Confirmed: true}
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

// mostFailed is the end of the edges at which most failed.
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
