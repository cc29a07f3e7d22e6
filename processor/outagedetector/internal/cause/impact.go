package cause

import (
	"cmp"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
)

// How an app depends on what failed.
const (
	HowCalls     = "calls"
	HowDependsOn = "depends_on"
)

const (
	maxImpact = 200
	// inUse is how recent a call must be for its caller to depend on the callee.
	inUse = time.Hour
)

// Impact is the blast radius: who calls what fails, directly and through others, and since when each feels it.
func (f *Finder) Impact(e *Explanation) []outage.Impact {
	origin := f.origin(e)
	feels := map[*observe.App]int64{}
	for _, list := range [][]Blame{e.Edges, e.Affected} {
		for _, b := range list {
			since := b.Fault().Since
			if b.Weak {
				since = e.Since
			}
			feels[b.Pair.Source] = earliest(feels[b.Pair.Source], since)
		}
	}
	how, depth := map[*observe.App]string{}, map[outage.Name]int{}
	var queue []*observe.App
	for _, app := range origin {
		how[app] = ""
		queue = append(queue, app)
	}
	direct := map[*observe.App]bool{}
	for _, b := range e.Edges {
		for _, caller := range callers(b.Pair) {
			direct[caller] = true
			if _, ok := how[caller]; !ok {
				how[caller] = HowCalls
				queue = append(queue, caller)
			}
		}
	}
	for _, told := range e.Told {
		if app, ok := f.store.Edges.Apps[told.Source]; ok && how[app] == "" {
			how[app] = HowCalls
			queue = append(queue, app)
		}
	}
	for len(queue) > 0 && len(how) < maxImpact {
		app := queue[0]
		queue = queue[1:]
		for _, in := range app.In {
			if _, ok := how[in.Source]; ok || in.Behind && len(in.Clients()) > 0 || f.store.Now-in.LastActive > int64(inUse) {
				continue
			}
			depth[in.Source.Name] = depth[app.Name] + 1
			how[in.Source] = HowDependsOn
			if how[app] == "" {
				how[in.Source] = HowCalls
			}
			queue = append(queue, in.Source)
		}
	}
	var impact []outage.Impact
	for app, word := range how {
		if word == "" {
			// What runs on a node that is down both fails and, if it calls others there, suffers.
			if !direct[app] {
				continue
			}
			word = HowCalls
		}
		one := outage.Impact{Name: app.Name, How: word}
		if since := feels[app]; since != 0 {
			at := time.Unix(0, since).UTC()
			one.Since = &at
		}
		impact = append(impact, one)
	}
	slices.SortFunc(impact, func(a, b outage.Impact) int {
		return cmp.Or(cmp.Compare(a.How, b.How), cmp.Compare(depth[a.Name], depth[b.Name]), observe.CompareNames(a.Name, b.Name))
	})
	return impact
}

// callers are those who make an edge's connections, or for whom a waypoint makes them.
func callers(p *observe.Pair) []*observe.App {
	var sources []*observe.App
	for _, in := range p.Clients() {
		sources = append(sources, in.Source)
	}
	if len(sources) == 0 {
		sources = append(sources, p.Source)
	}
	return sources
}

// origin are the apps at which it starts.
func (f *Finder) origin(e *Explanation) []*observe.App {
	var origin []*observe.App
	switch e.Root.Type {
	case TypeWorkload:
		if app, ok := f.store.Edges.Apps[outage.Name{Namespace: e.Root.Namespace, Name: e.Root.Name}]; ok {
			origin = append(origin, app)
		}
		if e.Policy != "" || e.Through {
			for _, b := range e.Edges {
				origin = append(origin, b.Pair.Destination)
			}
		}
	case TypeNode:
		for _, b := range e.Edges {
			origin = append(origin, b.Pair.Destination)
		}
	}
	slices.SortFunc(origin, func(a, b *observe.App) int { return observe.CompareNames(a.Name, b.Name) })
	return slices.Compact(origin)
}
