package traces

import (
	"cmp"
	"context"
	"encoding/binary"
	"math"
	"slices"

	"github.com/nephilia/nephilia/internal/records"
)

const (
	// slowestKept is how many traces the digest of a block has.
	slowestKept = 64
	// comparedRows is up to how many spans the traces of a range are all compared with each other.
	comparedRows = 256 << 10
)

// slowest are the traces of a block that took longest.
type slowest struct {
	traces []group
	// beyond is as long as any trace takes that is not among them.
	beyond int64
}

func (g *group) duration() int64 { return g.end - g.start }

// digestBlocks is the Digest of Kind.
func digestBlocks(blocks []*records.Block) []byte {
	var all []group
	for _, b := range blocks {
		all = append(all, digest(b)...)
	}
	if len(blocks) > 1 {
		all = merged(all)
	}
	slices.SortFunc(all, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.duration(), a.duration()), cmp.Compare(b.start, a.start), slices.Compare(a.id[:], b.id[:]))
	})
	beyond := int64(0)
	if len(all) > slowestKept {
		beyond = all[slowestKept].duration()
		all = all[:slowestKept]
	}
	out := binary.AppendVarint(nil, beyond)
	for i := range all {
		g := &all[i]
		out = append(out, g.id[:]...)
		for _, n := range [...]int64{g.start, g.duration(), int64(g.spans), int64(g.errors)} {
			out = binary.AppendVarint(out, n)
		}
	}
	return out
}

// slowestOf reads a block's digest; there is none of records in memory.
func slowestOf(b *records.Block) (s slowest, ok bool) {
	in := b.Digest()
	ok = len(in) > 0
	next := func() int64 {
		n, size := binary.Varint(in)
		if size <= 0 {
			ok, size = false, 0
		}
		in = in[size:]
		return n
	}
	s.beyond = next()
	for ok && len(in) >= len(traceID{}) {
		g := group{id: traceID(in)}
		in = in[len(g.id):]
		g.start = next()
		g.end = g.start + next()
		g.spans, g.errors = int32(next()), int32(next())
		s.traces = append(s.traces, g)
	}
	return s, ok
}

// slowest returns the slowest traces where a range has so many spans that not all can be compared: a trace's place is that of the part of
// it that arrived together. Blocks whose digests tell that they have none of them are not read.
func (s *Store) slowest(ctx context.Context, q *Query, wanted *records.Query) ([]*group, error) {
	n := q.Offset + q.Limit
	groups := map[traceID]*group{} // bounded by maxGroups
	listed := q.listed()
	all := len(wanted.Where) == 0
	// least is as long as the last trace of the list takes at least.
	least := int64(math.MinInt64)
	take := func(list []group) {
		for i := range list {
			know(groups, list[i].id)
			groups[list[i].id].add(&list[i])
		}
		// All but the first could only come back by what arrives of them elsewhere.
		if len(groups) > max(8*n, maxGroups>>6) {
			first := (&Query{Order: q.Order, Limit: n}).first(groups, listed)
			clear(groups)
			for _, g := range first {
				groups[g.id] = g
			}
			if len(first) == n {
				least = first[n-1].duration()
			}
		}
	}
	inside := func(b *records.Block) bool {
		from, to := b.Bounds()
		return (wanted.From == 0 || from >= wanted.From) && (wanted.Until == 0 || to < wanted.Until)
	}
	// The digests alone come first: they tell how long the last of the list takes, and are all that is needed of most blocks.
	if all {
		if err := s.table.Scan(ctx, wanted, func(b *records.Block, _ int64) bool {
			if digested, ok := slowestOf(b); ok && inside(b) {
				take(digested.traces)
			}
			return true
		}); err != nil {
			return nil, err
		}
		if first := (&Query{Order: q.Order, Limit: n}).first(groups, listed); len(first) == n && n > 0 {
			least = first[n-1].duration()
		}
		clear(groups)
	}
	err := s.table.Scan(ctx, wanted, func(b *records.Block, _ int64) bool {
		digested, ok := slowestOf(b)
		switch {
		case ok && all && inside(b) && digested.beyond <= least:
			take(digested.traces)
			return true
		case ok && len(digested.traces) > 0 && digested.traces[0].duration() < least:
			return true
		}
		if b.Rows = b.Select(wanted); len(b.Rows) > 0 {
			take(chosen(b, s.digests.block(b)))
		}
		return true
	})
	return q.first(groups, listed), err
}

// chosen are those of a block's traces of which a span was selected.
func chosen(b *records.Block, traces []group) []group {
	if len(b.Rows) == b.Len() {
		return traces
	}
	ids := map[traceID]struct{}{} // bounded by the block
	bytes := b.Bytes(fieldTrace)
	for _, row := range b.Rows {
		ids[traceID(padded(bytes(int(row))))] = struct{}{}
	}
	var out []group
	for i := range traces {
		if _, is := ids[traces[i].id]; is {
			out = append(out, traces[i])
		}
	}
	return out
}

// merged makes one of those that are of the same trace.
func merged(all []group) []group {
	slices.SortFunc(all, func(a, b group) int { return slices.Compare(a.id[:], b.id[:]) })
	out := all[:0]
	for i := range all {
		if last := len(out) - 1; last >= 0 && out[last].id == all[i].id {
			out[last].add(&all[i])
		} else {
			out = append(out, all[i])
		}
	}
	return out
}
