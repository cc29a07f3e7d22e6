package pathtemplate

import (
	"cmp"
	"slices"
)

// What tells values that look like names from names.
const (
	// fewNames is the number of names below which nothing is concluded.
	fewNames = 8
	// someNames is how many it takes to be values if they have the same names below them and few came twice.
	someNames = 16
	// manyNames is how many different ones it takes, none or few of them twice, to be values.
	manyNames = 24
	// unseenNames is how many are to be expected in all, by those that were seen once and twice: APIs have fewer.
	unseenNames = 300
	// closedSet is how many leaves are values although they come again and again.
	closedSet = 60
	// allNames is how many are values whatever else they look like.
	allNames = 250
	// atRoot is how many times more it takes at an API's first segment.
	atRoot = 4
)

// census is what the names of a place look like.
type census struct {
	names, methods int
	seen           uint64
	once, twice    int
	// leaves have nothing below them, deep have names; alike are those of them that have one in common with two others at least.
	leaves, deep, alike int
}

func (n *Node[V]) census() census {
	var c census
	below := map[string]int{}
	for _, child := range n.names {
		if child.told || formOf(child.segment) == version {
			continue
		}
		c.names++
		c.seen += uint64(child.seen)
		if method(child.segment) {
			c.methods++
		}
		switch child.seen {
		case 0, 1:
			c.once++
		case 2:
			c.twice++
		}
		if len(child.names) == 0 && len(child.values) == 0 {
			c.leaves++
		}
		deep := false
		for name := range child.names {
			if formOf(name) == word {
				deep = true
				below[name]++
			}
		}
		if deep {
			c.deep++
		}
	}
	for _, child := range n.names {
		for name := range child.names {
			if below[name] >= 3 {
				c.alike++
				break
			}
		}
	}
	return c
}

// varies tells whether what looks like names below a place are values.
func (n *Node[V]) varies() bool {
	if n.open || len(n.names) < fewNames {
		return false
	}
	c := n.census()
	scale := 1
	if n.parent == nil {
		scale = atRoot
	}
	// The same names below most of them: /users/ann/orders, /users/bob/orders.
	if c.names >= someNames*scale && c.once*4 >= c.names*3 && c.deep*2 >= c.names && c.alike*4 >= c.deep*3 {
		return true
	}
	procedures := c.methods*2 > c.names
	if c.names >= allNames*scale && !procedures {
		return true
	}
	// Different names below them: they are names.
	if procedures || c.deep*4 >= c.names && c.deep >= 3 && c.alike*2 < c.deep {
		return false
	}
	values := uint64(0)
	for _, v := range n.values {
		values += uint64(v.seen)
	}
	// Beside values that look like values, names that do not come again.
	if c.names >= fewNames*scale && c.once*5 >= c.names*4 && values >= uint64(c.names) {
		return true
	}
	if c.names >= manyNames*scale {
		// Chao's estimate of how many there are.
		all := c.names + c.once*(c.once-1)/(2*(c.twice+1))
		if all >= unseenNames {
			return true
		}
	}
	return c.names >= closedSet*scale && c.leaves*5 >= c.names*4
}

// review looks, after a name was added, at the places above it: whether they hold values after all. It returns the place that the path has
// now.
func (t *Tree[V]) review(added *Node[V]) *Node[V] {
	added = t.absorb(added)
	for n := added.parent; n != nil; n = n.parent {
		if n.varies() {
			return t.opened(n, added)
		}
	}
	return added
}

// newName is how often a name may have come and still be taken for a value by what is below it.
const newName = 3

// absorb compares the names and the values of the place above the one to which a name was added: /users/ann/orders is /users/{id}/orders if
// there is that already.
func (t *Tree[V]) absorb(added *Node[V]) *Node[V] {
	above := added.parent
	if above.parent == nil || above.parent.parent == nil {
		return added
	}
	beside, name := above.parent, added.segment
	values := beside.value("")
	switch {
	case values == nil || formOf(name) == version:
	case above == values:
		for one, child := range beside.names {
			if child.seen <= newName && !child.told && child.names[name] != nil {
				delete(beside.names, one)
				t.merge(values, child, nil)
			}
		}
	case above.seen <= newName && !above.told && beside.names[above.segment] == above && values.names[name] != nil:
		delete(beside.names, above.segment)
		return t.merge(values, above, added)
	}
	return added
}

// often is how often a name among values comes at least, such as /users/me: far more often than most of the values.
func (n *Node[V]) often() uint32 {
	seen := make([]uint32, 0, len(n.names))
	for _, child := range n.names {
		seen = append(seen, child.seen)
	}
	if len(seen) == 0 {
		return 0
	}
	slices.Sort(seen)
	return 4 * max(seen[len(seen)/2], 1)
}

// opened takes the names below a place for values, and returns where a node below it is now.
func (t *Tree[V]) opened(n, where *Node[V]) *Node[V] {
	often := n.often()
	n.open = true
	into := n.value("")
	if into == nil {
		into = t.add(n, hole, true)
	}
	moved := where
	for name, child := range n.names {
		// What comes far more often than the others is a name among values: /users/me.
		if child.told || formOf(name) == version || child.seen >= often {
			continue
		}
		delete(n.names, name)
		if to := t.merge(into, child, where); to != nil {
			moved = to
		}
	}
	// What was merged may vary now.
	return t.settle(into, moved)
}

// settle looks at all places below one whose names were put together.
func (t *Tree[V]) settle(n, where *Node[V]) *Node[V] {
	if n.varies() {
		where = t.opened(n, where)
	}
	for _, child := range n.children() {
		where = t.settle(child, where)
	}
	return where
}

// merge puts a place and all below it into another, and returns where a node is now if it was among them.
func (t *Tree[V]) merge(into, from, where *Node[V]) (moved *Node[V]) {
	t.nodes--
	if from == where {
		moved = into
	}
	into.seen += from.seen
	into.open = into.open || from.open
	into.label = cmp.Or(into.label, from.label)
	if from.used {
		if into.used {
			into.Value = t.settings.Merge(into.Value, from.Value)
			t.templates--
		} else {
			into.used, into.Value = true, from.Value
		}
	}
	for _, child := range from.values {
		to := into.value(child.suffix())
		if to == nil {
			to = t.add(into, child.segment, true)
		}
		if at := t.merge(to, child, where); at != nil {
			moved = at
		}
	}
	for name, child := range from.names {
		to := into.names[name]
		switch {
		case to != nil:
		case into.open && !child.told:
			if to = into.value(""); to == nil {
				to = t.add(into, hole, true)
			}
		default:
			to = t.add(into, name, false)
		}
		to.told = to.told || child.told
		if at := t.merge(to, child, where); at != nil {
			moved = at
		}
	}
	return moved
}

// shrink keeps the bounds after a template was added: the place with the most names is one of values from now on, the API's first segment
// last. It returns the node that stands for the template.
func (t *Tree[V]) shrink(added *Node[V]) *Node[V] {
	for t.templates > t.settings.MaxTemplates || t.nodes > t.maxNodes() {
		most, score := (*Node[V])(nil), 0
		t.root.walk(func(n *Node[V]) {
			names := 0
			for _, child := range n.names {
				if !child.told {
					names++
				}
			}
			if n.parent != nil {
				names *= atRoot
			}
			if !n.open && names > score {
				most, score = n, names
			}
		})
		if most == nil {
			break
		}
		t.overflowed++
		added = t.opened(most, added)
	}
	if t.templates > t.settings.MaxTemplates && added != t.other {
		// It was merged with nothing, so it is new.
		t.overflowed++
		added.used = false
		t.templates--
		return t.use(t.other)
	}
	return added
}

func (n *Node[V]) walk(do func(*Node[V])) {
	do(n)
	for _, v := range n.values {
		v.walk(do)
	}
	for _, child := range n.names {
		child.walk(do)
	}
}
