package outagedetector

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"

	"github.com/nephilia/nephilia/internal/renamed"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// Config is the configuration of the outage_detector processor.
type Config struct {
	// Storage is the id of a storage extension that keeps outages over a restart. Without one they begin anew.
	Storage *component.ID `mapstructure:"storage"`
	// Confirm is how old a fault must be before an outage opens, so that its root can show itself.
	Confirm time.Duration `mapstructure:"confirm"`
	// FlapWindow is how soon after its end the same fault is the same outage again.
	FlapWindow time.Duration `mapstructure:"flap_window"`
	// QuietTimeout is how long an outage stays open while what failed is no longer tried; then it is stale.
	QuietTimeout time.Duration `mapstructure:"quiet_timeout"`
	// SilenceTimeout is how long, by the wall clock, nothing at all may arrive before every open outage is stale. It never
	// applies to a replay. 0 turns it off.
	SilenceTimeout time.Duration `mapstructure:"silence_timeout"`
	// RefreshInterval is how often, in data time, the gauge of an open outage is repeated.
	RefreshInterval time.Duration `mapstructure:"refresh_interval"`
	// Rules changes rules of the catalogue, by id, for everything.
	Rules map[string]rules.Change `mapstructure:"rules"`
	// Overrides change rules for a namespace, a workload or an edge. Later ones win.
	Overrides []rules.Override `mapstructure:"overrides"`
	// SLOs are objectives whose error budgets are watched.
	SLOs []SLO `mapstructure:"slos"`
	// Limits bound what is kept.
	Limits `mapstructure:",squash"`

	// warnings are to be logged at the start.
	warnings []string

	// prevent unkeyed literal initialization
	_ struct{}
}

// SLO is an objective for workloads: the share of their requests (and failed connections) that must be good.
type SLO struct {
	// Subject are the workloads; empty fields match all.
	rules.Subject `mapstructure:",squash"`
	// Objective is the share that must be good, such as 0.999.
	Objective float64 `mapstructure:"objective"`
	// Latency makes it an objective for latency: a request is good if it takes no longer. 0 means availability.
	Latency time.Duration `mapstructure:"latency"`
}

// Limits bound what is kept; what goes beyond is counted and left out.
type Limits struct {
	MaxEdges     int `mapstructure:"max_edges"`
	MaxEndpoints int `mapstructure:"max_endpoints"`
	MaxNodes     int `mapstructure:"max_nodes"`
	MaxEntities  int `mapstructure:"max_entities"`
	MaxExternal  int `mapstructure:"max_external"`
	MaxOutages   int `mapstructure:"max_outages"`
}

// formerNames are options that have other names now.
var formerNames = []renamed.Option{
	{Old: "limits::edges", New: "max_edges"},
	{Old: "limits::endpoints", New: "max_endpoints"},
	{Old: "limits::nodes", New: "max_nodes"},
	{Old: "limits::entities", New: "max_entities"},
	{Old: "limits::external", New: "max_external"},
	{Old: "limits::outages", New: "max_outages"},
}

// Unmarshal implements confmap.Unmarshaler: it understands options by their former names too.
func (c *Config) Unmarshal(conf *confmap.Conf) (err error) {
	if c.warnings, err = renamed.Move(conf, formerNames); err != nil {
		return err
	}
	return conf.Unmarshal(c)
}

func createDefaultConfig() component.Config {
	return &Config{
		Confirm:         4 * time.Second,
		FlapWindow:      2 * time.Minute,
		QuietTimeout:    10 * time.Minute,
		SilenceTimeout:  2 * time.Minute,
		RefreshInterval: 15 * time.Second,
		Limits:          Limits{MaxEdges: 50_000, MaxEndpoints: 50_000, MaxNodes: 5_000, MaxEntities: 100_000, MaxExternal: 1_000, MaxOutages: 1_000},
	}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
		zero  bool
	}{
		{"confirm", c.Confirm, true},
		{"flap_window", c.FlapWindow, true},
		{"quiet_timeout", c.QuietTimeout, false},
		{"silence_timeout", c.SilenceTimeout, true},
		{"refresh_interval", c.RefreshInterval, false},
	} {
		if d.value < 0 || d.value == 0 && !d.zero {
			errs = append(errs, fmt.Errorf("%s must be positive, not %s", d.name, d.value))
		}
	}
	for _, l := range []struct {
		name  string
		value int
	}{
		{"max_edges", c.MaxEdges},
		{"max_endpoints", c.MaxEndpoints},
		{"max_nodes", c.MaxNodes},
		{"max_entities", c.MaxEntities},
		{"max_external", c.MaxExternal},
		{"max_outages", c.MaxOutages},
	} {
		if l.value <= 0 {
			errs = append(errs, fmt.Errorf("%s must be positive, not %d", l.name, l.value))
		}
	}
	if err := rules.ValidateChanges(c.Rules); err != nil {
		errs = append(errs, fmt.Errorf("rules: %w", err))
	}
	if len(c.Overrides) > rules.MaxOverrides {
		errs = append(errs, fmt.Errorf("overrides: at most %d, not %d", rules.MaxOverrides, len(c.Overrides)))
	}
	for i := range c.Overrides {
		if err := c.Overrides[i].Validate(); err != nil {
			errs = append(errs, fmt.Errorf("overrides[%d]: %w", i, err))
		}
	}
	for i, slo := range c.SLOs {
		if slo.Objective <= 0 || slo.Objective >= 1 {
			errs = append(errs, fmt.Errorf("slos[%d]: objective must lie between 0 and 1, not %v", i, slo.Objective))
		}
		if slo.Latency < 0 {
			errs = append(errs, fmt.Errorf("slos[%d]: latency must not be negative, not %s", i, slo.Latency))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) limits() observe.Limits {
	return observe.Limits{
		Edges: c.MaxEdges, Endpoints: c.MaxEndpoints, Nodes: c.MaxNodes, Entities: c.MaxEntities, External: c.MaxExternal,
	}
}

func (c *Config) objectives() []observe.SLO {
	slos := make([]observe.SLO, len(c.SLOs))
	for i, slo := range c.SLOs {
		slos[i] = observe.SLO{Subject: slo.Subject, Objective: slo.Objective, Threshold: slo.Latency}
	}
	return slos
}
