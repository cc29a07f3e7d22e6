package cause

import (
	"cmp"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// attachFelt gives each cause the faults of callers that its own edges explain.
func (f *Finder) attachFelt(found []*Explanation, wrong []Blame, felt map[*observe.Pair]*observe.Pair) {
	owner := map[*observe.Pair]*Explanation{}
	for _, e := range found {
		for _, b := range e.Edges {
			owner[b.Pair] = e
		}
	}
	for _, b := range wrong {
		if e := owner[felt[b.Pair]]; e != nil && owner[b.Pair] == nil {
			e.Felt = append(e.Felt, b)
		}
	}
}

const (
	maxEvidence   = 12
	maxCandidates = 5
	changesBefore = 2 * time.Minute
)

// finish adds up an explanation's figures, gathers its evidence and weighs the alternatives.
func (f *Finder) finish(e *Explanation, all []*Explanation, now int64) {
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
	f.candidates(e, now)
	e.Suspected = e.Root.Type == TypeWorkload && f.suspected(e, now)
	e.Confirmed = e.Confirmed || !e.Suspected && f.settled(e, now)
}

func earliest(a, b int64) int64 {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// pods names the pods at fault where it is not all that serve.
func (f *Finder) pods(e *Explanation, now int64) {
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
func (f *Finder) settled(e *Explanation, now int64) bool {
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
		node, since := f.failsOnlyOn(b.Pair.Destination, b.Fault().Since), b.Fault().Since
		if b.Family == observe.Stalled {
			// When it began is known to the slot only.
			node, since = f.runsOnlyOn(b.Pair.Destination), since+int64(b.Pair.Win.Length())
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

// deciding is how long a scrape that fails may take to be known for a node that is down.
const deciding = int64(12 * time.Second)

// suspected tells whether connections fail or hang to what has pods on a node whose scrape has just begun to fail.
func (f *Finder) suspected(e *Explanation, now int64) bool {
	for name, n := range f.store.Nodes.ByName {
		src, ok := n.Sources[semconv.SourceMetrics]
		if !ok || !src.Worked || src.Up || n.Down.On || n.Lost.On || now-src.Changed > deciding {
			continue
		}
		if slices.ContainsFunc(e.Edges, func(b Blame) bool { return f.belongs(b, name) }) {
			return true
		}
	}
	return false
}

// runsOnlyOn is the node on which all of an app's pods run, empty if there are several.
func (f *Finder) runsOnlyOn(app *observe.App) string {
	node := ""
	for _, w := range f.store.Mesh.Pods(app.Name) {
		if node != "" && w.Node != node {
			return ""
		}
		node = w.Node
	}
	return node
}

// wellElsewhere tells whether a fault's source got through to others since, so that it is not the source's own.
func (f *Finder) wellElsewhere(b Blame) bool {
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

func (f *Finder) evidence(e *Explanation) {
	seen := map[outage.Evidence]bool{}
	var found []outage.Evidence
	for _, b := range e.Edges {
		for i := range b.Pair.Reasons {
			for _, one := range b.Pair.Reasons[i].Evidence {
				said := one
				said.Time = time.Time{}
				if one.Time.UnixNano() >= e.Since-int64(10*time.Second) && !seen[said] {
					seen[said] = true
					found = append(found, one)
				}
			}
		}
	}
	for i := range f.store.Mesh.Changes {
		c := &f.store.Mesh.Changes[i]
		if c.Time < e.Since-int64(changesBefore) || c.Time > e.LastBad+int64(changesBefore) {
			continue
		}
		about := c.App.Name != "" && c.App.Name == e.Root.Name && c.App.Namespace == e.Root.Namespace ||
			c.Policy != "" && c.Policy == e.Policy || c.Node != "" && e.Root.Type == TypeNode && c.Node == e.Root.Name
		if about {
			found = append(found, outage.Evidence{Time: time.Unix(0, c.Time).UTC(), Text: c.Text, Source: c.Source, Kind: outage.EvidenceChange})
		}
	}
	if e.Root.Type == TypeNode {
		if n, ok := f.store.Nodes.ByName[e.Root.Name]; ok {
			if src, ok := n.Sources[semconv.SourceMetrics]; ok && !src.Up && src.Worked {
				found = append(found, outage.Evidence{
					Time: time.Unix(0, src.Changed).UTC(), Text: "scrape of ztunnel on " + n.Name + " fails", Source: "scrape " + n.Name, Kind: outage.EvidenceScrape,
				})
			}
		}
	}
	e.Evidence = append(e.Evidence, found...)
	slices.SortStableFunc(e.Evidence, func(a, b outage.Evidence) int { return a.Time.Compare(b.Time) })
	if len(e.Evidence) > maxEvidence {
		e.Evidence = append(e.Evidence[:maxEvidence/2], e.Evidence[len(e.Evidence)-maxEvidence/2:]...)
	}
}

// candidates scores the root and what else might explain the same edges.
func (f *Finder) candidates(e *Explanation, now int64) {
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
		if node := f.failsOnlyOn(b.Pair.Destination, e.Since); node != "" {
			byNode[node] += weight
		}
	}
	total = max(total, 1)
	for app, weight := range byDestination {
		add(subject(app), weight/total*(0.4+0.6*f.sickness(app.In, now)), "called by what fails")
	}
	for app, weight := range bySource {
		add(subject(app), weight/total*0.6*f.sickness(app.Out, now)*f.sickness(app.Out, now), "makes the calls that fail")
	}
	for node, weight := range byNode {
		score := weight / total * 0.5
		if f.answers(node, now) {
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
	e.Candidates = list[:min(len(list), maxCandidates)]
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
func (f *Finder) sickness(pairs []*observe.Pair, now int64) float64 {
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

// identities are outages of certificates; one whose connections fail already is told with those.
func (f *Finder) identities(found []*Explanation) []*Explanation {
	for i := range f.judge.Certificates.All {
		c := &f.judge.Certificates.All[i]
		if slices.ContainsFunc(found, func(e *Explanation) bool { return e.Root == c.Root }) {
			continue
		}
		severity := rules.Warning
		if c.Fault.Ratio >= 0.5 && c.Fault.Rule.ID == rules.CertificateExpiry {
			severity = rules.Critical
		}
		found = append(found, &Explanation{
			Root: c.Root, Kind: c.Fault.Kind, Rule: c.Fault.Rule, Severity: severity, Since: c.Fault.Since, LastBad: c.Fault.LastBad,
			Failed: c.Fault.Failed, Total: c.Fault.Total, Nodes: slices.Clone(c.Nodes), Confirmed: true,
			Evidence:   []outage.Evidence{{Time: time.Unix(0, c.Fault.Since).UTC(), Text: c.Text, Source: "ztunnel " + c.Nodes[0], Kind: c.Evidence}},
			Candidates: []outage.Candidate{{Subject: c.Root, Score: 0.9}},
		})
	}
	return found
}

// budgets are outages by burn rate, where nothing else explains them.
func (f *Finder) budgets(found []*Explanation) []*Explanation {
	var apps []*observe.App
	for _, app := range f.store.Edges.Apps {
		if slices.ContainsFunc(app.Budgets, func(b *observe.Budget) bool { return b.Fault.On }) {
			apps = append(apps, app)
		}
	}
	slices.SortFunc(apps, func(a, b *observe.App) int { return observe.CompareNames(a.Name, b.Name) })
	for _, app := range apps {
		root := subject(app)
		felt := slices.ContainsFunc(found, func(e *Explanation) bool {
			return e.Root == root || slices.ContainsFunc(e.Felt, func(b Blame) bool { return b.Pair.Destination == app })
		})
		if felt {
			continue
		}
		for _, b := range app.Budgets {
			if !b.Fault.On {
				continue
			}
			found = append(found, &Explanation{
				Root: root, Kind: b.Fault.Kind, Rule: b.Fault.Rule, Severity: b.Fault.Rule.Severity, Since: b.Fault.Since,
				LastBad: b.Fault.LastBad, Failed: b.Fault.Failed, Total: b.Fault.Total, Confirmed: true,
				Candidates: []outage.Candidate{{Subject: root, Score: 0.7}},
			})
			break
		}
	}
	return found
}

// telemetry are nodes of which nothing is known. If most are, what collects them is what is lost.
func (f *Finder) telemetry(found []*Explanation) []*Explanation {
	var lost []*observe.Node
	for _, n := range f.store.Nodes.ByName {
		if n.Lost.On && !n.Down.On {
			lost = append(lost, n)
		}
	}
	slices.SortFunc(lost, func(a, b *observe.Node) int { return cmp.Compare(a.Name, b.Name) })
	if len(lost) > 2 && 2*len(lost) > len(f.store.Nodes.ByName) {
		e := f.lost(lost[0], outage.Subject{Type: TypeService, Name: "telemetry"})
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
			found = append(found, f.lost(n, root))
		}
	}
	return found
}

func (f *Finder) lost(n *observe.Node, root outage.Subject) *Explanation {
	return &Explanation{
		Root: root, Kind: n.Lost.Kind, Rule: n.Lost.Rule, Severity: n.Lost.Rule.Severity, Since: n.Lost.Since, LastBad: n.Lost.LastBad,
		Nodes: []string{n.Name}, Source: n.Lost.Source, Confirmed: true,
		Candidates: []outage.Candidate{{Subject: root, Score: 0.8}},
		Evidence: []outage.Evidence{{
			Time: time.Unix(0, n.Lost.Since).UTC(), Text: n.Lost.Source + " no longer reports", Source: "ztunnel " + n.Name, Kind: outage.EvidenceObservation,
		}},
	}
}
