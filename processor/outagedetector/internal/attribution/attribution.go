// Package attribution blames what fails or is slow on those who add to it. Of what exceeds an edge's own normal each service has a
// part that its callees explain and a part of its own; an outage's root is who adds most (docs/adr/0011-attribution.md). It judges
// edges of which points tell rarely, interval by interval: two in a row must show the same.
package attribution

import (
	"slices"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// symptoms are the families of faults that are attributed.
var symptoms = [...]observe.Family{observe.RequestErrors, observe.Latency}

// member is one symptom of one service: the calls of it fail, or take long.
type member struct {
	app     *observe.App
	symptom observe.Family
}

// illness is how a member does.
type illness struct {
	// since is when the first of the intervals began that show it, last when the newest of them ended.
	since, last int64
	// opens tells that it is an outage even if nothing else is ill.
	opens bool
	// length of an interval.
	length int64
}

// Attribution finds incidents. It is not safe for concurrent use.
type Attribution struct {
	// Incidents are those that go on, oldest first.
	Incidents []*Incident

	store *observe.Store
	ill   map[member]*illness // bounded by the apps, twice
	// told are the apps about which anything was told since the last round.
	told map[*observe.App]struct{} // bounded by the apps
}

// New returns an attribution of what a store keeps.
func New(store *observe.Store) *Attribution {
	return &Attribution{store: store, ill: map[member]*illness{}, told: map[*observe.App]struct{}{}}
}

// Round judges the apps that are called by the edges that changed.
func (a *Attribution) Round(changed []*observe.Pair) {
	clear(a.told)
	for _, p := range changed {
		if p.Rows != nil && p.Rows.TakeTold() {
			a.told[p.Destination] = struct{}{}
		}
	}
	for app := range a.told {
		a.examine(app)
	}
	if len(a.ill) == 0 && len(a.Incidents) == 0 {
		return
	}
	for _, group := range a.groups() {
		a.assign(group)
	}
	a.Incidents = slices.DeleteFunc(a.Incidents, func(i *Incident) bool {
		if i.over(a.store.Now) {
			i.end(a.store)
			return true
		}
		i.attribute(a)
		i.fault(a)
		return false
	})
}

// silent is after how many intervals without calls nothing is known any more.
const silent = 2

// calls are the edges to an app, or from one, of whose requests intervals tell.
func calls(edges []*observe.Pair, now int64) (list []*observe.Pair) {
	for _, p := range edges {
		if p.Rows != nil && now-p.Rows.At() < silent*p.Rows.Length() {
			list = append(list, p)
		}
	}
	return list
}

// ruleOf is the rule that judges a symptom of an app, nil if none does.
func (a *Attribution) ruleOf(m member) *rules.Rule {
	id := rules.ErrorExcess
	if m.symptom == observe.Latency {
		id = rules.LatencyExcess
	}
	return a.store.Catalogue.For("", "", m.app.Name.Namespace, m.app.Name.Name).Get(id)
}

// examine tells how an app does in its two newest intervals: all edges to it together.
func (a *Attribution) examine(app *observe.App) {
	in := calls(app.In, a.store.Now)
	if len(in) == 0 {
		return
	}
	var before, newest stats.Evidence
	began, at, length := int64(0), int64(0), int64(0)
	for _, p := range in {
		earlier, now := p.Rows.Latest()
		before.Add(earlier, p.Rows.Normal())
		newest.Add(now, p.Rows.Normal())
		if began == 0 || p.Rows.Began(1) < began {
			began = p.Rows.Began(1)
		}
		at, length = max(at, p.Rows.At()), max(length, p.Rows.Length())
	}
	both := before
	both.Join(newest)
	for _, symptom := range symptoms {
		m := member{app, symptom}
		rule := a.ruleOf(m)
		if rule == nil {
			delete(a.ill, m)
			continue
		}
		var first, second, together float64
		var enough bool
		if symptom == observe.Latency {
			first, second, together = before.Slow(), newest.Slow(), both.Slow()
			enough = both.Seconds >= rule.Factor*both.Usual
		} else {
			first, second, together = before.Failing(), newest.Failing(), both.Failing()
			enough = both.Failed-both.Expected >= float64(rule.MinCount)
		}
		threshold := stats.Deviations(rule.Chance)
		found := a.ill[m]
		switch {
		case min(first, second) >= threshold/2:
			if found == nil {
				found = &illness{since: began, length: length}
				a.ill[m] = found
			}
			found.last = at
			found.opens = enough && together >= threshold && (symptom != observe.Latency || a.felt(app, both.Seconds-both.Usual, rule.MinRatio))
		case found != nil && at-found.last >= silent*length:
			delete(a.ill, m)
		case found != nil:
			found.opens = false
		}
	}
}

// felt tells whether seconds are at least a share of those for which users wait.
func (a *Attribution) felt(app *observe.App, seconds, share float64) bool {
	waited := 0.0
	for _, p := range a.users(app) {
		before, newest := p.Rows.Latest()
		waited += before.Seconds + newest.Seconds
	}
	return seconds >= share*waited
}

// users are the edges from those whom nobody calls, directly or through others, to an app.
func (a *Attribution) users(apps ...*observe.App) (edges []*observe.Pair) {
	seen := make(map[*observe.App]bool, len(apps))
	for _, app := range apps {
		seen[app] = true
	}
	for queue := apps; len(queue) > 0; {
		app := queue[0]
		queue = queue[1:]
		for _, p := range calls(app.In, a.store.Now) {
			if len(p.Source.In) == 0 {
				edges = append(edges, p)
			} else if !seen[p.Source] {
				seen[p.Source] = true
				queue = append(queue, p.Source)
			}
		}
	}
	return edges
}
