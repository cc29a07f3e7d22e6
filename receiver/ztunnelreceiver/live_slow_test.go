package ztunnelreceiver

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/accesslogs"
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
	assert.Equal(t, maxWaiting, in.take(epoch.Add(time.Second), false).metrics.DataPointCount())
}
