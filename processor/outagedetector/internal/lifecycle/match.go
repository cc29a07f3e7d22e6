package lifecycle

import (
	"math"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/cause"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// byRoot are the open outages by their roots, each list oldest first.
func (r *Registry) byRoot() map[outage.Subject][]*entry {
	all := make(map[outage.Subject][]*entry, len(r.open))
	for _, o := range r.open {
		all[o.Outage.Root] = append(all[o.Outage.Root], o)
	}
	return all
}

// samePolicy finds among outages with an explanation's root the one that it goes on with.
func samePolicy(outages []*entry, e *cause.Explanation, taken map[*entry]bool) *entry {
	for _, o := range outages {
		if !taken[o] && !rules.Apart(o.Outage.Kind, e.Kind) && (o.Outage.Policy == "" || e.Policy == "" || o.Outage.Policy == e.Policy) {
			return o
		}
	}
	return nil
}

// sharesEdges finds the open outage whose edges the explanation now explains otherwise: its root has become clearer.
func (r *Registry) sharesEdges(e *cause.Explanation, taken map[*entry]bool) *entry {
	if len(e.Edges)+len(e.Affected) == 0 {
		return nil
	}
	for _, o := range r.open {
		if taken[o] || len(o.Blames) == 0 {
			continue
		}
		shared := 0
		for _, list := range [][]cause.Blame{e.Edges, e.Affected} {
			for _, b := range list {
				if key := keyOf(b); slices.ContainsFunc(o.Blames, key.sameEdge) {
					shared++
				}
			}
		}
		if 2*shared >= len(o.Blames) && shared > 0 {
			return o
		}
	}
	return nil
}

// persuasive is how long another root must explain what is left of an outage before it becomes the outage's root.
const persuasive = 15 * time.Second

// clearer tells whether another explanation says more about an outage's root than the one it has: at once if it explains all that
// the outage does, else if it goes on. As an outage ends, its edges do well one after the other, and the last of them alone would
// be explained otherwise; faults that merely have not been seen to end yet say nothing.
func (r *Registry) clearer(o *entry, e *cause.Explanation, now int64) bool {
	if !fresh(e, now) {
		return false
	}
	if o.contender.root != e.Root {
		o.contender = contender{e.Root, now}
	}
	return covers(e, o.Blames) || now-o.contender.since >= int64(persuasive)
}

// covers tells whether an explanation explains all of the faults.
func covers(e *cause.Explanation, blames []blameKey) bool {
	known := make(map[blameKey]bool, len(e.Edges)+len(e.Affected))
	for _, list := range [][]cause.Blame{e.Edges, e.Affected} {
		for _, b := range list {
			known[blameKey{Source: b.Pair.Source.Name, Destination: b.Pair.Destination.Name}] = true
		}
	}
	for _, key := range blames {
		if !known[blameKey{Source: key.Source, Destination: key.Destination}] {
			return false
		}
	}
	return true
}

// goesOn tells whether the connections of an outage that seemed to have ended soon fail again on the same edges, in another way: those of one who
// swallows packets are cut, and then not accepted.
func goesOn(o *entry, e *cause.Explanation) bool {
	return len(e.Edges) > 0 && e.Since-o.LastBad <= int64(quietEnd) && !slices.ContainsFunc(e.Edges, func(b cause.Blame) bool {
		key := keyOf(b)
		return b.Family != observe.Connections && b.Family != observe.Stalled || !slices.ContainsFunc(o.Blames, key.sameEdge)
	})
}

// fresh tells whether what is explained still goes on.
func fresh(e *cause.Explanation, now int64) bool {
	for _, b := range e.Edges {
		if b.Weak || now-b.Fault().LastBad <= int64(max(2*time.Second, b.Pair.Win.Length())) {
			return true
		}
	}
	return len(e.Edges) == 0
}

// sameEdge tells whether another fault is of the same edge, in whatever way it shows.
func (k blameKey) sameEdge(other blameKey) bool {
	return k.Source == other.Source && k.Destination == other.Destination
}

func keyOf(b cause.Blame) blameKey {
	return blameKey{b.Pair.Source.Name, b.Pair.Destination.Name, b.Family}
}

// leftover tells whether an explanation consists of faults that an outage explained which has just ended: the last failures
// of callers are reported after their callee does well again.
func (r *Registry) leftover(e *cause.Explanation) bool {
	if len(e.Edges) == 0 {
		return false
	}
	for _, b := range e.Edges {
		id := b.Fault().Outage
		if id == "" {
			return false
		}
		grace := int64(max(15*time.Second, 2*b.Pair.Win.Length()))
		known := false
		for _, o := range append(slices.Clone(r.open), r.ended...) {
			if o.Outage.ID == id && b.Fault().LastBad <= max(o.LastBad, b.Fault().Until)+grace {
				known = true
			}
		}
		if !known {
			return false
		}
	}
	return true
}

// patience is how old an explanation must be before an outage opens.
func (r *Registry) patience(e *cause.Explanation) int64 {
	confirm := int64(r.settings.Confirm)
	switch {
	case e.Waiting:
		return 5 * confirm
	case e.Suspected:
		return 3 * confirm
	case e.Rule != nil && e.Rule.ID == rules.SlowConnections:
		// Connections alone tell: whose doing it is others of the callee's callers show.
		return 3 * confirm
	case !e.Confirmed:
		return 2 * confirm
	}
	return confirm
}

// guessed tells whether no rule has fired for anything that is explained: its callers' failures may have yet another cause.
func guessed(e *cause.Explanation) bool {
	return len(e.Edges) > 0 && !slices.ContainsFunc(e.Edges, func(b cause.Blame) bool { return !b.Weak })
}

// overChance is how unlikely the good events since the last bad one must be while a fault goes on for it to look over.
const overChance = 0.05

// over tells whether everything that is explained looks as if it were over before it was confirmed: a blip, as when a pod is replaced.
func over(e *cause.Explanation) bool {
	if e.Recovered > 0 {
		return true
	}
	for _, b := range e.Edges {
		f := b.Fault()
		if b.Weak || b.Family == observe.Silence || b.Family == observe.Stalled || math.Pow(1-min(f.Ratio, 1), float64(f.Well)) > overChance {
			return false
		}
	}
	return len(e.Edges) > 0 && e.Root.Type == cause.TypeWorkload
}
