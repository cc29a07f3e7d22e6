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
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// ofSlow says who answers late: the resolver if all wait for it, one node if only there, one domain if only its names.
func (j *Names) ofSlow(q *inquiry, rule *rules.Rule, now int64) []*Unresolved {
	apps, nodes := late(q.byApp, rule), late(q.byNode, rule)
	if len(apps) == 0 && len(nodes) == 0 && !q.all.slow(rule) {
		return nil
	}
	u := &Unresolved{Apps: map[outage.Name]bool{}}
	var members []*observe.Asker
	ill := answers{}
	since := int64(math.MaxInt64)
	on := map[string]map[outage.Name]bool{} // who waits, by node; bounded by the askers
	for _, a := range q.counted {
		for age := range min(j.slots(a, rule.Window), a.Win.Known()) {
			if a.Win.At(observe.Slow, age) > 0 {
				since = min(since, a.Win.Start(age))
			}
		}
		slow := a.Win.Sum(observe.Slow, j.slots(a, rule.Window)) > 0
		if a.InVain == 0 && !slow {
			continue
		}
		if slow {
			if on[a.Node] == nil {
				on[a.Node] = map[outage.Name]bool{}
			}
			on[a.Node][a.App] = true
		}
		a.Ill = now
		members = append(members, a)
	}
	for _, app := range apps {
		ill.add(q.byApp[app].pool)
		ill.usual.ended += q.byApp[app].usual.ended
		ill.usual.succeeded += q.byApp[app].usual.succeeded
	}
	if len(apps) == 0 {
		ill = q.all
	}
	// Whoever gets all answers in time since then speaks against the resolver; where caches give most, that takes a while to tell.
	sure := float64(ill.pool.slow) >= rule.MinRatio*float64(ill.ended) || now-since >= int64(rule.Window)
	wellApps, wellNodes, elsewhere := map[outage.Name]bool{}, map[string]bool{}, false
	for _, a := range q.counted {
		if p := j.answeredSince(a, since+j.every(a)); sure && a.Ill < since && p.ended >= rule.MinCount && p.slow == 0 {
			wellNodes[a.Node] = true
			wellApps[a.App] = wellApps[a.App] || !slices.Contains(apps, a.App)
			for node, waiting := range on {
				elsewhere = elsewhere || a.Node != node && (waiting[a.App] || len(waiting) > 1)
			}
		}
	}
	maps.DeleteFunc(wellApps, func(_ outage.Name, well bool) bool { return !well })
	zone := j.zone(apps, q, since, now)
	switch {
	case len(on) == 1 && elsewhere && !wellNodes[slices.Collect(maps.Keys(on))[0]]:
		// Whoever waits does so there, while the same app or others altogether do not elsewhere.
		u.Root = outage.Subject{Type: "node", Name: slices.Collect(maps.Keys(on))[0]}
		ill = *q.byNode[u.Root.Name]
	case len(apps) > 0 && len(wellApps) > 0:
		u.Root = zone
	default:
		u.Root, u.Everyone = j.resolver(), true
		members = q.counted
	}
	id := rules.NamesSlow
	if ill.gone() {
		id = rules.NamesInVain
	}
	if r := j.store.Catalogue.Base().Get(id); r != nil {
		rule = r
	}
	u.Fault = observe.Fault{On: true, Rule: rule, Kind: rule.Kind}
	j.tell(u, members, now)
	for _, a := range members {
		a.Win.MarkBad(u.Fault.Since)
	}
	return []*Unresolved{u}
}

// late are those whose answers are slow, by what they usually are.
func late[K comparable](pools map[K]*answers, rule *rules.Rule) (ill []K) {
	for key, p := range pools {
		if p.slow(rule) && p.usual.ended > 0 {
			ill = append(ill, key)
		}
	}
	return ill
}

// answeredSince is what an asker was answered in slots that began at a time or later.
func (j *Names) answeredSince(a *observe.Asker, t int64) (p pool) {
	for age := 0; age < a.Win.Known() && a.Win.Start(age) >= t; age++ {
		p.add(answered(a, age))
	}
	return p
}

// succeeds tells whether an asker got an address since others ask in vain, by a scrape that tells of nothing before, and did not ask in
// vain with them: as they recover, not all are seen to at once.
func (j *Names) succeeds(a *observe.Asker, since int64) bool {
	return a.Ill < since && j.answeredSince(a, since+max(j.every(a), int64(a.Win.Length()))).succeeded > 0
}

// unheard tells whether an asker who used to get addresses may still get them: nothing was told of it since.
func (j *Names) unheard(a *observe.Asker, since int64, lately int) bool {
	return a.InVain == 0 && j.answeredSince(a, since+max(j.every(a), int64(a.Win.Length()))).ended == 0 &&
		a.Win.Sum(observe.Closed, lately) > a.Win.Sum(observe.Failed, lately)
}

// ofVain says who resolves nothing, by who asks in vain and who does not.
func (j *Names) ofVain(q *inquiry, rule *rules.Rule, now int64) []*Unresolved {
	refuted := func(a *observe.Asker) bool { return j.refuted(a, q) }
	vain := slices.DeleteFunc(slices.Clone(q.vain), refuted)
	q.names = slices.DeleteFunc(q.names, refuted)
	if len(vain)+len(q.names) == 0 {
		return nil
	}
	told := map[outage.Name]bool{}
	for _, a := range q.names {
		told[a.App] = true
	}
	members := slices.Concat(vain, q.names)
	if node := j.onlyOn(members, q); node != "" {
		return []*Unresolved{j.unresolved(outage.Subject{Type: "node", Name: node}, members, rule, now)}
	}
	found := j.ofNames(q, rule, now)
	vain = slices.DeleteFunc(vain, func(a *observe.Asker) bool { return told[a.App] })
	if len(vain) == 0 {
		return found
	}
	byApp := map[outage.Name][]*observe.Asker{}
	since := int64(0)
	for _, a := range vain {
		byApp[a.App] = append(byApp[a.App], a)
		since = max(since, a.InVain)
	}
	well, unheard := false, false
	for _, a := range q.counted {
		if byApp[a.App] == nil {
			well = well || j.succeeds(a, since)
			unheard = unheard || j.unheard(a, since, j.slots(a, rule.Window))
		}
	}
	switch {
	case well:
	case unheard && now-since < int64(2*rule.Window):
		return found // the next scrape of the others tells whether they do better
	case len(byApp)+len(found) >= 2:
		u := j.unresolved(j.resolver(), vain, rule, now)
		u.Everyone = true
		return append(found, u)
	}
	for _, app := range slices.SortedFunc(maps.Keys(byApp), observe.CompareNames) {
		found = append(found, j.unresolved(j.zone([]outage.Name{app}, q, byApp[app][0].InVain, now), byApp[app], rule, now))
	}
	return merged(found)
}

// refuted tells whether single lookups show that an asker does get addresses: of which its counters do not know yet, or of another type.
func (j *Names) refuted(a *observe.Asker, q *inquiry) bool {
	newest := int64(0)
	for age := range a.Win.Known() {
		if a.Win.At(observe.Closed, age) > 0 {
			newest = a.Win.Start(age)
			break
		}
	}
	return slices.ContainsFunc(q.single, func(one *observe.Asker) bool {
		return one.App == a.App && one.Node == a.Node && (a.Name == "" || a.Name == one.Name) && j.answeredSince(one, newest).succeeded > 0
	})
}

// onlyOn is the one node on which names are asked for in vain while the same app, or another one the same name, or others altogether get
// addresses elsewhere; empty if there is none.
func (j *Names) onlyOn(vain []*observe.Asker, q *inquiry) string {
	node, since := vain[0].Node, int64(0)
	apps, names := map[outage.Name]bool{}, map[string]bool{}
	for _, a := range vain {
		if a.Node != node {
			return ""
		}
		apps[a.App] = true
		names[a.Name] = a.Name != ""
		since = max(since, a.InVain)
	}
	elsewhere := false
	for _, a := range slices.Concat(q.counted, q.single) {
		if !j.succeeds(a, since) {
			continue
		}
		if a.Node == node {
			return ""
		}
		if a.Name == "" {
			elsewhere = elsewhere || apps[a.App] || len(apps) >= 2
		} else {
			elsewhere = elsewhere || names[a.Name]
		}
	}
	if !elsewhere {
		return ""
	}
	return node
}

// ofNames finds the names, or the domains of several of them, that are not resolved any more; where several domains are not and nothing
// else is, it is the resolver.
func (j *Names) ofNames(q *inquiry, rule *rules.Rule, now int64) []*Unresolved {
	zones := map[string][]*observe.Asker{}
	since, exists := int64(0), true
	for _, a := range q.names {
		zones[domainOf(a.Name)] = append(zones[domainOf(a.Name)], a)
		since = max(since, a.InVain)
		exists = exists && a.Result != semconv.LookupNoRecords
	}
	well := slices.ContainsFunc(q.single, func(a *observe.Asker) bool { return a.InVain == 0 && j.succeeds(a, since) })
	if len(zones) >= 2 && !well && exists {
		u := j.unresolved(j.resolver(), q.names, rule, now)
		u.Everyone, u.Wide = true, true
		return []*Unresolved{u}
	}
	var found []*Unresolved
	for _, domain := range slices.Sorted(maps.Keys(zones)) {
		found = append(found, j.unresolved(outage.Subject{Type: "workload", Name: common(zones[domain])}, zones[domain], rule, now))
	}
	return found
}

// common is the name that all ask for, or its domain where they ask for several of it.
func common(askers []*observe.Asker) string {
	if slices.ContainsFunc(askers, func(a *observe.Asker) bool { return a.Name != askers[0].Name }) {
		return domainOf(askers[0].Name)
	}
	return askers[0].Name
}

// domainOf is what names have in common that are likely in the same hands: their last two labels.
func domainOf(name string) string {
	labels := strings.Split(name, ".")
	return strings.Join(labels[max(len(labels)-2, 0):], ".")
}

// under tells whether a name is another one or belongs to it.
func under(name, domain string) bool { return name == domain || strings.HasSuffix(name, "."+domain) }

// merged makes one of those with the same root.
func merged(found []*Unresolved) []*Unresolved {
	var all []*Unresolved
	for _, u := range found {
		i := slices.IndexFunc(all, func(other *Unresolved) bool { return other.Root == u.Root })
		if i < 0 {
			all = append(all, u)
			continue
		}
		into := all[i]
		maps.Copy(into.Apps, u.Apps)
		into.Edges, into.Evidence = append(into.Edges, u.Edges...), append(into.Evidence, u.Evidence...)
		into.Nodes = slices.Compact(slices.Sorted(slices.Values(append(into.Nodes, u.Nodes...))))
		into.Fault.Since = min(into.Fault.Since, u.Fault.Since)
		into.Fault.Failed, into.Fault.Total = into.Fault.Failed+u.Fault.Failed, into.Fault.Total+u.Fault.Total
	}
	return all
}

// zone is what apps ask for in vain since a time: a name or a domain, where single lookups or silent edges tell it, or else the resolver.
func (j *Names) zone(apps []outage.Name, q *inquiry, since, now int64) outage.Subject {
	names := map[string]bool{}
	for _, app := range apps {
		before := len(names)
		for _, a := range q.names {
			if a.App == app {
				names[a.Name] = true
			}
		}
		if len(names) > before {
			continue
		}
		for _, out := range j.unreached(app, since, now, false) {
			if _, err := netip.ParseAddr(out.Destination.Name.Name); err != nil {
				names[out.Destination.Name.Name] = true
			}
		}
	}
	for name := range names {
		if len(names) == 1 {
			return outage.Subject{Type: "workload", Name: name}
		}
	}
	return j.resolver()
}

// remembers is how long before a time an edge must have been in use for its silence since to say anything.
const remembers = int64(2 * time.Minute)

// unreached are the edges of an app that lead outside and on which nothing went well since a time. Sure are those that would have been
// used again by now.
func (j *Names) unreached(app outage.Name, since, now int64, sure bool) (silent []*observe.Pair) {
	known, ok := j.store.Edges.Apps[app]
	if !ok {
		return nil
	}
	for _, out := range known.Out {
		last := out.LastSuccess
		if out.Destination.Name.Namespace != "" || last < since-remembers || last >= since+int64(settleTime) {
			continue
		}
		out.Win.Advance(now)
		age := out.Win.Age(since)
		calls := max(out.Win.Normal(observe.Closed, age), out.Win.Normal(observe.Requests, age))
		gap := out.Win.NormalSlots(age) * float64(out.Win.Length()) / max(calls, 1)
		if !sure || float64(now-max(last, since)) >= max(float64(settleTime), 3*gap) {
			silent = append(silent, out)
		}
	}
	return silent
}

func (j *Names) resolver() outage.Subject {
	name := j.store.Mesh.Resolver()
	return outage.Subject{Type: "service", Namespace: name.Namespace, Name: name.Name}
}

func (j *Names) unresolved(root outage.Subject, members []*observe.Asker, rule *rules.Rule, now int64) *Unresolved {
	u := &Unresolved{Root: root, Apps: map[outage.Name]bool{}, Fault: observe.Fault{On: true, Rule: rule, Kind: rule.Kind}}
	j.tell(u, members, now)
	return u
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
	for _, old := range j.All {
		if old.Fault.On && old.Root == u.Root {
			u.Fault.Since = earliest(u.Fault.Since, old.Fault.Since)
		}
	}
	edges, nodes := map[outage.Edge]*outage.Edge{}, map[string]bool{}
	add := func(from, to outage.Name, bad, all uint64) {
		key := outage.Edge{Source: from, Destination: to}
		e, ok := edges[key]
		if !ok {
			e = &outage.Edge{Source: from, Destination: to}
			edges[key] = e
		}
		e.Failed, e.Total = e.Failed+bad, e.Total+all
	}
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
		add(a.App, to, bad, all)
		u.Fault.Failed, u.Fault.Total = u.Fault.Failed+bad, u.Fault.Total+all
		if len(u.Evidence) < 3 {
			u.Evidence = append(u.Evidence, evidenceOf(a, u.Fault.Since, slow, bad, all))
		}
	}
	if !slow {
		for app := range u.Apps {
			for _, out := range j.unreached(app, u.Fault.Since, now, true) {
				if name := out.Destination.Name; u.Root.Type != "workload" || under(name.Name, u.Root.Name) {
					add(app, name, 0, 0)
				}
			}
		}
	}
	for _, e := range edges {
		u.Edges = append(u.Edges, *e)
	}
	slices.SortFunc(u.Edges, func(a, b outage.Edge) int {
		return cmp.Or(observe.CompareNames(a.Source, b.Source), observe.CompareNames(a.Destination, b.Destination))
	})
	u.Nodes = slices.Sorted(maps.Keys(nodes))
	j.disturbed(u)
	u.Fault.Fired, u.Fault.LastBad, u.Fault.Ratio = now, now, 1
}

// disturbed finds who suffers from the same, though some of its queries are answered: by a cache, or since it asks for other names as well.
func (j *Names) disturbed(u *Unresolved) {
	u.Disturbed = map[outage.Name]bool{}
	if u.Root.Type == "workload" {
		for _, app := range j.store.Edges.Apps {
			for _, out := range app.Out {
				if name := out.Destination.Name; name.Namespace == "" && name.Name == u.Root.Name && out.LastSuccess < u.Fault.Since+int64(settleTime) {
					u.Disturbed[app.Name] = true
				}
			}
		}
		return
	}
	j.store.DNS.All(func(a *observe.Asker) {
		if a.Name != "" || u.Root.Type == "node" && a.Node != u.Root.Name {
			return
		}
		w := &a.Win
		age := w.Age(u.Fault.Since) + 1
		ended, usual := w.Normal(observe.Closed, age), w.Normal(observe.Closed, age)-w.Normal(observe.Failed, age)
		if usual < learnt {
			return
		}
		pool := j.answeredSince(a, u.Fault.Since)
		waiting := w.Sum(observe.Opened, age) > pool.ended
		missing := usual/ended*float64(pool.ended) - float64(pool.succeeded)
		if waiting || missing >= 1 || pool.slow > 0 {
			u.Disturbed[a.App] = true
		}
	})
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
