package pathtemplate

import "strings"

// Declare returns the template of a route as an application names it, such as http.route: /products/{product}, /products/:product,
// /products/<int:product>. The names in it stay names, and the places of its values are ones of values. It is nil for what is no such route, a
// regular expression for instance.
func (t *Tree[V]) Declare(route string) *Node[V] {
	if !strings.HasPrefix(route, "/") || strings.ContainsAny(route, "^$\\|?+ ") {
		return nil
	}
	n := t.root
	for depth, segment := range strings.Split(route[1:], "/") {
		label, suffix, isValue := readHole(segment)
		if !isValue && strings.ContainsAny(segment, "{}()[]*") {
			return nil
		}
		if t.nodes > 2*t.maxNodes() || depth >= maxDepth {
			return nil
		}
		var next *Node[V]
		if isValue {
			if next = n.value(suffix); next == nil {
				next = t.add(n, hole+suffix, true)
			}
			if next.label == "" {
				next.label = strings.Clone(label)
			}
			if suffix == "" && !n.open {
				t.opened(n, nil)
			}
		} else {
			if next = n.names[segment]; next == nil {
				next = t.add(n, strings.Clone(segment), false)
			}
			next.told = true
		}
		n = next
		n.seen++
	}
	return t.use(n)
}

// readHole reads a segment of a route that stands for a value.
func readHole(segment string) (label, suffix string, ok bool) {
	switch {
	case segment == "":
		return "", "", false
	case segment[0] == ':' && len(segment) > 1:
		label = segment[1:]
	case segment[0] == '{' || segment[0] == '<':
		closing := map[byte]string{'{': "}", '<': ">"}[segment[0]]
		label, suffix, ok = strings.Cut(segment[1:], closing)
		if !ok || strings.ContainsAny(suffix, "{}<>*:") && !strings.HasPrefix(suffix, ":") {
			return "", "", false
		}
	default:
		return "", "", false
	}
	if segment[0] == '<' {
		_, name, typed := strings.Cut(label, ":")
		if typed {
			label = name
		}
	} else {
		label, _, _ = strings.Cut(label, ":")
	}
	if label == "" || strings.ContainsAny(label, "*{}<>.") {
		return "", "", false
	}
	return label, suffix, true
}
