// Package outages keeps the newest state of every outage, bounded, and on disk across restarts.
package outages

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Store keeps outages. All methods may be called from several goroutines. Outages handed out must not be modified.
type Store struct {
	limit int

	mu      sync.RWMutex
	byID    map[string]*entry
	version uint64
	dropped uint64
	notify  func(o *outage.Outage, transition string, at int64)
}

type entry struct {
	Outage  *outage.Outage `json:"outage"`
	Updated int64          `json:"updated"`
}

// New returns a store of at most limit outages; beyond it the oldest that have ended are dropped, then the oldest.
// notify, unless nil, is called for each change.
func New(limit int, notify func(o *outage.Outage, transition string, at int64)) *Store {
	return &Store{limit: limit, byID: map[string]*entry{}, notify: notify}
}

// Put takes over an outage's state at a time (unix milliseconds). An older state than the known one is passed over.
func (s *Store) Put(o *outage.Outage, transition string, at int64) {
	s.mu.Lock()
	known, ok := s.byID[o.ID]
	if ok && at < known.Updated {
		s.mu.Unlock()
		return
	}
	if o.State == "" {
		o.State = semconv.OutageStateOpen
	}
	s.byID[o.ID] = &entry{o, at}
	s.version++
	if len(s.byID) > s.limit {
		s.evict()
	}
	s.mu.Unlock()
	if s.notify != nil {
		s.notify(o, transition, at)
	}
}

func (s *Store) evict() {
	var oldest *entry
	for _, e := range s.byID {
		if oldest == nil || older(e.Outage, oldest.Outage) {
			oldest = e
		}
	}
	delete(s.byID, oldest.Outage.ID)
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
		return e.Outage
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
		o := e.Outage
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

// OpenAt returns the outages that were open at a time.
func (s *Store) OpenAt(at time.Time) []*outage.Outage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*outage.Outage
	for _, e := range s.byID {
		o := e.Outage
		if !o.StartedAt.After(at) && (o.EndedAt == nil || o.EndedAt.After(at)) {
			out = append(out, o)
		}
	}
	return out
}

// Version grows with every change.
func (s *Store) Version() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version
}

// Snapshot is a store's content, for Restore.
type Snapshot []entry

// Snapshot returns the content.
func (s *Store) Snapshot() Snapshot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(Snapshot, 0, len(s.byID))
	for _, e := range s.byID {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b entry) int { return cmp.Compare(a.Outage.ID, b.Outage.ID) })
	return out
}

// Restore takes over a snapshot.
func (s *Store) Restore(snapshot Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range snapshot {
		if e.Outage != nil && e.Outage.ID != "" && len(s.byID) < s.limit {
			s.byID[e.Outage.ID] = &e
		}
	}
	s.version++
}
