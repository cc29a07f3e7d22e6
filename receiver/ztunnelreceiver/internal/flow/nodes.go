package flow

import (
	"encoding/binary"
	"slices"
)

// node is one node's ztunnel.
type node struct {
	id   int
	name string
	// lastSeen is the time of its newest entry, heard when it was last heard of, by the receiver's time.
	lastSeen, heard int64
	reading         reading
}

// nodeTable holds the nodes that entries came from, at most max. A node's number stays the same for as long as it is known.
type nodeTable struct {
	max   int
	all   []*node          // by number; nil for numbers that are free
	index map[string]*node // by name; bounded by max
	free  []int
	last  *node // the one that was asked for last
}

func newNodeTable(most int) nodeTable { return nodeTable{max: most, index: map[string]*node{}} }

// get returns the node of that name, nil when there are too many.
func (t *nodeTable) get(name string) *node {
	if t.last != nil && t.last.name == name {
		return t.last
	}
	n := t.index[name]
	if n == nil {
		if len(t.index) >= t.max {
			return nil
		}
		n = &node{name: name}
		if last := len(t.free) - 1; last >= 0 {
			n.id, t.free = t.free[last], t.free[:last]
			t.all[n.id] = n
		} else {
			n.id = len(t.all)
			t.all = append(t.all, n)
		}
		t.index[name] = n
	}
	t.last = n
	return n
}

// restore adds a node of a checkpoint, an empty name for a number that was free. It is false if the name is there already.
func (t *nodeTable) restore(name string, lastSeen, heard int64) bool {
	id := len(t.all)
	if name == "" {
		t.all = append(t.all, nil)
		t.free = append(t.free, id)
		return true
	}
	if t.index[name] != nil {
		return false
	}
	n := &node{id: id, name: name, lastSeen: lastSeen, heard: heard}
	t.all = append(t.all, n)
	t.index[name] = n
	return true
}

// known tells whether a number is a node's.
func (t *nodeTable) known(id uint32) bool { return int64(id) < int64(len(t.all)) && t.all[id] != nil }

// forgetNodes forgets the nodes that were last heard of before a time and of which nothing is kept. It comes after the records were flushed.
func (p *Processor) forgetNodes(before int64) {
	t := &p.nodes
	idle := func(n *node) bool { return n != nil && n.heard < before }
	if p.logs.count > 0 || p.spans.count > 0 || !slices.ContainsFunc(t.all, idle) {
		return
	}
	used := make([]bool, len(t.all))
	for _, s := range p.series.slots {
		if s != nil {
			used[s.node()] = true
		}
	}
	for node := range p.held.each() {
		used[node] = true
	}
	for l := range p.lookups.counts {
		used[l.node] = true
	}
	for id, n := range t.all {
		if idle(n) && !used[id] {
			delete(t.index, n.name)
			t.all[id] = nil
			t.free = append(t.free, id)
		}
	}
	t.last = nil
}

func (t *nodeTable) appendState(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(t.all)))
	for _, n := range t.all {
		if n == nil {
			n = &node{}
		}
		b = appendString(b, n.name)
		b = binary.AppendVarint(b, n.lastSeen)
	}
	return b
}
