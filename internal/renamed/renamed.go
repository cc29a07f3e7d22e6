// Package renamed reads options of a configuration under the names that they had before.
package renamed

import (
	"fmt"
	"strings"

	"go.opentelemetry.io/collector/confmap"
)

// Option is an option with another name than before, or one that is gone: New is empty then. Names are paths such as "limits::edges".
type Option struct {
	Old, New string
	// Convert makes the new option's value of the old one's, if they differ; nil: it is the same.
	Convert func(old any) (any, error)
}

// Move gives each value under an old name its new one, and returns a sentence to log for each. It is an error to set both.
func Move(conf *confmap.Conf, options []Option) (warnings []string, err error) {
	for _, o := range options {
		if !conf.IsSet(o.Old) {
			continue
		}
		if o.New == "" {
			conf.Delete(o.Old)
			warnings = append(warnings, fmt.Sprintf("the option %s has no effect any more", o.Old))
			continue
		}
		if conf.IsSet(o.New) {
			return nil, fmt.Errorf("%s is the former name of %s: set only %s", o.Old, o.New, o.New)
		}
		value := conf.Get(o.Old)
		if o.Convert != nil {
			if value, err = o.Convert(value); err != nil {
				return nil, fmt.Errorf("%s: %w", o.Old, err)
			}
		}
		conf.Delete(o.Old)
		if err := conf.Merge(confmap.NewFromStringMap(nested(o.New, value))); err != nil {
			return nil, fmt.Errorf("moving %s to %s: %w", o.Old, o.New, err)
		}
		warnings = append(warnings, fmt.Sprintf("the option %s is deprecated: it is called %s now", o.Old, o.New))
	}
	return warnings, nil
}

func nested(path string, value any) map[string]any {
	parts := strings.Split(path, confmap.KeyDelimiter)
	for i := len(parts) - 1; i > 0; i-- {
		value = map[string]any{parts[i]: value}
	}
	return map[string]any{parts[0]: value}
}
