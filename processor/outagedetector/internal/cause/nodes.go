package cause

import (
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// nodesDown makes an explanation of every node that is down: it takes the faults of what runs there.
type nodesDown struct {
	store     *observe.Store
	placement placement
}

func (f nodesDown) find(open []Blame) (found []*Explanation, rest []Blame) {
	now := f.store.Now
	var names []string
	for name, n := range f.store.Nodes.ByName {
		if n.Down.On || now-n.Down.Recovered < lingering {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		n := f.store.Nodes.ByName[name]
		e := ofFault(outage.Subject{Type: TypeNode, Name: name}, &n.Down, name)
		e.Recovered = recovered(n)
		rest = take(&e.Edges, open, func(b Blame) bool {
			since, lastBad := b.span()
			if b.Family == observe.RequestErrors && since < n.Down.Since-lingering {
				return false // it failed long before
			}
			return f.placement.belongs(b, name) && (n.Down.On || lastBad <= n.Down.Recovered+late)
		})
		e.Confirmed = len(e.Edges) > 0
		if !n.Down.On && len(e.Edges) == 0 {
			continue
		}
		open = rest[:0]
		for _, b := range rest {
			if f.suffers(b, n) {
				e.Affected = append(e.Affected, b)
			} else {
				open = append(open, b)
			}
		}
		found = append(found, e)
	}
	return found, open
}

// recovered is when a node that was down did well again or, before its pods have shown it, answered again; 0 while it does neither.
func recovered(n *observe.Node) int64 {
	src, ok := n.Sources[semconv.SourceMetrics]
	if n.Down.Recovered == 0 && ok && src.Up && src.Changed > n.Down.Since {
		return src.Changed
	}
	return n.Down.Recovered
}

const (
	// lingering is how long after a node is back the faults of its edges may take to be seen to end.
	lingering = int64(time.Minute)
	// late is how much later than the node's return what failed before may still be reported.
	late = int64(20 * time.Second)
)

// suffers tells whether requests fail, or take long, because of a node that is down although no connection to it is seen to fail: at about
// the same time, and of a callee that itself calls what runs there. Who is not in the mesh has no ztunnel that tells.
func (f nodesDown) suffers(b Blame, n *observe.Node) bool {
	if b.Family != observe.RequestErrors && b.Family != observe.Latency {
		return false
	}
	since, _ := b.span()
	if since < n.Down.Since-together || since > n.Down.Since+lingering {
		return false
	}
	return slices.ContainsFunc(b.Pair.Destination.Out, func(out *observe.Pair) bool {
		return f.store.Now-out.LastActive < int64(inUse) && f.store.Touches(out.Destination, n.Name)
	})
}

// nodesFailing finds nodes on which everything fails although nothing says that they are down: two apps or more, none well.
type nodesFailing struct {
	store     *observe.Store
	placement placement
}

func (f nodesFailing) find(open []Blame) (found []*Explanation, rest []Blame) {
	now := f.store.Now
	type suspect struct{ apps map[outage.Name]bool }
	suspects := map[string]*suspect{}
	for _, b := range open {
		if b.Family != observe.Connections && b.Family != observe.Stalled || !lostWith(b.Fault().Kind) {
			continue
		}
		if node := f.placement.failsOnlyOn(b.Pair.Destination, b.Fault().Since); node != "" {
			s, ok := suspects[node]
			if !ok {
				s = &suspect{apps: map[outage.Name]bool{}}
				suspects[node] = s
			}
			s.apps[b.Pair.Destination.Name] = true
		}
	}
	var names []string
	for name, s := range suspects {
		if len(s.apps) >= 2 && !f.placement.answers(name, now) && f.allFail(name, now) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		rule := f.store.Catalogue.Base().Get(rules.NodeDown)
		if rule == nil {
			break
		}
		e := &Explanation{
			Diagnosis: Diagnosis{Root: outage.Subject{Type: TypeNode, Name: name}, Kind: rules.KindNodeDown, Rule: rule, Severity: rule.Severity},
			Extent:    Extent{Nodes: []string{name}}, Confirmed: true,
		}
		open = take(&e.Edges, open, func(b Blame) bool {
			return b.Fault().On && lostWith(b.Fault().Kind) && f.placement.failsOnlyOn(b.Pair.Destination, b.Fault().Since) == name
		})
		found = append(found, e)
	}
	return found, open
}

// allFail tells whether no pod of a node does well.
func (f nodesFailing) allFail(node string, now int64) bool {
	for _, e := range f.store.Endpoints.On(node) {
		e.Win.Advance(now)
		if closed := e.Win.Sum(observe.Closed, 2); closed > 0 && 2*e.Win.Sum(observe.Failed, 2) < closed {
			return false
		}
	}
	return true
}
