package datatime

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// node is what a clock knows of a node.
type node struct {
	// at is the time before which the node has said all; settled is what it was at the last Settle, stored when it was last
	// told by Changed.
	at, settled, stored pcommon.Timestamp
	// heard is the mesh's newest time when the node was heard last, whatever its own clock said.
	heard pcommon.Timestamp
	// start and sequence are the newest heartbeat's.
	start    pcommon.Timestamp
	sequence uint64
	// offset is by how much the node's clock differed at seen from the wall clock, where that is too much; else 0.
	offset time.Duration
	seen   time.Time
}

// nodes are the nodes that a clock knows.
type nodes struct {
	byName map[string]node // bounded by MaxNodes
	newest pcommon.Timestamp
}

func (ns *nodes) put(name string, n node) {
	if _, known := ns.byName[name]; !known {
		name = strings.Clone(name)
	}
	ns.byName[name] = n
}

// Newest is the newest time that a believed heartbeat had; 0 before any.
func (ns *nodes) Newest() pcommon.Timestamp { return ns.newest }

// NodeTime is the time before which a node has said all; false if it is not known or was never believed. What a node
// reported is as old as this says, however long the node has been silent.
func (ns *nodes) NodeTime(name string) (pcommon.Timestamp, bool) {
	n, known := ns.byName[name]
	return n.at, known && n.at > 0
}

// Settled is NodeTime at the last Settle; of a node that is not known, and of what belongs to none, nothing is expected, so
// that it is the end of time.
func (ns *nodes) Settled(name string) pcommon.Timestamp {
	if n, known := ns.byName[name]; known && name != "" {
		return n.settled
	}
	return math.MaxUint64
}

// Settle notes that what nodes said so far is counted.
func (ns *nodes) Settle() {
	for name, n := range ns.byName {
		if n.settled != n.at {
			n.settled = n.at
			ns.byName[name] = n
		}
	}
}

// Silence is for how long, in the mesh's time, a node has not been heard; false if it is not known. A node whose clock is wrong
// is not silent.
func (ns *nodes) Silence(name string) (time.Duration, bool) {
	n, known := ns.byName[name]
	if !known {
		return 0, false
	}
	return time.Duration(ns.newest - min(max(n.at, n.heard), ns.newest)), true
}

// Changed calls f with the nodes' times that changed since the last call, or with all of them, for what is stored.
func (ns *nodes) Changed(all bool, f func(name string, at pcommon.Timestamp)) {
	for name, n := range ns.byName {
		if n.at == 0 || n.at == n.stored && !all {
			continue
		}
		f(name, n.at)
		n.stored = n.at
		ns.byName[name] = n
	}
}

// Problem is a node whose clock is not to be relied on.
type Problem struct {
	Node string
	// Kind is ClockAhead or ClockBehind.
	Kind string
	// Offset is the node's clock less the wall clock when the node was heard last.
	Offset time.Duration
}

// The kinds of problems.
const (
	ClockAhead  = "clock_ahead"
	ClockBehind = "clock_behind"
)

// Sentence says for people what is wrong and what that means.
func (p Problem) Sentence() string {
	name := "node " + p.Node
	if p.Node == "" {
		name = "a source without a node"
	}
	if p.Kind == ClockAhead {
		return fmt.Sprintf("The clock of %s is %s ahead of the collector's. Its heartbeats are ignored until they agree.", name, p.Offset.Round(time.Second))
	}
	return fmt.Sprintf("The heartbeats of %s are %s behind the collector's clock: the node's clock is behind, or its agent is catching up. Nobody waits for them.",
		name, (-p.Offset).Round(time.Second))
}

// Problems are the nodes whose clocks are wrong at wall, by name.
func (ns *nodes) Problems(wall time.Time) []Problem {
	var problems []Problem
	for name, n := range ns.byName {
		if n.offset == 0 || wall.Sub(n.seen) > problemLasts {
			continue
		}
		p := Problem{Node: name, Kind: ClockAhead, Offset: n.offset}
		if n.offset < 0 {
			p.Kind = ClockBehind
		}
		problems = append(problems, p)
	}
	slices.SortFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Node, b.Node) })
	return problems
}
