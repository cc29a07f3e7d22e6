package ztunnelreceiver

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/accesslogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// Who takes long, downstream or on the disk, keeps neither files nor scrapes nor the cluster's state from being read.
func TestWhileOneIsSlowTheOthersGoOn(t *testing.T) {
	for name, slow := range map[string]func(r *rig, wait func()){
		"the next consumer": func(r *rig, wait func()) {
			r.out.onMetrics = func(pmetric.Metrics) error { wait(); return nil }
		},
		"the storage": func(r *rig, wait func()) {
			r.store.before = func(map[string][]byte) {
				r.store.mu.Unlock() // others read from it meanwhile
				defer r.store.mu.Lock()
				wait()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "0.log")
			clock, store := &steppedClock{now: epoch}, newMemory(map[string][]byte{})
			r := newRig(t, clock, store, &sink{}, accesslogs.Config{Include: []string{dir + "/*.log"}})
			appendTo(t, path, accessText(0, 100))
			r.polls()

			waits, goOn := make(chan struct{}), make(chan struct{})
			first := true
			slow(r, func() {
				if first {
					first = false
					close(waits)
					<-goOn
				}
			})
			flushed := make(chan struct{})
			go func() {
				defer close(flushed)
				r.boundaryNow()
			}()
			<-waits
			appendTo(t, path, accessText(100, 250))
			r.polls()
			r.Lock()
			r.Up(semconv.SourceMetrics, "node-a", true, clock.Now())
			r.AddChanges([]mesh.Change{{Kind: "Pod", Name: "p"}})
			r.Unlock()
			close(goOn)
			<-flushed
			r.boundaryNow()
			_, sent := r.out.sums(t)
			assert.Equal(t, sumTo(250), sent)

			// What came meanwhile is stored with the boundary after.
			appendTo(t, path, accessText(250, 300))
			r.polls()
			r.crash()
			store.err, r.out.onMetrics = nil, nil
			again := newRig(t, clock, newMemory(store.copied()), r.out, accesslogs.Config{Include: []string{dir + "/*.log"}})
			again.polls()
			again.boundaryNow()
			connections, sent := r.out.sums(t)
			assert.Equal(t, 300, connections)
			assert.Equal(t, sumTo(300), sent)
			require.NoError(t, again.close(t.Context()))
		})
	}
}

// Scrapes that come while nothing leaves are bounded; what was left out comes again.
func TestScrapesThatCannotLeaveAreBounded(t *testing.T) {
	_, in := newTestIngest(t, createDefaultConfig().(*Config), &sink{})
	repeats := 0
	in.repeatScraped = func() { repeats++ }
	for range 5 {
		md := pmetric.NewMetrics()
		points := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty().SetEmptySum().DataPoints()
		for range maxWaiting / 2 {
			points.AppendEmpty()
		}
		in.AddMetrics(md)
	}
	assert.Equal(t, 3, repeats)
	taken := in.take(epoch.Add(time.Second), false).metrics
	assert.Equal(t, maxWaiting+1, taken.DataPointCount(), "with what was left out")
	assert.Equal(t, []drops.Total{{Component: "ztunnel", Reason: telemetry.ReasonScrapeBacklog, Count: 3 * maxWaiting / 2}}, droppedOf(taken))
}

// A clock that was ahead and is set right is followed at once: heartbeats do not stay in the future, and nothing counts twice or is missing.
func TestAClockThatIsSetRightIsFollowed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	clock, store := &steppedClock{now: epoch}, newMemory(map[string][]byte{})
	logs := accesslogs.Config{Include: []string{dir + "/*.log"}}
	r := newRig(t, clock, store, &sink{}, logs)
	newest := func() time.Time {
		beats := heartbeats(r.out.metrics[len(r.out.metrics)-1])
		require.NotEmpty(t, beats)
		return beats[0].at
	}
	written := 0
	for i, step := range []time.Duration{0, 10 * time.Minute, 0, -10 * time.Minute, 0, -time.Hour, 3 * time.Hour, 0} {
		clock.step(step)
		appendTo(t, path, accessText(written, written+10))
		written += 10
		r.polls()
		r.boundaryNow()
		assert.Equal(t, clock.Now(), newest(), "step %d", i)
		connections, sent := r.out.sums(t)
		assert.Equal(t, written, connections, "step %d", i)
		assert.Equal(t, sumTo(written), sent)
	}
	// The same over a restart, whose stored boundary is in the future.
	require.NoError(t, r.close(t.Context()))
	clock.step(-10 * time.Minute)
	again := newRig(t, clock, newMemory(store.copied()), r.out, logs)
	appendTo(t, path, accessText(written, written+10))
	again.polls()
	again.boundaryNow()
	assert.Equal(t, clock.Now(), newest())
	connections, _ := r.out.sums(t)
	assert.Equal(t, written+10, connections)
	require.NoError(t, again.close(t.Context()))
}
