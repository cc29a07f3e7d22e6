package cause

import (
	"cmp"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
)

// weighing weighs what may explain the same faults.
type weighing struct {
	store     *observe.Store
	placement placement
}

// maxCandidates bounds the candidates that are told.
const maxCandidates = 5

// candidates scores the root and what else might explain the same edges.
func (f weighing) candidates(e *Explanation, now int64) {
	if len(e.Candidates) > 0 {
		return
	}
	var list []outage.Candidate
	add := func(s outage.Subject, score float64, reason string) {
		score = float64(int(min(max(score, 0), 1)*100+0.5)) / 100
		if i := slices.IndexFunc(list, func(c outage.Candidate) bool { return c.Subject == s }); i >= 0 {
			list[i].Score = max(list[i].Score, score)
			return
		}
		list = append(list, outage.Candidate{Subject: s, Score: score, Reason: reason})
	}
	var total float64
	byDestination, bySource := map[*observe.App]float64{}, map[*observe.App]float64{}
	byNode := map[string]float64{}
	for _, b := range e.Edges {
		weight := float64(max(b.Fault().Failed, 1))
		total += weight
		byDestination[b.Pair.Destination] += weight
		bySource[b.Pair.Source] += weight
		if node := f.placement.failsOnlyOn(b.Pair.Destination, e.Since); node != "" {
			byNode[node] += weight
		}
	}
	total = max(total, 1)
	for app, weight := range byDestination {
		add(subject(app), weight/total*(0.4+0.6*sickness(app.In, now)), "called by what fails")
	}
	for app, weight := range bySource {
		add(subject(app), weight/total*0.6*sickness(app.Out, now)*sickness(app.Out, now), "makes the calls that fail")
	}
	for node, weight := range byNode {
		score := weight / total * 0.5
		if f.placement.answers(node, now) {
			score *= 0.3
		}
		add(outage.Subject{Type: TypeNode, Name: node}, score, "runs what fails")
	}
	best := 0.0
	for _, c := range list {
		if c.Subject != e.Root {
			best = max(best, c.Score)
		}
	}
	// The root was chosen by what it explains beyond its own edges: it comes first.
	add(e.Root, max(0.6, min(0.97, best+0.1+0.3*(1-best))), "explains all of it")
	slices.SortFunc(list, func(a, b outage.Candidate) int {
		return cmp.Or(boolCompare(b.Subject == e.Root, a.Subject == e.Root), cmp.Compare(b.Score, a.Score),
			cmp.Compare(a.Type, b.Type), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for i := 1; i < len(list); i++ {
		list[i].Score = min(list[i].Score, list[0].Score)
	}
	list[0].Score = min(list[0].Score, 0.99)
	e.Candidates = excesses(e, list[:min(len(list), maxCandidates)])
}

// excesses adds to each candidate how many calls of it fail that nothing explains, and to the list those whose failing calls the root explains.
func excesses(e *Explanation, list []outage.Candidate) []outage.Candidate {
	for i := range list {
		own, explained := failuresOf(e.Edges, list[i].Subject), failuresOf(e.Affected, list[i].Subject)
		if own+explained > 0 {
			list[i].Own, list[i].Explained = &outage.Excess{Failures: own}, &outage.Excess{Failures: explained}
		}
	}
	for _, b := range e.Affected {
		s := subject(b.Pair.Destination)
		explained := failuresOf(e.Affected, s)
		if len(list) == maxCandidates || explained == 0 || slices.ContainsFunc(list, func(c outage.Candidate) bool { return c.Subject == s }) {
			continue
		}
		list = append(list, outage.Candidate{
			Subject: s, Reason: explainedReason, Own: &outage.Excess{Failures: failuresOf(e.Edges, s)}, Explained: &outage.Excess{Failures: explained},
		})
	}
	return list
}

// explainedReason is why one who does not do well is not the root.
const explainedReason = "is explained by what it calls"

// failuresOf is how many calls of a subject fail. Slow ones do not.
func failuresOf(blames []Blame, s outage.Subject) (failed float64) {
	for _, b := range blames {
		if subject(b.Pair.Destination) == s && b.Family != observe.Latency && b.Family != observe.Silence && !b.Weak {
			failed += float64(b.Fault().Failed)
		}
	}
	return failed
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// sickness is the share of edges, of those in use, that are at fault.
func sickness(pairs []*observe.Pair, now int64) float64 {
	var wrong, used float64
	for _, p := range pairs {
		if now-p.LastActive > int64(2*time.Minute) {
			continue
		}
		used++
		if p.Wrong() {
			wrong++
		}
	}
	if used == 0 {
		return 1
	}
	return wrong / used
}
