// Package live keeps what happened on each edge of the service graph in the last minutes, packed, so that a window
// inside them is answered from memory.
//
// An edge's history is a list of chunks of a few records each. A record holds what happened in one slot of time (the
// resolution), is stamped with the slot's end once the data's clock has reached it, and takes some ten to thirty bytes.
// A chunk also holds the sums of all that came before it, so that a window is the difference of two states, and a state
// the sums and the records of one chunk; the newest state is at hand.
//
// Times are unix milliseconds of the data's own clock. A point at T holds what happened before T, so a window
// [start, end) is the sum of the records with start < T ≤ end.
package live

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"unique"

	"github.com/nephilia/nephilia/internal/edge"
)

// chunkRecords is the number of records in a chunk: fewer make more sums to keep, more make longer chunks to read.
const chunkRecords = 16

// quietAfter is how long an edge that nobody reports any more keeps its open connections: producers repeat what they
// know once a minute.
const quietAfter = 180_000

// Settings bound a graph.
type Settings struct {
	// Window is how much data time is kept, in milliseconds.
	Window int64
	// Resolution is the length of a slot in milliseconds; within one only the newest value is kept.
	Resolution int64
	// MaxEdges bounds the edges.
	MaxEdges int
}

// Graph is the live graph. All methods may be called from several goroutines; writing goes through Update.
type Graph struct {
	settings Settings

	mu       sync.RWMutex
	edges    map[edge.Key]*Edge // bounded by MaxEdges
	list     []*Edge
	version  uint64
	rejected uint64
	clock    int64
	coverage int64
	bytes    int
}

// New returns an empty graph.
func New(settings Settings) *Graph {
	if settings.Resolution <= 0 {
		settings.Resolution = 1
	}
	return &Graph{settings: settings, edges: map[edge.Key]*Edge{}}
}

// Edge is one edge of the graph. Its key never changes.
type Edge struct {
	Key edge.Key
	// Source and Destination are the key's, to be compared at once.
	Source, Destination unique.Handle[edge.Party]

	graph  *Graph
	names  names
	chunks []chunk
	// total is what happened since the edge began, without what is pending.
	total state
	// pending is the open slot.
	pending     state
	pendingTime int64
	open        bool
	active      int64
	seen        int64
	// changed is the graph's version at the newest change.
	changed uint64
	removed bool
	memo    atomic.Pointer[memo]
}

type chunk struct {
	first, last int64
	records     int
	// before is the packed state before the first record.
	before []byte
	data   []byte
}

// Update calls write with the graph locked: all that write does becomes visible at once.
func (g *Graph) Update(write func(w Writer)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	write(Writer{g})
}

// Writer changes a graph; it is valid only during Update.
type Writer struct{ g *Graph }

// Edge returns the edge with that key, a new one if there is none, nil if the bound on edges is reached.
func (w Writer) Edge(key edge.Key) *Edge {
	if e, ok := w.g.edges[key]; ok {
		return e
	}
	if len(w.g.edges) >= w.g.settings.MaxEdges {
		w.g.rejected++
		return nil
	}
	e := &Edge{Key: key, Source: unique.Make(key.Source), Destination: unique.Make(key.Destination), graph: w.g}
	w.g.edges[key] = e
	w.g.list = append(w.g.list, e)
	w.g.version++
	return e
}

// Add adds n to a counter at time t.
func (w Writer) Add(e *Edge, field Field, t int64, n uint64) {
	if r := e.at(t, n != 0); r != nil {
		r.fields[field] += n
	}
}

// AddFailed adds n failed connections at time t.
func (w Writer) AddFailed(e *Edge, reason Reason, t int64, n uint64) {
	if r := e.at(t, n != 0); r != nil {
		r.reasons.add(e.names.reason(reason), n)
	}
}

// AddResponses adds n requests at time t by what answered them.
func (w Writer) AddResponses(e *Edge, response Response, t int64, n uint64) {
	if r := e.at(t, n != 0); r != nil {
		r.responses.add(e.names.response(response), n)
	}
}

// SetActive states the number of open connections at time t.
func (w Writer) SetActive(e *Edge, t, active int64) {
	if r := e.at(t, active != e.active); r != nil {
		r.active, r.hasActive = active, true
		e.active = active
	}
}

// HistogramOf tells which histogram of an edge is meant.
type HistogramOf uint8

// The histograms of an edge.
const (
	OfConnection HistogramOf = iota
	OfRequest
)

// AddZero adds n values of zero to a histogram.
func (w Writer) AddZero(e *Edge, which HistogramOf, t int64, n uint64) {
	if r := e.at(t, n != 0); r != nil {
		r.histogram(which).zero += n
	}
}

// AddBucket adds n values to a bucket of a histogram of any scale.
func (w Writer) AddBucket(e *Edge, which HistogramOf, t int64, scale, index int32, n uint64) {
	r := e.at(t, n != 0)
	if r == nil {
		return
	}
	if scale >= Scale {
		index >>= min(scale-Scale, 31)
	} else {
		// A coarser bucket becomes the middle one of those that it covers.
		index = (index+1)<<(Scale-scale) - 1<<(Scale-scale-1) - 1
	}
	r.histogram(which).add(index, n)
}

func (s *state) histogram(which HistogramOf) *dense {
	if which == OfRequest {
		return &s.req
	}
	return &s.conn
}

// at returns the open slot's state for time t, nil if nothing changed.
func (e *Edge) at(t int64, changed bool) *state {
	e.seen = max(e.seen, t)
	if !changed {
		return nil
	}
	g := e.graph
	g.version++
	e.changed = g.version
	g.clock = max(g.clock, t)
	if e.open && SlotEnd(t, g.settings.Resolution) > SlotEnd(e.pendingTime, g.settings.Resolution) {
		e.seal(e.stamp())
	}
	if !e.open {
		e.pending.reset()
		e.pendingTime, e.open = 0, true
	}
	// A late point counts in the slot that is open: a cumulative series cannot say otherwise.
	e.pendingTime = max(e.pendingTime, t, e.lastSealed())
	return &e.pending
}

// SlotEnd is the end of the slot (k·resolution, (k+1)·resolution] that holds t.
func SlotEnd(t, resolution int64) int64 { return ((t-1)/resolution + 1) * resolution }

// stamp is the open slot's time: its end once the clock has reached it. History stamps its samples in the same way, so
// that both give the same answers.
func (e *Edge) stamp() int64 {
	if end := SlotEnd(e.pendingTime, e.graph.settings.Resolution); end <= e.graph.clock {
		return end
	}
	return e.pendingTime
}

func (e *Edge) lastSealed() int64 {
	if len(e.chunks) == 0 {
		return 0
	}
	return e.chunks[len(e.chunks)-1].last
}

// seal packs the open slot, stamped with t, into the last chunk.
func (e *Edge) seal(t int64) {
	t = max(t, e.lastSealed())
	if n := len(e.chunks); n == 0 || e.chunks[n-1].records == chunkRecords {
		e.expire(e.graph.clock - e.graph.settings.Window)
		e.chunks = append(e.chunks, chunk{first: t, before: e.total.pack(nil)})
		e.graph.bytes += len(e.chunks[len(e.chunks)-1].before)
	}
	c := &e.chunks[len(e.chunks)-1]
	size := len(c.data)
	c.data = binary.AppendUvarint(c.data, uint64(t-c.first))
	c.data = e.pending.pack(c.data)
	e.graph.bytes += len(c.data) - size
	c.last = t
	c.records++
	if c.records == chunkRecords {
		c.data = slices.Clip(slices.Clone(c.data))
	}
	e.total.addState(&e.pending)
	e.open = false
}

// expire drops the chunks that ended before a time.
func (e *Edge) expire(before int64) {
	gone := 0
	for gone < len(e.chunks) && e.chunks[gone].last < before {
		e.graph.bytes -= len(e.chunks[gone].data) + len(e.chunks[gone].before)
		gone++
	}
	if gone > 0 {
		e.chunks = slices.Delete(e.chunks, 0, gone)
	}
}

// scratch is the memory that reading an edge needs.
type scratch struct{ from, to state }

// memo is what a window up to the present held of an edge. It holds the same as long as nothing changes on the edge and
// no record enters or leaves the window: most edges of a large mesh, most of the time.
type memo struct {
	counts Counts
	kept   atomic.Pointer[Encoding]
	// changed is the edge's version; start and end are the times that give the same states.
	changed    uint64
	start, end span
	// While the clock is before stamped, the slot that is open is stamped with its newest point, later with its end.
	stamped int64
}

// span is a span of time [from, to).
type span struct{ from, to int64 }

func (s span) holds(t int64) bool { return s.from <= t && t < s.to }

func (m *memo) answers(e *Edge, start, end int64) bool {
	return m.changed == e.changed && m.start.holds(start) && m.end.holds(end) && (e.graph.clock < m.stamped || end >= m.stamped)
}

// window returns what happened on the edge in [start, end): what was kept of an earlier question, or into.
func (e *Edge) window(start, end int64, s *scratch, into *Counts) *Counts {
	if m := e.memo.Load(); m != nil && m.answers(e, start, end) {
		return &m.counts
	}
	ends := e.stateAt(end, &s.to)
	starts := e.stateAt(start, &s.from)
	s.to.subtract(&s.from)
	if end-e.seen > quietAfter {
		s.to.active, ends.to = 0, end
	}
	if ends.to < forever || starts.to == forever && e.open {
		into.Reset()
		s.to.counts(&e.names, into)
		return into
	}
	if s.to.active != 0 {
		ends.to = e.seen + quietAfter + 1
	}
	m := &memo{changed: e.changed, start: starts, end: ends}
	if e.open {
		m.stamped = SlotEnd(e.pendingTime, e.graph.settings.Resolution)
	}
	s.to.counts(&e.names, &m.counts)
	m.counts.Kept = &m.kept
	e.memo.Store(m)
	return &m.counts
}

const (
	never   = math.MinInt64
	forever = math.MaxInt64
)

// stateAt writes what had happened since the edge began, as far as it was stamped at or before t, and returns the times
// that give the same state.
func (e *Edge) stateAt(t int64, into *state) span {
	into.reset()
	// The first chunk that begins after t; what counts is the one before it.
	at := len(e.chunks)
	for at > 0 && e.chunks[at-1].first > t {
		at--
	}
	switch {
	case at == len(e.chunks) && (at == 0 || t >= e.lastSealed()):
		into.addState(&e.total)
		if !e.open {
			return span{e.lastSealed(), forever}
		}
		if stamp := e.stamp(); stamp > t {
			return span{e.lastSealed(), stamp}
		}
		into.addState(&e.pending)
		return span{e.stamp(), forever}
	case at == 0:
		into.unpack(e.chunks[0].before)
		return span{never, e.chunks[0].first}
	case t >= e.chunks[at-1].last:
		into.unpack(e.chunks[at].before)
		return span{e.chunks[at-1].last, e.chunks[at].first}
	}
	into.unpack(e.chunks[at-1].before)
	first := e.chunks[at-1].first
	same := span{first, e.chunks[at-1].last}
	for b := e.chunks[at-1].data; len(b) > 0; {
		var delta uint64
		delta, b = uvarint(b)
		if next := first + int64(delta); next > t {
			same.to = next
			break
		}
		same.from = first + int64(delta)
		b = into.unpack(b)
	}
	return same
}
