package graph

import (
	"slices"
	"strings"
	"unique"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
)

// halves are the two halves of ways through waypoints, as edges to and from these. The graph has them only if it shows waypoints, and
// then instead of the edges from client to server; they tell of the waypoints' health in any case.
func (b *Builder) halves(key *edge.Key, source, destination unique.Handle[edge.Party], counts *live.Counts) {
	half := *key
	half.Waypoint = ""
	if key.BehindWaypoint() {
		b.half(&half, source, destination, counts, clientSide)
		return
	}
	waypoint := b.waypointParty(key.Waypoint)
	half.Destination = waypoint
	b.half(&half, source, unique.Make(waypoint), counts, serverSide)
	if !b.options.Waypoints || counts.Fields[live.Requests] == 0 && counts.Request.Count == 0 {
		return
	}
	// Requests pass both halves. Of the second one's connections only the server's ztunnel tells.
	requests := *counts.Copy()
	requests.Failed, requests.Active, requests.Reasons = 0, 0, nil
	for _, field := range [...]live.Field{live.Opened, live.Closed, live.Sent, live.Received, live.Unanswered} {
		requests.Fields[field] = 0
	}
	requests.Connection.Reset()
	half.Source, half.Destination = waypoint, key.Destination
	b.half(&half, unique.Make(waypoint), destination, &requests, clientSide)
}

// half adds one half, whose counts it does not change. It tells of the waypoint at one of its ends alone.
func (b *Builder) half(key *edge.Key, source, destination unique.Handle[edge.Party], counts *live.Counts, tells sides) {
	if b.options.Waypoints {
		b.addEdge(key, source, destination, counts.Copy()).tells = tells
		return
	}
	b.hiding = true
	b.addEdge(key, source, destination, &live.Counts{
		Fields: counts.Fields, Failed: counts.Failed, Active: counts.Active, Reasons: slices.Clone(counts.Reasons),
	}).tells = tells
	b.hiding = false
}

// waypointParty is the party that a waypoint "namespace/name" is.
func (b *Builder) waypointParty(waypoint string) edge.Party {
	namespace, name, _ := strings.Cut(waypoint, "/")
	if w := b.byName[inventory.Name{Namespace: namespace, Name: name}]; w != nil {
		return partyOf(w)
	}
	return edge.Party{Workload: name, Namespace: namespace, App: name}
}

// waypointsOf are the workloads that services or workloads name as their waypoints; bounded by the mesh.
func waypointsOf(m Mesh) map[inventory.Name]bool {
	named := map[string]bool{}
	note := func(reference string) {
		if reference != "" {
			named[reference] = true
		}
	}
	workloads, services := m.Workloads(), m.Services()
	for _, s := range services {
		note(s.Waypoint)
	}
	for _, w := range workloads {
		for _, pod := range w.Pods {
			note(pod.Waypoint)
		}
	}
	if len(named) == 0 {
		return nil
	}
	for _, s := range services {
		for _, address := range s.Addresses {
			if named[address] {
				named[s.Key()] = true
			}
		}
	}
	waypoints := map[inventory.Name]bool{}
	for _, w := range workloads {
		for _, pod := range w.Pods {
			for service := range pod.Services {
				waypoints[w.Name] = waypoints[w.Name] || named[service]
			}
			for _, address := range pod.Addresses {
				waypoints[w.Name] = waypoints[w.Name] || named[address]
			}
		}
	}
	return waypoints
}

// leaveOut tells whether a workload is a waypoint that the graph does not show, since nothing of its own leads to or from it.
func (b *Builder) leaveOut(w *inventory.Workload) bool {
	if b.options.Waypoints || !b.waypoints[w.Name] {
		return false
	}
	p := partyOf(w)
	_, shown := b.nodes[b.grouping.key(b, b.member(&p, ""))]
	return !shown
}
