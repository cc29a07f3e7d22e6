package outagealertexporter

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
)

// Config is the exporter's configuration.
type Config struct {
	// ClientConfig is how to reach the Alertmanager; its endpoint is the Alertmanager's URL, with its route prefix if it has one.
	confighttp.ClientConfig `mapstructure:",squash"`
	// ResendInterval is how often open outages are told again. An alert that is not told again ends by itself after four times that.
	ResendInterval time.Duration `mapstructure:"resend_interval"`
	// ExternalURL is where people reach Nephilia's UI; alerts link to the outage's page there.
	ExternalURL string `mapstructure:"external_url"`
	// RunbookURL is the page that says what to do, of which each kind of outage is a section; empty for none.
	RunbookURL string `mapstructure:"runbook_url"`
	// Labels are added to every alert.
	Labels map[string]string `mapstructure:"labels"`
	// MaxAlerts bounds the alerts that are kept: open outages and ends that could not be told yet.
	MaxAlerts int `mapstructure:"max_alerts"`

	// prevent unkeyed literal initialization
	_ struct{}
}

var _ component.Config = (*Config)(nil)

const runbooks = "https://github.com/nephilia/nephilia/blob/main/docs/runbooks.md"

func createDefaultConfig() component.Config {
	client := confighttp.NewDefaultClientConfig()
	client.Timeout = 10 * time.Second
	return &Config{ClientConfig: client, ResendInterval: time.Minute, ExternalURL: "http://localhost:16680", RunbookURL: runbooks, MaxAlerts: 1000}
}

// Alertmanager's API wants an alert repeated within these bounds.
const (
	leastResend = 30 * time.Second
	mostResend  = 3 * time.Minute
)

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if err := absolute(c.Endpoint); err != nil {
		errs = append(errs, fmt.Errorf("endpoint must be the URL of an Alertmanager: %w", err))
	}
	if err := absolute(c.ExternalURL); err != nil {
		errs = append(errs, fmt.Errorf("external_url must be the URL of the UI: %w", err))
	}
	if c.RunbookURL != "" {
		if err := absolute(c.RunbookURL); err != nil {
			errs = append(errs, fmt.Errorf("runbook_url must be the URL of a page: %w", err))
		}
	}
	if c.ResendInterval < leastResend || c.ResendInterval > mostResend {
		errs = append(errs, fmt.Errorf("resend_interval must lie between %s and %s, not %s", leastResend, mostResend, c.ResendInterval))
	}
	if c.MaxAlerts <= 0 {
		errs = append(errs, fmt.Errorf("max_alerts must be positive, not %d", c.MaxAlerts))
	}
	for name := range c.Labels {
		switch {
		case !labelName.MatchString(name):
			errs = append(errs, fmt.Errorf("labels: %q is no name for a label", name))
		case slices.Contains(ownLabels, name):
			errs = append(errs, fmt.Errorf("labels: %q is set by the exporter", name))
		}
	}
	return errors.Join(errs...)
}

func absolute(text string) error {
	parsed, err := url.Parse(text)
	if err != nil {
		return err
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		return fmt.Errorf("%q is not of the form http://host", text)
	}
	return nil
}
