// Package graph turns what happened on edges in a window into the graph that the API serves: grouped, judged and encoded.
package graph

import (
	"slices"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/mesh"
)

// TypeExternal is the type of a node that is no workload of the mesh's clusters: an address outside.
const TypeExternal = "external"

// Health of a node or an edge.
const (
	Healthy  = "healthy"
	Degraded = "degraded"
	Failing  = "failing"
	Idle     = "idle"
	Unknown  = "unknown"
	// Denied is what a policy denies on purpose: for as long as it is known, and no outage.
	Denied = "denied"
)

// Mesh is what the graph needs to know about the mesh.
type Mesh interface {
	Workloads() []*inventory.Workload
	ByName() map[inventory.Name]*inventory.Workload
	Hostname(hostname string) *mesh.Service
	Services() []*mesh.Service
	// Spread tells whether several clusters have workloads of a namespace, so that it is no cluster's.
	Spread(namespace string) bool
}

// Options say what graph is wanted.
type Options struct {
	// Start and End are unix milliseconds.
	Start, End int64
	GroupBy    GroupBy
	// Namespaces, unless empty, keep the edges that touch one of them.
	Namespaces []string
	// Waypoints shows waypoints as nodes, and the two halves of each way through one as edges.
	Waypoints bool
	// Thresholds are the failure ratios from which on a node or an edge is degraded or failing.
	DegradedAt, FailingAt float64
	// Delivering tells of each node (machine) that has telemetry whether it delivers; bounded by what the sources keep.
	Delivering map[string]bool
	// Partial are those of which only what failed is told; bounded by what the sources keep.
	Partial map[string]bool
	Outages []Outage
}

// keeps tells whether what belongs to a namespace is wanted.
func (o *Options) keeps(namespace string) bool {
	return len(o.Namespaces) == 0 || slices.Contains(o.Namespaces, namespace)
}

// Node is one node of the graph.
type Node struct {
	ID        string
	Type      string
	Namespace string
	Name      string
	App       string
	Version   string
	Cluster   string
	InMesh    bool
	Health    string
	// Reason says why it has that health, in a clause; it may be empty.
	Reason string
	Pods   []*mesh.Workload
	// wards are what the node stands for.
	wards []*ward
}

// Edge is one edge of the graph.
type Edge struct {
	Source, Destination int
	Service             string
	Port                uint16
	Protocol            string
	Security            string
	Waypoint            string
	// Teller is who tells of an edge that no ztunnel does.
	Teller         string
	Health, Reason string
	Counts         *live.Counts
	// Behind is what lies behind the waypoint, nil where nobody tells.
	Behind *Behind
	judged
}

// judged is what an edge is judged by.
type judged struct {
	client, server *ward
	tally          tally
	seen           seen
	outage         mark
	// denied tells that it is denied on purpose.
	denied bool
	tells  sides
}

// sides are the ends of an edge of whose health it tells.
type sides uint8

const (
	bothSides sides = iota
	clientSide
	serverSide
)

// Graph is a graph of a window. Source and Destination of edges are indices into Nodes.
type Graph struct {
	Start, End int64
	// Clock is the data's clock, From what answered: live or history.
	Clock int64
	From  string
	Nodes []Node
	Edges []*Edge
	// Waypoints are the workloads that are waypoints and no nodes.
	Waypoints []Node

	quoted [][]byte
}
