package flow

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/semconv"
)

func accessAt(at time.Time) []byte {
	return []byte(at.Format("2006-01-02T15:04:05.000000Z") + "\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:5 dst.addr=10.0.0.2:80 direction=\"outbound\" bytes_sent=1 bytes_recv=1 duration=\"1ms\"")
}

// Nodes come and go: those that were not heard of for long make room for new ones, over restarts too.
func TestNodesThatLeftAreForgotten(t *testing.T) {
	cfg := Config{MaxNodes: 3, MaxSeries: 2, Expiry: time.Hour, RecordMetrics: true}
	p := New(cfg, nil)
	at := time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC)
	for day := range 9 {
		now := at.Add(time.Duration(day) * 24 * time.Hour)
		name := fmt.Sprint("node-", day)
		for i := range 3 { // the third goes into an overflow series
			entry := accessAt(now)
			entry = append(entry, fmt.Sprintf(" dst.service=\"s%d\"", i)...)
			p.Entry(name, entry, now)
		}
		md := p.FlushMetrics(now.Add(time.Second), false)
		require.Equal(t, 1, md.ResourceMetrics().Len(), "%s is counted", name)
		assert.Equal(t, now, p.Log(name).LastSeen)
		p.FlushMetrics(now.Add(12*time.Hour), true)
		assert.Zero(t, p.Series())
		assert.Zero(t, p.Log(name).LastSeen)

		stored := p.Checkpoint()
		q := New(cfg, nil)
		require.NoError(t, q.Restore(func(key string) ([]byte, error) { return stored[key], nil }))
		assert.LessOrEqual(t, len(q.nodes.all), 1, "the checkpoint forgets them as well")
		p = q
		p.MarkDirty()
	}
}

func TestANodeIsKeptForWhatIsHeldOfIt(t *testing.T) {
	p := New(Config{MaxNodes: 2, Expiry: time.Minute, RecordMetrics: true, MaxSkew: time.Hour}, nil)
	at := time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC)
	p.FlushMetrics(at, false)
	p.Advance(at.Add(time.Second))
	p.Entry("gone", accessAt(at), at)
	p.Entry("ahead", accessAt(at.Add(50*time.Minute)), at)
	for minute := range 49 {
		now := at.Add(time.Duration(minute+1) * time.Minute)
		p.FlushMetrics(now, false)
		p.Advance(now.Add(time.Second))
	}
	assert.Nil(t, p.nodes.index["gone"])
	require.NotNil(t, p.nodes.index["ahead"])
	p.Entry("new", accessAt(at.Add(49*time.Minute)), at.Add(49*time.Minute))
	assert.Zero(t, p.nodes.index["new"].id, "the number is used again")
	p.Advance(at.Add(51 * time.Minute))
	assert.Equal(t, 2, p.FlushMetrics(at.Add(51*time.Minute), false).ResourceMetrics().Len())
}

func TestANodeWhoseClockIsBehindKeepsItsSeries(t *testing.T) {
	p := New(Config{Expiry: time.Minute, RecordMetrics: true}, nil)
	at := time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC)
	p.FlushMetrics(at, false)
	var counted int64
	for i := range 5 {
		p.Entry("n", accessAt(at.Add(-time.Hour)), at)
		at = at.Add(10 * time.Second)
		md := p.FlushMetrics(at, false)
		counted = md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0).IntValue()
		assert.EqualValues(t, i+1, counted)
	}
}

// A boundary that could not be made whole is left out; the next point has everything before its own time.
func TestThePointAfterABoundaryThatWasLeftOutIsWhole(t *testing.T) {
	p := New(Config{RecordMetrics: true}, nil)
	at := time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC)
	p.FlushMetrics(at, false)
	p.Advance(at.Add(time.Second))
	p.Entry("n", accessAt(at.Add(500*time.Millisecond)), at.Add(time.Second))
	p.Entry("n", accessAt(at.Add(1500*time.Millisecond)), at.Add(2*time.Second))
	p.Entry("n", accessAt(at.Add(2500*time.Millisecond)), at.Add(2*time.Second))
	md := p.FlushMetrics(at.Add(2*time.Second), false)
	assert.EqualValues(t, 2, md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0).IntValue())
}

// TestAClockThatIsAhead has entries whose times are to come: they count when they are read, and that is said until one is right.
func TestAClockThatIsAhead(t *testing.T) {
	p := New(Config{RecordMetrics: true}, nil)
	at := time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC)
	p.FlushMetrics(at, false)
	p.Advance(at.Add(time.Second))
	p.Entry("n", accessAt(at.Add(10*time.Minute)), at)
	log := p.Log("n")
	assert.Equal(t, semconv.ProblemClockAhead, log.Problem)
	assert.Equal(t, "The times of its entries are 10m0s ahead: they count when they are read.", log.Detail)
	assert.Equal(t, at, log.LastSeen.UTC())
	assert.Equal(t, 1, p.FlushMetrics(at.Add(time.Second), false).ResourceMetrics().Len())
	p.Entry("n", accessAt(at), at)
	assert.Empty(t, p.Log("n").Problem)
}
