package observe

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

func TestCounterSteps(t *testing.T) {
	type point struct {
		value     float64
		start, at pcommon.Timestamp
		want      uint64
	}
	for name, points := range map[string][]point{
		"goes on":                   {{10, 1, 5, 10}, {14, 1, 6, 4}},
		"begins anew with less":     {{10, 1, 5, 10}, {3, 1, 6, 3}},
		"begins anew with more":     {{10, 1, 5, 10}, {12, 5, 6, 12}},
		"is followed by another":    {{10, 1, 5, 10}, {12, 8, 8, 2}, {15, 8, 9, 3}},
		"begins anew under another": {{10, 1, 5, 10}, {4, 8, 8, 4}, {5, 8, 9, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var c counter
			for i, p := range points {
				assert.Equal(t, p.want, c.step(p.value, p.start, p.at, true), "point %d", i)
			}
		})
	}
}
