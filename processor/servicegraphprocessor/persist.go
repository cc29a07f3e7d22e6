package servicegraphprocessor

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// saved keeps the graph's state over a restart: what flows told is stored before it is acknowledged, and what leaves
// before it leaves, so that cumulative values go on where they were and nothing is lost or counted twice. Spans that wait,
// and what ztunnels' and waypoints' own counters had told, begin anew.
//
// mu of the graph guards all but the journal's commits and failing, which sending guards. The zero of *saved saves nothing.
type saved struct {
	client  storage.Client
	journal *journal.Journal

	edges     []*edgeState
	pairs     []*pair
	endpoints []naming.Pod
	services  []serviceKey
	edgesGone []uint64
	pairsGone []uint64
	lastEdge  uint64
	lastPair  uint64
	failing   bool
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
	g.directory.Journal()
	j, err := journal.Open(ctx, client, naming.Intern)
	if err == nil {
		r := newRestored(g.directory)
		if err = j.Replay(ctx, r.read); err == nil {
			g.saved = &saved{client: client, journal: j, lastEdge: r.lastEdge, lastPair: r.lastPair}
			r.into(g)
			return nil
		}
	}
	if !errors.Is(err, journal.ErrDamaged) {
		return errors.Join(fmt.Errorf("restoring the service graph: %w", err), client.Close(ctx))
	}
	// A state that cannot be read is no reason not to draw the graph.
	g.logger.Error("The stored service graph is not taken up", zap.Error(err))
	g.telemetry.ServiceGraphStorageFailed.Add(g.ctx, 1)
	g.saved = &saved{client: client, journal: j}
	return nil
}

// close ends the storage's use. The graph must be drained.
func (g *graph) close(ctx context.Context) error {
	if g.saved == nil {
		return nil
	}
	client := g.saved.client
	g.saved = nil
	if err := client.Close(ctx); err != nil {
		return fmt.Errorf("closing storage: %w", err)
	}
	return nil
}

func (s *saved) edge(e *edgeState) {
	if s != nil {
		s.edges = append(s.edges, e)
	}
}

func (s *saved) edgeGone(e *edgeState) {
	if s != nil && e.id != 0 {
		s.edgesGone = append(s.edgesGone, e.id)
	}
}

func (s *saved) pair(p *pair) {
	if s != nil && !p.saving {
		p.saving = true
		s.pairs = append(s.pairs, p)
	}
}

func (s *saved) pairGone(p *pair) {
	if s != nil && p.id != 0 {
		s.pairsGone = append(s.pairsGone, p.id)
	}
}

func (s *saved) endpoint(id naming.Pod) {
	if s != nil {
		s.endpoints = append(s.endpoints, id)
	}
}

func (s *saved) service(key serviceKey) {
	if s != nil {
		s.services = append(s.services, key)
	}
}

// record writes down what changed since the last flush, or everything, to be committed before what was flushed leaves.
func (s *saved) record(g *graph) journal.Batch {
	if s == nil || !g.directory.Changed() && len(s.edges)+len(s.pairs)+len(s.endpoints)+len(s.services)+len(s.edgesGone)+len(s.pairsGone) == 0 {
		return journal.Batch{}
	}
	if s.journal.Anew() {
		s.journal.Restart()
		s.everything(g)
	} else {
		s.changes(g)
	}
	for _, p := range s.pairs {
		p.saving = false
	}
	clear(s.edges)
	clear(s.pairs)
	s.edges, s.pairs = s.edges[:0], s.pairs[:0]
	s.endpoints, s.services = s.endpoints[:0], s.services[:0]
	s.edgesGone, s.pairsGone = s.edgesGone[:0], s.pairsGone[:0]
	return s.journal.Take()
}

func (s *saved) changes(g *graph) {
	s.recordClock(g, false)
	for _, e := range s.edges {
		s.recordEdge(e)
	}
	for _, p := range s.pairs {
		if g.flows.pairs[p.key] == p {
			s.recordPair(p)
		}
	}
	for i := range s.endpoints {
		s.recordEndpoint(g, s.endpoints[i])
	}
	for i := range s.services {
		s.recordService(g, s.services[i])
	}
	g.directory.Record(s.journal, false)
	for i := range s.edgesGone {
		s.journal.Record(recordEdgeGone).Uint(&s.edgesGone[i])
	}
	for i := range s.pairsGone {
		s.journal.Record(recordPairGone).Uint(&s.pairsGone[i])
	}
}

func (s *saved) everything(g *graph) {
	s.recordClock(g, true)
	for _, e := range g.edges.byKey {
		s.recordEdge(e)
	}
	for _, p := range g.flows.pairs {
		s.recordPair(p)
	}
	for id := range g.endpoints {
		s.recordEndpoint(g, id)
	}
	for key := range g.services.byKey {
		s.recordService(g, key)
	}
	g.directory.Record(s.journal, true)
}

func (s *saved) recordClock(g *graph, whole bool) {
	c := s.journal.Record(recordClock)
	codeTime(c, &g.clock.time)
	codeTime(c, &g.flushed)
	for name, n := range g.clock.nodes {
		if n.at != n.stored || whole {
			c := s.journal.Record(recordNode)
			c.Text(&name)
			codeTime(c, &n.at)
			n.stored = n.at
			g.clock.nodes[name] = n
		}
	}
}

func (s *saved) recordEdge(e *edgeState) {
	if e.id == 0 {
		s.lastEdge++
		e.id = s.lastEdge
	}
	c := s.journal.Record(recordEdge)
	c.Uint(&e.id)
	e.code(c)
}

func (s *saved) recordPair(p *pair) {
	if p.id == 0 {
		s.lastPair++
		p.id = s.lastPair
	}
	for i := range p.ways {
		// What a way leads to has an id before the way is written.
		if e := p.ways[i].target.edge; e != nil && e.id == 0 {
			s.recordEdge(e)
		}
	}
	c := s.journal.Record(recordPair)
	c.Uint(&p.id)
	p.code(c)
}

// recordEndpoint writes an endpoint, or that it is gone.
func (s *saved) recordEndpoint(g *graph, id naming.Pod) {
	e, ok := g.endpoints[id]
	if !ok {
		id.Code(s.journal.Record(recordEndpointGone))
		return
	}
	c := s.journal.Record(recordEndpoint)
	id.Code(c)
	e.code(c)
}

// recordService writes an edge between services, or that it is gone.
func (s *saved) recordService(g *graph, key serviceKey) {
	edge, ok := g.services.byKey[key]
	if !ok {
		key.code(s.journal.Record(recordServiceGone))
		return
	}
	c := s.journal.Record(recordService)
	key.code(c)
	edge.code(c)
}

// commit stores what a flush recorded. Where that fails the graph goes on, and everything is stored once it works again.
func (g *graph) commit(ctx context.Context, recorded journal.Batch) {
	s := g.saved
	if s == nil || recorded.Empty() {
		return
	}
	if err := s.journal.Commit(ctx, recorded); err != nil {
		g.telemetry.ServiceGraphStorageFailed.Add(g.ctx, 1)
		if !s.failing {
			g.logger.Error("The service graph could not be stored", zap.Error(err))
		}
		s.failing = true
		return
	}
	s.failing = false
	g.telemetry.ServiceGraphStorageSize.Record(g.ctx, int64(s.journal.Size()))
}
