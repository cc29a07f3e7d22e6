package judge

import (
	"cmp"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// Late judges on which nodes all connections last longer than usual while those of others do not: a ztunnel that is stopped and let run
// shows nothing of that in its own series.
type Late struct {
	store *observe.Store
	// since is since when the connections of an edge last longer than usual; bounded by the edges.
	since map[*observe.Pair]int64
	names *Names
	// suspect is the node of which they seem to be, seen since when.
	suspect string
	seen    int64
}

const (
	// lateWindow is over what time connections are looked at, lateCount how many there must be, usualCount how many before.
	lateWindow            = 30 * time.Second
	lateCount, usualCount = 3, 20
	// lateFactor is how many times longer they last, lateBy by how much at least.
	lateFactor, lateBy = 3, 20 * time.Millisecond
	// lateEdges is how many apps on a node's edges are late at least, lateShare which share of those that only it carries, lateElsewhere which share
	// of the others may be.
	lateEdges, lateShare, lateElsewhere = 3, 0.75, 0.2
	// lateSources is how many apps call what is late.
	lateSources = 2
	// lateApart is how far apart the first signs may be.
	lateApart = 30 * time.Second
)

// Suspected tells whether it may soon turn out that a node's ztunnel is behind what is slow there.
func (j *Late) Suspected(node string) bool { return node != "" && j.suspect == node }

// note takes over an edge that changed.
func (j *Late) note(p *observe.Pair, now int64) {
	times, known := lasting(p)
	switch {
	case !known:
		if since, ok := j.since[p]; ok && now-max(since, p.LastActive) > int64(2*lateWindow) {
			delete(j.since, p)
		}
	case times < lateFactor || p.Faults[observe.Connections].On:
		delete(j.since, p)
	case j.since[p] == 0:
		j.since[p] = now
	}
}

// lasting is how many times as long as usual an edge's connections last lately.
func lasting(p *observe.Pair) (times float64, known bool) {
	w := &p.Win
	slots := w.SlotsFor(lateWindow / 3)
	n, usual := w.Sum(observe.Lasted, slots), w.Normal(observe.Lasted, w.SlotsFor(lateWindow))
	if n < lateCount || usual < usualCount {
		return 0, false
	}
	mean := float64(w.Sum(observe.Lifetime, slots)) / float64(n)
	normal := max(w.Normal(observe.Lifetime, w.SlotsFor(lateWindow))/usual, 1)
	if mean-normal < float64(lateBy/observe.LifetimeUnit) {
		return 1, true
	}
	return mean / normal, true
}

// late tells whether an edge is, by its connections or, where few end, by its requests.
func (j *Late) late(p *observe.Pair) bool { return j.since[p] != 0 || p.Faults[observe.Latency].On }

func (j *Late) judge(now int64) {
	rule := j.store.Catalogue.Base().Get(rules.ZtunnelOverloaded)
	node := ""
	if rule != nil && len(j.since) >= lateEdges && !slices.ContainsFunc(j.names.All, func(u *Unresolved) bool { return u.Fault.On }) {
		node = j.node()
	}
	if node != j.suspect {
		j.suspect, j.seen = node, now
	}
	for name, n := range j.store.Nodes.ByName {
		f := &n.Proxy.Late
		switch {
		case name == node && f.On:
			f.LastBad = now
			j.keep(name, f)
		case f.On && now-f.LastBad > int64(settleTime):
			f.On, f.Recovered = false, now
		case name == node && name != "" && now-j.seen >= int64(observe.MinSlot):
			*f = observe.Fault{On: true, Rule: rule, Kind: rule.Kind, Since: now, Fired: now, LastBad: now, Tally: observe.Tally{Ratio: 1}}
			j.keep(name, f)
		}
	}
}

// keep keeps what is late on a node out of what is usual, and tells how late it is.
func (j *Late) keep(node string, f *observe.Fault) {
	for p, since := range j.since {
		if !j.touches(p, node) {
			continue
		}
		if since > f.Fired-int64(lateApart) {
			f.Since = min(f.Since, since)
		}
		if times, known := lasting(p); known {
			f.Times = max(f.Times, times)
		}
		p.Win.MarkBad(f.Since)
	}
}

// Edges are those of a node whose connections last longer than usual, or whose requests do, with how many ended since a time.
func (j *Late) Edges(node string, since int64) (edges []outage.Edge) {
	for _, app := range j.store.Edges.Apps {
		for _, p := range app.Out {
			slots := p.Win.SlotsFor(lateWindow)
			slow := p.Win.Sum(observe.Slow, slots)
			if j.since[p] == 0 && (slow < lateCount || float64(slow) < slowShare*float64(p.Win.Sum(observe.Timed, slots))) || !j.touches(p, node) {
				continue
			}
			slots = p.Win.SlotsFor(time.Duration(j.store.Now - since))
			ended := max(p.Win.Sum(observe.Lasted, slots), p.Win.Sum(observe.Timed, slots))
			edges = append(edges, outage.Edge{Source: p.Source.Name, Destination: p.Destination.Name, Total: ended})
		}
	}
	slices.SortFunc(edges, func(a, b outage.Edge) int {
		return cmp.Or(observe.CompareNames(a.Source, b.Source), observe.CompareNames(a.Destination, b.Destination))
	})
	return edges
}

// slowShare is which share of an edge's requests is late where its connections do not end.
const slowShare = 0.2

func (j *Late) touches(p *observe.Pair, node string) bool {
	return j.store.Touches(p.Source, node) || j.store.Touches(p.Destination, node)
}

// node is the one that all edges have in common that are late by themselves, if all that only it carries is late and nothing else is;
// empty if there is none.
func (j *Late) node() string {
	var leaves []*observe.Pair
	sources, destinations := map[*observe.App]bool{}, map[*observe.App]bool{}
	for p := range j.since {
		if !j.waits(p.Destination) {
			leaves = append(leaves, p)
			sources[p.Source], destinations[p.Destination] = true, true
		}
	}
	if len(sources) < lateSources || len(destinations) < lateEdges {
		return "" // few apps are late, or one to all
	}
	best, most := "", 0
	for _, name := range j.store.Nodes.Names() {
		all := name != ""
		for _, p := range leaves {
			all = all && j.touches(p, name)
		}
		if !all {
			continue
		}
		switch n := j.carried(name); {
		case n > most:
			best, most = name, n
		case n == most:
			best = ""
		}
	}
	if best == "" || !j.wellElsewhere(best) {
		return ""
	}
	return best
}

// waits tells whether an app calls what is late.
func (j *Late) waits(app *observe.App) bool {
	for _, out := range app.Out {
		if j.late(out) {
			return true
		}
	}
	return false
}

// carried is how many edges are late that only a node's ztunnel carries at one end; 0 if it is not most of them.
func (j *Late) carried(node string) int {
	late, known := 0, 0
	seen := map[*observe.Pair]bool{}
	for _, name := range j.store.Mesh.AppsOn(node) {
		app, ok := j.store.Edges.Apps[name]
		if !ok {
			continue
		}
		for _, edges := range [][]*observe.Pair{app.In, app.Out} {
			for _, p := range edges {
				if seen[p] {
					continue
				}
				seen[p] = true
				if j.late(p) {
					late, known = late+1, known+1
				} else if _, told := lasting(p); told {
					known++
				}
			}
		}
	}
	if late < lateEdges || float64(late) < lateShare*float64(known) {
		return 0
	}
	return late
}

// wellElsewhere tells whether of the edges that do not touch a node hardly any is late by itself.
func (j *Late) wellElsewhere(node string) bool {
	late, known := 0, 0
	for _, app := range j.store.Edges.Apps {
		for _, p := range app.Out {
			if j.touches(p, node) {
				continue
			}
			if _, told := lasting(p); !told {
				continue
			}
			known++
			if j.late(p) && !j.waits(p.Destination) {
				late++
			}
		}
	}
	return float64(late) <= lateElsewhere*float64(known)
}
