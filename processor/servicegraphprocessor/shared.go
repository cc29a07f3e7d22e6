package servicegraphprocessor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
)

// shared holds the graphs that processors share. The collector hands the same configuration to the processors of one
// component ID, and a new one after a reload.
type shared struct {
	mu     sync.Mutex
	graphs map[*Config]*graph
}

func (s *shared) graph(set processor.Settings, cfg *Config) (*graph, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.graphs[cfg]; ok {
		return g, nil
	}
	g, err := newGraph(set, cfg)
	if err != nil {
		return nil, fmt.Errorf("creating the service graph: %w", err)
	}
	s.graphs[cfg] = g
	return g, nil
}

// member is one processor of a graph. The graph starts with the first of them and stops with the last.
type member struct {
	shared  *shared
	graph   *graph
	started bool
}

func (m *member) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

func (m *member) Start(ctx context.Context, host component.Host) error {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	if m.graph.members == 0 {
		if err := m.graph.start(ctx, host); err != nil {
			return err
		}
	}
	m.started = true
	m.graph.members++
	return nil
}

func (m *member) Shutdown(ctx context.Context) error {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	if m.started {
		m.started = false
		m.graph.members--
	}
	if m.graph.members == 0 {
		delete(m.shared.graphs, m.graph.cfg)
		return m.graph.stop(ctx)
	}
	return nil
}

type logsProcessor struct {
	member
	next consumer.Logs
}

func newLogsProcessor(s *shared, g *graph, next consumer.Logs) *logsProcessor {
	return &logsProcessor{member: member{shared: s, graph: g}, next: next}
}

func (*logsProcessor) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

// ConsumeLogs learns the mesh's state and passes everything on.
func (p *logsProcessor) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	p.graph.learn(logs)
	return p.next.ConsumeLogs(ctx, logs)
}

type metricsProcessor struct {
	member
	next consumer.Metrics
}

func newMetricsProcessor(s *shared, g *graph, next consumer.Metrics) (*metricsProcessor, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.nextMetrics != nil {
		return nil, errors.New("a service_graph component belongs into one metrics pipeline; name a second one service_graph/<name>")
	}
	g.nextMetrics = next
	return &metricsProcessor{member: member{shared: s, graph: g}, next: next}, nil
}

// ConsumeMetrics consumes the flow aggregates, passes all else on and adds the edges that a heartbeat makes due.
func (p *metricsProcessor) ConsumeMetrics(ctx context.Context, metrics pmetric.Metrics) error {
	return p.graph.consumeMetrics(ctx, metrics)
}

// Shutdown sends what is held and what changed before the pipeline ends.
func (p *metricsProcessor) Shutdown(ctx context.Context) error {
	var err error
	if p.started {
		err = p.graph.drainMetrics(ctx)
	}
	return errors.Join(err, p.member.Shutdown(ctx))
}

type tracesProcessor struct {
	member
	next consumer.Traces
}

func newTracesProcessor(s *shared, g *graph, next consumer.Traces) (*tracesProcessor, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.nextTraces != nil {
		return nil, errors.New("a service_graph component belongs into one traces pipeline; name a second one service_graph/<name>")
	}
	g.nextTraces = next
	return &tracesProcessor{member: member{shared: s, graph: g}, next: next}, nil
}

// ConsumeTraces counts the applications' requests and joins flow spans; flow spans that wait for their counterpart leave
// later.
func (p *tracesProcessor) ConsumeTraces(ctx context.Context, traces ptrace.Traces) error {
	return p.graph.consumeTraces(ctx, traces)
}

// Shutdown sends the spans that are held before the pipeline ends.
func (p *tracesProcessor) Shutdown(ctx context.Context) error {
	var err error
	if p.started {
		err = p.graph.drainTraces(ctx)
	}
	return errors.Join(err, p.member.Shutdown(ctx))
}
