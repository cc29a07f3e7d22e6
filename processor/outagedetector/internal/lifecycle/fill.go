package lifecycle

import (
	"cmp"
	"slices"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/cause"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// fill brings an outage up to what is known now.
func (r *Registry) fill(o *entry, e *cause.Explanation, now int64) {
	out := &o.Outage
	if len(e.Candidates) >= len(out.Candidates) || out.Root != e.Root {
		out.Candidates = e.Candidates
	}
	if len(e.Told) > 0 && out.Root != e.Root {
		clear(o.Edges) // what failed before the cause was known follows from it
	}
	// As its edges do well one after the other, what is left of an outage may be of another kind.
	if out.Root != e.Root || out.Kind == "" || out.Kind == e.Kind || explainsAll(e, o) {
		out.Kind = e.Kind
		if e.Rule != nil {
			o.Rule = e.Rule.ID
		}
	}
	out.Root = e.Root
	out.Policy = cmp.Or(e.Policy, out.Policy)
	if out.Kind != rules.KindPolicyDenied {
		out.Policy = ""
	}
	if out.Severity != rules.Critical {
		out.Severity = e.Severity
	}
	o.LastBad = max(o.LastBad, e.LastBad)
	o.restored, o.contender = 0, contender{}
	o.Nodes, o.Source, o.Failed, o.Total = e.Nodes, e.Source, e.Failed, e.Total
	for _, b := range e.Edges {
		o.Times = max(o.Times, b.Fault().Times)
	}
	if len(e.Pods) > 0 || e.AllPods {
		out.Pods = e.Pods
	}
	o.Blames = o.Blames[:0]
	for _, list := range [][]cause.Blame{e.Edges, e.Affected} {
		for _, b := range list {
			f := b.Fault()
			f.Outage, f.Began, f.Until = out.ID, o.Since, now
			o.Blames = append(o.Blames, keyOf(b))
		}
	}
	for _, told := range e.Told {
		key := told.Source.Namespace + "/" + told.Source.Name + ">" + told.Destination.Namespace + "/" + told.Destination.Name
		if _, known := o.Edges[key]; known && told.Total > 0 || !known && len(o.Edges) < maxEdges {
			o.Edges[key] = &tally{Edge: told}
		}
	}
	for _, b := range e.Edges {
		o.tally(b)
	}
	for _, b := range e.Edges {
		o.share(b, now)
	}
	r.edges(o)
	impact := r.finder.Impact(e)
	if len(impact) >= len(out.Impact) || len(out.Impact) == 0 {
		out.Impact = impact
	}
	out.Evidence = mergeEvidence(out.Evidence, e.Evidence)
	out.Summary = summary(o)
}

// explainsAll tells whether an explanation has all edges that ever were part of the outage.
func explainsAll(e *cause.Explanation, o *entry) bool {
	has := make(map[string]bool, len(e.Edges))
	for _, b := range e.Edges {
		has[edgeKey(b.Pair)] = true
	}
	for key, t := range o.Edges {
		if !t.Shared && !has[key] {
			return false
		}
	}
	return true
}

func edgeKey(p *observe.Pair) string {
	return p.Source.Name.Namespace + "/" + p.Source.Name.Name + ">" + p.Destination.Name.Namespace + "/" + p.Destination.Name.Name
}

// edge is the tally of an edge, nil if there are too many.
func (o *entry) edge(p *observe.Pair) *tally {
	key := edgeKey(p)
	t, ok := o.Edges[key]
	if !ok && len(o.Edges) < maxEdges {
		t = &tally{Edge: outage.Edge{Source: p.Source.Name, Destination: p.Destination.Name}}
		o.Edges[key] = t
	}
	return t
}

func (o *entry) tally(b cause.Blame) {
	t := o.edge(b.Pair)
	if t == nil {
		return
	}
	t.Behind = len(b.Pair.Clients()) > 0
	if b.Weak {
		return
	}
	f := b.Fault()
	if t.Shared {
		*t = tally{Edge: t.Edge}
	}
	if t.Began != f.Since {
		t.Failed += t.Last[0]
		t.Total += t.Last[1]
		t.Began = f.Since
	}
	t.Last = [2]uint64{f.Failed, f.Total}
	t.Edge.Failed = t.Failed + f.Failed
	t.Edge.Total = t.Total + f.Total
}

// share gives what failed behind a waypoint to the edges of its clients, by the number of their connections: which client's it was
// nobody tells. Clients whose own failures are known need no share: they are the same.
func (o *entry) share(b cause.Blame, now int64) {
	p := b.Pair
	behind := o.Edges[edgeKey(p)]
	if behind == nil || !behind.Behind {
		return
	}
	clients := p.Clients()
	o.Waypoint = p.Waypoint
	weights, all := make([]uint64, len(clients)), uint64(0)
	for i, c := range clients {
		if t := o.Edges[edgeKey(c)]; t != nil && !t.Shared && t.Edge.Total > 0 {
			return
		}
		c.Win.Advance(now)
		weights[i] = 1 + c.Win.Sum(observe.Closed, observe.Slots)
		all += weights[i]
	}
	var upTo, failed, total uint64
	for i, c := range clients {
		upTo += weights[i]
		share := float64(upTo) / float64(all)
		toFailed, toTotal := uint64(float64(behind.Edge.Failed)*share+0.5), uint64(float64(behind.Edge.Total)*share+0.5)
		if t := o.edge(c); t != nil {
			t.Shared = true
			t.Edge.Failed, t.Edge.Total = toFailed-failed, toTotal-total
		}
		failed, total = toFailed, toTotal
	}
}

func (r *Registry) edges(o *entry) {
	list := make([]outage.Edge, 0, len(o.Edges))
	for _, t := range o.Edges {
		if !t.Behind {
			list = append(list, t.Edge)
		}
	}
	slices.SortFunc(list, func(a, b outage.Edge) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), observe.CompareNames(a.Source, b.Source), observe.CompareNames(a.Destination, b.Destination))
	})
	o.Outage.Edges = list
}

const maxEvidence = 30

func mergeEvidence(known, more []outage.Evidence) []outage.Evidence {
	merged := known
	for _, e := range more {
		if !slices.ContainsFunc(known, e.Repeats) {
			merged = append(merged, e)
		}
	}
	slices.SortStableFunc(merged, func(a, b outage.Evidence) int { return a.Time.Compare(b.Time) })
	if len(merged) > maxEvidence {
		merged = slices.Delete(merged, maxEvidence/2, len(merged)-maxEvidence/2)
	}
	return merged
}
