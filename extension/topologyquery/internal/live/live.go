// Package live keeps what happened on each edge of the service graph in the last minutes, packed, so that a window
// inside them is answered from memory.
//
// An edge's history is a list of chunks of a few records each. A record holds what happened in one slot of time (the
// resolution), is stamped with the slot's end once the data's clock has reached it, and takes some ten to twenty bytes. A full chunk also
// holds the sum of its records, so that a window reads a handful of sums and the records of two chunks only.
//
// Times are unix milliseconds of the data's own clock. A point at T holds what happened before T, so a window
// [start, end) is the sum of the records with start < T ≤ end.
package live

import (
	"sync"

	"github.com/nephilia/nephilia/internal/edge"
)

// chunkRecords is the number of records in a chunk: fewer make more sums to add, more make longer tails to read.
const chunkRecords = 16

// quietAfter is how long an edge that nobody reports any more keeps its open connections: producers repeat what they
// know once a minute.
const quietAfter = 180_000

// maxReasons bounds the reasons of one edge; further ones count under the last.
const maxReasons = 64

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
	edges    map[edge.Key]*Edge
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

// Edge is one edge of the graph. Its key and ID never change.
type Edge struct {
	Key edge.Key

	graph   *Graph
	reasons []Reason
	chunks  []chunk
	pending record
	open    bool
	active  int64
	seen    int64
	// changed is the graph's version at the newest change.
	changed uint64
	removed bool
}

type chunk struct {
	first, last int64
	// activeBefore and activeAfter are the open connections before the first and after the last record.
	activeBefore, activeAfter int64
	records                   int
	data                      []byte
	sum                       []byte
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
	e := &Edge{Key: key, graph: w.g}
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
		r.addReason(e.reasonIndex(reason), n)
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

// AddBucket adds n values to a bucket, numbered as in exphist, of a histogram of any scale.
func (w Writer) AddBucket(e *Edge, which HistogramOf, t int64, scale, index int32, n uint64) {
	r := e.at(t, n != 0)
	if r == nil {
		return
	}
	if scale >= Scale {
		index = ((index - 1) >> min(scale-Scale, 31)) + 1
	} else {
		// A coarser bucket becomes the middle one of those that it covers.
		index = index<<(Scale-scale) - 1<<(Scale-scale-1)
	}
	r.histogram(which).add(index, n)
}

func (r *record) histogram(which HistogramOf) *histDelta {
	if which == OfRequest {
		return &r.req
	}
	return &r.conn
}

// at returns the open record for time t, nil if nothing changed.
func (e *Edge) at(t int64, changed bool) *record {
	e.seen = max(e.seen, t)
	if !changed {
		return nil
	}
	e.graph.version++
	e.changed = e.graph.version
	e.graph.clock = max(e.graph.clock, t)
	if e.open && SlotEnd(t, e.graph.settings.Resolution) > SlotEnd(e.pending.time, e.graph.settings.Resolution) {
		e.seal(e.pendingTime())
	}
	if !e.open {
		e.pending.reset()
		e.open = true
	}
	// A late point counts in the slot that is open: a cumulative series cannot say otherwise.
	e.pending.time = max(e.pending.time, t, e.lastSealed())
	return &e.pending
}

// SlotEnd is the end of the slot (k·resolution, (k+1)·resolution] that holds t.
func SlotEnd(t, resolution int64) int64 { return ((t-1)/resolution + 1) * resolution }

// pendingTime is the open record's time: its slot's end once the clock has reached it. History stamps its samples
// in the same way, so that both give the same answers.
func (e *Edge) pendingTime() int64 {
	if end := SlotEnd(e.pending.time, e.graph.settings.Resolution); end <= e.graph.clock {
		return end
	}
	return e.pending.time
}

func (e *Edge) lastSealed() int64 {
	if len(e.chunks) == 0 {
		return 0
	}
	return e.chunks[len(e.chunks)-1].last
}

func (e *Edge) reasonIndex(reason Reason) int {
	for i := range e.reasons {
		if e.reasons[i] == reason {
			return i
		}
	}
	if len(e.reasons) >= maxReasons {
		return maxReasons - 1
	}
	e.reasons = append(e.reasons, reason)
	return len(e.reasons) - 1
}

// seal packs the open record, stamped with t, into the last chunk.
func (e *Edge) seal(t int64) {
	g := e.graph
	e.pending.time = max(t, e.lastSealed())
	if n := len(e.chunks); n == 0 || e.chunks[n-1].records == chunkRecords {
		e.expire(g.clock - g.settings.Window)
		before := int64(0)
		if n := len(e.chunks); n > 0 {
			before = e.chunks[n-1].activeAfter
		}
		e.chunks = append(e.chunks, chunk{first: e.pending.time, activeBefore: before, activeAfter: before})
	}
	c := &e.chunks[len(e.chunks)-1]
	size := len(c.data)
	c.data = appendTime(c.data, e.pending.time-c.first)
	c.data = e.pending.pack(c.data)
	c.last = e.pending.time
	c.records++
	if e.pending.hasActive {
		c.activeAfter = e.pending.active
	}
	g.bytes += len(c.data) - size
	e.open = false
	if c.records == chunkRecords {
		c.summarise()
		g.bytes += len(c.sum)
	}
}

func appendTime(b []byte, delta int64) []byte {
	for delta >= 0x80 {
		b = append(b, byte(delta)|0x80)
		delta >>= 7
	}
	return append(b, byte(delta))
}

func (c *chunk) summarise() {
	var sum record
	for b := c.data; len(b) > 0; {
		_, b = uvarint(b)
		b = unpackInto(b, &sum)
	}
	// The open connections are kept in activeAfter.
	sum.hasActive = false
	c.sum = sum.pack(nil)
	c.data = append(make([]byte, 0, len(c.data)), c.data...)
}

// expire drops the chunks that ended before a time.
func (e *Edge) expire(before int64) {
	gone := 0
	for gone < len(e.chunks) && e.chunks[gone].last < before {
		e.graph.bytes -= len(e.chunks[gone].data) + len(e.chunks[gone].sum)
		gone++
	}
	if gone > 0 {
		e.chunks = append(e.chunks[:0], e.chunks[gone:]...)
	}
}

// window adds what happened on the edge in [start, end) to counts.
func (e *Edge) window(start, end int64, to *Counts) {
	active := int64(0)
	for i := range e.chunks {
		c := &e.chunks[i]
		if c.first > end {
			break
		}
		active = c.activeBefore
		if c.last <= end {
			active = c.activeAfter
			if c.last <= start {
				continue
			}
			if c.first > start && c.sum != nil {
				addPacked(c.sum, e.reasons, to)
				continue
			}
		}
		active = c.scan(start, end, e.reasons, to)
	}
	if e.open {
		if t := e.pendingTime(); t <= end {
			if e.pending.hasActive {
				active = e.pending.active
			}
			if t > start {
				e.pending.addTo(e.reasons, to)
			}
		}
	}
	if end-e.seen > quietAfter {
		active = 0
	}
	to.Active = max(active, 0)
}

// scan adds the chunk's records of the window and returns the open connections at its end.
func (c *chunk) scan(start, end int64, reasons []Reason, to *Counts) int64 {
	before := to.Active
	to.Active = c.activeBefore
	for b := c.data; len(b) > 0; {
		var delta uint64
		delta, b = uvarint(b)
		t := c.first + int64(delta)
		if t > end {
			break
		}
		if t > start {
			b = addPacked(b, reasons, to)
		} else {
			b = skipPacked(b, &to.Active)
		}
	}
	active := to.Active
	to.Active = before
	return active
}

func skipPacked(b []byte, active *int64) []byte {
	mask, b := uvarint(b)
	for range popcount(mask & (1<<NumFields - 1)) {
		_, b = uvarint(b)
	}
	if mask&hasActive != 0 {
		*active, b = varint(b)
	}
	if mask&hasReasons != 0 {
		var count uint64
		count, b = uvarint(b)
		for range 2 * count {
			_, b = uvarint(b)
		}
	}
	for _, bit := range [...]uint64{hasConn, hasReq} {
		if mask&bit != 0 {
			_, b = uvarint(b)
			var count uint64
			count, b = uvarint(b)
			for range 2 * count {
				_, b = uvarint(b)
			}
		}
	}
	return b
}
