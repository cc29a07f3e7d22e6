package pathtemplate

import (
	"math/bits"
	"strconv"
	"strings"
)

// Marks of a place in its encoded form: a name; a name that a route has; a value; a value where what looks like a name is one, too.
const (
	markName  = 'n'
	markTold  = 't'
	markValue = 'v'
	markOpen  = 'o'
)

// Encode is the node's template with what the tree knows of each place on its way, for Restore. How often a place was seen is told roughly,
// so that the text seldom changes.
func (n *Node[V]) Encode() string {
	if n.parent == nil {
		return ""
	}
	mark, text := byte(markName), n.segment
	switch {
	case strings.HasPrefix(n.segment, hole) && n.parent.names[n.segment] != n:
		mark, text = markValue, n.label+"}"+n.suffix()
		if n.parent.open {
			mark = markOpen
		}
	case n.told:
		mark = markTold
	}
	return n.parent.Encode() + "/" + string(mark) + strconv.Itoa(1<<bits.Len32(n.seen/2)) + ":" + text
}

// Restore returns the node that Encode wrote of; nil for what Encode did not write, or where there is no room.
func (t *Tree[V]) Restore(encoded string) *Node[V] {
	if !strings.HasPrefix(encoded, "/") {
		return nil
	}
	n := t.root
	for place := range strings.SplitSeq(encoded[1:], "/") {
		head, text, ok := strings.Cut(place, ":")
		if !ok || len(head) < 2 || t.nodes > 2*t.maxNodes() {
			return nil
		}
		seen, err := strconv.ParseUint(head[1:], 10, 32)
		if err != nil {
			return nil
		}
		switch mark := head[0]; mark {
		case markName, markTold:
			next := n.names[text]
			if next == nil && n.open && mark == markName {
				if next = n.value(""); next == nil {
					next = t.add(n, hole, true)
				}
			}
			if next == nil {
				next = t.add(n, text, false)
			}
			next.told = next.told || mark == markTold
			n = next
			n.seen = max(n.seen, uint32(seen))
		case markValue, markOpen:
			label, suffix, ok := strings.Cut(text, "}")
			if !ok {
				return nil
			}
			next := n.value(suffix)
			if next == nil {
				next = t.add(n, hole+suffix, true)
			}
			next.label = label
			if mark == markOpen && !n.open {
				t.opened(n, nil)
			}
			n = next
			n.seen = max(n.seen, uint32(seen))
		default:
			return nil
		}
	}
	return t.use(n)
}
