package traces

import (
	"cmp"
	"encoding/hex"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nephilia/nephilia/internal/records"
)

// group is what is known of a trace from the spans that were looked at. Times are unix nanoseconds.
type group struct {
	id            traceID
	start, end    int64
	spans, errors int32
}

func know(groups map[traceID]*group, id traceID) {
	if groups[id] == nil {
		groups[id] = &group{id: id, start: math.MaxInt64}
	}
}

func (g *group) add(other *group) {
	g.start, g.end = min(g.start, other.start), max(g.end, other.end)
	g.spans += other.spans
	g.errors += other.errors
}

// digests are the traces of blocks that do not change, so that lists of all need not read all spans again.
type digests struct {
	mu sync.Mutex
	of map[string][]group // bounded by maxDigested
	// traces are those of all blocks; bounded by maxDigested.
	traces int
}

// maxDigested bounds the traces that are remembered, of 40 bytes each.
const maxDigested = 256 << 10

// block returns the traces of a block.
func (d *digests) block(b *records.Block) []group {
	id := b.ID()
	d.mu.Lock()
	known, ok := d.of[id]
	d.mu.Unlock()
	if ok {
		return known
	}
	traces := digest(b)
	if id == "" || len(traces) > maxDigested {
		return traces
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.traces+len(traces) > maxDigested {
		clear(d.of)
		d.traces = 0
	}
	if _, again := d.of[id]; !again {
		d.of[id] = traces
		d.traces += len(traces)
	}
	return traces
}

// digest reads the traces of a block.
func digest(b *records.Block) []group {
	times, durations := b.Times(), b.Numbers(fieldDuration)
	statuses, codes := b.Codes(fieldStatus)
	failed := int32(slices.Index(statuses, "error"))
	index := map[traceID]int32{} // bounded by the block
	ids := b.Bytes(fieldTrace)
	var traces []group
	for row, start := range times {
		one := group{id: traceID(padded(ids(row))), start: start, end: start, spans: 1}
		if row < len(durations) {
			one.end += durations[row]
		}
		if row < len(codes) && codes[row] == failed {
			one.errors = 1
		}
		// Spans of a trace mostly follow each other.
		if last := len(traces) - 1; last >= 0 && traces[last].id == one.id {
			traces[last].add(&one)
		} else if at, known := index[one.id]; known {
			traces[at].add(&one)
		} else {
			index[one.id] = int32(len(traces))
			traces = append(traces, one)
		}
	}
	return slices.Clip(traces)
}

// enough tells whether the list is full of traces that began after a time, so that none from before can be in it.
func enough(groups map[traceID]*group, q *Query, after int64) bool {
	n, listed := 0, q.listed()
	for _, g := range groups {
		if g.start > after && listed(g) {
			n++
		}
	}
	return n >= q.Limit+q.Offset
}

// drop forgets the half of the traces that comes last.
func drop(groups map[traceID]*group, q *Query) {
	all := make([]*group, 0, len(groups))
	for _, g := range groups {
		all = append(all, g)
	}
	slices.SortFunc(all, q.compare)
	for _, g := range all[len(all)/2:] {
		delete(groups, g.id)
	}
}

// first returns the traces of the list, in its order.
func (q *Query) first(groups map[traceID]*group, listed func(*group) bool) []*group {
	n := q.Offset + q.Limit
	var found []*group
	for _, g := range groups {
		if len(found) == n && (n == 0 || q.compare(found[n-1], g) <= 0) || !listed(g) {
			continue
		}
		at, _ := slices.BinarySearchFunc(found, g, q.compare)
		found = slices.Insert(found[:min(len(found), n-1)], at, g)
	}
	return found[min(q.Offset, len(found)):]
}

// listed returns what tells whether a trace is within the query's range, and after the one that it goes on from.
func (q *Query) listed() func(*group) bool {
	from, until := nanos(q.Start), nanos(q.End)
	return func(g *group) bool {
		return (from == 0 || g.start >= from) && (until == 0 || g.start < until) &&
			(q.After.IsZero() || q.follows(time.Unix(0, g.start), hex.EncodeToString(g.id[:])))
	}
}

// compare orders traces as the query asks.
func (q *Query) compare(a, b *group) int {
	first := 0
	switch q.Order {
	case OrderSlowest:
		first = cmp.Compare(b.duration(), a.duration())
	case OrderSpans:
		first = cmp.Compare(b.spans, a.spans)
	case OrderErrors:
		first = cmp.Compare(b.errors, a.errors)
	}
	return cmp.Or(first, cmp.Compare(b.start, a.start), slices.Compare(a.id[:], b.id[:]))
}
