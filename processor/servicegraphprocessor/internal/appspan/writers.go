package appspan

import (
	"hash/maphash"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// ID identifies a span: trace id and span id.
type ID [24]byte

// IDOf is the identity of a span.
func IDOf(trace pcommon.TraceID, span pcommon.SpanID) ID {
	var id ID
	copy(id[:16], trace[:])
	copy(id[16:], span[:])
	return id
}

// Writers remember at least the last spans up to a limit and who wrote them.
type Writers struct {
	limit             int
	seed              maphash.Seed
	current, previous map[uint64]*Origin // by a span's hash; bounded by limit
}

// NewWriters returns what remembers at least limit spans.
func NewWriters(limit int) Writers {
	return Writers{limit: limit, seed: maphash.MakeSeed(), current: map[uint64]*Origin{}}
}

// Add remembers a span; false means that it is known already.
func (w *Writers) Add(id ID, o *Origin) bool {
	if w.Of(id) != nil {
		return false
	}
	if len(w.current) >= w.limit {
		w.previous, w.current = w.current, map[uint64]*Origin{}
	}
	w.current[maphash.Bytes(w.seed, id[:])] = o
	return true
}

// Of is who wrote a span, nil if it is not known.
func (w *Writers) Of(id ID) *Origin {
	hash := maphash.Bytes(w.seed, id[:])
	if o, ok := w.current[hash]; ok {
		return o
	}
	return w.previous[hash]
}
