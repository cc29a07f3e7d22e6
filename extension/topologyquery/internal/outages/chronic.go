package outages

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/nephilia/nephilia/internal/outage"
)

// Chronic keeps the chronic conditions that stand. Its methods may be called from several goroutines.
type Chronic struct {
	limit int

	mu      sync.RWMutex
	byID    map[string]*outage.Chronic // bounded by limit
	dropped uint64
}

// newChronic returns a store of at most limit conditions; further ones are dropped.
func newChronic(limit int) *Chronic {
	return &Chronic{limit: limit, byID: map[string]*outage.Chronic{}}
}

// Put takes over how a condition stands. One that has ended goes; an older state than the known one is passed over.
func (s *Chronic) Put(c *outage.Chronic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, found := s.byID[c.ID]
	switch {
	case found && c.Updated.Before(known.Updated):
	case c.EndedAt != nil:
		delete(s.byID, c.ID)
	case !found && len(s.byID) >= s.limit:
		s.dropped++
	default:
		s.byID[c.ID] = c
	}
}

// List returns the conditions that stand, newest first. They must not be modified.
func (s *Chronic) List() []*outage.Chronic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Values(s.byID), func(a, b *outage.Chronic) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.ID, b.ID))
	})
}

// Dropped is how many conditions were not taken.
func (s *Chronic) Dropped() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.dropped
}
