package outagedetector

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"

	"github.com/nephilia/nephilia/internal/shared"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/metadata"
)

// NewFactory returns the factory of the outage_detector processor. The processors that one configuration makes in
// metrics and logs pipelines share one detector.
func NewFactory() processor.Factory {
	var detectors shared.Components[*detector]
	member := func(set processor.Settings, cfg component.Config) (*shared.Member[*detector], error) {
		return detectors.Get(set.ID, func() (*detector, error) { return newDetector(set, cfg.(*Config)) })
	}
	return processor.NewFactory(
		metadata.Type,
		createDefaultConfig,
		processor.WithMetrics(func(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Metrics) (processor.Metrics, error) {
			m, err := member(set, cfg)
			if err != nil {
				return nil, err
			}
			return newMetricsProcessor(m, next)
		}, metadata.MetricsStability),
		processor.WithLogs(func(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Logs) (processor.Logs, error) {
			m, err := member(set, cfg)
			if err != nil {
				return nil, err
			}
			return newLogsProcessor(m, next)
		}, metadata.LogsStability),
	)
}
