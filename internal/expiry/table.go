// Package expiry has a table that forgets: it is bounded, keeps the order of last use, and lets go of what was not used for
// long. Every map whose keys come from outside should be one, or be bounded otherwise and say how.
//
// The receiver, the service graph, the outage detector and the query extension use it.
package expiry

import (
	"iter"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// none is no entry.
const none = int32(-1)

// Table maps keys to values and remembers when each was used last. The times are the owner's clock, such as the mesh's time:
// not a time that the data itself states, which could keep an entry for ever. A Table is not safe for use by several goroutines.
// Once it has grown it does not allocate.
type Table[K comparable, V any] struct {
	limit   int
	evicted func(K, V)

	index   map[K]int32 // bounded by limit
	entries []entry[K, V]
	// free is the first of the unused entries, oldest and newest the ends of the used ones.
	free, oldest, newest int32
	now                  pcommon.Timestamp
	refused, displaced   uint64
}

type entry[K comparable, V any] struct {
	key          K
	value        V
	used         pcommon.Timestamp
	older, newer int32
}

// New returns a table of at most limit entries. Evicted, unless nil, is called with each entry that the table lets go of by
// itself: in Sweep, and in Put to make room. It must not use the table.
func New[K comparable, V any](limit int, evicted func(K, V)) *Table[K, V] {
	return &Table[K, V]{limit: limit, evicted: evicted, index: map[K]int32{}, free: none, oldest: none, newest: none}
}

// Len is the number of entries.
func (t *Table[K, V]) Len() int { return len(t.index) }

// Refused is how often Add found the table full.
func (t *Table[K, V]) Refused() uint64 { return t.refused }

// Displaced is how often Put made room.
func (t *Table[K, V]) Displaced() uint64 { return t.displaced }

// Get returns a key's value; that is no use.
func (t *Table[K, V]) Get(key K) (value V, ok bool) {
	at, ok := t.index[key]
	if !ok {
		return value, false
	}
	return t.entries[at].value, true
}

// Use returns a key's value, which is used now.
func (t *Table[K, V]) Use(key K, now pcommon.Timestamp) (value V, ok bool) {
	at, ok := t.index[key]
	if !ok {
		return value, false
	}
	t.touch(at, now)
	return t.entries[at].value, true
}

// Add sets a key's value, which is used now. It is false, and counted, if the key is new and the table full.
func (t *Table[K, V]) Add(key K, value V, now pcommon.Timestamp) bool {
	if at, ok := t.index[key]; ok {
		t.entries[at].value = value
		t.touch(at, now)
		return true
	}
	if len(t.index) >= t.limit {
		t.refused++
		return false
	}
	t.insert(key, value, now)
	return true
}

// Put sets a key's value, which is used now. If the key is new and the table full, the entry that was not used for longest makes
// room.
func (t *Table[K, V]) Put(key K, value V, now pcommon.Timestamp) {
	if t.limit <= 0 {
		t.refused++
		return
	}
	if _, ok := t.index[key]; !ok && len(t.index) >= t.limit {
		t.displaced++
		t.evict(t.oldest)
	}
	t.Add(key, value, now)
}

// Delete removes a key. Evicted is not called.
func (t *Table[K, V]) Delete(key K) bool {
	at, ok := t.index[key]
	if ok {
		t.remove(at)
	}
	return ok
}

// Sweep lets go of all entries that were used last before a time, and returns their number.
func (t *Table[K, V]) Sweep(before pcommon.Timestamp) (gone int) {
	for t.oldest != none && t.entries[t.oldest].used < before {
		t.evict(t.oldest)
		gone++
	}
	return gone
}

// Oldest is the entry that was not used for longest, and when it was used last; false if there is none.
func (t *Table[K, V]) Oldest() (key K, value V, used pcommon.Timestamp, ok bool) {
	if t.oldest == none {
		return key, value, 0, false
	}
	e := &t.entries[t.oldest]
	return e.key, e.value, e.used, true
}

// Rewind takes note that the owner's clock went back to a time: no entry was used later.
func (t *Table[K, V]) Rewind(now pcommon.Timestamp) {
	t.now = min(t.now, now)
	for at := t.newest; at != none && t.entries[at].used > now; at = t.entries[at].older {
		t.entries[at].used = now
	}
}

// All goes through the entries, those first that were not used for longest. Deleting the entry it is at is allowed.
func (t *Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for at := t.oldest; at != none; {
			next := t.entries[at].newer
			if !yield(t.entries[at].key, t.entries[at].value) {
				return
			}
			at = next
		}
	}
}

// Clear removes all entries. Evicted is not called.
func (t *Table[K, V]) Clear() {
	clear(t.index)
	clear(t.entries)
	t.entries = t.entries[:0]
	t.free, t.oldest, t.newest, t.now = none, none, none, 0
}

func (t *Table[K, V]) insert(key K, value V, now pcommon.Timestamp) {
	at := t.free
	if at == none {
		at = int32(len(t.entries))
		t.entries = append(t.entries, entry[K, V]{})
	} else {
		t.free = t.entries[at].newer
	}
	t.entries[at] = entry[K, V]{key: key, value: value}
	t.index[key] = at
	t.link(at, now)
}

func (t *Table[K, V]) touch(at int32, now pcommon.Timestamp) {
	if at != t.newest {
		t.unlink(at)
		t.link(at, now)
		return
	}
	t.now = max(t.now, now)
	t.entries[at].used = t.now
}

// link makes an entry the newest. Times never fall from one entry to the next, so that the oldest is always the first to go.
func (t *Table[K, V]) link(at int32, now pcommon.Timestamp) {
	t.now = max(t.now, now)
	e := &t.entries[at]
	e.used, e.older, e.newer = t.now, t.newest, none
	if t.newest == none {
		t.oldest = at
	} else {
		t.entries[t.newest].newer = at
	}
	t.newest = at
}

func (t *Table[K, V]) unlink(at int32) {
	e := &t.entries[at]
	if e.older == none {
		t.oldest = e.newer
	} else {
		t.entries[e.older].newer = e.newer
	}
	if e.newer == none {
		t.newest = e.older
	} else {
		t.entries[e.newer].older = e.older
	}
}

func (t *Table[K, V]) remove(at int32) {
	t.unlink(at)
	delete(t.index, t.entries[at].key)
	t.entries[at] = entry[K, V]{newer: t.free}
	t.free = at
}

func (t *Table[K, V]) evict(at int32) {
	key, value := t.entries[at].key, t.entries[at].value
	t.remove(at)
	if t.evicted != nil {
		t.evicted(key, value)
	}
}
