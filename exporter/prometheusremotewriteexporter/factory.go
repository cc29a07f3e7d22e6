package prometheusremotewriteexporter

import (
	"context"

	upstream "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusremotewriteexporter"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/xexporter"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/exphist"
)

// deprecatedType is the exporter's former name, which contrib's takes as well.
var deprecatedType = component.MustNewType("prometheusremotewrite")

// Config is contrib's, with the form of histograms.
type Config struct {
	upstream.Config `mapstructure:",squash"`
	// Histograms says how exponential histograms are sent.
	Histograms exphist.Form `mapstructure:"histograms"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// NewFactory returns the exporter's factory.
func NewFactory() exporter.Factory {
	factory := upstream.NewFactory()
	return xexporter.NewFactory(factory.Type(),
		func() component.Config {
			return &Config{Config: *factory.CreateDefaultConfig().(*upstream.Config), Histograms: exphist.Native}
		},
		xexporter.WithMetrics(func(ctx context.Context, set exporter.Settings, cfg component.Config) (exporter.Metrics, error) {
			c := cfg.(*Config)
			inner, err := factory.CreateMetrics(ctx, set, &c.Config)
			if err != nil {
				return nil, err
			}
			return &sender{inner, c.Histograms}, nil
		}, factory.MetricsStability()),
		xexporter.WithDeprecatedTypeAlias(deprecatedType),
	)
}

// sender sends histograms in a form.
type sender struct {
	exporter.Metrics
	form exphist.Form
}

// Capabilities implements consumer.Metrics.
func (*sender) Capabilities() consumer.Capabilities { return consumer.Capabilities{MutatesData: true} }

// ConsumeMetrics implements consumer.Metrics.
func (s *sender) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	for _, resource := range md.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			exphist.AddClassic(scope.Metrics(), s.form)
		}
	}
	return s.Metrics.ConsumeMetrics(ctx, md)
}
