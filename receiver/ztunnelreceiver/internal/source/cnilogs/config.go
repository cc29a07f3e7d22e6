package cnilogs

import (
	"errors"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/accesslogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
)

// Config says which files the CNI agents write their logs to.
type Config struct {
	Include []string `mapstructure:"include"`
	Exclude []string `mapstructure:"exclude"`
	// StartAt is "beginning" or "end": where to begin in a file that is there at the very first start.
	StartAt      string                    `mapstructure:"start_at"`
	PollInterval time.Duration             `mapstructure:"poll_interval"`
	MaxEntrySize int                       `mapstructure:"max_entry_size"`
	NodeFrom     accesslogs.NodeFromConfig `mapstructure:"node_from"`
	// StorageID is the storage extension that keeps offsets over a restart; by default access_logs'.
	StorageID *component.ID `mapstructure:"storage"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{StartAt: tail.StartAtEnd, PollInterval: time.Second, MaxEntrySize: 16 << 10}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	return errors.Join(
		tail.ValidateReading(c.StartAt, c.PollInterval, c.MaxEntrySize),
		tail.ValidateOrigin("node_from", c.NodeFrom.PathRegexp, c.NodeFrom.Static, "the node"),
	)
}

// ValidateFiles checks where the logs are; node is the collector's, and fromAPI tells that they come through the API server.
func (c *Config) ValidateFiles(node string, fromAPI bool) error {
	switch {
	case fromAPI == (len(c.Include) > 0):
		return errors.New(`include is required, the files that istio-cni-node logs to, unless kubernetes::logs is "api" and kubernetes::cni true`)
	case !fromAPI && node == "" && c.NodeFrom == (accesslogs.NodeFromConfig{}):
		return errors.New("node_name (in Kubernetes ${env:K8S_NODE_NAME}) or cni_logs::node_from is required")
	}
	return nil
}
