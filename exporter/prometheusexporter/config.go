package prometheusexporter

import (
	"errors"
	"fmt"

	upstream "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter"
	"go.opentelemetry.io/collector/component"

	"github.com/nephilia/nephilia/internal/exphist"
)

// Config is the exporter's configuration: contrib's, and a bound.
type Config struct {
	upstream.Config `mapstructure:",squash"`
	// MaxSeries bounds the series that are kept.
	MaxSeries int `mapstructure:"max_series"`
	// Histograms says how exponential histograms are exposed.
	Histograms exphist.Form `mapstructure:"histograms"`

	// prevent unkeyed literal initialization
	_ struct{}
}

var _ component.Config = (*Config)(nil)

func createDefaultConfig() component.Config {
	return &Config{Config: *upstream.NewFactory().CreateDefaultConfig().(*upstream.Config), MaxSeries: 1_000_000, Histograms: exphist.Both}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if c.NetAddr.Endpoint == "" {
		return errors.New("endpoint must be given")
	}
	if c.MaxSeries <= 0 {
		return fmt.Errorf("max_series must be positive, not %d", c.MaxSeries)
	}
	if c.MetricExpiration <= 0 {
		return fmt.Errorf("metric_expiration must be positive, not %s", c.MetricExpiration)
	}
	return nil
}

// names says whether metrics get the suffixes of their unit and type, and whether names may have any character. Like contrib's exporter,
// it ignores add_metric_suffixes.
func (c *Config) names() (suffixes, utf8 bool) {
	switch string(c.TranslationStrategy) {
	case "UnderscoreEscapingWithoutSuffixes":
		return false, false
	case "NoUTF8EscapingWithSuffixes":
		return true, true
	case "NoTranslation":
		return false, true
	default:
		return true, false
	}
}
