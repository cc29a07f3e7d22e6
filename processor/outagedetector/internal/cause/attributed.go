package cause

import (
	"math"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/attribution"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// attributed are the incidents whose roots attribution knows.
type attributed struct{ *attribution.Attribution }

func (f attributed) find(open []Blame) (found []*Explanation, rest []Blame) {
	for _, incident := range f.Incidents {
		e := &Explanation{Diagnosis: Diagnosis{Root: subject(incident.Root)}, Confirmed: true, Candidates: blamed(incident)}
		switch {
		case incident.Felt:
			e.Severity = rules.Critical
		case incident.Users:
			e.Severity = rules.Warning
		}
		rest = nil
		for _, b := range open {
			switch {
			case !b.Fault().Attributed || !incident.Has(b.Pair.Destination):
				rest = append(rest, b)
			case b.Pair.Destination == incident.Root:
				if f := b.Pair.Faults[incident.Symptom]; f.On && f.Attributed {
					b.Family = incident.Symptom
				}
				e.Edges = append(e.Edges, b)
			default:
				e.Affected = append(e.Affected, b)
			}
		}
		if len(e.Edges) == 0 {
			// What fails at the root says more than that its requests do.
			continue
		}
		open = rest
		e.Kind, e.Rule = e.Edges[0].Fault().Kind, e.Edges[0].Fault().Rule
		found = append(found, e)
	}
	return found, open
}

// blamed are those whom an incident's excess is put down to.
func blamed(i *attribution.Incident) (list []outage.Candidate) {
	for _, b := range i.Blamed[:min(len(i.Blamed), maxCandidates)] {
		reason := "adds some of its own"
		switch {
		case b.App == i.Root:
			reason = "adds most of its own"
		case b.Own == (attribution.Excess{}):
			reason = explainedReason
		}
		list = append(list, outage.Candidate{
			Subject: subject(b.App), Score: math.Round(b.Score*100) / 100, Reason: reason,
			Own: excessOf(b.Own), Explained: excessOf(b.Explained),
		})
	}
	return list
}

func excessOf(e attribution.Excess) *outage.Excess {
	return &outage.Excess{Failures: math.Round(e.Failures*10) / 10, Seconds: math.Round(e.Seconds*1000) / 1000}
}

// outsideCause gives incidents up whose root fails because of what attribution does not judge: all of their faults are that one's.
func outsideCause(found []*Explanation, chains *chains, causes map[*observe.Pair]*observe.Pair) (kept []*Explanation) {
	for _, e := range found {
		root, explained := chains.explain(e.Edges[0])
		if !explained || root.Weak {
			kept = append(kept, e)
			continue
		}
		for _, list := range [][]Blame{e.Edges, e.Affected} {
			for _, b := range list {
				b.blame(root)
				causes[b.Pair] = root.Pair
			}
		}
	}
	return kept
}
