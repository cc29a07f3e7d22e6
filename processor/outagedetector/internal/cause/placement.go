package cause

import (
	"time"

	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
)

// placement tells where what fails runs.
type placement struct {
	store     *observe.Store
	waypoints waypoints
}

// belongs tells whether a fault is explained by its node: what fails there are the pods that run there.
func (f placement) belongs(b Blame, node string) bool {
	if b.Family == observe.Connections && !lostWith(b.Fault().Kind) {
		return false
	}
	var here, elsewhere uint64
	if b.Family != observe.Stalled {
		since := f.store.Nodes.ByName[node].Down.Since - int64(30*time.Second)
		for _, e := range f.waypoints.serving(b.Pair) {
			slots := e.Win.SlotsFor(time.Duration(f.store.Now - since))
			failed, all := e.Win.Sum(observe.Failed, slots), e.Win.Sum(observe.Closed, slots)
			if b.Family == observe.RequestErrors {
				failed, all = failed+e.Win.Sum(observe.RequestsFailed, slots), max(all, e.Win.Sum(observe.Requests, slots))
			}
			switch {
			case e.Node == node:
				here += failed
			case fewOf*failed >= all:
				elsewhere += failed
			}
		}
	}
	if here+elsewhere > 0 {
		return here >= mostly*elsewhere
	}
	return f.store.Touches(b.Pair.Destination, node) || f.store.Touches(b.Pair.Source, node)
}

const (
	// mostly is how many times more must fail on a node than elsewhere.
	mostly = 3
	// fewOf is one in how many failures of a pod are no sign: now and then something fails everywhere.
	fewOf = 4
)

// lostWith tells whether what a kind of outage is about may be lost with a node.
func lostWith(kind string) bool {
	fault := reasons.FaultOf(kind)
	return fault != reasons.Mesh && fault != reasons.Client
}

// failsOnlyOn is the node on which all of an app's failing pods run, empty if there is none or more than one.
func (f placement) failsOnlyOn(app *observe.App, since int64) string {
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
func (f placement) answers(node string, now int64) bool {
	n, ok := f.store.Nodes.ByName[node]
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

// runsOnlyOn is the node on which all of an app's pods run, empty if there are several.
func (f placement) runsOnlyOn(app *observe.App) string {
	node := ""
	for _, w := range f.store.Mesh.Pods(app.Name) {
		if node != "" && w.Node != node {
			return ""
		}
		node = w.Node
	}
	return node
}
