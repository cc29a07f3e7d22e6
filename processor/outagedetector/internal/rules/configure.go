package rules

import (
	"errors"
	"fmt"
	"time"
)

// Change overrides thresholds of one rule; what is not set stays.
type Change struct {
	Enabled      *bool          `mapstructure:"enabled"`
	MinCount     *uint64        `mapstructure:"min_count"`
	MinRatio     *float64       `mapstructure:"min_ratio"`
	Chance       *float64       `mapstructure:"chance"`
	Noise        *float64       `mapstructure:"noise"`
	MinIntervals *int           `mapstructure:"min_intervals"`
	Window       *time.Duration `mapstructure:"window"`
	Factor       *float64       `mapstructure:"factor"`
	Hold         *time.Duration `mapstructure:"hold"`
	Severity     *string        `mapstructure:"severity"`
}

func set[T any](target *T, value *T) {
	if value != nil {
		*target = *value
	}
}

func (c *Change) apply(r *Rule) {
	if c.Enabled != nil {
		r.Disabled = !*c.Enabled
	}
	set(&r.MinCount, c.MinCount)
	set(&r.MinRatio, c.MinRatio)
	set(&r.Chance, c.Chance)
	set(&r.Noise, c.Noise)
	set(&r.MinIntervals, c.MinIntervals)
	set(&r.Window, c.Window)
	set(&r.Factor, c.Factor)
	set(&r.Hold, c.Hold)
	set(&r.Severity, c.Severity)
}

// Validate tells what is wrong with the change.
func (c *Change) Validate() error {
	var errs []error
	share := func(name string, value *float64) {
		if value != nil && (*value < 0 || *value > 1) {
			errs = append(errs, fmt.Errorf("%s must lie in [0, 1], not %v", name, *value))
		}
	}
	share("min_ratio", c.MinRatio)
	share("chance", c.Chance)
	share("noise", c.Noise)
	if c.Factor != nil && *c.Factor <= 0 {
		errs = append(errs, fmt.Errorf("factor must be positive, not %v", *c.Factor))
	}
	if c.MinIntervals != nil && *c.MinIntervals < 0 {
		errs = append(errs, fmt.Errorf("min_intervals must not be negative, not %d", *c.MinIntervals))
	}
	for name, value := range map[string]*time.Duration{"window": c.Window, "hold": c.Hold} {
		if value != nil && *value < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative, not %s", name, *value))
		}
	}
	if c.Severity != nil && *c.Severity != Critical && *c.Severity != Warning {
		errs = append(errs, fmt.Errorf("severity must be %s or %s, not %q", Critical, Warning, *c.Severity))
	}
	return errors.Join(errs...)
}

// Subject is what an override is about: empty fields match everything.
type Subject struct {
	Namespace string `mapstructure:"namespace"`
	Workload  string `mapstructure:"workload"`
}

func (s Subject) matches(namespace, workload string) bool {
	return (s.Namespace == "" || s.Namespace == namespace) && (s.Workload == "" || s.Workload == workload)
}

// Override changes rules for a namespace, a workload (by its app) or an edge.
type Override struct {
	// Subject is the destination: the workload that is called.
	Subject `mapstructure:",squash"`
	// Source narrows the override to edges from there.
	Source Subject           `mapstructure:"source"`
	Rules  map[string]Change `mapstructure:"rules"`
}

// Validate tells what is wrong with the override.
func (o *Override) Validate() error {
	if o.Subject == (Subject{}) && o.Source == (Subject{}) {
		return errors.New("an override needs a namespace, a workload or a source; changes for everything belong under rules")
	}
	return ValidateChanges(o.Rules)
}

// ValidateChanges tells which changes name no rule or hold values that make no sense.
func ValidateChanges(changes map[string]Change) error {
	var errs []error
	for id, change := range changes {
		if indexOf(id) < 0 {
			errs = append(errs, fmt.Errorf("there is no rule %q", id))
		}
		if err := change.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("rule %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// RuleSet is the catalogue as it applies to one edge.
type RuleSet struct{ rules []Rule }

// Get returns a rule, nil if it is disabled. The id must be one of the catalogue.
func (s *RuleSet) Get(id string) *Rule {
	r := &s.rules[indexOf(id)]
	if r.Disabled {
		return nil
	}
	return r
}

var index = func() map[string]int {
	m := make(map[string]int, len(Defaults))
	for i := range Defaults {
		m[Defaults[i].ID] = i
	}
	return m
}()

// Named is a rule as the catalogue has it, nil if there is none.
func Named(id string) *Rule {
	if i := indexOf(id); i >= 0 {
		return &Defaults[i]
	}
	return nil
}

func indexOf(id string) int {
	if i, ok := index[id]; ok {
		return i
	}
	return -1
}

// Catalogue resolves which rules apply to an edge.
type Catalogue struct {
	base      *RuleSet
	overrides []Override
	// resolved has one set per combination of overrides that was needed; it is bounded by the combinations that some edge can match.
	resolved map[uint64]*RuleSet
}

// MaxOverrides bounds the overrides of a configuration.
const MaxOverrides = 64

// NewCatalogue applies changes for everything and keeps the overrides.
func NewCatalogue(changes map[string]Change, overrides []Override) *Catalogue {
	base := &RuleSet{rules: append([]Rule(nil), Defaults...)}
	apply(base, changes)
	return &Catalogue{base: base, overrides: overrides, resolved: map[uint64]*RuleSet{}}
}

// Base is the set that applies where nothing is overridden.
func (c *Catalogue) Base() *RuleSet { return c.base }

// For returns the rules of an edge; later overrides win.
func (c *Catalogue) For(sourceNamespace, source, namespace, workload string) *RuleSet {
	var matching uint64
	for i := range c.overrides {
		o := &c.overrides[i]
		if o.matches(namespace, workload) && o.Source.matches(sourceNamespace, source) {
			matching |= 1 << i
		}
	}
	if matching == 0 {
		return c.base
	}
	if s, ok := c.resolved[matching]; ok {
		return s
	}
	s := &RuleSet{rules: append([]Rule(nil), c.base.rules...)}
	for i := range c.overrides {
		if matching&(1<<i) != 0 {
			apply(s, c.overrides[i].Rules)
		}
	}
	c.resolved[matching] = s
	return s
}

func apply(s *RuleSet, changes map[string]Change) {
	for id, change := range changes {
		if i := indexOf(id); i >= 0 {
			change.apply(&s.rules[i])
		}
	}
}
