// Package budget bounds what many use together, such as the memory of all queries at a time.
package budget

import (
	"errors"
	"sync/atomic"
)

// ErrExceeded tells that a reservation does not fit beside what is in use.
var ErrExceeded = errors.New("the memory for queries is in use")

// Budget is a number of bytes that many use together. A nil Budget has no bound. All methods may be called from several
// goroutines.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// New returns a budget of limit bytes.
func New(limit int64) *Budget { return &Budget{limit: limit} }

// Reserve takes n bytes, or returns ErrExceeded and takes none. It never waits.
func (b *Budget) Reserve(n int64) error {
	if b == nil {
		return nil
	}
	for {
		used := b.used.Load()
		if used+n > b.limit {
			return ErrExceeded
		}
		if b.used.CompareAndSwap(used, used+n) {
			return nil
		}
	}
}

// Charge takes n bytes, beyond the limit if need be: of what exists already.
func (b *Budget) Charge(n int64) {
	if b != nil {
		b.used.Add(n)
	}
}

// Release gives n bytes back.
func (b *Budget) Release(n int64) { b.Charge(-n) }

// Used is the number of bytes in use.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}
