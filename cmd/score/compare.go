package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
)

// Result is how well a recording's outages were found.
type Result struct {
	Name        string
	Expected    []Match
	FalseAlarms []*outage.Outage
	// Blame is how well an incident was blamed, nil of a recording with expected outages.
	Blame       *Blame `json:",omitempty"`
	found       []*outage.Outage
	transitions []transition
}

// Match is one expected outage and what was found of it.
type Match struct {
	Expected Expected
	Outage   *outage.Outage // nil if it was missed
	Times    int            // how often it was found
	RootOK   bool
	RootTop3 bool
	KindOK   bool
	EdgesOK  bool
	Delay    time.Duration
	DelayOK  bool
	Closing  time.Duration // after the fault's end; negative: before
	ClosedOK bool
}

// Perfect tells whether all was as it must be.
func (r *Result) Perfect() bool {
	if r.Blame != nil {
		return r.Blame.perfect()
	}
	for _, m := range r.Expected {
		if !m.Perfect() {
			return false
		}
	}
	return len(r.FalseAlarms) == 0
}

// Perfect tells whether the outage was found as it must be.
func (m *Match) Perfect() bool {
	return m.Outage != nil && m.Times == 1 && m.RootOK && m.KindOK && m.EdgesOK && m.DelayOK && m.ClosedOK
}

const (
	defaultWithin = 10 * time.Second
	closeWithin   = 30 * time.Second
	// slack is by how much an outage may overlap a fault's time to be taken for it.
	slack = 30 * time.Second
)

// compare assigns each outage found to the expected one that it is, the likest first and at most one to each; the others are false
// alarms.
func compare(truth *Truth, outages []*outage.Outage) Result {
	if truth.From > 0 || truth.QuietHours > 0 {
		return Result{found: outages, Blame: truth.blame(outages)}
	}
	result := Result{found: outages, Expected: make([]Match, len(truth.Scenario.Expect))}
	used := make([]bool, len(outages))
	type pair struct{ expected, found, likeness int }
	var pairs []pair
	for i, e := range truth.Scenario.Expect {
		result.Expected[i].Expected = e
		for k, o := range outages {
			if like := likeness(e, o); like > 0 && overlaps(o, truth.at(e.FromSeconds), truth.at(e.ToSeconds)) {
				pairs = append(pairs, pair{i, k, like})
			}
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(b.likeness, a.likeness) })
	for _, p := range pairs {
		if m := &result.Expected[p.expected]; m.Outage == nil && !used[p.found] {
			used[p.found] = true
			*m = judge(truth, m.Expected, outages[p.found])
		}
	}
	for i := range result.Expected {
		m := &result.Expected[i]
		for k, o := range outages {
			if m.Outage != nil && !used[k] && overlaps(o, truth.at(m.Expected.FromSeconds), truth.at(m.Expected.ToSeconds)) && m.Expected.hasRoot(o.Root) {
				used[k] = true
				m.Times++
			}
		}
	}
	for k, o := range outages {
		if !used[k] {
			result.FalseAlarms = append(result.FalseAlarms, o)
		}
	}
	result.Expected = slices.DeleteFunc(result.Expected, func(m Match) bool { return m.Expected.Optional && m.Outage == nil })
	return result
}

// closing is how long after its fault's end an outage may end: what only scrapes tell may take two of them to be seen to be well.
func (t *Truth) closing() time.Duration { return max(closeWithin, 2*t.scrapes) }

func overlaps(o *outage.Outage, from, to time.Time) bool {
	if o.DetectedAt.After(to.Add(slack)) {
		return false
	}
	return o.EndedAt == nil || o.EndedAt.After(from.Add(-time.Second))
}

func likeness(e Expected, o *outage.Outage) int {
	score := 0
	if e.hasRoot(o.Root) {
		score += 4
	}
	if e.hasKind(o.Kind) {
		score += 2
	}
	if hasEdges(e, o, true) {
		score++
	}
	return score
}

// hasEdges tells whether all (or any) expected edges are among the outage's.
func hasEdges(e Expected, o *outage.Outage, anyOf bool) bool {
	hits := 0
	for _, pair := range e.Edges {
		if slices.ContainsFunc(o.Edges, func(edge outage.Edge) bool {
			return nameText(edge.Source) == pair[0] && nameText(edge.Destination) == pair[1]
		}) {
			hits++
		}
	}
	return hits == len(e.Edges) || anyOf && hits > 0
}

func judge(truth *Truth, e Expected, o *outage.Outage) Match {
	from, to := truth.at(e.FromSeconds), truth.at(e.ToSeconds)
	within := defaultWithin
	if e.WithinSeconds > 0 {
		within = time.Duration(e.WithinSeconds * float64(time.Second))
	}
	m := Match{
		Expected: e, Outage: o, Times: 1, RootOK: e.hasRoot(o.Root), KindOK: e.hasKind(o.Kind), EdgesOK: hasEdges(e, o, false),
		Delay: o.DetectedAt.Sub(from),
	}
	m.DelayOK = m.Delay <= within && m.Delay >= 0
	m.RootTop3 = m.RootOK
	for _, c := range o.Candidates[:min(3, len(o.Candidates))] {
		m.RootTop3 = m.RootTop3 || e.hasRoot(c.Subject)
	}
	closing := truth.closing()
	// A fault that lasts to the recording's end cannot be seen to end.
	lasts := !to.Add(closing).Before(truth.end())
	switch {
	case o.EndedAt != nil:
		m.Closing = o.EndedAt.Sub(to)
		m.ClosedOK = m.Closing <= closing && m.Closing >= -closeWithin
	default:
		m.ClosedOK = lasts
	}
	return m
}
