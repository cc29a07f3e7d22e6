// Package pathtemplate learns the templates of an API's paths from its traffic: /products/4711 and /products/0815 are
// /products/{id}.
//
// A segment that looks like a value (a number, a UUID, a hash, a date) is one. A segment that looks like a name is one, until the place
// shows that it varies where names do not (vary.go). What a route of the application's own says, such as /products/{product}, wins.
// Names are never made of values again, so that templates only become fewer; they are the same after a restart if they are declared again.
//
// The query extension keeps a tree for each service.
package pathtemplate

import (
	"slices"
	"strings"
)

const (
	// maxDepth bounds the segments of a template, maxSuffixes what may follow a value in its segment.
	maxDepth    = 24
	maxSuffixes = 8
	// hole stands for a value whose name nobody told, rest for whatever follows.
	hole = "{id}"
	rest = "*"
)

// Settings of a tree.
type Settings[V any] struct {
	// MaxTemplates bounds the templates beside /*. Where there would be more, the place with the most names is taken for one of values.
	MaxTemplates int
	// Merge puts together the values of two templates that turned out to be one. One that is new has the zero value.
	Merge func(into, from V) V
}

// Tree holds the templates of one API with a value for each. It is not safe for use by several goroutines.
type Tree[V any] struct {
	settings Settings[V]
	root     *Node[V]
	// other is the template of what belongs to none.
	other *Node[V]
	// templates and nodes count what is in use.
	templates, nodes int
	overflowed       uint64
}

// Node is a place in a tree. One that Find returns has a value.
type Node[V any] struct {
	Value V
	// used tells that a template ends here.
	used bool

	parent *Node[V]
	// segment is a name, or holds a value: {id}, {id}.json. label is what a route calls the value.
	segment, label string
	names          map[string]*Node[V] // bounded by maxNodes
	// values are the places behind a value, one for each suffix; the one without is the first.
	values []*Node[V]
	// seen is how many paths came through; open tells that what looks like a name below is a value, told that a route has this name.
	seen       uint32
	open, told bool
}

// New returns an empty tree.
func New[V any](settings Settings[V]) *Tree[V] {
	t := &Tree[V]{settings: settings, root: &Node[V]{}, nodes: 1}
	t.other = t.add(t.root, rest, false)
	t.other.told = true
	return t
}

// Len is the number of templates beside /*.
func (t *Tree[V]) Len() int { return t.templates }

// Overflowed is how often the bound on templates made names be taken for values.
func (t *Tree[V]) Overflowed() uint64 { return t.overflowed }

// maxNodes bounds the places of a tree.
func (t *Tree[V]) maxNodes() int { return 4*t.settings.MaxTemplates + 16 }

// All goes through the templates in the order of their text.
func (t *Tree[V]) All(yield func(*Node[V]) bool) { t.root.all(yield) }

func (n *Node[V]) all(yield func(*Node[V]) bool) bool {
	if n.used && !yield(n) {
		return false
	}
	for _, child := range n.children() {
		if !child.all(yield) {
			return false
		}
	}
	return true
}

// children are the places below, by segment.
func (n *Node[V]) children() []*Node[V] {
	list := slices.Clone(n.values)
	for _, child := range n.names {
		list = append(list, child)
	}
	slices.SortFunc(list, func(a, b *Node[V]) int { return strings.Compare(a.segment, b.segment) })
	return list
}

// Template is the node's template.
func (n *Node[V]) Template() string {
	if n.parent == nil {
		return ""
	}
	segment := n.segment
	if n.label != "" {
		segment = "{" + n.label + "}" + n.suffix()
	}
	return n.parent.Template() + "/" + segment
}

// suffix is what follows the value of a place behind one.
func (n *Node[V]) suffix() string { return n.segment[len(hole):] }

// Find returns the template that a path belongs to, a new one if need be. With known no name is learnt: such a path, say of a request that
// was answered 404, belongs to what is known, or to /*. The path has no query.
func (t *Tree[V]) Find(path string, known bool) *Node[V] {
	n := t.root
	path, plain := strings.TrimPrefix(path, "/"), isGRPC(path)
	for depth := 0; ; depth++ {
		segment, after, more := strings.Cut(path, "/")
		next := n.names[segment]
		if next == nil {
			if next = t.below(n, segment, depth, plain, known); next == nil {
				return t.use(t.other)
			}
		}
		n = next
		n.seen++
		if !more {
			return t.use(n)
		}
		path = after
	}
}

// below finds or makes the place behind a segment that is no name known there; nil if it is a name and must not be learnt.
func (t *Tree[V]) below(n *Node[V], segment string, depth int, plain, known bool) *Node[V] {
	values, suffix := n.open, ""
	if !plain {
		base, end := split(segment)
		switch is := formOf(base); {
		case n.open:
			if end != "" && (is == value || n.value(end) != nil) {
				suffix = end
			}
		case is == value:
			values, suffix = !n.release(base, depth), end
		case end != "":
			values = formOf(segment) == value
		}
	}
	full := depth == maxDepth || t.nodes > 2*t.maxNodes()
	if values {
		next := n.value(suffix)
		if next == nil && len(n.values) > maxSuffixes {
			next, suffix = n.value(""), ""
		}
		if next == nil && !full {
			next = t.add(n, hole+suffix, true)
		}
		return next
	}
	if known || full {
		return nil
	}
	next := t.add(n, strings.Clone(segment), false)
	if plain {
		return next
	}
	return t.review(next)
}

// value is the place behind a value with that suffix, nil if there is none yet.
func (n *Node[V]) value(suffix string) *Node[V] {
	for _, v := range n.values {
		if v.suffix() == suffix {
			return v
		}
	}
	return nil
}

func (t *Tree[V]) add(n *Node[V], segment string, isValue bool) *Node[V] {
	child := &Node[V]{parent: n, segment: segment}
	t.nodes++
	switch {
	case isValue:
		n.values = append(n.values, child)
	case n.names == nil:
		n.names = map[string]*Node[V]{segment: child}
	default:
		n.names[segment] = child
	}
	return child
}

// use makes a node a template, within the bounds.
func (t *Tree[V]) use(n *Node[V]) *Node[V] {
	if n.used {
		return n
	}
	n.used = true
	if n == t.other {
		return n
	}
	t.templates++
	return t.shrink(n)
}

// release tells of a segment of numbers that it is the version of the API: /2010-04-01, /2.0, /api/2.
func (n *Node[V]) release(segment string, depth int) bool {
	switch {
	case depth == 0 && isDate(segment):
		return true
	case n.segment == "api":
		return isRelease(segment, 0)
	}
	return depth < 2 && isRelease(segment, 1)
}

// isRelease tells of 2.0, 1.1 and 1.4.2: small numbers with dots between them, of which there must be some.
func isRelease(segment string, dots int) bool {
	numbers := 0
	for more := true; more; numbers++ {
		var number string
		number, segment, more = strings.Cut(segment, ".")
		if number == "" || len(number) > 2 || !isNumber(number) {
			return false
		}
	}
	return numbers <= 3 && numbers > dots
}

// isDate tells of 2010-04-01 and 20100401.
func isDate(segment string) bool {
	digits := strings.ReplaceAll(segment, "-", "")
	return len(digits) == 8 && (digits[:2] == "19" || digits[:2] == "20") && strings.Trim(digits, "0123456789") == ""
}
