package cause

import (
	"cmp"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// finish completes explanations.
type finish struct {
	store     *observe.Store
	judge     *judge.Judge
	placement placement
	weighing  weighing
}

// complete adds up an explanation's figures, gathers its evidence and weighs the alternatives.
func (f finish) complete(e *Explanation) {
	now := f.store.Now
	slices.SortFunc(e.Edges, func(a, b Blame) int {
		return cmp.Or(cmp.Compare(b.Fault().Failed, a.Fault().Failed), comparePairs(a.Pair, b.Pair))
	})
	worst := 0.0
	for _, b := range e.Edges {
		since, lastBad := b.span()
		e.Since = earliest(e.Since, since)
		e.LastBad = max(e.LastBad, min(lastBad, now))
		if b.Weak {
			continue
		}
		fault := b.Fault()
		e.Failed += fault.Failed
		e.Total += fault.Total
		worst = max(worst, fault.Ratio)
	}
	if e.Severity == "" {
		e.Severity = rules.Warning
		if e.Rule != nil && e.Rule.Severity == rules.Critical && worst >= 0.5 {
			e.Severity = rules.Critical
		}
	}
	f.pods(e, now)
	f.evidence(e)
	f.weighing.candidates(e, now)
	e.Suspected = e.Root.Type == TypeWorkload && (f.suspected(e, now) || f.deciding(e))
	e.Waiting = e.Root.Type == TypeWorkload && f.waiting(e, now)
	e.Confirmed = e.Confirmed || !e.Suspected && f.settled(e, now) && !f.awaited(e, now)
	if e.Kind == rules.KindPolicyDenied && e.Failed >= provenDenials && f.store.Mesh.PolicyChanged(e.Policy) != 0 {
		e.Severity = rules.Critical
	}
}

// provenDenials is how many denials by a policy that has just changed are critical, however much still flows.
const provenDenials = 3

// awaited tells whether something that the root calls does not do well either, so that it may soon explain what the root's callers feel.
func (f finish) awaited(e *Explanation, now int64) bool {
	if e.Root.Type != TypeWorkload || len(e.Edges) == 0 || e.Edges[0].Family == observe.Connections && e.Kind != rules.KindConnectionReset {
		return false
	}
	app, ok := f.store.Edges.Apps[outage.Name{Namespace: e.Root.Namespace, Name: e.Root.Name}]
	if !ok {
		return false
	}
	for _, out := range app.Out {
		if now-out.LastActive > int64(2*time.Minute) {
			continue
		}
		for _, in := range out.Destination.In {
			if in.Source != app && failsLately(in, e.Since) {
				return true
			}
		}
	}
	return false
}

const (
	// starvedBelow is below what share of the answers that are usual a call no longer gets any, and leastMissed how many must be missing.
	starvedBelow = 0.25
	leastMissed  = 4
)

// waiting tells whether the root's requests fail or are slow, or its clients leave without an answer, because they wait, and something that it
// calls no longer answers: what hangs is known to do so later than that its callers' callers give up.
func (f finish) waiting(e *Explanation, now int64) bool {
	var slow, failed uint64
	left := false
	for _, b := range e.Edges {
		unanswered := b.Family == observe.NoAnswer && b.Fault().Kind == rules.KindConnectionTimeout
		if b.Family != observe.RequestErrors && b.Family != observe.Latency && !unanswered || b.Weak || b.Fault().Attributed {
			return false
		}
		left = left || unanswered
		slots := b.Pair.Win.SlotsFor(time.Duration(now-e.Since) + b.Pair.Win.Length())
		slow += b.Pair.Win.Sum(observe.Slow, slots)
		failed += b.Pair.Win.Sum(observe.RequestsFailed, slots)
	}
	if !left && 2*slow < failed {
		return false
	}
	for _, b := range e.Edges {
		for _, out := range b.Pair.Destination.Out {
			if starved(out, e.Since, now) || hanging(out, e.Since, now) {
				return true
			}
		}
	}
	return false
}

// hanging tells whether many connections that were opened since about a time have not ended, on an edge where they used to be short.
func hanging(p *observe.Pair, since, now int64) bool {
	w := &p.Win
	w.Advance(now)
	slots := w.SlotsFor(time.Duration(now-since) + w.Length())
	opened, closed := w.Sum(observe.Opened, slots), w.Sum(observe.Closed, slots)
	return opened >= closed+leastMissed && 4*(opened-closed) >= opened && w.Normal(observe.Closed, slots) >= 0.9*w.Normal(observe.Opened, slots) &&
		w.Normal(observe.Closed, slots) >= leastMissed
}

// starved tells whether an edge gets far fewer answers since about a time than it always did: to requests, where they are known.
func starved(p *observe.Pair, since, now int64) bool {
	w := &p.Win
	w.Advance(now)
	slots := 0
	for slots < w.Known() && w.Start(slots)+int64(w.Length()) > since {
		slots++
	}
	if slots == 0 {
		return false
	}
	all, bad := observe.Requests, []observe.Lane{observe.RequestsFailed}
	if w.Normal(all, slots) == 0 {
		all, bad = observe.Closed, []observe.Lane{observe.Failed, observe.Unanswered}
	}
	answered, usual := float64(w.Sum(all, slots)), w.Normal(all, slots)
	for _, lane := range bad {
		answered, usual = answered-float64(w.Sum(lane, slots)), usual-w.Normal(lane, slots)
	}
	expected := usual / max(w.NormalSlots(slots), 1) * float64(now-w.Start(slots-1)) / float64(w.Length())
	return expected >= leastMissed && answered < starvedBelow*expected
}

// failsLately tells whether an edge fails or is slow since about a time.
func failsLately(p *observe.Pair, since int64) bool {
	family, ok := Primary(p)
	return ok && family != observe.Silence && p.Faults[family].Since > since-together
}

func earliest(a, b int64) int64 {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// attachAffected gives each cause the faults of callers that its own edges explain.
func attachAffected(found []*Explanation, wrong []Blame, causes map[*observe.Pair]*observe.Pair) {
	owner := map[*observe.Pair]*Explanation{}
	for _, e := range found {
		for _, list := range [][]Blame{e.Affected, e.Edges} {
			for _, b := range list {
				owner[b.Pair] = e
			}
		}
	}
	for _, b := range wrong {
		if e := owner[causes[b.Pair]]; e != nil && owner[b.Pair] == nil {
			if e.Kind == rules.KindZtunnelOverloaded && b.Family == observe.Latency {
				// What passes a ztunnel that is too busy is late itself, whatever it calls.
				e.Edges = append(e.Edges, b)
			} else {
				e.Affected = append(e.Affected, b)
			}
		}
	}
}

// pods names the pods at fault where it is not all that serve.
func (f finish) pods(e *Explanation, now int64) {
	if e.Root.Type != TypeWorkload || e.Kind == rules.KindPolicyDenied {
		return
	}
	app, ok := f.store.Edges.Apps[outage.Name{Namespace: e.Root.Namespace, Name: e.Root.Name}]
	if !ok {
		return
	}
	var bad []string
	well, doubtful := 0, false
	for _, endpoint := range app.Endpoints {
		endpoint.Win.Advance(now)
		var failed, total uint64
		for age := 0; age < endpoint.Win.Known() && endpoint.Win.Start(age) >= e.Since; age++ {
			failed += endpoint.Win.At(observe.Failed, age) + endpoint.Win.At(observe.RequestsFailed, age)
			total += max(endpoint.Win.At(observe.Closed, age), endpoint.Win.At(observe.Requests, age))
		}
		switch {
		case failed >= 3 && 2*failed >= total:
			bad = append(bad, endpoint.Pod)
		case failed > 0:
			doubtful = true
		case total >= 3:
			well++
		}
	}
	if doubtful {
		return
	}
	e.AllPods = well == 0 && len(bad) > 0
	if well > 0 && len(bad) > 0 {
		slices.Sort(bad)
		e.Pods = bad
	}
}

// settled tells whether the root is likely to stay: where connections fail to pods of one node only, the node's own scrape
// may still be about to fail.
func (f finish) settled(e *Explanation, now int64) bool {
	if e.Root.Type == TypeNode {
		return len(e.Edges) > 0
	}
	if e.Root.Type != TypeWorkload || !lostWith(e.Kind) && !ofIdentity(e.Kind) {
		return true
	}
	for _, b := range e.Edges {
		if b.Family != observe.Connections && b.Family != observe.Stalled || b.Weak {
			continue
		}
		if ofIdentity(b.Fault().Kind) && !f.wellElsewhere(b) {
			return false
		}
		node, since := f.placement.failsOnlyOn(b.Pair.Destination, b.Fault().Since), b.Fault().Since
		if b.Family == observe.Stalled {
			// When it began is known to the slot only.
			node, since = f.placement.runsOnlyOn(b.Pair.Destination), since+int64(b.Pair.Win.Length())
		}
		n, ok := f.store.Nodes.ByName[node]
		if !ok || node == "" {
			continue
		}
		src, ok := n.Sources[semconv.SourceMetrics]
		if ok && src.Sampled > 0 && src.Sampled <= since && n.LastRecord <= since {
			return false
		}
	}
	return true
}

// decidingFor is how long a scrape that fails may take to be known for a node that is down.
const decidingFor = int64(12 * time.Second)

// suspected tells whether connections fail or hang to what has pods on a node whose scrape has just begun to fail.
func (f finish) suspected(e *Explanation, now int64) bool {
	for name, n := range f.store.Nodes.ByName {
		src, ok := n.Sources[semconv.SourceMetrics]
		if !ok || !src.Worked || src.Up || n.Down.On || n.Lost.On || now-src.Changed > decidingFor {
			continue
		}
		if slices.ContainsFunc(e.Edges, func(b Blame) bool { return f.placement.belongs(b, name) }) {
			return true
		}
	}
	return false
}

// deciding tells whether it may soon turn out that what is slow or answers errors waits for a ztunnel that is too busy, or for names.
func (f finish) deciding(e *Explanation) bool {
	return slices.ContainsFunc(e.Edges, func(b Blame) bool {
		if b.Family != observe.Latency && b.Family != observe.RequestErrors && b.Family != observe.Stalled {
			return false
		}
		for name, n := range f.store.Nodes.ByName {
			if (n.Proxy.Busy.High > 0 || f.judge.Proxies.Late.Suspected(name)) && (f.store.Touches(b.Pair.Source, name) || f.store.Touches(b.Pair.Destination, name)) {
				return true
			}
		}
		return f.store.DNS.Waits(b.Pair.Destination.Name, b.Fault().Since) ||
			outside(f.store, b.Pair.Destination) && f.store.DNS.Waits(b.Pair.Source.Name, b.Fault().Since)
	})
}

// wellElsewhere tells whether a fault's source got through to others since, so that it is not the source's own.
func (f finish) wellElsewhere(b Blame) bool {
	others := 0
	for _, out := range b.Pair.Source.Out {
		if out == b.Pair || !out.Tunnelled || f.store.Now-out.LastActive >= int64(2*time.Minute) {
			continue
		}
		others++
		if out.LastSuccess > b.Fault().Since+int64(2*time.Second) && got(out, b.Fault().Since) {
			return true
		}
	}
	return others == 0
}
