// Package graph turns what happened on edges in a window into the graph that the API serves: grouped, judged and encoded.
package graph

import (
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
)

// Mesh is what the graph needs to know about the mesh.
type Mesh interface {
	Workloads() []*inventory.Workload
	ByName() map[inventory.Name]*inventory.Workload
	Hostname(hostname string) *mesh.Service
	// Spread tells whether several clusters have workloads of a namespace, so that it is no cluster's.
	Spread(namespace string) bool
}

// Root is the subject of an outage that is open at the window's end.
type Root struct {
	Namespace, Name string
	Critical        bool
}

// of tells whether a node of the graph is the root, or holds it.
func (r *Root) of(n *Node) bool {
	return r.Namespace == n.Namespace && (r.Name == n.App || r.Name == n.Name || n.Type == string(ByNamespace))
}

// Options say what graph is wanted.
type Options struct {
	// Start and End are unix milliseconds.
	Start, End int64
	GroupBy    GroupBy
	// Namespace, unless empty, keeps the edges that touch it.
	Namespace string
	// Thresholds are the failure ratios from which on a node or an edge is degraded or failing.
	DegradedAt, FailingAt float64
	// Delivering tells of each node (machine) that has telemetry whether it delivers; bounded by what the sources keep.
	Delivering map[string]bool
	// Partial are those of which only what failed is told; bounded by what the sources keep.
	Partial map[string]bool
	Roots   []Root
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
	Pods      []*mesh.Workload

	in, out tally
	dark    bool
	partial bool
}

// Edge is one edge of the graph.
type Edge struct {
	Source, Destination int
	Service             string
	Port                uint16
	Protocol            string
	Security            string
	Waypoint            string
	Health              string
	Counts              *live.Counts
	// Behind is what lies behind the waypoint, nil where nobody tells.
	Behind *Behind
}

// Graph is a graph of a window. Source and Destination of edges are indices into Nodes.
type Graph struct {
	Start, End int64
	// Clock is the data's clock, From what answered: live or history.
	Clock int64
	From  string
	Nodes []Node
	Edges []*Edge

	quoted [][]byte
}
