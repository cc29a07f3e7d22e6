// Package cause finds what explains the faults that were judged: callers of a failing callee are impact and not roots, what
// fails together on a node, at a policy, at a destination or at a source has one cause.
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

// Types of roots.
const (
	TypeWorkload     = "workload"
	TypeService      = "service"
	TypeNode         = "node"
	TypeControlPlane = "control_plane"
)

// ControlPlane is istiod as outages name it.
var ControlPlane = outage.Subject{Type: TypeControlPlane, Namespace: "istio-system", Name: "istiod"}

// Blame is one fault of one edge.
type Blame struct {
	Pair   *observe.Pair
	Family observe.Family
	// Weak tells that the edge's own rule has not fired, but its callers' failures have it as their only explanation.
	Weak bool
}

// Fault is the fault itself.
func (b Blame) Fault() *observe.Fault { return &b.Pair.Faults[b.Family] }

// span is from when to when it is seen.
func (b Blame) span() (since, lastBad int64) {
	if f := b.Fault(); !b.Weak {
		return f.Since, f.LastBad
	}
	lane, w := badLane[b.Family], &b.Pair.Win
	for age := range w.SlotsFor(weakWindow) {
		if w.At(lane, age) == 0 {
			continue
		}
		since = w.Start(age)
		lastBad = max(lastBad, since+int64(w.Length()))
	}
	return since, lastBad
}

// badLane is where a family's bad events are counted.
var badLane = [observe.Families]observe.Lane{
	observe.Connections: observe.Failed, observe.RequestErrors: observe.RequestsFailed, observe.Latency: observe.Slow,
}

// weakWindow is how far back the failures of a call are looked for whose rule has not fired.
const weakWindow = time.Minute

// Explanation is one cause with all that it explains.
type Explanation struct {
	Root     outage.Subject
	Kind     string
	Policy   string
	Rule     *rules.Rule
	Severity string
	Since    int64
	LastBad  int64
	// Recovered is when things went well again, 0 while they do not.
	Recovered int64
	// Edges fail because of the root; Felt fail because those do.
	Edges, Felt   []Blame
	Failed, Total uint64
	// Pods are those at fault where it is not all of the root's; AllPods tells that it is all of them.
	Pods, Nodes []string
	AllPods     bool
	Source      string // of telemetry, where that is what is lost
	Candidates  []outage.Candidate
	Evidence    []outage.Evidence
	// Confirmed tells that nothing still to come is likely to change the root.
	Confirmed bool
}

// Finder explains faults.
type Finder struct {
	store *observe.Store
	judge *judge.Judge
}

// New returns a finder over what was observed and judged.
func New(store *observe.Store, j *judge.Judge) *Finder { return &Finder{store: store, judge: j} }

// Primary is the fault that stands for an edge: a broken connection says more than the failed request on it.
func Primary(p *observe.Pair) (observe.Family, bool) {
	for _, family := range [...]observe.Family{
		observe.Connections, observe.Stalled, observe.RequestErrors, observe.Latency, observe.Silence,
	} {
		if p.Faults[family].On {
			return family, true
		}
	}
	return 0, false
}

// Explain returns the causes of everything that is wrong now, in a stable order.
func (f *Finder) Explain() []*Explanation {
	now := f.store.Now
	wrong := f.wrong()
	chains := newChains(f.store, wrong)
	var open []Blame // what no downstream fault explains
	felt := map[*observe.Pair]*observe.Pair{}
	added := map[*observe.Pair]bool{}
	for _, b := range wrong {
		root, ok := chains.explain(b)
		if !ok {
			if !echo(b) {
				open = append(open, b)
			}
			continue
		}
		b.Fault().Cause, b.Fault().CauseFamily = root.Pair, root.Family
		felt[b.Pair] = root.Pair
		if root.Weak && !added[root.Pair] {
			added[root.Pair] = true
			open = append(open, root)
		}
	}
	var found []*Explanation
	found, open = f.nodes(found, open, now)
	found = f.controlPlane(found)
	found, open = f.policies(found, open)
	found, open = f.commonNodes(found, open, now)
	found, open = f.sources(found, open)
	found = f.destinations(found, open)
	f.attachFelt(found, wrong, felt)
	for _, e := range found {
		f.finish(e, found, now)
	}
	found = f.identities(found)
	found = f.budgets(found)
	found = f.telemetry(found)
	return found
}

// echoing is how much later than its cause is seen to end a fault's last failure may be.
const echoing = int64(20 * time.Second)

// echo tells whether a fault is only what is left of one whose cause has ended: nothing failed since then but what was under way.
func echo(b Blame) bool {
	f := b.Fault()
	if f.Cause == nil {
		return false
	}
	cause := &f.Cause.Faults[f.CauseFamily]
	return !cause.On && cause.Ended > 0 && f.LastBad-cause.Ended <= max(echoing, 2*int64(b.Pair.Win.Length()))
}

func (f *Finder) wrong() []Blame {
	var wrong []Blame
	for p := range f.store.Judged {
		if family, ok := Primary(p); ok {
			wrong = append(wrong, Blame{Pair: p, Family: family})
		}
	}
	slices.SortFunc(wrong, func(a, b Blame) int { return comparePairs(a.Pair, b.Pair) })
	return wrong
}

func comparePairs(a, b *observe.Pair) int {
	return cmp.Or(observe.CompareNames(a.Source.Name, b.Source.Name), observe.CompareNames(a.Destination.Name, b.Destination.Name))
}

// nodes makes an explanation of every node that is down: it takes the faults of what runs there.
func (f *Finder) nodes(found []*Explanation, open []Blame, now int64) ([]*Explanation, []Blame) {
	var names []string
	for name, n := range f.store.Nodes {
		if n.Down.On || now-n.Down.Recovered < lingering {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		n := f.store.Nodes[name]
		e := &Explanation{
			Root: outage.Subject{Type: TypeNode, Name: name}, Kind: rules.KindNodeDown, Rule: n.Down.Rule, Severity: n.Down.Rule.Severity,
			Since: n.Down.Since, LastBad: n.Down.LastBad, Recovered: n.Down.Recovered, Nodes: []string{name},
		}
		rest := take(e, open, func(b Blame) bool {
			_, lastBad := b.span()
			return f.belongs(b, name) && (n.Down.On || lastBad <= n.Down.Recovered+late)
		})
		e.Confirmed = len(e.Edges) > 0
		if n.Down.On || len(e.Edges) > 0 {
			found, open = append(found, e), rest
		}
	}
	return found, open
}

const (
	// lingering is how long after a node is back the faults of its edges may take to be seen to end.
	lingering = int64(time.Minute)
	// late is how much later than the node's return what failed before may still be reported.
	late = int64(6 * time.Second)
)

// belongs tells whether a fault is explained by its node: what fails there are the pods that run there.
func (f *Finder) belongs(b Blame, node string) bool {
	if b.Family == observe.Connections && !lostWith(b.Fault().Kind) {
		return false
	}
	var here, elsewhere uint64
	if b.Family != observe.Stalled {
		since := f.store.Nodes[node].Down.Since - int64(30*time.Second)
		for _, e := range b.Pair.Destination.Endpoints {
			failed := e.Win.Sum(observe.Failed, e.Win.SlotsFor(time.Duration(f.store.Now-since)))
			if e.Node == node {
				here += failed
			} else {
				elsewhere += failed
			}
		}
	}
	if here+elsewhere > 0 {
		return here >= mostly*elsewhere
	}
	return f.store.Touches(b.Pair.Destination, node) || f.store.Touches(b.Pair.Source, node)
}

// mostly is how many times more must fail on a node than elsewhere: now and then something fails everywhere.
const mostly = 3

func lostWith(kind string) bool {
	switch kind {
	case rules.KindPolicyDenied, rules.KindTLSFailure, rules.KindIdentityError:
		return false
	}
	return true
}

func take(e *Explanation, open []Blame, belongs func(Blame) bool) (rest []Blame) {
	for _, b := range open {
		if belongs(b) {
			e.Edges = append(e.Edges, b)
		} else {
			rest = append(rest, b)
		}
	}
	return rest
}

func (f *Finder) controlPlane(found []*Explanation) []*Explanation {
	c := &f.judge.ControlPlane
	if !c.Fault.On {
		return found
	}
	return append(found, &Explanation{
		Root: ControlPlane, Kind: c.Fault.Kind, Rule: c.Fault.Rule, Severity: c.Fault.Rule.Severity, Since: c.Fault.Since,
		LastBad: c.Fault.LastBad, Recovered: c.Fault.Recovered, Failed: c.Fault.Failed, Total: c.Fault.Total,
		Nodes: slices.Clone(c.Nodes), Evidence: slices.Clone(c.Evidence), Confirmed: true,
	})
}

// policies groups denials by the policy that denies.
func (f *Finder) policies(found []*Explanation, open []Blame) ([]*Explanation, []Blame) {
	byPolicy := map[string]*Explanation{}
	var rest []Blame
	for _, b := range open {
		fault := b.Fault()
		if b.Family != observe.Connections || fault.Kind != rules.KindPolicyDenied || fault.Policy == "" {
			rest = append(rest, b)
			continue
		}
		e, ok := byPolicy[fault.Policy]
		if !ok {
			e = &Explanation{Kind: rules.KindPolicyDenied, Policy: fault.Policy, Rule: fault.Rule, Confirmed: true}
			byPolicy[fault.Policy] = e
			found = append(found, e)
		}
		e.Edges = append(e.Edges, b)
	}
	for _, e := range byPolicy {
		e.Root = subject(mostFailed(e.Edges, func(p *observe.Pair) *observe.App { return p.Destination }))
	}
	return found, rest
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
		rule := f.store.Book().Base().Get(rules.NodeDown)
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
	n, ok := f.store.Nodes[node]
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
	for _, e := range f.store.EndpointsOn(node) {
		e.Win.Advance(now)
		if closed := e.Win.Sum(observe.Closed, 2); closed > 0 && 2*e.Win.Sum(observe.Failed, 2) < closed {
			return false
		}
	}
	return true
}

const (
	// sourceShare is the share of a source's active edges that must fail for the source to be what explains them.
	sourceShare = 0.75
	// together is how far apart the faults of one source may begin.
	together = int64(20 * time.Second)
)

// sources finds apps whose calls fail everywhere although the called fail for nobody else, and those whose own identity is
// the trouble.
func (f *Finder) sources(found []*Explanation, open []Blame) ([]*Explanation, []Blame) {
	bySource := map[*observe.App][]Blame{}
	for _, b := range open {
		// What the callee answers is the callee's doing; what never reached it may be the caller's.
		if unreached(b) {
			bySource[b.Pair.Source] = append(bySource[b.Pair.Source], b)
		}
	}
	var suspects []*observe.App
	for app, blames := range bySource {
		if f.blamesSource(app, blames) {
			suspects = append(suspects, app)
		}
	}
	slices.SortFunc(suspects, func(a, b *observe.App) int { return observe.CompareNames(a.Name, b.Name) })
	for _, app := range suspects {
		e := &Explanation{Root: subject(app)}
		open = take(e, open, func(b Blame) bool { return b.Pair.Source == app && unreached(b) })
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

func (f *Finder) blamesSource(app *observe.App, blames []Blame) bool {
	contradicted, identity := 0, 0
	first, last := int64(0), int64(0)
	for _, b := range blames {
		if f.failsForOthers(b.Pair) {
			contradicted++
		}
		if b.Fault().Kind == rules.KindIdentityError {
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
		if out.Wrong() || out.LastSuccess < first {
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

// apart tells whether what is called fails together by no more than being called: the failing pods run on several nodes.
func (f *Finder) apart(blames []Blame) bool {
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
func (f *Finder) failsForOthers(p *observe.Pair) bool {
	for _, in := range p.Destination.In {
		if in != p && (in.Faults[observe.Connections].On || in.Faults[observe.Stalled].On) {
			return true
		}
	}
	return false
}

// wellForOthers tells whether an edge's destination serves other callers well.
func (f *Finder) wellForOthers(p *observe.Pair) bool {
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

// destinations groups what is left by what is called.
func (f *Finder) destinations(found []*Explanation, open []Blame) []*Explanation {
	type group struct {
		app    *observe.App
		silent bool
	}
	groups := map[group]*Explanation{}
	silent := map[*observe.App]int{}
	for _, b := range open {
		if b.Family == observe.Silence {
			silent[b.Pair.Destination]++
		}
	}
	for _, b := range open {
		key := group{b.Pair.Destination, b.Family == observe.Silence}
		if key.silent && silent[b.Pair.Destination] == 1 {
			// One caller alone that no longer calls: nothing reached the callee, so it is the caller's doing.
			key.app = b.Pair.Source
		}
		e, ok := groups[key]
		if !ok {
			e = &Explanation{Root: subject(key.app)}
			groups[key] = e
			found = append(found, e)
		}
		e.Edges = append(e.Edges, b)
	}
	for _, e := range groups {
		e.Kind, e.Rule = dominantKind(e.Edges)
		if e.Kind == rules.KindPolicyDenied {
			e.Policy = f.policyBehind(e)
		}
	}
	// What is slow and what fails at one destination is one outage; so is what fell silent beside it.
	return mergeSameRoot(found)
}

func mergeSameRoot(found []*Explanation) []*Explanation {
	merged := found[:0]
	for _, e := range found {
		same := slices.IndexFunc(merged, func(other *Explanation) bool { return other.Root == e.Root && other.Policy == e.Policy })
		if same < 0 {
			merged = append(merged, e)
			continue
		}
		into := merged[same]
		into.Edges = append(into.Edges, e.Edges...)
		if into.Kind == rules.KindTrafficLoss || into.Kind == rules.KindLatency {
			into.Kind, into.Rule = dominantKind(into.Edges)
		}
	}
	return merged
}

// policyBehind names the policy of a denial that does not say: one that changed just before, where the root lives.
func (f *Finder) policyBehind(e *Explanation) string {
	first := int64(0)
	for _, b := range e.Edges {
		if since := b.Fault().Since; first == 0 || since < first {
			first = since
		}
	}
	for _, c := range slices.Backward(f.store.Changes) {
		if c.Policy == "" || c.Gone || c.Time > first+int64(10*time.Second) || c.Time < first-int64(time.Minute) {
			continue
		}
		if p := f.store.State.Policy(c.Policy); p != nil && (p.Namespace == e.Root.Namespace || p.Scope == "GLOBAL") {
			return c.Policy
		}
	}
	return ""
}

func subject(app *observe.App) outage.Subject {
	return outage.Subject{Type: TypeWorkload, Namespace: app.Name.Namespace, Name: app.Name.Name}
}

func mostFailed(edges []Blame, end func(*observe.Pair) *observe.App) *observe.App {
	failed := map[*observe.App]uint64{}
	var best *observe.App
	for _, b := range edges {
		app := end(b.Pair)
		failed[app] += b.Fault().Failed
		if best == nil || failed[app] > failed[best] ||
			failed[app] == failed[best] && observe.CompareNames(app.Name, best.Name) < 0 {
			best = app
		}
	}
	return best
}

// rank orders families by how much they say about a cause.
func rank(family observe.Family) int {
	switch family {
	case observe.Connections:
		return 0
	case observe.Stalled:
		return 1
	case observe.RequestErrors:
		return 2
	case observe.Latency:
		return 3
	}
	return 4
}

// dominantKind is the kind of most failures among the families that say most.
func dominantKind(edges []Blame) (string, *rules.Rule) {
	best := 5
	for _, b := range edges {
		best = min(best, rank(b.Family))
	}
	failed := map[string]uint64{}
	var kind string
	var rule *rules.Rule
	for _, b := range edges {
		if rank(b.Family) != best {
			continue
		}
		f := b.Fault()
		k, r := f.Kind, f.Rule
		if b.Weak {
			k, r = weakKind(b)
		}
		failed[k] += max(f.Failed, 1)
		if rule == nil || failed[k] > failed[kind] {
			kind, rule = k, r
		}
	}
	return kind, rule
}
