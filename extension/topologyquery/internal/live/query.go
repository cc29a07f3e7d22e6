package live

import (
	"runtime"
	"slices"
	"sync"
)

// Snapshot is what happened on edges in a window. Release gives its memory back.
type Snapshot struct {
	Edges  []*Edge
	Counts []*Counts
	own    []Counts
}

var snapshots = sync.Pool{New: func() any { return &Snapshot{} }}

// Release gives the snapshot's memory back; nothing of it may be used afterwards.
func (s *Snapshot) Release() {
	clear(s.Edges)
	clear(s.Counts)
	s.Edges, s.Counts = s.Edges[:0], s.Counts[:0]
	snapshots.Put(s)
}

// shardEdges is the number of edges that a goroutine is worth.
const shardEdges = 1024

// Window returns what happened in [start, end), by edges in the order in which they appeared. Edges on which nothing
// happened and nothing is open are left out unless idle is true.
func (g *Graph) Window(start, end int64, idle bool) *Snapshot {
	s := snapshots.Get().(*Snapshot)
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, e := range g.list {
		if idle || e.lastRecord() > start || e.active > 0 {
			s.Edges = append(s.Edges, e)
		}
	}
	s.read(start, end)
	if !idle {
		s.dropEmpty()
	}
	return s
}

// read fills in the counts, several goroutines at a time where that is worth it.
func (s *Snapshot) read(start, end int64) {
	n := len(s.Edges)
	s.Counts = slices.Grow(s.Counts[:0], n)[:n]
	if len(s.own) < n {
		s.own = append(s.own, make([]Counts, n-len(s.own))...)
	}
	shard := func(from, to int) {
		var memory scratch
		for i := from; i < to; i++ {
			s.Counts[i] = s.Edges[i].window(start, end, &memory, &s.own[i])
		}
	}
	workers := min(runtime.GOMAXPROCS(0), (n+shardEdges-1)/shardEdges)
	if workers <= 1 {
		shard(0, n)
		return
	}
	var done sync.WaitGroup
	for i := range workers {
		done.Go(func() { shard(i*n/workers, (i+1)*n/workers) })
	}
	done.Wait()
}

func (s *Snapshot) dropEmpty() {
	kept := 0
	for i := range s.Edges {
		if s.Counts[i].Empty() {
			continue
		}
		s.Edges[kept], s.Counts[kept] = s.Edges[i], s.Counts[i]
		kept++
	}
	clear(s.Edges[kept:])
	clear(s.Counts[kept:])
	s.Edges, s.Counts = s.Edges[:kept], s.Counts[:kept]
}

// Changed returns, as Window does, the edges that changed after a version, at most limit, and the newest version. With an edge
// through a waypoint come all of that waypoint's: they are judged together.
// tooMany tells that more have changed; the snapshot is empty then.
func (g *Graph) Changed(after uint64, start, end int64, limit int) (s *Snapshot, newest uint64, tooMany bool) {
	s = snapshots.Get().(*Snapshot)
	g.mu.RLock()
	defer g.mu.RUnlock()
	waypoints := map[string]bool{}
	for _, e := range g.list {
		if e.changed > after && e.Key.Waypoint != "" {
			waypoints[e.Key.Waypoint] = true
		}
	}
	for _, e := range g.list {
		if e.changed <= after && !waypoints[e.Key.Waypoint] {
			continue
		}
		if len(s.Edges) == limit {
			clear(s.Edges)
			s.Edges, s.Counts = s.Edges[:0], s.Counts[:0]
			return s, g.version, true
		}
		s.Edges = append(s.Edges, e)
	}
	s.read(start, end)
	return s, g.version, false
}

func (e *Edge) lastRecord() int64 {
	if e.open {
		return e.stamp()
	}
	return e.lastSealed()
}

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

// SetCoverage states the time from which on the graph has heard everything, 1 if that is from the beginning; it never
// goes back.
func (w Writer) SetCoverage(t int64) { w.g.coverage = max(w.g.coverage, t) }

// Advance moves the data's clock.
func (w Writer) Advance(now int64) { w.g.clock = max(w.g.clock, now) }

// Flush stamps what is still open with the clock's time, at the end of the data.
func (w Writer) Flush() {
	for _, e := range w.g.list {
		if e.open {
			e.seal(min(SlotEnd(e.pendingTime, w.g.settings.Resolution), w.g.clock))
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
		if e.open && SlotEnd(e.pendingTime, g.settings.Resolution) <= now {
			e.seal(e.stamp())
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
