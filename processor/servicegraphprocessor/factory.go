package servicegraphprocessor

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"

	"github.com/nephilia/nephilia/internal/shared"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadata"
)

// NewFactory returns the factory of the service_graph processor. The processors that one configuration makes in
// metrics, logs and traces pipelines share one graph.
func NewFactory() processor.Factory {
	var graphs shared.Components[*graph]
	get := func(set processor.Settings, cfg component.Config) (*member, error) {
		m, err := graphs.Get(set.ID, func() (*graph, error) { return newGraph(set, cfg.(*Config)) })
		if err != nil {
			return nil, fmt.Errorf("creating the service graph: %w", err)
		}
		return m, nil
	}
	return processor.NewFactory(
		metadata.Type,
		createDefaultConfig,
		processor.WithMetrics(func(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Metrics) (processor.Metrics, error) {
			m, err := get(set, cfg)
			if err != nil {
				return nil, err
			}
			return newMetricsProcessor(m, next)
		}, metadata.MetricsStability),
		processor.WithLogs(func(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Logs) (processor.Logs, error) {
			m, err := get(set, cfg)
			if err != nil {
				return nil, err
			}
			return newLogsProcessor(m, next), nil
		}, metadata.LogsStability),
		processor.WithTraces(func(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Traces) (processor.Traces, error) {
			m, err := get(set, cfg)
			if err != nil {
				return nil, err
			}
			return newTracesProcessor(m, next)
		}, metadata.TracesStability),
	)
}
