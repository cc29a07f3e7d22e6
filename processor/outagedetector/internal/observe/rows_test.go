package observe

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// TestRows holds intervals to be told apart whatever their points' jitter, to be learnt late, and kept apart on demand.
func TestRows(t *testing.T) {
	const length = time.Minute
	begin := int64(1e18)
	at := func(n int, jitter time.Duration) int64 { return begin + int64(n)*int64(length) + int64(jitter) }
	var first early
	for n := range 5 {
		first.add(at(n, 0), stats.Interval{Calls: 6})
		first.add(at(n, 0), stats.Interval{Calls: 4, Failed: 1})
	}
	first.add(at(1, 0), stats.Interval{Calls: 1000}) // late
	r := newRows(length, &first)
	for n := 5; n < 20; n++ {
		r.add(at(n, time.Duration(n%3-1)*20*time.Second), stats.Interval{Calls: 10, Failed: 1})
	}
	before, newest := r.Latest()
	assert.Equal(t, stats.Interval{Calls: 10, Failed: 1}, before)
	assert.Equal(t, before, newest)
	assert.InDelta(t, 0.1, r.Normal().Failing, 0.01)
	assert.True(t, r.TakeTold())
	assert.False(t, r.TakeTold())

	// From now on it is worse, and does not become normal.
	r.SetApart(at(19, 0))
	for n := 20; n < 30; n++ {
		r.add(at(n, 0), stats.Interval{Calls: 10, Failed: 10})
	}
	assert.InDelta(t, 0.1, r.Normal().Failing, 0.01)
	e, sum := r.Since(at(19, 0))
	assert.Equal(t, stats.Interval{Calls: 100, Failed: 100}, sum)
	assert.InDelta(t, 90, e.Failed-e.Expected, 1)
	assert.Equal(t, at(28, 0), r.Began(0))

	// After a pause the interval before is empty.
	r.add(at(200, 0), stats.Interval{Calls: 10})
	before, newest = r.Latest()
	assert.Zero(t, before)
	assert.Equal(t, stats.Interval{Calls: 10}, newest)
	r.add(at(30, 0), stats.Interval{Calls: 10}) // too old
	assert.Equal(t, at(200, 0), r.At())
}
