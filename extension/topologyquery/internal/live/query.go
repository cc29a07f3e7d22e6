package live

import "math/bits"

func popcount(mask uint64) int { return bits.OnesCount64(mask) }

// Each calls visit for every edge with what happened in [start, end), in the order in which the edges appeared.
// counts is reused from call to call. Edges on which nothing happened and nothing is open are passed over unless idle
// is true.
func (g *Graph) Each(start, end int64, idle bool, visit func(e *Edge, counts *Counts)) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var counts Counts
	for _, e := range g.list {
		if !idle && e.lastRecord() <= start && e.activeNow() <= 0 {
			continue
		}
		counts.Reset()
		e.window(start, end, &counts)
		if idle || !counts.Empty() {
			visit(e, &counts)
		}
	}
}

// EachChanged calls visit, as Each does, for the edges that changed after a version, at most limit. It returns the
// newest version, and whether more than limit edges have changed; none is visited then.
func (g *Graph) EachChanged(after uint64, start, end int64, limit int, visit func(e *Edge, counts *Counts)) (newest uint64, tooMany bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var changed []*Edge
	for _, e := range g.list {
		if e.changed <= after {
			continue
		}
		if len(changed) == limit {
			return g.version, true
		}
		changed = append(changed, e)
	}
	var counts Counts
	for _, e := range changed {
		counts.Reset()
		e.window(start, end, &counts)
		visit(e, &counts)
	}
	return g.version, false
}

func (e *Edge) lastRecord() int64 {
	if e.open {
		return e.pendingTime()
	}
	return e.lastSealed()
}

func (e *Edge) activeNow() int64 { return e.active }

// Version grows with every change.
func (g *Graph) Version() uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.version
}

// Covers tells whether windows that begin at start can be answered from memory when the data's clock stands at now.
func (g *Graph) Covers(start, now int64) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.coverage != 0 && start >= g.coverage && start >= now-g.settings.Window
}

// SetCoverage states the time from which on the graph has heard everything; it never goes back.
func (w Writer) SetCoverage(t int64) { w.g.coverage = max(w.g.coverage, t) }

// Advance moves the data's clock.
func (w Writer) Advance(now int64) { w.g.clock = max(w.g.clock, now) }

// Flush stamps what is still open with the clock's time, at the end of the data.
func (w Writer) Flush() {
	for _, e := range w.g.list {
		if e.open {
			e.seal(min(SlotEnd(e.pending.time, w.g.settings.Resolution), w.g.clock))
		}
	}
	w.g.version++
}

// Removed tells that the edge has been dropped from the graph.
func (e *Edge) Removed() bool { return e.removed }

// Expire drops what is older than the window, and the edges that were last heard of before it.
func (w Writer) Expire(now int64) (dropped int) {
	g := w.g
	before := now - g.settings.Window
	kept := g.list[:0]
	for _, e := range g.list {
		if e.open && SlotEnd(e.pending.time, g.settings.Resolution) <= now {
			e.seal(e.pendingTime())
		}
		e.expire(before)
		if e.seen < before {
			e.removed = true
			delete(g.edges, e.Key)
			dropped++
			continue
		}
		kept = append(kept, e)
	}
	clear(g.list[len(kept):])
	g.list = kept
	if dropped > 0 {
		g.version++
	}
	return dropped
}

// Stats are a graph's sizes.
type Stats struct {
	Edges    int
	Rejected uint64
	// Bytes is the size of the packed records.
	Bytes int
	// Coverage is the time from which on windows are answered from memory.
	Coverage int64
}

// Stats returns the graph's sizes.
func (g *Graph) Stats() Stats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return Stats{Edges: len(g.list), Rejected: g.rejected, Bytes: g.bytes, Coverage: g.coverage}
}
