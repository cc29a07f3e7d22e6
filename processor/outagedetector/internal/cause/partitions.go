package cause

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// partitions finds nodes that do not reach each other while both reach the others: tunnels to several apps fail, between these two only.
type partitions struct {
	store     *observe.Store
	placement placement
}

func (f partitions) find(open []Blame) (found []*Explanation, rest []Blame) {
	between := map[[2]string]map[*observe.App]bool{}
	for _, b := range open {
		nodes, ok := f.apart(b)
		if !ok {
			continue
		}
		if between[nodes] == nil {
			between[nodes] = map[*observe.App]bool{}
		}
		between[nodes][b.Pair.Destination] = true
	}
	rule := rules.Named(rules.ForReason(semconv.ErrorTypeHBONEBlocked))
	pairs := slices.SortedFunc(maps.Keys(between), func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	for _, nodes := range pairs {
		if len(between[nodes]) < 2 || !f.placement.answers(nodes[0], f.store.Now) || !f.placement.answers(nodes[1], f.store.Now) ||
			slices.ContainsFunc(pairs, func(other [2]string) bool {
				return other != nodes && (slices.Contains(other[:], nodes[0]) || slices.Contains(other[:], nodes[1]))
			}) {
			continue
		}
		e := &Explanation{
			Diagnosis: Diagnosis{Root: outage.Subject{Type: TypeNode, Name: nodes[0]}, Kind: rule.Kind, Rule: rule, Severity: rule.Severity},
			Extent:    Extent{Nodes: nodes[:]}, Confirmed: true,
		}
		open = take(&e.Edges, open, func(b Blame) bool {
			its, ok := f.apart(b)
			return ok && its == nodes
		})
		var last int64
		to := map[string]int{}
		for _, b := range e.Edges {
			last = max(last, b.Pair.Apart.Last)
			to[b.Pair.Apart.To]++
		}
		if to[nodes[1]] > to[nodes[0]] {
			e.Root.Name = nodes[1]
		}
		e.Evidence = []outage.Evidence{{
			Time: time.Unix(0, last).UTC(), Source: "outage_detector", Kind: outage.EvidenceObservation,
			Text: fmt.Sprintf("tunnels fail between %s and %s only", nodes[0], nodes[1]),
		}}
		found = append(found, e)
	}
	return found, open
}

// apart are the two nodes between which all of an edge's tunnels fail that do, in order.
func (f partitions) apart(b Blame) (nodes [2]string, ok bool) {
	a := &b.Pair.Apart
	if b.Family != observe.Connections && b.Family != observe.Stalled || a.Mixed || a.Last == 0 || a.Last < b.Fault().Since-lingering || a.From == a.To {
		return nodes, false
	}
	return [2]string{min(a.From, a.To), max(a.From, a.To)}, true
}
