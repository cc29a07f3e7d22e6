package stats

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNormal(t *testing.T) {
	var past Past
	for range leastIntervals - 1 {
		past.Learn(Interval{Calls: 100, Failed: 20, Timed: 100, Seconds: 5})
	}
	past.Learn(Interval{}) // no calls say nothing
	assert.False(t, past.Normal().Counted)
	assert.False(t, past.Normal().Clocked)
	past.Learn(Interval{Calls: 100, Failed: 20, Timed: 100, Seconds: 15})
	n := past.Normal()
	assert.True(t, n.Counted)
	assert.InDelta(t, 0.2, n.Failing, 0.001)
	assert.InDelta(t, 1, n.Dispersion, 1e-9)
	assert.InDelta(t, 0.05, n.Seconds, 1e-9)
	assert.InDelta(t, math.Log(3)/2.5, n.Spread, 1e-6, "the slowest interval counts")
	assert.InDelta(t, 100, n.Timed, 1e-9)

	// What always fails is normal, more of it is not.
	var same, more Evidence
	same.Add(Interval{Calls: 100, Failed: 22, Timed: 100, Seconds: 5}, n)
	more.Add(Interval{Calls: 100, Failed: 60, Timed: 100, Seconds: 30}, n)
	assert.Less(t, same.Failing(), 1.0)
	assert.Zero(t, same.Slow())
	assert.Greater(t, more.Failing(), 5.0)
	assert.Greater(t, more.Slow(), 7.0)
	more.Join(same)
	assert.InDelta(t, 82, more.Failed, 1e-9)
	assert.InDelta(t, 10, more.Usual, 1e-6)

	// The same excess of few calls says less.
	var few Evidence
	few.Add(Interval{Timed: 1, Seconds: 0.3}, n)
	assert.Less(t, few.Slow(), 3.0)
	assert.Zero(t, (&Evidence{}).Failing())
	assert.Zero(t, (&Evidence{}).Slow())
}

func TestPastForgets(t *testing.T) {
	var past Past
	for range pastIntervals {
		past.Learn(Interval{Calls: 10, Failed: 5})
	}
	for range pastIntervals {
		past.Learn(Interval{Calls: 10})
	}
	assert.Less(t, past.Normal().Failing, 0.01)
	assert.InDelta(t, 0.0, testing.AllocsPerRun(100, func() { past.Learn(Interval{Calls: 1}); past.Normal() }), 0.1)
}

func TestDeviations(t *testing.T) {
	assert.InDelta(t, 5, Deviations(2.867e-7), 0.001)
	assert.InDelta(t, 7, Deviations(1.28e-12), 0.01)
	assert.InDelta(t, 0, Deviations(1), 1e-9)
	assert.False(t, math.IsInf(Deviations(0), 0))
}
