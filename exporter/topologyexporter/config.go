package topologyexporter

import (
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
)

// Config is the exporter's configuration.
type Config struct {
	// Extension is the topology_query extension to write to.
	Extension component.ID `mapstructure:"extension"`
	// QueueConfig is off by default: a batch is in the store when the call returns.
	QueueConfig configoptional.Optional[exporterhelper.QueueBatchConfig] `mapstructure:"sending_queue"`

	// prevent unkeyed literal initialization
	_ struct{}
}

var _ component.Config = (*Config)(nil)

func createDefaultConfig() component.Config {
	return &Config{
		Extension:   component.MustNewID("topology_query"),
		QueueConfig: configoptional.Default(exporterhelper.NewDefaultQueueConfig()),
	}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	if c.Extension == (component.ID{}) {
		return errors.New("extension must name the topology_query extension to write to")
	}
	return nil
}
