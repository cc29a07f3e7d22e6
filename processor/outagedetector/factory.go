package outagedetector

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/metadata"
)

// NewFactory returns the factory of the outage_detector processor. The processors that one configuration makes in
// metrics and logs pipelines share one detector.
func NewFactory() processor.Factory {
	s := &shared{detectors: map[*Config]*detector{}}
	return processor.NewFactory(
		metadata.Type,
		createDefaultConfig,
		processor.WithMetrics(func(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Metrics) (processor.Metrics, error) {
			d, err := s.detector(set, cfg.(*Config))
			if err != nil {
				return nil, err
			}
			return newMetricsProcessor(s, d, next)
		}, metadata.MetricsStability),
		processor.WithLogs(func(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Logs) (processor.Logs, error) {
			d, err := s.detector(set, cfg.(*Config))
			if err != nil {
				return nil, err
			}
			return newLogsProcessor(s, d, next)
		}, metadata.LogsStability),
	)
}
