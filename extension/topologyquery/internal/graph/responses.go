package graph

import (
	"cmp"
	"slices"
	"strings"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
)

// named is a number by name.
type named struct {
	name string
	n    uint64
}

// appendResponses appends the members of an edge's requests that say what answered them, and who told most of them; none if nothing is
// known.
func (e *encoder) appendResponses(b []byte, responses []live.ResponseCount) []byte {
	if len(responses) == 0 {
		return b
	}
	b = append(b, `,"by_code":{`...)
	e.named = e.named[:0]
	for _, r := range responses {
		e.count(r.Response.Code, r.Count)
	}
	b = e.appendNamed(b)
	b = append(b, `},"by_flag":{`...)
	e.named = e.named[:0]
	for _, r := range responses {
		for flag := range strings.SplitSeq(r.Response.Flags, ",") {
			e.count(flag, r.Count)
		}
	}
	b = e.appendNamed(b)
	b = append(b, `},"source":`...)
	e.named = e.named[:0]
	for _, r := range responses {
		e.count(r.Response.Source, r.Count)
	}
	source := named{}
	for _, other := range e.named {
		if other.n > source.n || other.n == source.n && other.name < source.name {
			source = other
		}
	}
	return appendString(b, source.name)
}

// count adds to what is named.
func (e *encoder) count(name string, n uint64) {
	if name == "" || n == 0 {
		return
	}
	for i := range e.named {
		if e.named[i].name == name {
			e.named[i].n += n
			return
		}
	}
	e.named = append(e.named, named{name, n})
}

func (e *encoder) appendNamed(b []byte) []byte {
	slices.SortFunc(e.named, func(x, y named) int { return cmp.Compare(x.name, y.name) })
	for _, m := range e.named {
		b = appendMember(b, m.name, m.n)
	}
	return b
}
