package ztunnelreceiver

import (
	"strings"
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
	const notYet = -1
	tests := map[string]struct {
		began, last float64
		ticks       []tick
	}{
		"on time":               {0.5, -100, []tick{{1.01, 1, false}, {2.002, 2, false}, {3, 3, false}}},
		"late":                  {0.5, -100, []tick{{3.9, 3, false}, {4.1, 4, false}}},
		"very late":             {0.5, -100, []tick{{100.5, 100, true}, {101, 101, false}}},
		"a moment early":        {0.5, -100, []tick{{0.999, 1, false}, {2, 2, false}}},
		"set back":              {100, -100, []tick{{101, 101, false}, {42, 42, true}, {43, 43, false}, {44.1, 44, false}}},
		"set back a little":     {100, -100, []tick{{101, 101, false}, {99.5, notYet, false}, {101.8, notYet, false}, {102, 102, false}}},
		"set back by minutes":   {1000, -100, []tick{{1001, 1001, false}, {402.5, 402, true}, {403, 403, false}, {1500, 1500, true}, {1501, 1501, false}}},
		"set forward and back":  {10, -100, []tick{{11, 11, false}, {100_000, 100_000, true}, {12, 12, true}, {13, 13, false}}},
		"a restart at once":     {10, 11, []tick{{10.2, notYet, false}, {12, 12, false}}},
		"ahead when it started": {10, 600, []tick{{11, 11, false}, {12, 12, false}}},
		"days ahead":            {10, 100000, []tick{{11, 11, false}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := boundaries{interval: time.Second}
			assert.Equal(t, strings.Contains(name, "ahead"), b.begin(second(test.began), second(test.last)))
			for _, tick := range test.ticks {
				wait := b.wait(second(tick.now))
				assert.GreaterOrEqual(t, wait, time.Duration(0))
				assert.LessOrEqual(t, wait, 3*time.Second)
				at, due, stepped := b.advance(second(tick.now))
				assert.Equal(t, tick.want != notYet, due, "at %v", tick.now)
				if due {
					assert.Equal(t, second(tick.want), at, "at %v", tick.now)
				}
				assert.Equal(t, tick.stepped, stepped, "at %v", tick.now)
			}
		})
	}
}
