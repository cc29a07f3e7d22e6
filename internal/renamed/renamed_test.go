package renamed

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

func TestMove(t *testing.T) {
	options := []Option{
		{Old: "limits::edges", New: "max_edges"},
		{Old: "flows::size", New: "flows::max_records"},
		{Old: "flows::gone"},
		{Old: "one_in", New: "spans::ratio", Convert: func(old any) (any, error) {
			if n, ok := old.(int); ok && n > 0 {
				return 1 / float64(n), nil
			}
			return nil, errors.New("must be a positive number")
		}},
	}
	for name, test := range map[string]struct {
		conf, want map[string]any
		warnings   []string
		err        string
	}{
		"new names only": {
			conf: map[string]any{"max_edges": 1, "flows": map[string]any{"max_records": 2}},
			want: map[string]any{"max_edges": 1, "flows": map[string]any{"max_records": 2}},
		},
		"old names": {
			conf: map[string]any{"limits": map[string]any{"edges": 1, "other": 3}, "flows": map[string]any{"size": 2}},
			want: map[string]any{"max_edges": 1, "limits": map[string]any{"other": 3}, "flows": map[string]any{"max_records": 2}},
			warnings: []string{
				"the option limits::edges is deprecated: it is called max_edges now",
				"the option flows::size is deprecated: it is called flows::max_records now",
			},
		},
		"an option that is gone": {
			conf:     map[string]any{"max_edges": 1, "flows": map[string]any{"gone": 2, "max_records": 3}},
			want:     map[string]any{"max_edges": 1, "flows": map[string]any{"max_records": 3}},
			warnings: []string{"the option flows::gone has no effect any more"},
		},
		"the last option of a group": {
			conf:     map[string]any{"limits": map[string]any{"edges": 1}},
			want:     map[string]any{"max_edges": 1},
			warnings: []string{"the option limits::edges is deprecated: it is called max_edges now"},
		},
		"another unit": {
			conf:     map[string]any{"one_in": 4},
			want:     map[string]any{"spans": map[string]any{"ratio": 0.25}},
			warnings: []string{"the option one_in is deprecated: it is called spans::ratio now"},
		},
		"both": {
			conf: map[string]any{"max_edges": 1, "limits": map[string]any{"edges": 1}},
			err:  "limits::edges is the former name of max_edges: set only max_edges",
		},
		"a value that cannot be converted": {
			conf: map[string]any{"one_in": "often"},
			err:  "one_in: must be a positive number",
		},
	} {
		t.Run(name, func(t *testing.T) {
			conf := confmap.NewFromStringMap(test.conf)
			warnings, err := Move(conf, options)
			if test.err != "" {
				require.EqualError(t, err, test.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.warnings, warnings)
			assert.Equal(t, test.want, conf.ToStringMap())
		})
	}
}
