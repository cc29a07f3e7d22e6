package prometheusexporter

import (
	"context"

	upstream "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// NewFactory returns the prometheus exporter's factory: type and configuration are the collector's.
func NewFactory() exporter.Factory {
	factory := upstream.NewFactory()
	create := func(ctx context.Context, set exporter.Settings, cfg component.Config) (exporter.Metrics, error) {
		inner, err := factory.CreateMetrics(ctx, set, cfg)
		if err != nil {
			return nil, err
		}
		return releasing{inner}, nil
	}
	return exporter.NewFactory(factory.Type(), factory.CreateDefaultConfig, exporter.WithMetrics(create, factory.MetricsStability()))
}

// releasing empties what was consumed. The exporter copies points and has no queue, so nothing else needs them.
type releasing struct{ exporter.Metrics }

// Capabilities implements consumer.Metrics.
func (releasing) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

// ConsumeMetrics implements consumer.Metrics.
func (r releasing) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	err := r.Metrics.ConsumeMetrics(ctx, md)
	for _, resource := range md.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			scope.Metrics().RemoveIf(func(pmetric.Metric) bool { return true })
		}
	}
	return err
}
