package graph

import (
	"slices"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/reasons"
)

type tally struct {
	attempts, failed, requests, errors uint64
	alive                              bool
}

// add counts what tells of a party's health: of a server, only what is not its clients' doing.
func (t *tally) add(c *live.Counts, server bool) {
	t.attempts += max(c.Fields[live.Closed], c.Failed)
	t.failed += c.Failed
	for _, r := range c.Reasons {
		if reason := reasons.Of(r.Reason.ErrorType); reason.Kind == "" || server && reason.Fault == reasons.Client {
			t.failed -= min(r.Count, t.failed)
		}
	}
	t.requests += c.Fields[live.Requests]
	t.errors += c.Fields[live.RequestsFailed]
	t.alive = t.alive || !c.Empty()
}

func (t *tally) ratio() float64 {
	var ratio float64
	if t.attempts > 0 {
		ratio = float64(t.failed) / float64(t.attempts)
	}
	if t.requests > 0 {
		ratio = max(ratio, float64(t.errors)/float64(t.requests))
	}
	return ratio
}

// FailureRatio is the share of the node's inbound connections or requests that failed, whichever is larger.
func (n *Node) FailureRatio() float64 { return n.in.ratio() }

// isDark tells that no pod's machine delivers telemetry, though some of them are known to.
func (b *Builder) isDark(pods []*mesh.Workload) bool {
	known := false
	for _, pod := range pods {
		if !pod.InMesh() {
			continue
		}
		delivering, ok := b.options.Delivering[pod.Node]
		if delivering || !ok {
			return false
		}
		known = true
	}
	return known
}

// isPartial tells that of some pod only what failed is told.
func (b *Builder) isPartial(pods []*mesh.Workload) bool {
	return slices.ContainsFunc(pods, func(pod *mesh.Workload) bool { return pod.InMesh() && b.options.Partial[pod.Node] })
}

// partial tells that no end of an edge tells of more than what failed.
func partial(source, destination *Node) bool {
	return source.partial && (destination.partial || !destination.InMesh) || destination.partial && !source.InMesh
}

// isRoot tells that an outage begins with a node.
func (b *Builder) isRoot(n *Node) bool {
	return slices.ContainsFunc(b.options.Roots, func(r Root) bool { return r.of(n) })
}

func (b *Builder) judge() {
	g := &b.graph
	for _, e := range g.Edges {
		source, destination := &g.Nodes[e.Source], &g.Nodes[e.Destination]
		source.out.add(e.Counts, false)
		source.out.beyond(e)
		destination.in.add(e.Counts, true)
		destination.in.beyond(e)
		var t tally
		t.add(e.Counts, false)
		t.beyond(e)
		e.Health = b.level(t.ratio())
		switch {
		case partial(source, destination) && t.requests == 0:
			// A share of what failed alone says nothing.
			e.Health = Unknown
		case e.Health != Healthy:
		case t.attempts == 0 && t.requests == 0 && source.dark && destination.dark:
			e.Health = Unknown
		case !t.alive:
			e.Health = Idle
			if source.dark || destination.dark {
				e.Health = Unknown
			}
		}
	}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		n.Health = b.level(n.in.ratio())
		if n.Health == Healthy && b.level(n.out.ratio()) == Failing {
			n.Health = Degraded
		}
		for _, root := range b.options.Roots {
			if root.of(n) && n.Health != Failing {
				n.Health = Degraded
				if root.Critical {
					n.Health = Failing
				}
			}
		}
		switch {
		case n.partial && n.in.requests == 0 && !b.isRoot(n):
			n.Health = Unknown
		case n.Health == Failing || n.Health == Degraded:
		case n.dark:
			n.Health = Unknown
		case !n.in.alive && !n.out.alive:
			n.Health = Idle
		}
	}
}

func (b *Builder) level(ratio float64) string {
	switch {
	case ratio >= b.options.FailingAt && ratio > 0:
		return Failing
	case ratio >= b.options.DegradedAt && ratio > 0:
		return Degraded
	}
	return Healthy
}
