package servicegraphprocessor

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/flows"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/records"
)

// saved keeps the graph's state over a restart: what flows told is stored before it is acknowledged, and what leaves
// before it leaves, so that cumulative values go on where they were and nothing is lost or counted twice. Spans that wait,
// and what ztunnels' and waypoints' own counters had told, begin anew.
//
// mu of the graph guards the recording, sending the commits and failing. The zero of *saved saves nothing.
type saved struct {
	client  storage.Client
	journal *journal.Journal
	failing bool
}

// open takes up the state that was stored before a restart.
func (g *graph) open(ctx context.Context, host component.Host) error {
	if g.cfg.Storage == nil {
		return nil
	}
	extension, ok := host.GetExtensions()[*g.cfg.Storage]
	if !ok {
		return fmt.Errorf("storage extension %q not found", g.cfg.Storage)
	}
	backend, ok := extension.(storage.Extension)
	if !ok {
		return fmt.Errorf("extension %q does not store anything", g.cfg.Storage)
	}
	client, err := backend.GetClient(ctx, component.KindProcessor, g.id, "")
	if err != nil {
		return fmt.Errorf("opening storage %q: %w", g.cfg.Storage, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	j, err := journal.Open(ctx, client, naming.Intern)
	if err == nil {
		r := newRestored()
		if err = j.Replay(ctx, r.read); err == nil {
			r.into(g)
		}
	}
	switch {
	case errors.Is(err, journal.ErrDamaged):
		// A state that cannot be read is no reason not to draw the graph.
		g.logger.Error("The stored service graph is not taken up", zap.Error(err))
		g.telemetry.StorageFailed()
	case err != nil:
		return errors.Join(fmt.Errorf("restoring the service graph: %w", err), client.Close(ctx))
	}
	g.saved = &saved{client: client, journal: j}
	g.store.Journal()
	g.flows.Journal()
	g.names.Weights.Journal()
	return nil
}

// record writes down what changed since the last flush, or everything, to be committed before what was flushed leaves.
func (s *saved) record(g *graph) journal.Batch {
	if s == nil || !g.store.HasChanges() && !g.flows.HasChanges() && !g.names.Weights.HasChanges() {
		return journal.Batch{}
	}
	all := s.journal.Anew()
	if all {
		s.journal.Restart()
	}
	now, emitted := g.clock.Now(), g.store.Emitted()
	c := s.journal.Record(records.Clock)
	records.Time(c, &now)
	records.Time(c, &emitted)
	g.clock.Changed(all, func(node string, at pcommon.Timestamp) {
		c := s.journal.Record(records.Node)
		c.Text(&node)
		records.Time(c, &at)
	})
	g.store.Record(s.journal, all)
	g.flows.Record(s.journal, all)
	g.names.Weights.Record(s.journal, all)
	return s.journal.Take()
}

// commit stores what a flush recorded. Where that fails the graph goes on, and everything is stored once it works again.
func (g *graph) commit(ctx context.Context, recorded journal.Batch) {
	s := g.saved
	if s == nil || recorded.Empty() {
		return
	}
	if err := s.journal.Commit(ctx, recorded); err != nil {
		g.telemetry.StorageFailed()
		if !s.failing {
			g.logger.Error("The service graph could not be stored", zap.Error(err))
		}
		s.failing = true
		return
	}
	s.failing = false
	g.telemetry.Stored(s.journal.Size())
}

// restored is the state that a journal holds.
type restored struct {
	time, emitted pcommon.Timestamp
	nodes         map[string]pcommon.Timestamp // bounded by what was stored
	store         *edges.Restored
	flows         *flows.Restored
	weights       naming.Restored
}

func newRestored() *restored {
	return &restored{
		nodes: map[string]pcommon.Timestamp{},
		store: edges.NewRestored(), flows: flows.NewRestored(), weights: naming.Restored{},
	}
}

// read takes up one record.
func (r *restored) read(kind uint64, c *journal.Coder) {
	switch {
	case kind == records.Clock:
		records.Time(c, &r.time)
		records.Time(c, &r.emitted)
	case kind == records.Node:
		var node string
		c.Text(&node)
		at := r.nodes[node]
		records.Time(c, &at)
		r.nodes[node] = at
	case r.store.Read(kind, c), r.flows.Read(kind, c), r.weights.Read(kind, c):
	default:
		c.Fail(fmt.Errorf("unknown kind of record %d", kind))
	}
}

// into makes the state the graph's.
func (r *restored) into(g *graph) {
	g.clock.RestoreTime(r.time)
	for node, at := range r.nodes {
		g.clock.Restore(node, at)
	}
	r.store.Into(g.store, r.emitted)
	r.flows.Into(g.flows, r.store, r.time)
	r.weights.Into(g.names, r.time)
}
