package scraped

import (
	"slices"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

func (t *Table) hopOf(g *group) naming.Hop {
	return t.names.MergePartyHop(g.flow.Source, g.flow.Destination, g.flow.Service)
}

// leadsToWaypoint tells whether a group's connections end at a waypoint on their way. Where nobody tells the mesh's state, it
// shows by a tunnel that only its client's ztunnel tells of: none speaks for a waypoint.
func (t *Table) leadsToWaypoint(g *group) bool {
	if !t.names.Known() {
		return g.flow.MutualTLS && g.standing.current[byDestination] == levels{}
	}
	return t.names.LeadsToWaypoint(g.flow.Destination, g.flow.Service)
}

// closing is a failure of which ztunnel's counters cannot tell whether it is one: it counts connections that a waypoint closed as well.
func closing(f reconcile.Failed) bool { return f.Reason.Type == semconv.ErrorTypeConnectFailed }

// leaveOutClosings takes what failed on the way to a waypoint for answered where the client received something since the last
// time: ztunnel counts each connection that the waypoint closes first as a failed one.
func (g *group) leaveOutClosings() {
	source := &g.pending[bySource]
	g.answered = g.answered || source.counts[counterReceived] > 0
	if g.answered && slices.ContainsFunc(source.failed, closing) {
		source.failed = slices.DeleteFunc(source.failed, closing)
		g.answered = false
	}
}

// leaveOutPooled takes what failed between a waypoint and a server that answers for closed where the connections were not new: one
// that is refused was opened just before, those of the waypoint's pool did their work.
func (g *group) leaveOutPooled() {
	p := &g.pending[byDestination]
	if p.counts[counterReceived] == 0 {
		return
	}
	fresh := p.counts[counterOpened]
	for i := range p.failed {
		if f := &p.failed[i]; closing(*f) {
			f.N = min(f.N, fresh)
			fresh -= f.N
		}
	}
	p.failed = slices.DeleteFunc(p.failed, func(f reconcile.Failed) bool { return f.N == 0 })
}
