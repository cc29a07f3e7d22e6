// Package outages keeps the newest state of every outage, bounded, and on disk across restarts.
package outages

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Store keeps outages. All methods may be called from several goroutines. Outages handed out must not be modified.
type Store struct {
	// Chronic is what always fails, which is no outage.
	Chronic *Chronic

	limit int

	mu      sync.RWMutex
	byID    map[string]*entry // bounded by limit
	version uint64
	dropped uint64
	notify  func(o *outage.Outage, transition string, at int64)
}

type entry struct {
	outage  *outage.Outage
	updated int64
}

// New returns a store of at most limit outages, and as many chronic conditions; beyond it the oldest that have ended are dropped, then the oldest.
// notify, unless nil, is called for each change.
func New(limit int, notify func(o *outage.Outage, transition string, at int64)) *Store {
	return &Store{Chronic: newChronic(limit), limit: limit, byID: map[string]*entry{}, notify: notify}
}

// Put takes over an outage's state at a time (unix milliseconds). An older state than the known one is passed over.
func (s *Store) Put(o *outage.Outage, transition string, at int64) {
	s.mu.Lock()
	taken := s.put(o, at)
	s.mu.Unlock()
	if taken && s.notify != nil {
		s.notify(o, transition, at)
	}
}

func (s *Store) put(o *outage.Outage, at int64) bool {
	if known, ok := s.byID[o.ID]; ok && at < known.updated {
		return false
	}
	if o.State == "" {
		o.State = semconv.OutageStateOpen
	}
	s.byID[o.ID] = &entry{o, at}
	s.version++
	if len(s.byID) > s.limit {
		s.evict()
	}
	return true
}

func (s *Store) evict() {
	var oldest *entry
	for _, e := range s.byID {
		if oldest == nil || older(e.outage, oldest.outage) {
			oldest = e
		}
	}
	delete(s.byID, oldest.outage.ID)
	s.dropped++
}

func older(a, b *outage.Outage) bool {
	if aOpen, bOpen := a.State == semconv.OutageStateOpen, b.State == semconv.OutageStateOpen; aOpen != bOpen {
		return bOpen
	}
	return a.StartedAt.Before(b.StartedAt)
}

// Get returns an outage, nil if unknown.
func (s *Store) Get(id string) *outage.Outage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e, ok := s.byID[id]; ok {
		return e.outage
	}
	return nil
}

// List returns the outages that overlap [start, end), newest first; state, unless empty, is theirs. A zero time does
// not bound.
func (s *Store) List(start, end time.Time, state string) []*outage.Outage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*outage.Outage, 0, len(s.byID))
	for _, e := range s.byID {
		o := e.outage
		if state != "" && o.State != state ||
			!end.IsZero() && !o.StartedAt.Before(end) ||
			!start.IsZero() && o.EndedAt != nil && o.EndedAt.Before(start) {
			continue
		}
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b *outage.Outage) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Version grows with every change.
func (s *Store) Version() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version
}

// Each calls f with every outage and when it was updated last, by ID.
func (s *Store) Each(f func(o *outage.Outage, updated int64)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, id := range slices.Sorted(maps.Keys(s.byID)) {
		f(s.byID[id].outage, s.byID[id].updated)
	}
}

// Restore takes over an outage's state from before a restart; nobody is told.
func (s *Store) Restore(o *outage.Outage, updated int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(o, updated)
}
