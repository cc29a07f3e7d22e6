// Package edges holds what the graph emits: edges, the pods they lead to, and the edges between services as Grafana knows them,
// each with its cumulative values, bounded, and forgotten when there was no news for long.
package edges

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// Config bounds what is held and says how long.
type Config struct {
	MaxEdges int
	// MaxRoutes bounds the routes of one edge, MaxPorts the ports of one pair of parties and service.
	MaxRoutes, MaxPorts int
	MaxEndpoints        int
	// Buckets are the bounds of the histograms between services.
	Buckets []time.Duration
	// Refresh is the longest time between two emissions of what does not change, Expiry the life of what has no news.
	Refresh, Expiry time.Duration
	// Version is the emitting scope's.
	Version string
}

// Store holds all that is emitted.
type Store struct {
	Edges     *Table
	Endpoints *Endpoints
	Services  *Services

	cfg                *Config
	emitted, refreshed pcommon.Timestamp
}

// NewStore returns an empty store.
func NewStore(cfg Config, externals *naming.Externals, t *telemetry.Telemetry) *Store {
	return &Store{
		Edges:     newTable(&cfg, externals, t),
		Endpoints: newEndpoints(cfg.MaxEndpoints),
		Services:  newServices(cfg.MaxEdges, cfg.Buckets),
		cfg:       &cfg,
	}
}

// Emitted is the time of the last emission.
func (s *Store) Emitted() pcommon.Timestamp { return s.emitted }

// Emit builds the metrics of what changed since the last emission and of what was silent for the refresh interval, and tells
// how far the graph is.
func (s *Store) Emit(now pcommon.Timestamp) pmetric.Metrics {
	refresh := now - min(now, pcommon.Timestamp(s.cfg.Refresh))
	m := newEmission(s.cfg.Version, now)
	for _, e := range s.Edges.dirty {
		e.Show()
		s.Services.addConnections(e)
	}
	s.Edges.emit(m, now, refresh)
	s.Endpoints.emit(m, now)
	s.Services.emit(m, now)
	if s.refreshed <= refresh {
		s.refreshed = now
		s.Endpoints.refresh(m, now, refresh, s.cfg.Expiry)
		s.Services.refresh(m, now, refresh, s.cfg.Expiry)
	}
	s.emitted = now
	return m.Trimmed()
}

// Rewind takes note that the graph's clock went back to a time: nothing was emitted or seen later.
func (s *Store) Rewind(now pcommon.Timestamp) {
	s.emitted, s.refreshed = min(s.emitted, now), min(s.refreshed, now)
	for _, e := range s.Edges.byKey {
		e.seen, e.emitted = min(e.seen, now), min(e.emitted, now)
	}
	for _, e := range s.Endpoints.byPod {
		e.seen, e.emitted = min(e.seen, now), min(e.emitted, now)
	}
	for _, one := range s.Services.byKey {
		one.seen, one.emitted = min(one.seen, now), min(one.emitted, now)
	}
}

// changes are what changed since it was recorded last, if it is recorded at all.
type changes[T any] struct {
	kept  bool
	items []T
}

func (c *changes[T]) add(item T) {
	if c.kept {
		c.items = append(c.items, item)
	}
}

func (c *changes[T]) reset() {
	clear(c.items)
	c.items = c.items[:0]
}

// Journal keeps account of what changes from here on, to be recorded.
func (s *Store) Journal() {
	s.Edges.changed.kept, s.Edges.gone.kept = true, true
	s.Endpoints.changed.kept, s.Services.changed.kept = true, true
}

// HasChanges tells whether there is anything to be recorded.
func (s *Store) HasChanges() bool {
	return len(s.Edges.changed.items)+len(s.Edges.gone.items)+len(s.Endpoints.changed.items)+len(s.Services.changed.items) > 0
}
