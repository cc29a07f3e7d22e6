package ztunnelreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestBoundaries(t *testing.T) {
	second := func(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }
	type tick struct {
		now, want float64
		stepped   bool
	}
	tests := map[string]struct {
		began, last float64
		ticks       []tick
	}{
		"on time":                {0.5, -100, []tick{{1.01, 1, false}, {2.002, 2, false}, {3, 3, false}}},
		"late":                   {0.5, -100, []tick{{3.9, 3, false}, {4.1, 4, false}}},
		"very late":              {0.5, -100, []tick{{100.5, 100, true}, {101, 101, false}}},
		"a moment early":         {0.5, -100, []tick{{0.999, 1, false}, {2, 2, false}}},
		"set back":               {100, -100, []tick{{101, 101, false}, {42, 102, true}, {43, 103, false}, {104, 104, false}}},
		"ahead before a restart": {10, 20, []tick{{11, 21, true}, {12, 22, false}, {23, 23, false}}},
		"far ahead":              {10, 100000, []tick{{11, 11, false}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := boundaries{interval: time.Second}
			assert.Equal(t, name == "far ahead", b.begin(second(test.began), second(test.last)))
			for _, tick := range test.ticks {
				wait := b.wait(second(tick.now))
				assert.GreaterOrEqual(t, wait, time.Duration(0))
				assert.LessOrEqual(t, wait, 2*time.Second)
				at, stepped := b.advance(second(tick.now))
				assert.Equal(t, second(tick.want), at, "at %v", tick.now)
				assert.Equal(t, tick.stepped, stepped, "at %v", tick.now)
			}
		})
	}
}
