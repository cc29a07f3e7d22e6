package judge

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// Unresolved is who does not resolve names, or only late, and for whom.
type Unresolved struct {
	Root  outage.Subject
	Fault observe.Fault
	// Apps ask in vain or wait, bounded by the askers; Everyone tells that it is all who ask, also those outside the mesh.
	Apps     map[outage.Name]bool
	Everyone bool
	// Edges are who asks whom, with the queries that were in vain or late; Nodes are where they ask.
	Edges    []outage.Edge
	Nodes    []string
	Evidence []outage.Evidence
}

// Names judges whether names are resolved.
type Names struct {
	All []*Unresolved

	store *observe.Store
	// usual is the share of answers that were slow while nothing was wrong.
	usual struct{ slow, ended float64 }
}

const (
	// searched is how many queries one lookup costs that walks through search domains: of those of one type at most one succeeds.
	searched = 4
	// learnt is how many successes must be known before their absence says anything.
	learnt = 3
	// learntSlots is over how many slots that must be known.
	learntSlots = 8
	// surest bounds how sure it is that a lookup succeeds.
	surest = 0.98
)

// pool is what several askers did lately.
type pool struct{ ended, slow, late, succeeded uint64 }

func (p *pool) add(o pool) {
	p.ended, p.slow, p.late, p.succeeded = p.ended+o.ended, p.slow+o.slow, p.late+o.late, p.succeeded+o.succeeded
}

// inquiry is what all askers did lately.
type inquiry struct {
	all     pool
	byNode  map[string]*pool      // bounded by the askers
	byApp   map[outage.Name]*pool // bounded by the askers
	counted []*observe.Asker      // of whom counters tell, vain those of them who ask in vain
	vain    []*observe.Asker
	names   []*observe.Asker     // names that used to be resolved and are not
	well    map[outage.Name]bool // bounded by the askers
	known   map[string]bool      // nodes on which somebody still succeeds; bounded by the askers
	// expected is how many would have succeeded.
	expected float64
}

func (j *Names) judge(now int64) {
	rule := j.store.Catalogue.Base().Get(rules.NamesInVain)
	if rule == nil {
		j.All = nil
		return
	}
	q := j.inquire(rule, now)
	var found []*Unresolved
	if j.slow(&q, rule) {
		found = append(found, j.ofSlow(&q, rule, now))
	} else {
		j.learn(&q)
		found = j.ofVain(&q, rule, now)
	}
	j.follow(found, rule, now)
}

// slots is how many of an asker's slots are lately: enough for two scrapes.
func (j *Names) slots(a *observe.Asker, within time.Duration) int {
	if n, ok := j.store.Nodes.ByName[a.Node]; ok {
		if src, ok := n.Sources["metrics"]; ok {
			within = max(within, 2*time.Duration(src.Every))
		}
	}
	return a.Win.SlotsFor(within)
}

func (j *Names) inquire(rule *rules.Rule, now int64) inquiry {
	q := inquiry{byNode: map[string]*pool{}, byApp: map[outage.Name]*pool{}, well: map[outage.Name]bool{}, known: map[string]bool{}}
	j.store.DNS.All(func(a *observe.Asker) {
		lately := j.slots(a, rule.Window)
		j.vain(a, rule, lately)
		if a.Name != "" {
			if a.InVain != 0 {
				q.names = append(q.names, a)
			}
			return
		}
		q.counted = append(q.counted, a)
		newest := pool{}
		for age := range max(lately/2, 1) {
			newest.add(pool{a.Win.At(observe.Closed, age), a.Win.At(observe.Slow, age), a.Win.At(observe.Timed, age), observe.Succeeded(&a.Win, age)})
		}
		if closed := a.Win.Normal(observe.Closed, lately); closed > 0 {
			q.expected += float64(newest.ended) * (1 - a.Win.Normal(observe.Failed, lately)/closed)
		}
		if newest.ended > 0 {
			q.all.add(newest)
			poolOf(q.byNode, a.Node).add(newest)
			poolOf(q.byApp, a.App).add(newest)
		}
		switch {
		case a.InVain != 0:
			q.vain = append(q.vain, a)
		case j.succeeds(a, lately):
			q.well[a.App], q.known[a.Node] = true, true
		}
	})
	for _, list := range [][]*observe.Asker{q.counted, q.vain, q.names} {
		slices.SortFunc(list, compareAskers)
	}
	return q
}

func compareAskers(a, b *observe.Asker) int {
	return cmp.Or(observe.CompareNames(a.App, b.App), strings.Compare(a.Node, b.Node), strings.Compare(a.Query, b.Query), strings.Compare(a.Name, b.Name))
}

func poolOf[K comparable](pools map[K]*pool, key K) *pool {
	p, ok := pools[key]
	if !ok {
		p = &pool{}
		pools[key] = p
	}
	return p
}

func (j *Names) succeeds(a *observe.Asker, lately int) bool {
	for age := range min(lately, a.Win.Known()) {
		if observe.Succeeded(&a.Win, age) > 0 {
			return true
		}
	}
	return false
}

// vain tells an asker since when nothing succeeds that used to, as long as it goes on asking.
func (j *Names) vain(a *observe.Asker, rule *rules.Rule, lately int) {
	w := &a.Win
	silent, ended, first, newest := 0, uint64(0), 0, -1
	for silent < w.Known() && observe.Succeeded(w, silent) == 0 {
		if n := w.At(observe.Closed, silent); n > 0 {
			ended += n
			first = silent
			if newest < 0 {
				newest = silent
			}
		}
		silent++
	}
	was := a.InVain
	a.InVain = 0
	if newest < 0 || newest >= lately || silent == w.Known() && was == 0 && w.Normal(observe.Closed, silent) == 0 {
		return
	}
	closed := w.Normal(observe.Closed, silent)
	good := closed - w.Normal(observe.Failed, silent)
	group := uint64(searched)
	if a.Name != "" {
		group = 1
	}
	lookups := ended / group
	if good < learnt || w.NormalSlots(silent) < learntSlots || lookups < rule.MinCount {
		return
	}
	chance := math.Pow(1-min(good/closed*float64(group), surest), float64(lookups))
	if chance <= rule.Chance {
		a.InVain = w.Start(first)
		w.MarkBad(a.InVain)
	}
}

// slow tells whether answers take longer than chance explains.
func (j *Names) slow(q *inquiry, rule *rules.Rule) bool {
	usual := max(rule.Noise, (j.usual.slow+1)/(j.usual.ended+100))
	return q.all.slow >= rule.MinCount && stats.WilsonLower(q.all.slow, q.all.ended) >= rule.MinRatio/2 &&
		stats.BinomialTail(q.all.slow, q.all.ended, min(usual, 0.9)) <= rule.Chance
}

// learn takes what is seen for usual; it fades.
func (j *Names) learn(q *inquiry) {
	const fade = 0.999
	j.usual.slow, j.usual.ended = j.usual.slow*fade+float64(q.all.slow), j.usual.ended*fade+float64(q.all.ended)
}

// ofSlow says who answers late: the resolver if all wait for it, one node if only there, one app's names if only that waits.
func (j *Names) ofSlow(q *inquiry, rule *rules.Rule, now int64) *Unresolved {
	u := &Unresolved{Apps: map[outage.Name]bool{}}
	ill, well := split(q.byNode, rule)
	apps, others := split(q.byApp, rule)
	var members []*observe.Asker
	for _, a := range q.counted {
		if j.sum(a, observe.Slow, rule) > 0 || a.InVain != 0 {
			members = append(members, a)
		}
	}
	switch {
	case len(apps) == 1 && others > 0:
		u.Root = j.zone(apps[0], q, now)
	case len(ill) == 1 && well > 0:
		u.Root = outage.Subject{Type: "node", Name: ill[0]}
	default:
		u.Root, u.Everyone = j.resolver(), true
		members = q.counted
	}
	id := rules.NamesSlow
	if q.all.late >= 2 && 3*q.all.late >= q.all.slow || q.all.succeeded == 0 && q.expected >= learnt {
		id = rules.NamesInVain
	}
	if r := j.store.Catalogue.Base().Get(id); r != nil {
		rule = r
	}
	u.Fault = observe.Fault{On: true, Rule: rule, Kind: rule.Kind}
	j.tell(u, members, now)
	return u
}

func (j *Names) sum(a *observe.Asker, lane observe.Lane, rule *rules.Rule) uint64 {
	return a.Win.Sum(lane, j.slots(a, rule.Window))
}

// split gives those whose answers are late, in their order, and how many others had some that were not.
func split[K comparable](pools map[K]*pool, rule *rules.Rule) (ill []K, well int) {
	for key, p := range pools {
		switch {
		case p.slow > 0 && float64(p.slow) >= rule.MinRatio*float64(p.ended):
			ill = append(ill, key)
		case p.ended >= rule.MinCount:
			well++
		}
	}
	return ill, well
}

// ofVain says who resolves nothing, by who asks in vain and who does not.
func (j *Names) ofVain(q *inquiry, rule *rules.Rule, now int64) []*Unresolved {
	if len(q.vain)+len(q.names) == 0 {
		return nil
	}
	u := &Unresolved{Apps: map[outage.Name]bool{}, Fault: observe.Fault{On: true, Rule: rule, Kind: rule.Kind}}
	apps, nodes, elsewhere := map[outage.Name]bool{}, map[string]bool{}, false
	for _, a := range q.vain {
		apps[a.App], nodes[a.Node] = true, true
	}
	for app := range apps {
		elsewhere = elsewhere || q.well[app]
	}
	members := q.vain
	switch {
	case len(apps) >= 2 && len(q.well) == 0:
		u.Root, u.Everyone = j.resolver(), true
	case len(nodes) == 1 && len(q.vain) > 0 && len(q.well) > 0 && (elsewhere || len(apps) >= 2) && !q.known[q.vain[0].Node]:
		u.Root = outage.Subject{Type: "node", Name: q.vain[0].Node}
	case len(q.names) > 0:
		return j.ofNames(q, rule, now)
	default:
		var found []*Unresolved
		for app := range apps {
			one := &Unresolved{Root: j.zone(app, q, now), Apps: map[outage.Name]bool{}, Fault: u.Fault}
			j.tell(one, slices.DeleteFunc(slices.Clone(members), func(a *observe.Asker) bool { return a.App != app }), now)
			found = append(found, one)
		}
		return found
	}
	j.tell(u, members, now)
	return []*Unresolved{u}
}

// ofNames finds the names, or the domains of several of them, that are not resolved any more.
func (j *Names) ofNames(q *inquiry, rule *rules.Rule, now int64) []*Unresolved {
	zones := map[string][]*observe.Asker{}
	for _, a := range q.names {
		zones[domainOf(a.Name)] = append(zones[domainOf(a.Name)], a)
	}
	var found []*Unresolved
	for _, domain := range slices.Sorted(maps.Keys(zones)) {
		members := zones[domain]
		if slices.ContainsFunc(members, func(a *observe.Asker) bool { return a.Name != members[0].Name }) {
			found = append(found, j.ofName(domain, members, rule, now))
		} else {
			found = append(found, j.ofName(members[0].Name, members, rule, now))
		}
	}
	return found
}

func (j *Names) ofName(name string, members []*observe.Asker, rule *rules.Rule, now int64) *Unresolved {
	u := &Unresolved{
		Root: outage.Subject{Type: "workload", Name: name}, Apps: map[outage.Name]bool{}, Fault: observe.Fault{On: true, Rule: rule, Kind: rule.Kind},
	}
	j.tell(u, members, now)
	return u
}

// domainOf is what names have in common that are likely in the same hands: their last two labels.
func domainOf(name string) string {
	labels := strings.Split(name, ".")
	return strings.Join(labels[max(len(labels)-2, 0):], ".")
}

// zone is what an app asks for in vain: a name, where single lookups or silent edges tell it, or else the resolver.
func (j *Names) zone(app outage.Name, q *inquiry, _ int64) outage.Subject {
	names := map[string]bool{}
	since := int64(math.MaxInt64)
	for _, a := range q.names {
		if a.App == app {
			names[a.Name] = true
		}
	}
	for _, a := range q.vain {
		if a.App == app {
			since = min(since, a.InVain)
		}
	}
	if known, ok := j.store.Edges.Apps[app]; ok && len(names) == 0 {
		for _, out := range known.Out {
			if _, err := netip.ParseAddr(out.Destination.Name.Name); out.Destination.Name.Namespace == "" && err != nil && out.LastSuccess < since+int64(settleTime) {
				names[out.Destination.Name.Name] = true
			}
		}
	}
	if len(names) == 1 {
		for name := range names {
			return outage.Subject{Type: "workload", Name: name}
		}
	}
	return j.resolver()
}

func (j *Names) resolver() outage.Subject {
	name := j.store.Mesh.Resolver()
	return outage.Subject{Type: "service", Namespace: name.Namespace, Name: name.Name}
}

// tell fills in who asks, since when, and how many queries were in vain or late.
func (j *Names) tell(u *Unresolved, members []*observe.Asker, now int64) {
	slow := u.Fault.Kind == rules.KindDNSSlow
	lane := observe.Failed
	if slow {
		lane = observe.Slow
	}
	for _, a := range members {
		since := a.InVain
		for age := range min(j.slots(a, u.Fault.Rule.Window), a.Win.Known()) {
			if a.Win.At(observe.Slow, age) > 0 {
				since = earliest(since, a.Win.Start(age))
			}
		}
		if since != 0 {
			u.Fault.Since = earliest(u.Fault.Since, since)
		}
	}
	edges, nodes := map[outage.Edge]*outage.Edge{}, map[string]bool{}
	for _, a := range members {
		slots := a.Win.SlotsFor(time.Duration(now - u.Fault.Since))
		bad, all := a.Win.Sum(lane, slots), a.Win.Sum(observe.Closed, slots)
		u.Apps[a.App] = true
		if a.InVain == 0 && a.Win.Sum(observe.Slow, slots) == 0 {
			continue
		}
		nodes[a.Node] = true
		if a.Win.Normal(observe.Closed, slots) == a.Win.Normal(observe.Failed, slots) {
			// Whoever never got an address loses nothing.
			continue
		}
		to := outage.Name{Name: a.Name}
		if a.Name == "" {
			to = j.store.Mesh.Resolver()
		}
		key := outage.Edge{Source: a.App, Destination: to}
		e, ok := edges[key]
		if !ok {
			e = &outage.Edge{Source: a.App, Destination: to}
			edges[key] = e
		}
		e.Failed, e.Total = e.Failed+bad, e.Total+all
		u.Fault.Failed, u.Fault.Total = u.Fault.Failed+bad, u.Fault.Total+all
		if len(u.Evidence) < 3 {
			u.Evidence = append(u.Evidence, evidenceOf(a, u.Fault.Since, slow, bad, all))
		}
	}
	for _, e := range edges {
		u.Edges = append(u.Edges, *e)
	}
	slices.SortFunc(u.Edges, func(a, b outage.Edge) int {
		return cmp.Or(observe.CompareNames(a.Source, b.Source), observe.CompareNames(a.Destination, b.Destination))
	})
	u.Nodes = slices.Sorted(maps.Keys(nodes))
	u.Fault.Fired, u.Fault.LastBad, u.Fault.Ratio = now, now, 1
}

func evidenceOf(a *observe.Asker, since int64, slow bool, bad, all uint64) outage.Evidence {
	what := "gave no address"
	if slow {
		what = "took more than a second"
	}
	text := fmt.Sprintf("%d of %d queries that the ztunnel forwarded for %s %s", bad, all, a.App.Name, what)
	if a.Name != "" {
		text = fmt.Sprintf("%d of %d lookups of %s by %s failed: %s", bad, all, a.Name, a.App.Name, strings.ReplaceAll(a.Result, "_", " "))
	}
	return outage.Evidence{Time: time.Unix(0, since).UTC(), Text: text, Source: "ztunnel " + a.Node, Kind: outage.EvidenceObservation}
}

// follow keeps what was found before: it begins when it began, and ends once who asked in vain gets answers again, or asks no more.
func (j *Names) follow(found []*Unresolved, rule *rules.Rule, now int64) {
	for _, old := range j.All {
		if !old.Fault.On {
			if now-old.Fault.Recovered < Remembered {
				found = append(found, old)
			}
			continue
		}
		i := slices.IndexFunc(found, func(u *Unresolved) bool { return u.Fault.On && (u.Root == old.Root || overlap(u.Apps, old.Apps)) })
		if i >= 0 {
			u := found[i]
			if !u.Everyone && u.Root == j.resolver() && old.Root.Type == "workload" {
				// The counters do not know yet what single lookups have told.
				u.Root, u.Edges = old.Root, old.Edges
			}
			u.Fault.Since, u.Fault.Fired = min(u.Fault.Since, old.Fault.Since), old.Fault.Fired
			if old.Fault.Kind == rules.KindDNSFailure && u.Root == old.Root {
				u.Fault.Kind, u.Fault.Rule = old.Fault.Kind, old.Fault.Rule
			}
			continue
		}
		if now-old.Fault.LastBad >= int64(rule.Hold) || j.recovered(old) {
			old.Fault.On, old.Fault.Recovered = false, now
		}
		found = append(found, old)
	}
	j.All = found
}

// recovered tells whether any of those who asked in vain, or waited, got an answer in time since.
func (j *Names) recovered(u *Unresolved) (well bool) {
	j.store.DNS.All(func(a *observe.Asker) {
		if !u.Apps[a.App] || a.Name != "" {
			return
		}
		for age := range min(3, a.Win.Known()) {
			if a.Win.Start(age) >= u.Fault.LastBad-a.Win.Start(0)+a.Win.Start(1) && observe.Succeeded(&a.Win, age) > a.Win.At(observe.Slow, age) {
				well = true
			}
		}
	})
	return well
}

func overlap(a, b map[outage.Name]bool) bool {
	for name := range a {
		if b[name] {
			return true
		}
	}
	return false
}

func earliest(a, b int64) int64 {
	if a == 0 {
		return b
	}
	return min(a, b)
}
