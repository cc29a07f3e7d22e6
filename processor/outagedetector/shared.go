package outagedetector

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor"
)

// shared holds the detectors that processors share. The collector hands the same configuration to the processors of one
// component ID, and a new one after a reload.
type shared struct {
	mu        sync.Mutex
	detectors map[*Config]*detector
}

func (s *shared) detector(set processor.Settings, cfg *Config) (*detector, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.detectors[cfg]; ok {
		return d, nil
	}
	d, err := newDetector(set, cfg)
	if err != nil {
		return nil, fmt.Errorf("creating the outage detector: %w", err)
	}
	s.detectors[cfg] = d
	return d, nil
}

// member is one processor of a detector. The detector starts with the first of them and stops with the last.
type member struct {
	shared   *shared
	detector *detector
	started  bool
}

func (m *member) Start(ctx context.Context, host component.Host) error {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	if m.detector.members == 0 {
		if err := m.detector.start(ctx, host); err != nil {
			return err
		}
	}
	m.started = true
	m.detector.members++
	return nil
}

func (m *member) Shutdown(ctx context.Context) error {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	if m.started {
		m.started = false
		m.detector.members--
	}
	if m.detector.members > 0 {
		return nil
	}
	delete(m.shared.detectors, m.detector.cfg)
	return m.detector.stop(ctx)
}

type metricsProcessor struct {
	member
	next consumer.Metrics
}

func newMetricsProcessor(s *shared, d *detector, next consumer.Metrics) (*metricsProcessor, error) {
	if d.nextMetrics != nil {
		return nil, errors.New("an outage_detector belongs into one metrics pipeline; name a second one outage_detector/<name>")
	}
	d.nextMetrics = next
	return &metricsProcessor{member: member{shared: s, detector: d}, next: next}, nil
}

// Capabilities implements processor.Metrics: outages are added to the batch.
func (*metricsProcessor) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

// ConsumeMetrics judges what the batch says. The outage events it causes are handed on before the batch itself, so that
// whoever sees the batch (the end of a replay in it) has seen the events.
func (p *metricsProcessor) ConsumeMetrics(ctx context.Context, metrics pmetric.Metrics) error {
	p.detector.consumeMetrics(ctx, metrics)
	return p.next.ConsumeMetrics(ctx, metrics)
}

type logsProcessor struct {
	member
	next consumer.Logs
}

func newLogsProcessor(s *shared, d *detector, next consumer.Logs) (*logsProcessor, error) {
	if d.nextLogs != nil {
		return nil, errors.New("an outage_detector belongs into one logs pipeline; name a second one outage_detector/<name>")
	}
	d.nextLogs = next
	return &logsProcessor{member: member{shared: s, detector: d}, next: next}, nil
}

// Capabilities implements processor.Logs.
func (*logsProcessor) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

// ConsumeLogs learns from the batch and passes it on.
func (p *logsProcessor) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	p.detector.consumeLogs(logs)
	return p.next.ConsumeLogs(ctx, logs)
}
