package prometheusexporter

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"

	"github.com/nephilia/nephilia/exporter/prometheusexporter/internal/metadata"
)

// NewFactory returns the prometheus exporter's factory.
func NewFactory() exporter.Factory {
	return exporter.NewFactory(metadata.Type, createDefaultConfig, exporter.WithMetrics(createMetrics, metadata.MetricsStability))
}

func createMetrics(ctx context.Context, settings exporter.Settings, cfg component.Config) (exporter.Metrics, error) {
	e, err := newPrometheusExporter(cfg.(*Config), settings)
	if err != nil {
		return nil, err
	}
	return exporterhelper.NewMetrics(ctx, settings, cfg, e.consume,
		exporterhelper.WithStart(e.start),
		exporterhelper.WithShutdown(e.shutdown),
		exporterhelper.WithQueue(e.cfg.QueueBatchConfig),
		exporterhelper.WithCapabilities(consumer.Capabilities{MutatesData: false}),
		exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{}),
	)
}
