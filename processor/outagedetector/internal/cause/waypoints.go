package cause

import (
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
)

// leastAtWaypoint is how many connections must fail at a waypoint's own pods for it to be what fails.
const leastAtWaypoint = 3

// waypoints finds those that fail themselves: an edge leads from client to server, but what fails are the connections to what stands
// between.
type waypoints struct{ store *observe.Store }

func (f waypoints) find(open []Blame) (found []*Explanation, rest []Blame) {
	behind := map[*observe.App]*Explanation{}
	var names []*observe.App
	for _, b := range open {
		app := f.of(b.Pair)
		if app == nil || b.Family != observe.Connections || !f.failsAt(app, b) {
			rest = append(rest, b)
			continue
		}
		e, ok := behind[app]
		if !ok {
			e = &Explanation{Diagnosis: Diagnosis{Root: subject(app), Through: true}}
			behind[app] = e
			names = append(names, app)
		}
		e.Edges = append(e.Edges, b)
	}
	slices.SortFunc(names, func(a, b *observe.App) int { return observe.CompareNames(a.Name, b.Name) })
	for _, app := range names {
		e := behind[app]
		e.Kind, e.Rule = dominantKind(e.Edges)
		found = append(found, e)
	}
	return found, rest
}

// of is what stands between an edge's ends, nil if there is nothing or it is not known.
func (f waypoints) of(p *observe.Pair) *observe.App {
	namespace, name, ok := strings.Cut(p.Waypoint, "/")
	if !ok || p.Behind {
		return nil
	}
	return f.store.Edges.Apps[outage.Name{Namespace: namespace, Name: name}]
}

// entry is the pair of an edge's source and its waypoint, which the client's log names; nil if it does not.
func (f waypoints) entry(p *observe.Pair) *observe.Pair {
	app := f.of(p)
	if app == nil {
		return nil
	}
	for _, out := range p.Source.Out {
		if out.Destination == app {
			return out
		}
	}
	return nil
}

// failsAt tells whether what fails on an edge are connections to its waypoint's pods and not to its destination's.
func (f waypoints) failsAt(waypoint *observe.App, b Blame) bool {
	since, _ := b.span()
	at := f.failedPods(waypoint, since)
	return at >= leastAtWaypoint && at >= mostly*f.failedPods(b.Pair.Destination, since)
}

// failedPods is how many connections to an app's pods failed since a time.
func (f waypoints) failedPods(app *observe.App, since int64) (failed uint64) {
	for _, e := range app.Endpoints {
		e.Win.Advance(f.store.Now)
		failed += e.Win.Sum(observe.Failed, e.Win.SlotsFor(time.Duration(f.store.Now-since)+e.Win.Length()))
	}
	return failed
}

// serving are the pods that serve an edge: its destination's and, where one stands between, its waypoint's.
func (f waypoints) serving(p *observe.Pair) []*observe.Endpoint {
	if app := f.of(p); app != nil {
		return slices.Concat(p.Destination.Endpoints, app.Endpoints)
	}
	return p.Destination.Endpoints
}
