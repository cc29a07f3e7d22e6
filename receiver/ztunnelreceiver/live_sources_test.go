package ztunnelreceiver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadatatest"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/accesslogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/endpoints"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// beats are the newest heartbeats, "source node" to up.
func (s *sink) beats() map[string]bool {
	newest := map[string]bool{}
	for _, beat := range heartbeats(s.metrics[len(s.metrics)-1]) {
		newest[beat.source+" "+beat.node] = beat.up
	}
	return newest
}

func TestNodeOfAFile(t *testing.T) {
	dir := t.TempDir()
	// Files that begin alike are one file to fileconsumer.
	appendTo(t, filepath.Join(dir, "ztunnel-a.log"), accessText(0, 3))
	appendTo(t, filepath.Join(dir, "ztunnel-b.log"), accessText(3, 7))
	appendTo(t, filepath.Join(dir, "other.log"), accessText(7, 12))
	appendTo(t, filepath.Join(dir, "left-out.log"), accessText(12, 20))
	out := &sink{}
	r := newRig(t, &steppedClock{now: epoch}, newMemory(map[string][]byte{}), out, accesslogs.Config{
		Include: []string{dir + "/*.log"}, Exclude: []string{dir + "/left-out*"},
		NodeFrom: accesslogs.NodeFromConfig{PathRegexp: `ztunnel-([^/]+)\.log$`},
	})
	r.polls()
	r.boundaryNow()
	require.NoError(t, r.close(t.Context()))
	byNode := map[string]int{}
	for key, value := range out.final(t) {
		if node, rest, _ := strings.Cut(key, semconv.MetricConnectionsClosed); rest != "" {
			byNode[node] += int(value)
		}
	}
	assert.Equal(t, map[string]int{"a": 3, "b": 4, "node-a": 5}, byNode)
}

func TestFileThatGoesAway(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	out := &sink{}
	r := newRig(t, &steppedClock{now: epoch}, newMemory(map[string][]byte{}), out, accesslogs.Config{Include: []string{dir + "/*.log"}})
	r.boundaryNow()
	assert.Equal(t, map[string]bool{"access_log node-a": false}, out.beats(), "no file yet")
	appendTo(t, path, accessText(0, 2))
	r.polls()
	r.boundaryNow()
	assert.Equal(t, map[string]bool{"access_log node-a": true}, out.beats())
	require.NoError(t, os.Remove(path))
	r.boundaryNow()
	assert.Equal(t, map[string]bool{"access_log node-a": false}, out.beats(), "gone")
	appendTo(t, path, accessText(2, 3))
	r.polls()
	r.boundaryNow()
	assert.Equal(t, map[string]bool{"access_log node-a": true}, out.beats(), "back")
	require.NoError(t, r.close(t.Context()))
	connections, sent := out.sums(t)
	assert.Equal(t, 3, connections)
	assert.Equal(t, sumTo(3), sent)
}

func TestStartAtEnd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	appendTo(t, path, accessText(0, 5))
	store := newMemory(map[string][]byte{})
	logs := accesslogs.Config{Include: []string{dir + "/*.log"}, StartAt: tail.StartAtEnd}
	out := &sink{}
	clock := &steppedClock{now: epoch}
	r := newRig(t, clock, store, out, logs)
	r.polls()
	r.boundaryNow()
	require.NoError(t, r.close(t.Context()))
	assert.Empty(t, out.final(t), "what was there before the first start is left alone")

	// Written while nothing ran: to the file that was known, and to a new one.
	appendTo(t, path, accessText(5, 7))
	appendTo(t, filepath.Join(dir, "1.log"), accessText(7, 8))
	again := &sink{}
	r = newRig(t, clock, newMemory(store.copied()), again, logs)
	r.polls()
	r.boundaryNow()
	require.NoError(t, r.close(t.Context()))
	assert.Equal(t, 3, closed(again.final(t)))
}

func TestStartAtEndWithoutAnyFile(t *testing.T) {
	dir := t.TempDir()
	store := newMemory(map[string][]byte{})
	logs := accesslogs.Config{Include: []string{dir + "/*.log"}, StartAt: tail.StartAtEnd}
	clock := &steppedClock{now: epoch}
	r := newRig(t, clock, store, &sink{}, logs)
	r.polls()
	r.boundaryNow()
	require.NoError(t, r.close(t.Context()))
	appendTo(t, filepath.Join(dir, "0.log"), accessText(0, 4))
	out := &sink{}
	r = newRig(t, clock, newMemory(store.copied()), out, logs)
	r.polls()
	r.boundaryNow()
	require.NoError(t, r.close(t.Context()))
	assert.Equal(t, 4, closed(out.final(t)), "the file is newer than the first start")
}

func TestDamagedLines(t *testing.T) {
	observed := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, observed.Shutdown(context.Background())) })
	dir := t.TempDir()
	appendTo(t, filepath.Join(dir, "0.log"), "  continues nothing\n"+accessText(0, 1)+"rubbish\n"+
		strings.TrimSuffix(accessLine(1), "\n")+" x=\""+strings.Repeat("y", 100_000)+"\"\n"+accessText(2, 3)+
		"2026-11-23T21:00:01.000000Z\twarn\txds\tno stream\nbut why\n")
	out := &sink{}
	cfg := createDefaultConfig().(*Config)
	cfg.NodeName = "node-a"
	logs := cfg.AccessLogs.GetOrInsertDefault()
	logs.Include, logs.StartAt, logs.PollInterval = []string{dir + "/*.log"}, tail.StartAtBeginning, 2*time.Millisecond
	tel, err := telemetry.New(observed.NewTelemetrySettings())
	require.NoError(t, err)
	set := metadatatest.NewSettings(observed)
	in, err := newIngest(cfg, set, consumers{logs: out, metrics: out, traces: out}, tel)
	require.NoError(t, err)
	l := newLive(cfg, in, &steppedClock{now: epoch})
	require.NoError(t, l.open(t.Context(), set, componenttest.NewNopHost()))
	r := &rig{live: l, t: t, out: out, clock: l.clock.(*steppedClock)}
	// The warning ends with the first poll in which nothing follows it.
	r.polls()
	r.polls()
	r.boundaryNow()
	r.boundaryNow()
	require.NoError(t, r.close(t.Context()))
	assert.Equal(t, 3, closed(out.final(t)), "of an entry that is too long, what is read counts")
	damaged, err := observed.GetMetric("otelcol_receiver_ztunnel_entries_damaged")
	require.NoError(t, err)
	text := fmt.Sprint(damaged.Data)
	assert.Contains(t, text, "foreign")
	assert.Contains(t, text, "oversized")
	found := false
	for _, ld := range out.logs {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					found = found || strings.Contains(record.Body().Str(), "but why")
				}
			}
		}
	}
	assert.True(t, found, "an entry over two lines")
}

func TestStorageThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	out := &sink{}
	store := newMemory(map[string][]byte{})
	store.err = errStorageFull
	clock := &steppedClock{now: epoch}
	logs := accesslogs.Config{Include: []string{dir + "/*.log"}}
	r := newRig(t, clock, store, out, logs)
	appendTo(t, path, accessText(0, 10))
	r.polls()
	r.boundaryNow()
	assert.Equal(t, 10, closed(out.final(t)), "the receiver goes on")
	assert.Empty(t, store.copied())

	store.mu.Lock()
	store.err = nil
	store.mu.Unlock()
	r.boundaryNow()
	r.crash()
	again := &sink{metrics: out.metrics}
	next := newRig(t, clock, newMemory(store.copied()), again, logs)
	appendTo(t, path, accessText(10, 15))
	next.polls()
	next.boundaryNow()
	require.NoError(t, next.close(t.Context()))
	assert.Equal(t, 15, closed(again.final(t)), "the next checkpoint has everything")
}

var errStorageFull = errors.New("no space left on device")

// TestLostStorage loses what was stored, or finds it damaged: the logs are read again, but for what was counted before.
func TestLostStorage(t *testing.T) {
	const aDayAhead = 24 * 3600 * 1_000_000 // of lines a microsecond apart
	for name, lose := range map[string]func(stored map[string][]byte){
		"damaged series": func(stored map[string][]byte) {
			for key := range stored {
				if strings.HasPrefix(key, "flow/") {
					stored[key] = []byte("rubbish")
				}
			}
		},
		"damaged positions": func(stored map[string][]byte) {
			for key := range stored {
				if strings.HasPrefix(key, "fileconsumer.") {
					stored[key] = append(stored[key], 1)
				}
			}
		},
		"nothing left": func(stored map[string][]byte) { clear(stored) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "0.log")
			store := newMemory(map[string][]byte{})
			clock := &steppedClock{now: epoch}
			logs := accesslogs.Config{Include: []string{dir + "/*.log"}, StartAt: tail.StartAtBeginning}
			r := newRig(t, clock, store, &sink{}, logs)
			appendTo(t, path, accessText(0, 10)+accessText(aDayAhead, aDayAhead+3))
			r.polls()
			r.boundaryNow()
			require.NoError(t, r.close(t.Context()))
			stored := store.copied()
			lose(stored)
			appendTo(t, path, accessText(5_000_000, 5_000_002))
			out := &sink{}
			after := newMemory(stored)
			after.others = store.others
			logs.StartAt = tail.StartAtEnd
			next := newRig(t, clock, after, out, logs)
			next.polls()
			for range 6 {
				next.boundaryNow()
			}
			appendTo(t, path, accessText(aDayAhead+3, aDayAhead+4))
			next.polls()
			next.boundaryNow()
			require.NoError(t, next.close(t.Context()))
			assert.Equal(t, 3, closed(out.final(t)), "anew, no line twice, and none left out")
		})
	}
}

// TestEntriesOfALaterBoundary has entries whose time is after the boundary that is flushed.
func TestEntriesOfALaterBoundary(t *testing.T) {
	dir := t.TempDir()
	out := &sink{}
	r := newRig(t, &steppedClock{now: epoch}, newMemory(map[string][]byte{}), out, accesslogs.Config{Include: []string{dir + "/*.log"}})
	appendTo(t, filepath.Join(dir, "0.log"), accessText(0, 3)+accessText(1_000_000, 1_000_002)+accessText(3, 4))
	r.polls()
	r.boundaryNow()
	assert.Equal(t, 4, closed(out.final(t)), "a point holds what is before its time")
	r.boundaryNow()
	assert.Equal(t, 6, closed(out.final(t)))
	require.NoError(t, r.close(t.Context()))
}

// TestBacklogOfRefusedRecords refuses records: lines wait in the file instead of in memory, and none is lost.
func TestBacklogOfRefusedRecords(t *testing.T) {
	dir := t.TempDir()
	out := &sink{}
	refusing := &refusingLogs{sink: out}
	refusing.full.Store(true)
	const lines = maxBacklog * 3 / 2
	appendTo(t, filepath.Join(dir, "0.log"), accessText(0, lines))
	cfg := createDefaultConfig().(*Config)
	cfg.NodeName = "node-a"
	logs := cfg.AccessLogs.GetOrInsertDefault()
	logs.Include, logs.StartAt, logs.PollInterval = []string{dir + "/*.log"}, tail.StartAtBeginning, 2*time.Millisecond
	tel, err := telemetry.New(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	set := receivertest.NewNopSettings(metadata.Type)
	in, err := newIngest(cfg, set, consumers{logs: refusing, metrics: out}, tel)
	require.NoError(t, err)
	l := newLive(cfg, in, &steppedClock{now: epoch})
	require.NoError(t, l.open(t.Context(), set, componenttest.NewNopHost()))
	r := &rig{live: l, t: t, out: out, clock: l.clock.(*steppedClock)}
	waiting := func() int {
		l.Lock()
		defer l.Unlock()
		return l.out.logs.waiting()
	}
	require.Eventually(t, func() bool { return waiting() > maxBacklog }, 20*time.Second, time.Millisecond)
	assert.Less(t, waiting(), maxBacklog+2*maxGathered, "reading stands still")
	r.boundaryNow()
	assert.NotEmpty(t, out.metrics, "time goes on")
	refusing.full.Store(false)
	r.boundaryNow()
	r.polls()
	r.boundaryNow()
	require.NoError(t, r.close(t.Context()))
	names, _ := out.events(t)
	assert.Equal(t, lines, names[semconv.EventAccess])
	assert.Equal(t, lines, closed(out.final(t)))
}

type refusingLogs struct {
	*sink
	full atomic.Bool
}

func (r *refusingLogs) ConsumeLogs(ctx context.Context, data plog.Logs) error {
	if r.full.Load() {
		return errors.New("full")
	}
	return r.sink.ConsumeLogs(ctx, data)
}

// TestLive starts the receiver as the collector does, with all sources that need no istiod.
func TestLive(t *testing.T) {
	scrapes := strings.Join(lines(t, filepath.Join(recordings, "baseline", "metrics-node-a.prom.gz")), "\n")
	_, scrapes, _ = strings.Cut(scrapes, "\n")
	scrapes, _, _ = strings.Cut(scrapes, "## scrape")
	dump := lines(t, filepath.Join(recordings, "baseline", "config_dump-node-a.jsonl.gz"))[0]
	_, dump, _ = strings.Cut(dump, `"config_dump": `)
	dump = strings.TrimSuffix(dump, "}")
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case broken.Load():
			http.Error(w, "no", http.StatusServiceUnavailable)
		case r.URL.Path == "/metrics":
			fmt.Fprint(w, scrapes)
		case r.URL.Path == "/config_dump":
			fmt.Fprint(w, dump)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")

	factory := NewFactory()
	cfg := factory.CreateDefaultConfig().(*Config)
	cfg.NodeName, cfg.FlushInterval = "node-a", 20*time.Millisecond
	logs := cfg.AccessLogs.GetOrInsertDefault()
	logs.Include, logs.StartAt, logs.PollInterval = []string{path}, tail.StartAtBeginning, 5*time.Millisecond
	metrics := cfg.Metrics.GetOrInsertDefault()
	metrics.Endpoints = []endpoints.Config{{Endpoint: server.URL}}
	metrics.CollectionInterval, metrics.Timeout = 20*time.Millisecond, 20*time.Millisecond
	dumps := cfg.ConfigDump.GetOrInsertDefault()
	dumps.Endpoints = []endpoints.Config{{Endpoint: server.URL}}
	dumps.CollectionInterval, dumps.Timeout = 20*time.Millisecond, 20*time.Millisecond
	dumps.State = true
	require.NoError(t, cfg.Validate())

	var logsOut consumertest.LogsSink
	var metricsOut consumertest.MetricsSink
	set := receivertest.NewNopSettings(metadata.Type)
	logsReceiver, err := factory.CreateLogs(t.Context(), set, cfg, &logsOut)
	require.NoError(t, err)
	metricsReceiver, err := factory.CreateMetrics(t.Context(), set, cfg, &metricsOut)
	require.NoError(t, err)
	tracesReceiver, err := factory.CreateTraces(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	all := []component.Component{logsReceiver, metricsReceiver, tracesReceiver}
	for _, c := range all {
		require.NoError(t, c.Start(t.Context(), componenttest.NewNopHost()))
	}
	appendTo(t, path, accessText(0, 50))
	seen := func() *sink { return &sink{logs: logsOut.AllLogs(), metrics: metricsOut.AllMetrics()} }
	require.Eventually(t, func() bool { return len(metricsOut.AllMetrics()) > 0 && closed(seen().final(t)) == 50 }, 20*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		beats := seen().beats()
		_, entities := seen().events(t)
		return beats["access_log node-a"] && beats["metrics node-a"] && beats["config_dump node-a"] && entities[mesh.TypeWorkload] > 0
	}, 20*time.Second, 5*time.Millisecond)
	broken.Store(true)
	require.Eventually(t, func() bool {
		beats := seen().beats()
		return beats["access_log node-a"] && !beats["metrics node-a"] && !beats["config_dump node-a"]
	}, 20*time.Second, 5*time.Millisecond)
	appendTo(t, path, accessText(50, 60))
	for _, c := range all {
		require.NoError(t, c.Shutdown(t.Context()))
	}
	var last time.Time
	for _, md := range metricsOut.AllMetrics() {
		for _, beat := range heartbeats(md) {
			require.False(t, beat.at.Before(last))
			last = beat.at
		}
	}
	// What is still in the file after that is read by the next one.
	again, err := factory.CreateMetrics(t.Context(), set, cfg, &metricsOut)
	require.NoError(t, err)
	assert.NotSame(t, metricsReceiver, again)
	require.NoError(t, again.Shutdown(t.Context()))
}

func TestStartFails(t *testing.T) {
	missing := component.MustNewID("nothing")
	for name, change := range map[string]func(*accesslogs.Config){
		"no storage":    func(c *accesslogs.Config) { c.StorageID = &missing },
		"another's":     func(c *accesslogs.Config) { c.StorageID = &storageID },
		"a bad pattern": func(c *accesslogs.Config) { c.Include = []string{"["} },
	} {
		t.Run(name, func(t *testing.T) {
			factory := NewFactory()
			cfg := factory.CreateDefaultConfig().(*Config)
			cfg.NodeName = "node-a"
			logs := cfg.AccessLogs.GetOrInsertDefault()
			logs.Include = []string{t.TempDir()}
			change(logs)
			r, err := factory.CreateMetrics(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, consumertest.NewNop())
			require.NoError(t, err)
			others := host{map[component.ID]component.Component{storageID: struct{ component.Component }{}}}
			require.ErrorContains(t, r.Start(t.Context(), others), "access_logs")
			require.NoError(t, r.Shutdown(t.Context()))
		})
	}
}

func TestReplayThroughTheFactory(t *testing.T) {
	factory := NewFactory()
	cfg := factory.CreateDefaultConfig().(*Config)
	cfg.Replay = configoptional.Some(ReplayConfig{Directory: filepath.Join(recordings, "baseline"), Rebase: rebaseNone})
	var out consumertest.MetricsSink
	r, err := factory.CreateMetrics(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, &out)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	var all []pmetric.Metrics
	require.Eventually(t, func() bool {
		all = out.AllMetrics()
		if len(all) == 0 {
			return false
		}
		states, _ := positions(all[len(all)-1])
		return states[0] == semconv.ReplayDone
	}, 30*time.Second, 5*time.Millisecond)
	require.NoError(t, r.Shutdown(t.Context()))
	checkTime(t, &sink{metrics: all}, time.Second)
}

func TestReplayIsInterrupted(t *testing.T) {
	factory := NewFactory()
	cfg := factory.CreateDefaultConfig().(*Config)
	cfg.Replay = configoptional.Some(ReplayConfig{Directory: filepath.Join(recordings, "baseline"), Speed: 0.001, Rebase: rebaseNow, Loop: true})
	r, err := factory.CreateMetrics(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, consumertest.NewNop())
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	require.NoError(t, r.Shutdown(t.Context()))
}
