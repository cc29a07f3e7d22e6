package ztunnelreceiver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/accesslogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// memory is a storage in memory that can be looked into before and after each write.
type memory struct {
	component.StartFunc
	component.ShutdownFunc

	mu            sync.Mutex
	values        map[string][]byte
	before, after func(values map[string][]byte)
	err           error
	// others are a component's further clients, by name.
	others map[string]*memory
}

var (
	_ extension.Extension = (*memory)(nil)
	_ storage.Extension   = (*memory)(nil)
	_ storage.Client      = (*memory)(nil)
)

func newMemory(values map[string][]byte) *memory {
	return &memory{values: maps.Clone(values), others: map[string]*memory{}}
}

func (m *memory) GetClient(_ context.Context, _ component.Kind, _ component.ID, name string) (storage.Client, error) {
	if name == "" {
		return m, nil
	}
	if m.others[name] == nil {
		m.others[name] = newMemory(map[string][]byte{})
	}
	return m.others[name], nil
}

func (m *memory) Walk(_ context.Context, fn storage.WalkFunc) error {
	for key, value := range m.copied() {
		if _, err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Close(context.Context) error { return nil }

func (m *memory) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[key], nil
}

func (m *memory) Set(ctx context.Context, key string, value []byte) error {
	return m.Batch(ctx, storage.SetOperation(key, value))
}

func (m *memory) Delete(ctx context.Context, key string) error {
	return m.Batch(ctx, storage.DeleteOperation(key))
}

func (m *memory) Batch(_ context.Context, ops ...*storage.Operation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.before != nil {
		m.before(maps.Clone(m.values))
	}
	for _, op := range ops {
		if op.Type == storage.Delete {
			delete(m.values, op.Key)
		} else {
			m.values[op.Key] = append([]byte{}, op.Value...)
		}
	}
	if m.after != nil {
		m.after(maps.Clone(m.values))
	}
	return nil
}

func (m *memory) copied() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.values)
}

// host is a host with one storage extension.
type host struct {
	extensions map[component.ID]component.Component
}

func (h host) GetExtensions() map[component.ID]component.Component { return h.extensions }

var storageID = component.MustNewID("memory")

// rig is a live receiver whose boundaries the test decides.
type rig struct {
	*live
	t     *testing.T
	out   *sink
	clock *steppedClock
	store *memory
}

// steppedClock stands still until it is told to go on.
type steppedClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *steppedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *steppedClock) Sleep(ctx context.Context, _ time.Time) error { <-ctx.Done(); return ctx.Err() }

func (c *steppedClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var epoch = time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)

func newRig(t *testing.T, clock *steppedClock, store *memory, out *sink, logs accesslogs.Config, configure ...func(*Config)) *rig {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.NodeName = "node-a"
	cfg.AccessLogs.GetOrInsertDefault()
	defaults := cfg.AccessLogs.Get()
	defaults.Include, defaults.Exclude = logs.Include, logs.Exclude
	defaults.StartAt = tail.StartAtBeginning
	if logs.StartAt != "" {
		defaults.StartAt = logs.StartAt
	}
	if logs.Format != "" {
		defaults.Format = logs.Format
	}
	defaults.NodeFrom = logs.NodeFrom
	defaults.PollInterval = 2 * time.Millisecond
	id := storageID
	defaults.StorageID = &id
	for _, more := range configure {
		more(cfg)
	}
	require.NoError(t, cfg.Validate())
	tel, err := telemetry.New(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	set := receivertest.NewNopSettings(metadata.Type)
	in, err := newIngest(cfg, set, consumers{logs: out, metrics: out, traces: out}, tel)
	require.NoError(t, err)
	l := newLive(cfg, in, clock)
	require.NoError(t, l.open(t.Context(), set, host{map[component.ID]component.Component{storageID: store}}))
	return &rig{live: l, t: t, out: out, clock: clock, store: store}
}

// polls waits until whatever is in the files now has been read, by the first follower or those of these numbers.
func (r *rig) polls(of ...int) {
	r.t.Helper()
	if len(of) == 0 {
		of = []int{0}
	}
	for range 2 {
		for _, i := range of {
			polled := r.followers[i].(interface{ Polled() <-chan struct{} }).Polled()
			select {
			case <-polled:
			case <-time.After(10 * time.Second):
				r.t.Fatal("no poll of the files")
			}
		}
	}
}

// boundaryNow lets a second pass and flushes.
func (r *rig) boundaryNow() {
	r.clock.step(time.Second)
	r.tick(context.Background())
}

// crash ends reading without anything being flushed or stored.
func (r *rig) crash() {
	store := r.store
	store.mu.Lock()
	store.err = errors.New("this process is gone")
	store.before, store.after = nil, nil
	store.mu.Unlock()
	for _, follower := range r.followers {
		require.NoError(r.t, follower.Stop())
	}
}

// accessLine is the n-th access-log line of a test, with a line end.
func accessLine(n int) string {
	at := epoch.Add(time.Duration(n) * time.Microsecond).Format("2006-01-02T15:04:05.000000Z")
	return fmt.Sprintf("%s\tinfo\taccess\tconnection complete\tsrc.addr=10.244.1.11:%d src.workload=\"frontend-1\" src.namespace=\"shop\" "+
		"src.identity=\"spiffe://cluster.local/ns/shop/sa/frontend\" dst.addr=10.244.2.12:15008 dst.hbone_addr=10.244.2.12:8080 "+
		"dst.service=\"catalog.shop.svc.cluster.local\" dst.workload=\"catalog-%d\" dst.namespace=\"shop\" "+
		"dst.identity=\"spiffe://cluster.local/ns/shop/sa/catalog\" direction=\"outbound\" bytes_sent=%d bytes_recv=1 duration=\"2ms\"\n",
		at, 1024+n%60000, n%3, n)
}

func accessText(from, to int) string {
	var text strings.Builder
	for n := from; n < to; n++ {
		text.WriteString(accessLine(n))
	}
	return text.String()
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = file.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

// sums are closed connections and bytes sent, which tell lines apart.
func (s *sink) sums(t testing.TB) (connections, sent int) {
	final := s.final(t)
	for key, value := range final {
		if strings.Contains(key, semconv.MetricIO) && strings.Contains(key, "direction=sent") {
			sent += int(value)
		}
	}
	return closed(final), sent
}

// sumTo is what bytes_sent of the lines before n sum up to.
func sumTo(n int) int { return n * (n - 1) / 2 }

// script writes n steps to files and returns how many lines there are in the end.
type script func(t *testing.T, dir string, step int, written int) (total int)

const scriptSteps = 6

// scripts are the ways in which a log file can grow; each works on files matching *.log*.
var scripts = map[string]script{
	"grows": func(t *testing.T, dir string, step, written int) int {
		appendTo(t, filepath.Join(dir, "0.log"), accessText(written, written+150))
		return written + 150
	},
	"is renamed": func(t *testing.T, dir string, step, written int) int {
		path := filepath.Join(dir, "0.log")
		if step%2 == 1 {
			appendTo(t, path, accessText(written, written+7))
			written += 7
			require.NoError(t, os.Rename(path, fmt.Sprintf("%s.%d", path, step)))
		}
		appendTo(t, path, accessText(written, written+40))
		return written + 40
	},
	"is copied and truncated": func(t *testing.T, dir string, step, written int) int {
		path := filepath.Join(dir, "0.log")
		appendTo(t, path, accessText(written, written+30))
		written += 30
		if step%2 == 1 {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(fmt.Sprintf("%s.%d", path, step), content, 0o600))
			require.NoError(t, os.Truncate(path, 0))
			appendTo(t, path, accessText(written, written+3))
			written += 3
		}
		return written
	},
	"has lines in pieces": func(t *testing.T, dir string, step, written int) int {
		path := filepath.Join(dir, "0.log")
		line := accessLine(written)
		// The first half of a line, whose second half comes with the next step.
		if step > 0 {
			appendTo(t, path, accessLine(written - 1)[100:])
		}
		if step == scriptSteps-1 {
			appendTo(t, path, line)
		} else {
			appendTo(t, path, line[:100])
		}
		return written + 1
	},
	"is Kubernetes' with parts": func(t *testing.T, dir string, step, written int) int {
		path := filepath.Join(dir, "0.log")
		cri := func(tag, text string) string {
			return "2026-11-23T21:25:00.250079" + "123Z stdout " + tag + " " + strings.TrimSuffix(text, "\n") + "\n"
		}
		if step > 0 {
			appendTo(t, path, cri("F", accessLine(written - 1)[200:]))
		}
		for range 5 {
			appendTo(t, path, cri("F", accessLine(written)))
			written++
		}
		line := accessLine(written)
		if step == scriptSteps-1 {
			appendTo(t, path, cri("F", line))
		} else {
			appendTo(t, path, cri("P", line[:120])+cri("P", line[120:200]))
		}
		return written + 1
	},
	"goes away and comes back": func(t *testing.T, dir string, step, written int) int {
		path := filepath.Join(dir, "0.log")
		switch {
		case step%2 == 1 && step < scriptSteps-1:
			require.NoError(t, os.Rename(path, filepath.Join(dir, "elsewhere")))
			return written
		case step > 0:
			_ = os.Rename(filepath.Join(dir, "elsewhere"), path)
		}
		appendTo(t, path, accessText(written, written+20))
		return written + 20
	},
}

func TestFilesAreReadExactlyOnce(t *testing.T) {
	for name, write := range scripts {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out := &sink{}
			r := newRig(t, &steppedClock{now: epoch}, newMemory(map[string][]byte{}), out, accesslogs.Config{Include: []string{dir + "/*.log*"}})
			written := 0
			for step := range scriptSteps {
				written = write(t, dir, step, written)
				r.polls()
				r.boundaryNow()
			}
			r.polls()
			require.NoError(t, r.close(t.Context()))
			connections, sent := out.sums(t)
			assert.Equal(t, written, connections)
			assert.Equal(t, sumTo(written), sent)
			names, _ := out.events(t)
			assert.Equal(t, written, names[semconv.EventAccess])
		})
	}
}

// moment is what is stored and what was seen outside when a process is killed.
type moment struct {
	when    string
	stored  map[string][]byte
	emitted []pmetric.Metrics
}

func TestKilledAtAnyMoment(t *testing.T) {
	for name, write := range scripts {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out := &sink{}
			store := newMemory(map[string][]byte{})
			var moments []moment
			note := func(when string, stored map[string][]byte) {
				moments = append(moments, moment{when, stored, append([]pmetric.Metrics(nil), out.metrics...)})
			}
			store.before = func(values map[string][]byte) { note("before the commit", values) }
			store.after = func(values map[string][]byte) { note("after the commit", values) }
			clock := &steppedClock{now: epoch}
			logs := accesslogs.Config{Include: []string{dir + "/*.log*"}}
			r := newRig(t, clock, store, out, logs)
			written := 0
			for step := range scriptSteps {
				written = write(t, dir, step, written)
				note("after a write", store.copied())
				r.polls()
				note("after a poll", store.copied())
				if step%3 != 2 {
					r.boundaryNow()
					note("after a boundary", store.copied())
				}
			}
			r.crash()

			for i, m := range moments {
				if m.stored == nil {
					continue
				}
				again := &sink{metrics: append([]pmetric.Metrics(nil), m.emitted...)}
				next := newRig(t, &steppedClock{now: clock.Now().Add(time.Second)}, newMemory(m.stored), again, logs)
				next.polls()
				next.boundaryNow()
				next.polls()
				require.NoError(t, next.close(t.Context()))
				// That no series falls below what was seen before is checked on the way.
				connections, sent := again.sums(t)
				require.Equal(t, written, connections, "killed %s (%d)", m.when, i)
				require.Equal(t, sumTo(written), sent, "killed %s (%d)", m.when, i)
			}
		})
	}
}
