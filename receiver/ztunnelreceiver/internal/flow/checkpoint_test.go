package flow

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func getter(stored map[string][]byte) func(string) ([]byte, error) {
	return func(key string) ([]byte, error) { return stored[key], nil }
}

// busy returns a processor with series in several chunks, failures, an overflow series and an entry that waits.
func busy(tb testing.TB) *Processor {
	tb.Helper()
	p := New(Config{RecordMetrics: true, MaxSeries: 600}, nil)
	p.Advance(after(time.Minute))
	for i := range 700 {
		p.Entry(fmt.Sprintf("node-%d", i%3), line(after(time.Duration(i)*time.Millisecond), fmt.Sprintf("pod-%d", i), "s", ""), after(0))
	}
	p.Entry("node-0", line(after(0), "pod-0", "s", `error="connection closed due to policy rejection: explicitly denied by: x/y"`), after(0))
	p.Entry("node-0", line(after(2*time.Minute), "pod-0", "s", ""), after(2*time.Minute))
	require.NotEmpty(tb, p.held.data)
	return p
}

func TestCheckpointRestoresEverything(t *testing.T) {
	p := busy(t)
	stored := p.Checkpoint()
	restored := New(p.cfg, nil)
	require.NoError(t, restored.Restore(getter(stored)))
	assert.Equal(t, p.Series(), restored.Series())
	assert.Equal(t, p.Log("node-1").LastSeen, restored.Log("node-1").LastSeen)
	for _, q := range []*Processor{p, restored} {
		q.FlushMetrics(after(time.Minute), false)
		q.Advance(after(time.Hour))
		q.Entry("node-1", line(after(3*time.Minute), "pod-1", "s", ""), after(3*time.Minute))
	}
	assert.Equal(t, asJSON(t, p.FlushMetrics(after(time.Hour), true)), asJSON(t, restored.FlushMetrics(after(time.Hour), true)))
}

func TestCheckpointWritesOnlyWhatChanged(t *testing.T) {
	p := busy(t)
	assert.Len(t, p.Checkpoint(), 1+1+3) // header, held entries, three chunks of 256 series
	assert.Len(t, p.Checkpoint(), 1)

	p.Entry("node-0", line(after(time.Second), "pod-0", "s", ""), after(0))
	changed := p.Checkpoint()
	assert.Len(t, changed, 2)
	assert.Contains(t, changed, "flow/series/0")

	p.MarkDirty()
	assert.Len(t, p.Checkpoint(), 5)
}

func TestCheckpointFollowsExpiryAndReuse(t *testing.T) {
	cfg := Config{RecordMetrics: true, Expiry: time.Minute}
	p := New(cfg, nil)
	stored := map[string][]byte{}
	for round := range 5 {
		at := time.Duration(round) * time.Hour
		for i := range 300 {
			p.Entry("n", line(after(at), fmt.Sprintf("pod-%d-%d", round, i), "s", ""), after(at))
		}
		p.FlushMetrics(after(at+time.Second), false)
		p.FlushMetrics(after(at+2*time.Minute), false)
		assert.Zero(t, p.Series())
		p.Entry("n", line(after(at+3*time.Minute), "pod", "s", ""), after(at+3*time.Minute))
		maps.Copy(stored, p.Checkpoint())
		restored := New(cfg, nil)
		require.NoError(t, restored.Restore(getter(stored)))
		assert.Equal(t, 1, restored.Series())
		counts, _ := closed(restored.FlushMetrics(after(at+4*time.Minute), false))
		assert.Equal(t, map[string]int64{"pod": 1}, counts)
		p = restored
		p.FlushMetrics(after(at+30*time.Minute), false)
	}
	assert.LessOrEqual(t, len(p.series.slots), 2*chunkSize)
}

func TestRestoreWithOtherBounds(t *testing.T) {
	p := busy(t)
	stored := p.Checkpoint()
	restored := New(Config{RecordMetrics: true, MaxSeries: 10, Histogram: HistogramConfig{MaxScale: 1, MaxBuckets: 8}}, nil)
	require.NoError(t, restored.Restore(getter(stored)))
	restored.Entry("node-0", line(after(time.Second), "new", "s", `duration="5s"`), after(0))
	counts, _ := closed(restored.FlushMetrics(after(time.Minute), true))
	assert.Equal(t, int64(702), sum(counts))
	assert.NotContains(t, counts, "new", "no room for a new series")
}

func sum(counts map[string]int64) (total int64) {
	for _, n := range counts {
		total += n
	}
	return total
}

func TestRestoreOfNothing(t *testing.T) {
	p := New(Config{RecordMetrics: true}, nil)
	require.NoError(t, p.Restore(getter(nil)))
	assert.Zero(t, p.Series())
}

func TestRestoreRefusesDamage(t *testing.T) {
	stored := busy(t).Checkpoint()
	p := New(Config{RecordMetrics: true}, nil)
	for key, value := range stored {
		step := max(1, len(value)/200)
		for at := 0; at < len(value); at += step {
			damaged := maps.Clone(stored)
			damaged[key] = append([]byte(nil), value...)
			damaged[key][at] ^= 0x55
			require.ErrorIs(t, p.Restore(getter(damaged)), ErrCheckpoint, "%s at %d", key, at)
			damaged[key] = value[:at]
			require.ErrorIs(t, p.Restore(getter(damaged)), ErrCheckpoint, "%s cut at %d", key, at)
			require.Zero(t, p.Series())
		}
	}
	missing := maps.Clone(stored)
	delete(missing, "flow/series/1")
	require.ErrorIs(t, p.Restore(getter(missing)), ErrCheckpoint)

	broken := errors.New("disk on fire")
	err := p.Restore(func(key string) ([]byte, error) {
		if strings.HasPrefix(key, "flow/series/") {
			return nil, broken
		}
		return stored[key], nil
	})
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, ErrCheckpoint)
	require.NoError(t, p.Restore(getter(stored)), "the processor is still usable")
}

// FuzzCheckpoint restores state whose checksums are right and whose contents are anything: an error or a
// processor that works.
func FuzzCheckpoint(f *testing.F) {
	small := New(Config{RecordMetrics: true, MaxSeries: 2}, nil)
	small.Advance(after(time.Minute))
	for i, pod := range []string{"a", "b", "c"} {
		small.Entry("n", line(after(time.Duration(i)*time.Second), pod, "s", `error="x"`), after(0))
	}
	stored := small.Checkpoint()
	f.Add(stored[keyHeader][5:], []byte{}, stored["flow/series/0"][5:])
	small.Entry("n", []byte("2026-11-23T21:30:00Z\tinfo\tx\ty"), after(time.Hour))
	stored = all(small)
	f.Add(stored[keyHeader][5:], stored[keyHeld][5:], stored["flow/series/0"][5:])
	f.Fuzz(func(t *testing.T, header, held, chunk []byte) {
		p := New(Config{RecordMetrics: true, RecordLogs: true, Expiry: time.Hour}, nil)
		err := p.Restore(getter(map[string][]byte{keyHeader: seal(header), keyHeld: seal(held), "flow/series/0": seal(chunk)}))
		if err != nil {
			require.ErrorIs(t, err, ErrCheckpoint)
			require.Zero(t, p.Series())
			return
		}
		series := p.Series()
		p.Entry("n", line(after(0), "a", "s", `error="x"`), after(0))
		require.LessOrEqual(t, p.Series(), series+1)
		p.Advance(after(time.Hour))
		p.FlushMetrics(after(time.Hour), true)
		again := New(p.cfg, nil)
		require.NoError(t, again.Restore(getter(all(p))))
		p.FlushMetrics(after(100*time.Hour), true)
	})
}

func all(p *Processor) map[string][]byte {
	p.MarkDirty()
	return p.Checkpoint()
}
