package cause

import (
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

const (
	// sourceShare is the share of a source's active edges that must fail for the source to be what explains them.
	sourceShare = 0.75
	// together is how far apart the faults of one source may begin.
	together = int64(20 * time.Second)
)

// sources finds apps whose calls fail everywhere although the called fail for nobody else, and those whose own identity is
// the trouble.
type sources struct{ store *observe.Store }

func (f sources) find(open []Blame) (found []*Explanation, rest []Blame) {
	bySource := map[*observe.App][]Blame{}
	for _, b := range open {
		// What the callee answers is the callee's doing; what never reached it may be the caller's.
		if unreached(b) || atFault(b) {
			bySource[b.Pair.Source] = append(bySource[b.Pair.Source], b)
		}
	}
	var suspects []*observe.App
	for app, blames := range bySource {
		if slices.ContainsFunc(blames, atFault) || f.blamesSource(app, blames) {
			suspects = append(suspects, app)
		}
	}
	slices.SortFunc(suspects, func(a, b *observe.App) int { return observe.CompareNames(a.Name, b.Name) })
	for _, app := range suspects {
		e := &Explanation{Diagnosis: Diagnosis{Root: subject(app)}}
		whole := f.blamesSource(app, bySource[app])
		open = take(&e.Edges, open, func(b Blame) bool { return b.Pair.Source == app && (atFault(b) || whole && unreached(b)) })
		e.Kind, e.Rule = dominantKind(e.Edges)
		found = append(found, e)
	}
	return found, open
}

// unreached tells whether a fault's connections did not get as far as to what they call: no ztunnel there told of them.
func unreached(b Blame) bool {
	if b.Family == observe.Stalled {
		return true
	}
	if b.Family != observe.Connections {
		return false
	}
	since, _ := b.span()
	for i := range b.Pair.Reasons {
		if r := &b.Pair.Reasons[i]; r.Told >= since && r.Told > 0 {
			return false
		}
	}
	return true
}

// ofIdentity tells whether a kind of outage may be that of who cannot say who it is: it has no certificate, or istiod did not
// tell its ztunnel of it.
func ofIdentity(kind string) bool {
	return kind == rules.KindIdentityError || kind == rules.KindUnknownParty
}

// atFault tells whether what fails on an edge is its source's own doing.
func atFault(b Blame) bool {
	return b.Family == observe.Connections && reasons.FaultOf(b.Fault().Kind) == reasons.Client
}

func (f sources) blamesSource(app *observe.App, blames []Blame) bool {
	contradicted, identity := 0, 0
	first, last := int64(0), int64(0)
	for _, b := range blames {
		if failsForOthers(b.Pair) {
			contradicted++
		}
		if ofIdentity(b.Fault().Kind) {
			identity++
		}
		first = earliest(first, b.Fault().Since)
		last = max(last, b.Fault().Since)
	}
	if 4*contradicted > len(blames) {
		return false
	}
	failing, active := 0, 0
	for _, out := range app.Out {
		// Who cannot identify itself still reaches what is outside the mesh.
		if f.store.Now-out.LastActive >= int64(2*time.Minute) || identity == len(blames) && !out.Tunnelled {
			continue
		}
		active++
		if out.Wrong() || out.LastSuccess < first || !got(out, first) {
			failing++
		}
	}
	everywhere := float64(failing) >= sourceShare*float64(active)
	// A client without a certificate can talk to nobody, whoever it calls.
	if identity == len(blames) {
		return everywhere
	}
	return everywhere && len(blames) >= 2 && last-first <= together && f.apart(blames)
}

// got tells whether an edge's source got through to its destination in any slot that began since a time. A connection that was opened
// before and has only now ended says nothing.
func got(p *observe.Pair, since int64) bool {
	w := &p.Win
	var opened, closed, failed, requests, bad uint64
	for age := 0; age < w.Known() && w.Start(age) >= since; age++ {
		opened, closed, failed = opened+w.At(observe.Opened, age), closed+w.At(observe.Closed, age), failed+w.At(observe.Failed, age)
		requests, bad = requests+w.At(observe.Requests, age), bad+w.At(observe.RequestsFailed, age)
	}
	if w.Ever(observe.Opened) == 0 {
		opened = closed
	}
	return requests > bad || min(opened, closed) > failed
}

// apart tells whether what is called fails together by no more than being called: the failing pods run on several nodes.
func (f sources) apart(blames []Blame) bool {
	if len(blames) >= 3 {
		return true
	}
	for _, b := range blames {
		if !f.wellForOthers(b.Pair) {
			return false
		}
	}
	return true
}

// failsForOthers tells whether an edge's destination cannot be reached by other callers either.
func failsForOthers(p *observe.Pair) bool {
	for _, in := range p.Destination.In {
		if in != p && (in.Faults[observe.Connections].On || in.Faults[observe.Stalled].On) {
			return true
		}
	}
	return false
}

// wellForOthers tells whether an edge's destination serves other callers well.
func (f sources) wellForOthers(p *observe.Pair) bool {
	for _, in := range p.Destination.In {
		if in == p || in.Wrong() {
			continue
		}
		if f.store.Now-in.LastSuccess < int64(20*time.Second) && in.LastSuccess > 0 {
			return true
		}
	}
	return false
}
