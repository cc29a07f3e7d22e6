package cause

import (
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// nodes makes an explanation of every node that is down: it takes the faults of what runs there.
func (f *Finder) nodes(found []*Explanation, open []Blame, now int64) ([]*Explanation, []Blame) {
	var names []string
	for name, n := range f.store.Nodes.ByName {
		if n.Down.On || now-n.Down.Recovered < lingering {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		n := f.store.Nodes.ByName[name]
		e := &Explanation{
			Root: outage.Subject{Type: TypeNode, Name: name}, Kind: rules.KindNodeDown, Rule: n.Down.Rule, Severity: n.Down.Rule.Severity,
			Since: n.Down.Since, LastBad: n.Down.LastBad, Recovered: recovered(n), Nodes: []string{name},
		}
		rest := take(e, open, func(b Blame) bool {
			_, lastBad := b.span()
			return f.belongs(b, name) && (n.Down.On || lastBad <= n.Down.Recovered+late)
		})
		e.Confirmed = len(e.Edges) > 0
		if !n.Down.On && len(e.Edges) == 0 {
			continue
		}
		open = rest[:0]
		for _, b := range rest {
			if f.suffers(b, n) {
				e.Felt = append(e.Felt, b)
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
func (f *Finder) suffers(b Blame, n *observe.Node) bool {
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

// belongs tells whether a fault is explained by its node: what fails there are the pods that run there.
func (f *Finder) belongs(b Blame, node string) bool {
	if b.Family == observe.Connections && !lostWith(b.Fault().Kind) {
		return false
	}
	var here, elsewhere uint64
	if b.Family != observe.Stalled {
		since := f.store.Nodes.ByName[node].Down.Since - int64(30*time.Second)
		for _, e := range f.serving(b.Pair) {
			slots := e.Win.SlotsFor(time.Duration(f.store.Now - since))
			failed, all := e.Win.Sum(observe.Failed, slots), e.Win.Sum(observe.Closed, slots)
			if b.Family == observe.RequestErrors {
				failed, all = failed+e.Win.Sum(observe.RequestsFailed, slots), max(all, e.Win.Sum(observe.Requests, slots))
			}
			switch {
			case e.Node == node:
				here += failed
			case fewOf*failed >= all:
				elsewhere += failed
			}
		}
	}
	if here+elsewhere > 0 {
		return here >= mostly*elsewhere
	}
	return f.store.Touches(b.Pair.Destination, node) || f.store.Touches(b.Pair.Source, node)
}

const (
	// mostly is how many times more must fail on a node than elsewhere.
	mostly = 3
	// fewOf is one in how many failures of a pod are no sign: now and then something fails everywhere.
	fewOf = 4
)

// lostWith tells whether what a kind of outage is about may be lost with a node.
func lostWith(kind string) bool {
	fault := reasons.FaultOf(kind)
	return fault != reasons.Mesh && fault != reasons.Client
}

// commonNodes finds nodes on which everything fails although nothing says that they are down: two apps or more, none well.
func (f *Finder) commonNodes(found []*Explanation, open []Blame, now int64) ([]*Explanation, []Blame) {
	type suspect struct{ apps map[outage.Name]bool }
	suspects := map[string]*suspect{}
	for _, b := range open {
		if b.Family != observe.Connections && b.Family != observe.Stalled || !lostWith(b.Fault().Kind) {
			continue
		}
		if node := f.failsOnlyOn(b.Pair.Destination, b.Fault().Since); node != "" {
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
		if len(s.apps) >= 2 && !f.answers(name, now) && f.allFail(name, now) {
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
			Root: outage.Subject{Type: TypeNode, Name: name}, Kind: rules.KindNodeDown, Rule: rule, Severity: rule.Severity,
			Nodes: []string{name}, Confirmed: true,
		}
		open = take(e, open, func(b Blame) bool {
			return b.Fault().On && lostWith(b.Fault().Kind) && f.failsOnlyOn(b.Pair.Destination, b.Fault().Since) == name
		})
		found = append(found, e)
	}
	return found, open
}

// failsOnlyOn is the node on which all of an app's failing pods run, empty if there is none or more than one.
func (f *Finder) failsOnlyOn(app *observe.App, since int64) string {
	node := ""
	for _, e := range app.Endpoints {
		slots := e.Win.SlotsFor(time.Duration(f.store.Now-since) + e.Win.Length())
		if e.Win.Sum(observe.Failed, slots) == 0 {
			continue
		}
		if node != "" && node != e.Node {
			return ""
		}
		node = e.Node
	}
	return node
}

// answers tells whether a node's ztunnel was scraped or logged anything just now.
func (f *Finder) answers(node string, now int64) bool {
	n, ok := f.store.Nodes.ByName[node]
	if !ok {
		return false
	}
	recent := now - int64(12*time.Second)
	if n.LastRecord > recent {
		return true
	}
	src, ok := n.Sources[semconv.SourceMetrics]
	return ok && src.Up && src.Sampled > recent
}

func (f *Finder) allFail(node string, now int64) bool {
	for _, e := range f.store.Endpoints.On(node) {
		e.Win.Advance(now)
		if closed := e.Win.Sum(observe.Closed, 2); closed > 0 && 2*e.Win.Sum(observe.Failed, 2) < closed {
			return false
		}
	}
	return true
}
