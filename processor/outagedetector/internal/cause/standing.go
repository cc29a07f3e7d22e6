package cause

import (
	"cmp"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// controlPlane is an outage of istiod. It explains no edge: traffic flows on.
type controlPlane struct{ judge *judge.Judge }

func (f controlPlane) find(open []Blame) (found []*Explanation, rest []Blame) {
	c := &f.judge.ControlPlane
	if !c.Fault.On {
		return nil, open
	}
	e := ofFault(ControlPlane, &c.Fault, c.Nodes...)
	e.Evidence, e.Confirmed = slices.Clone(c.Evidence), true
	return []*Explanation{e}, open
}

// ofFault explains a fault that is no edge's: it stands for itself.
func ofFault(root outage.Subject, f *observe.Fault, nodes ...string) *Explanation {
	return &Explanation{
		Diagnosis: Diagnosis{Root: root, Kind: f.Kind, Rule: f.Rule, Severity: f.Rule.Severity, Source: f.Source},
		Period:    Period{Since: f.Since, LastBad: f.LastBad, Recovered: f.Recovered},
		Extent:    Extent{Failed: f.Failed, Total: f.Total, Nodes: slices.Clone(nodes)},
	}
}

// certain is the explanation of such a fault that nothing still to come will change.
func certain(root outage.Subject, score float64, f *observe.Fault, nodes ...string) *Explanation {
	e := ofFault(root, f, nodes...)
	e.Confirmed, e.Candidates = true, []outage.Candidate{{Subject: root, Score: score}}
	return e
}

// certificates are outages of identities; one whose connections fail already is told with those.
type certificates struct{ judge *judge.Judge }

func (f certificates) join(found []*Explanation) []*Explanation {
	told := make(map[outage.Subject]bool, len(found))
	for _, e := range found {
		told[e.Root] = true
	}
	for i := range f.judge.Certificates.All {
		c := &f.judge.Certificates.All[i]
		if told[c.Root] {
			continue
		}
		told[c.Root] = true
		e := certain(c.Root, 0.9, &c.Fault, c.Nodes...)
		e.Severity = rules.Warning
		if c.Fault.Ratio >= 0.5 && c.Fault.Rule.ID == rules.CertificateExpiry {
			e.Severity = rules.Critical
		}
		e.Evidence = []outage.Evidence{{Time: time.Unix(0, c.Fault.Since).UTC(), Text: c.Text, Source: "ztunnel " + c.Nodes[0], Kind: c.Evidence}}
		found = append(found, e)
	}
	return found
}

// budgets are outages by burn rate, where nothing else explains them.
type budgets struct{ store *observe.Store }

func (f budgets) join(found []*Explanation) []*Explanation {
	var apps []*observe.App
	for _, app := range f.store.Edges.Apps {
		if slices.ContainsFunc(app.Budgets, func(b *observe.Budget) bool { return b.Fault.On }) {
			apps = append(apps, app)
		}
	}
	slices.SortFunc(apps, func(a, b *observe.App) int { return observe.CompareNames(a.Name, b.Name) })
	for _, app := range apps {
		root := subject(app)
		told := slices.ContainsFunc(found, func(e *Explanation) bool {
			return e.Root == root || slices.ContainsFunc(e.Affected, func(b Blame) bool { return b.Pair.Destination == app })
		})
		if told {
			continue
		}
		for _, b := range app.Budgets {
			if !b.Fault.On {
				continue
			}
			found = append(found, certain(root, 0.7, &b.Fault))
			break
		}
	}
	return found
}

// telemetry are nodes of which nothing is known. If most are, what collects them is what is lost.
type telemetry struct{ store *observe.Store }

func (f telemetry) join(found []*Explanation) []*Explanation {
	var lost []*observe.Node
	for _, n := range f.store.Nodes.ByName {
		if n.Lost.On && !n.Down.On {
			lost = append(lost, n)
		}
	}
	slices.SortFunc(lost, func(a, b *observe.Node) int { return cmp.Compare(a.Name, b.Name) })
	if len(lost) > 2 && 2*len(lost) > len(f.store.Nodes.ByName) {
		e := lostTelemetry(lost[0], outage.Subject{Type: TypeService, Name: "telemetry"})
		e.Nodes = e.Nodes[:0]
		for _, n := range lost {
			e.Nodes = append(e.Nodes, n.Name)
			e.Since = min(e.Since, n.Lost.Since)
		}
		return append(found, e)
	}
	for _, n := range lost {
		root := outage.Subject{Type: TypeNode, Name: n.Name}
		if n.Name == "" {
			root = ControlPlane
		}
		if !slices.ContainsFunc(found, func(e *Explanation) bool { return e.Root == root }) {
			found = append(found, lostTelemetry(n, root))
		}
	}
	return found
}

func lostTelemetry(n *observe.Node, root outage.Subject) *Explanation {
	e := certain(root, 0.8, &n.Lost, n.Name)
	e.Evidence = []outage.Evidence{{
		Time: time.Unix(0, n.Lost.Since).UTC(), Text: n.Lost.Source + " no longer reports", Source: "ztunnel " + n.Name, Kind: outage.EvidenceObservation,
	}}
	return e
}
