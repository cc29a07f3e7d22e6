package envoylogs

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/nephilia/nephilia/internal/envoylog"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
)

// Config says which files waypoints and gateways write their logs to, and in which format.
type Config struct {
	Include []string `mapstructure:"include"`
	Exclude []string `mapstructure:"exclude"`
	// StartAt is "beginning" or "end": where to begin in a file that is there at the very first start.
	StartAt      string        `mapstructure:"start_at"`
	PollInterval time.Duration `mapstructure:"poll_interval"`
	MaxEntrySize int           `mapstructure:"max_entry_size"`
	// Format is the access log's format where it is none of Istio's: Envoy's format string, or the JSON object of a JSON format.
	Format string `mapstructure:"format"`
	// ProxyFrom says whose log a file is.
	ProxyFrom ProxyFromConfig `mapstructure:"proxy_from"`
	// StorageID is the storage extension that keeps offsets over a restart; by default access_logs'.
	StorageID *component.ID `mapstructure:"storage"`
}

// ProxyFromConfig says which waypoint or gateway a file belongs to: the one, or the other.
type ProxyFromConfig struct {
	// PathRegexp has one group, which gives NAMESPACE_POD, or NAMESPACE/NAME of the proxy, in a file's path. By default it is that of
	// Kubernetes' log files.
	PathRegexp string `mapstructure:"path_regexp"`
	// Static is NAMESPACE/NAME of the proxy that writes all files.
	Static string `mapstructure:"static"`
}

// podLogPath gives NAMESPACE_POD in /var/log/pods/NAMESPACE_POD_UID/CONTAINER/0.log.
const podLogPath = `([^/_]+_[^/_]+)_[^/]+/[^/]+/[^/]+$`

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		StartAt:      tail.StartAtEnd,
		PollInterval: 200 * time.Millisecond,
		MaxEntrySize: 64 << 10,
	}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	_, err := c.compile()
	return errors.Join(
		tail.ValidateReading(c.StartAt, c.PollInterval, c.MaxEntrySize), err,
		tail.ValidateOrigin("proxy_from", c.ProxyFrom.PathRegexp, c.ProxyFrom.Static, "the proxy"),
	)
}

// ValidateFiles checks where the logs are; fromAPI tells that they come through the API server.
func (c *Config) ValidateFiles(fromAPI bool) error {
	if fromAPI == (len(c.Include) > 0) {
		return errors.New(`include is required, the files that waypoints and gateways log to, unless kubernetes::logs is "api" and kubernetes::waypoints true`)
	}
	return nil
}

// compile compiles the format, nil if there is none.
func (c *Config) compile() (*envoylog.Format, error) {
	if c == nil || c.Format == "" {
		return nil, nil
	}
	format, err := envoylog.NewFormat(c.Format)
	if err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	return format, nil
}

// CompiledFormat is the compiled format, nil if there is none.
func (c *Config) CompiledFormat() *envoylog.Format {
	format, _ := c.compile()
	return format
}
