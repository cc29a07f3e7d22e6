package servicegraphprocessor

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadata"
)

// NewFactory returns the factory of the service_graph processor. The processors that one configuration makes in
// metrics, logs and traces pipelines share one graph.
func NewFactory() processor.Factory {
	s := &shared{graphs: map[*Config]*graph{}}
	return processor.NewFactory(
		metadata.Type,
		createDefaultConfig,
		processor.WithMetrics(func(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Metrics) (processor.Metrics, error) {
			g, err := s.graph(set, cfg.(*Config))
			if err != nil {
				return nil, err
			}
			return newMetricsProcessor(s, g, next)
		}, metadata.MetricsStability),
		processor.WithLogs(func(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Logs) (processor.Logs, error) {
			g, err := s.graph(set, cfg.(*Config))
			if err != nil {
				return nil, err
			}
			return newLogsProcessor(s, g, next), nil
		}, metadata.LogsStability),
		processor.WithTraces(func(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Traces) (processor.Traces, error) {
			g, err := s.graph(set, cfg.(*Config))
			if err != nil {
				return nil, err
			}
			return newTracesProcessor(s, g, next)
		}, metadata.TracesStability),
	)
}
