package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/receiver"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"go.opentelemetry.io/collector/confmap"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver"
)

// found is what came out of a replay.
type found struct {
	outages     []*outage.Outage
	transitions []transition
}

// sink collects outage events and notices the end of the replay.
type sink struct {
	mu          sync.Mutex
	newest      map[string]*outage.Outage
	order       []string
	transitions []transition
	done        chan struct{}
	once        sync.Once
}

func (s *sink) logs(_ context.Context, logs plog.Logs) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if record.EventName() != semconv.EventOutage {
					continue
				}
				o, err := outage.FromBody(record.Body())
				if err != nil {
					return fmt.Errorf("reading an outage event: %w", err)
				}
				if _, known := s.newest[o.ID]; !known {
					s.order = append(s.order, o.ID)
				}
				s.newest[o.ID] = o
				name, _ := record.Attributes().Get(semconv.AttrOutageTransition)
				s.transitions = append(s.transitions, transition{name.Str(), o})
			}
		}
	}
	return nil
}

func (s *sink) metrics(_ context.Context, metrics pmetric.Metrics) error {
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, m := range scope.Metrics().All() {
				if m.Name() != semconv.MetricReplayPosition {
					continue
				}
				for _, p := range m.Gauge().DataPoints().All() {
					if state, _ := p.Attributes().Get(semconv.LabelState); semconv.ReplayEnded(state.Str()) {
						s.once.Do(func() { close(s.done) })
					}
				}
			}
		}
	}
	return nil
}

// host reports what a component cannot go on after.
type host struct{ component.Host }

func (host) GetExtensions() map[component.ID]component.Component { return nil }

func settings() component.TelemetrySettings {
	return component.TelemetrySettings{
		Logger: zap.NewNop(), MeterProvider: noopmetric.NewMeterProvider(), TracerProvider: nooptrace.NewTracerProvider(),
	}
}

// play replays a recording through the three components in one process.
func play(ctx context.Context, folder, speed string) (*found, error) {
	s := &sink{newest: map[string]*outage.Outage{}, done: make(chan struct{})}
	p, err := build(ctx, folder, speed, s)
	if err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.stop(ctx))
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.stop(context.WithoutCancel(ctx)))
	}
	if err := p.stop(ctx); err != nil {
		return nil, err
	}
	result := &found{transitions: s.transitions}
	for _, id := range s.order {
		result.outages = append(result.outages, s.newest[id])
	}
	return result, nil
}

// pipeline is components in the order in which they stop: the source first.
type pipeline []component.Component

func (p pipeline) start(ctx context.Context) error {
	for _, c := range slices.Backward(p) {
		if err := c.Start(ctx, host{}); err != nil {
			return fmt.Errorf("starting: %w", err)
		}
	}
	return nil
}

func (p pipeline) stop(ctx context.Context) error {
	var errs []error
	for _, c := range p {
		errs = append(errs, c.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

func build(ctx context.Context, folder, speed string, s *sink) (pipeline, error) {
	metricsSink, err := consumer.NewMetrics(s.metrics)
	if err != nil {
		return nil, err
	}
	logsSink, err := consumer.NewLogs(s.logs)
	if err != nil {
		return nil, err
	}
	tracesSink, err := consumer.NewTraces(func(context.Context, ptrace.Traces) error { return nil })
	if err != nil {
		return nil, err
	}
	var b builder
	detector := outagedetector.NewFactory()
	detectorConfig := detector.CreateDefaultConfig()
	detectorSettings := processor.Settings{ID: component.NewID(detector.Type()), TelemetrySettings: settings()}
	detectorMetrics := add(&b, func() (processor.Metrics, error) {
		return detector.CreateMetrics(ctx, detectorSettings, detectorConfig, metricsSink)
	})
	detectorLogs := add(&b, func() (processor.Logs, error) {
		return detector.CreateLogs(ctx, detectorSettings, detectorConfig, logsSink)
	})
	graph := servicegraphprocessor.NewFactory()
	graphConfig := graph.CreateDefaultConfig()
	graphSettings := processor.Settings{ID: component.NewID(graph.Type()), TelemetrySettings: settings()}
	graphMetrics := add(&b, func() (processor.Metrics, error) {
		return graph.CreateMetrics(ctx, graphSettings, graphConfig, detectorMetrics)
	})
	graphLogs := add(&b, func() (processor.Logs, error) {
		return graph.CreateLogs(ctx, graphSettings, graphConfig, detectorLogs)
	})
	graphTraces := add(&b, func() (processor.Traces, error) {
		return graph.CreateTraces(ctx, graphSettings, graphConfig, tracesSink)
	})
	source := ztunnelreceiver.NewFactory()
	sourceConfig := source.CreateDefaultConfig()
	err = confmap.NewFromStringMap(map[string]any{
		"replay": map[string]any{"directory": folder, "speed": speed},
	}).Unmarshal(sourceConfig)
	if err != nil {
		return nil, fmt.Errorf("configuring the replay: %w", err)
	}
	sourceSettings := receiver.Settings{ID: component.NewID(source.Type()), TelemetrySettings: settings()}
	add(&b, func() (receiver.Metrics, error) {
		return source.CreateMetrics(ctx, sourceSettings, sourceConfig, graphMetrics)
	})
	add(&b, func() (receiver.Logs, error) { return source.CreateLogs(ctx, sourceSettings, sourceConfig, graphLogs) })
	add(&b, func() (receiver.Traces, error) {
		return source.CreateTraces(ctx, sourceSettings, sourceConfig, graphTraces)
	})
	slices.Reverse(b.pipeline)
	return b.pipeline, b.err
}

type builder struct {
	pipeline pipeline
	err      error
}

func add[C component.Component](b *builder, create func() (C, error)) C {
	var none C
	if b.err != nil {
		return none
	}
	c, err := create()
	if err != nil {
		b.err = fmt.Errorf("building the pipeline: %w", err)
		return none
	}
	b.pipeline = append(b.pipeline, c)
	return c
}
