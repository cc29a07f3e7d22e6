package record

import (
	"errors"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"
)

// Config says where and how much of what is read is recorded.
type Config struct {
	// Directory holds a folder for each recording, named by when it begins.
	Directory string `mapstructure:"directory"`
	// MaxSizeMiB bounds all recordings together: the oldest goes first.
	MaxSizeMiB int64 `mapstructure:"max_size_mib"`
	// Rotate is after how long a new recording begins.
	Rotate time.Duration `mapstructure:"rotate"`
	// Scrub replaces names and addresses, the same one by the same each time.
	Scrub bool `mapstructure:"scrub"`
	// ScrubKey makes several collectors, and one after a restart, replace them alike. Without one, it is random.
	ScrubKey configopaque.String `mapstructure:"scrub_key"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config { return Config{MaxSizeMiB: 1024, Rotate: time.Hour} }

const (
	minSizeMiB = 16
	minRotate  = time.Minute
	minKey     = 16
)

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if c.Directory == "" {
		errs = append(errs, errors.New("directory is required: where recordings are written"))
	}
	if c.MaxSizeMiB < minSizeMiB {
		errs = append(errs, errors.New("max_size_mib must be at least 16"))
	}
	if c.Rotate < minRotate {
		errs = append(errs, errors.New("rotate must be at least 1m"))
	}
	if c.ScrubKey != "" && len(c.ScrubKey) < minKey {
		errs = append(errs, errors.New("scrub_key must have at least 16 bytes: whoever guesses it guesses names"))
	}
	return errors.Join(errs...)
}
