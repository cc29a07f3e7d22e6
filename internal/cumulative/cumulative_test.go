package cumulative

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

// TestCounter is the specification: after the points of before, the last one counts delta.
func TestCounter(t *testing.T) {
	type point struct {
		start, at pcommon.Timestamp
		value     float64
	}
	none := []point(nil)
	ten := []point{{100, 200, 10}} // began at 100, was 10 at 200
	for _, tt := range []struct {
		name   string
		first  Policy
		before []point
		point  point
		delta  float64
		change Change
	}{
		{"the first counts from its start", FromZero, none, point{100, 200, 10}, 10, First},
		{"the first of nothing", FromZero, none, point{100, 200, 0}, 0, First},
		{"the first without a start", FromZero, none, point{0, 200, 10}, 10, First},
		{"the first of a counter that somebody followed before counts as the policy says", FromZero, none, point{200, 200, 10}, 10, First},
		{"a baseline counts nothing", Baseline, none, point{100, 200, 10}, 0, First},
		{"what comes after a baseline counts", Baseline, ten, point{100, 300, 12}, 2, Grew},
		{"growth", FromZero, ten, point{100, 300, 15}, 5, Grew},
		{"growth by less than one", FromZero, ten, point{100, 300, 10.5}, 0.5, Grew},
		{"growth after points were missing", FromZero, ten, point{100, 90_000, 1000}, 990, Grew},
		{"no growth", FromZero, ten, point{100, 300, 10}, 0, Unchanged},
		{"the same point again", FromZero, ten, point{100, 200, 10}, 0, Unchanged},
		{"more at the same time", FromZero, ten, point{100, 200, 11}, 1, Grew},
		{"less at the same time", FromZero, ten, point{100, 200, 9}, 9, Reset},
		{"a lower value", FromZero, ten, point{100, 300, 4}, 4, Reset},
		{"a lower value of 0", FromZero, ten, point{100, 300, 0}, 0, Reset},
		{"growth after a reset", FromZero, []point{{100, 200, 10}, {100, 300, 4}}, point{100, 400, 6}, 2, Grew},
		{"a later start", FromZero, ten, point{250, 300, 15}, 15, Reset},
		{"a later start with the same value", FromZero, ten, point{250, 300, 10}, 10, Reset},
		{"an earlier start", FromZero, ten, point{50, 300, 15}, 15, Reset},
		{"an earlier start with a lower value", FromZero, ten, point{50, 300, 3}, 3, Reset},
		{"growth of the new counter", FromZero, []point{{100, 200, 10}, {50, 300, 3}}, point{50, 400, 5}, 2, Grew},
		{"the counter before comes back", FromZero, []point{{100, 200, 10}, {250, 300, 3}}, point{100, 400, 11}, 11, Reset},
		{"a start that is not stated continues", FromZero, ten, point{0, 300, 12}, 2, Grew},
		{"a start that is stated from now on continues", FromZero, []point{{0, 200, 10}}, point{100, 300, 12}, 2, Grew},
		{"no starts at all", FromZero, []point{{0, 200, 10}}, point{0, 300, 9}, 9, Reset},
		{"somebody else goes on", FromZero, ten, point{300, 300, 12}, 2, Grew},
		{"somebody else goes on, nothing changed", FromZero, ten, point{300, 300, 10}, 0, Unchanged},
		{"somebody else goes on after a reset", FromZero, ten, point{300, 300, 2}, 2, Reset},
		{"and keeps that start", FromZero, []point{{100, 200, 10}, {300, 300, 12}}, point{300, 400, 13}, 1, Grew},
		{"an older point", FromZero, ten, point{100, 150, 8}, 0, Late},
		{"an older point with a higher value", FromZero, ten, point{100, 199, 50}, 0, Late},
		{"an older point with another start", FromZero, ten, point{50, 150, 8}, 0, Late},
		{"an older point without a start", FromZero, ten, point{0, 150, 8}, 0, Late},
		{"another start at the same time", FromZero, ten, point{50, 200, 8}, 0, Late},
		{"a later start at the same time", FromZero, ten, point{150, 200, 8}, 0, Late},
		{"a start after its own time is another start", FromZero, ten, point{400, 300, 15}, 15, Reset},
		{"a negative value", FromZero, ten, point{100, 300, -1}, 0, Invalid},
		{"not a number", FromZero, ten, point{100, 300, math.NaN()}, 0, Invalid},
		{"infinity", FromZero, ten, point{100, 300, math.Inf(1)}, 0, Invalid},
		{"an invalid first", FromZero, none, point{100, 300, math.NaN()}, 0, Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			floats := Counter[float64]{First: tt.first}
			integers := Counter[uint64]{First: tt.first}
			for _, p := range tt.before {
				floats.Advance(p.start, p.at, p.value)
				integers.Advance(p.start, p.at, uint64(p.value))
			}
			before := floats
			delta, change := floats.Advance(tt.point.start, tt.point.at, tt.point.value)
			assert.InDelta(t, tt.delta, delta, 0)
			assert.Equal(t, tt.change, change, change.String())
			if change == Late || change == Invalid {
				assert.Equal(t, before, floats, "is ignored")
			} else {
				assert.Equal(t, Counter[float64]{tt.point.start, tt.point.at, tt.point.value, true, tt.first}, floats)
			}
			if tt.point.value == math.Trunc(tt.point.value) && tt.change != Invalid {
				delta, change := integers.Advance(tt.point.start, tt.point.at, uint64(tt.point.value))
				assert.Equal(t, uint64(tt.delta), delta)
				assert.Equal(t, tt.change, change)
			}
		})
	}
}

func TestGoesBack(t *testing.T) {
	var c Counter[uint64]
	assert.False(t, c.GoesBack(100, 200, 0), "nothing was told")
	c.Advance(100, 200, 10)
	assert.True(t, c.GoesBack(100, 300, 9))
	assert.False(t, c.GoesBack(100, 300, 10))
	assert.False(t, c.GoesBack(100, 199, 9), "late")
	assert.False(t, c.GoesBack(150, 300, 9), "another counter")
	c.Advance(0, 300, 12)
	assert.False(t, c.GoesBack(0, 400, 9), "without a start nobody can tell")
}

func TestAdvanceDoesNotAllocate(t *testing.T) {
	var c Counter[uint64]
	at := pcommon.Timestamp(1)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		at++
		c.Advance(1, at, uint64(at))
	}))
}

func BenchmarkAdvance(b *testing.B) {
	var c Counter[uint64]
	for i := 0; b.Loop(); i++ {
		c.Advance(1, pcommon.Timestamp(i), uint64(i))
	}
}
