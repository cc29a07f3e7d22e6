package topologyexporter

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"

	"github.com/nephilia/nephilia/exporter/topologyexporter/internal/metadata"
)

// NewFactory returns the factory of the topology exporter.
func NewFactory() exporter.Factory {
	return exporter.NewFactory(
		metadata.Type,
		createDefaultConfig,
		exporter.WithMetrics(createMetrics, metadata.MetricsStability),
		exporter.WithLogs(createLogs, metadata.LogsStability),
		exporter.WithTraces(createTraces, metadata.TracesStability),
	)
}

func createMetrics(ctx context.Context, settings exporter.Settings, cfg component.Config) (exporter.Metrics, error) {
	e := &topologyExporter{config: cfg.(*Config)}
	return exporterhelper.NewMetrics(ctx, settings, cfg, e.metrics, options(e)...)
}

func createLogs(ctx context.Context, settings exporter.Settings, cfg component.Config) (exporter.Logs, error) {
	e := &topologyExporter{config: cfg.(*Config)}
	return exporterhelper.NewLogs(ctx, settings, cfg, e.logs, options(e)...)
}

func createTraces(ctx context.Context, settings exporter.Settings, cfg component.Config) (exporter.Traces, error) {
	e := &topologyExporter{config: cfg.(*Config)}
	return exporterhelper.NewTraces(ctx, settings, cfg, e.traces, options(e)...)
}

// options leave out timeout and retry: the store is in this process, and what it refuses it would refuse again.
func options(e *topologyExporter) []exporterhelper.Option {
	return []exporterhelper.Option{
		exporterhelper.WithStart(e.start),
		exporterhelper.WithCapabilities(consumer.Capabilities{MutatesData: false}),
		exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{}),
		exporterhelper.WithQueue(e.config.QueueConfig),
	}
}
