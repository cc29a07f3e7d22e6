package outagealertexporter

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"

	"github.com/nephilia/nephilia/exporter/outagealertexporter/internal/metadata"
)

// NewFactory returns the factory of the outage_alert exporter.
func NewFactory() exporter.Factory {
	return exporter.NewFactory(
		metadata.Type,
		createDefaultConfig,
		exporter.WithLogs(createLogs, metadata.LogsStability),
	)
}

// createLogs leaves out queue, timeout and retry: what a batch says is taken over at once, and told for as long as it holds.
func createLogs(ctx context.Context, settings exporter.Settings, cfg component.Config) (exporter.Logs, error) {
	e, err := newAlertExporter(cfg.(*Config), settings)
	if err != nil {
		return nil, err
	}
	return exporterhelper.NewLogs(ctx, settings, cfg, e.logs,
		exporterhelper.WithStart(e.start),
		exporterhelper.WithShutdown(e.shutdown),
		exporterhelper.WithCapabilities(consumer.Capabilities{MutatesData: false}),
		exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{}),
	)
}
