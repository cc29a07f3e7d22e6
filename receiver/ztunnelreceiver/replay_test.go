package ztunnelreceiver

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// sink takes all signals in the order in which they come.
type sink struct {
	logs    []plog.Logs
	metrics []pmetric.Metrics
	traces  []ptrace.Traces
	// onMetrics may look at, or refuse, a batch.
	onMetrics func(pmetric.Metrics) error
}

func (s *sink) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (s *sink) ConsumeLogs(_ context.Context, data plog.Logs) error {
	s.logs = append(s.logs, data)
	return nil
}

func (s *sink) ConsumeMetrics(_ context.Context, data pmetric.Metrics) error {
	if s.onMetrics != nil {
		if err := s.onMetrics(data); err != nil {
			return err
		}
	}
	s.metrics = append(s.metrics, data)
	return nil
}

func (s *sink) ConsumeTraces(_ context.Context, data ptrace.Traces) error {
	s.traces = append(s.traces, data)
	return nil
}

// fakeClock is a wall clock whose sleepers wake at once.
type fakeClock struct{ now time.Time }

func (c *fakeClock) Now() time.Time { return c.now }

func (c *fakeClock) Sleep(ctx context.Context, until time.Time) error {
	if until.After(c.now) {
		c.now = until
	}
	return ctx.Err()
}

func replayConfig(directory string, change ...func(*Config)) *Config {
	cfg := createDefaultConfig().(*Config)
	cfg.Replay = configoptional.Some(ReplayConfig{Directory: directory, Speed: 0, Rebase: rebaseNone})
	for _, f := range change {
		f(cfg)
	}
	return cfg
}

// play plays a recording to its end.
func play(t testing.TB, cfg *Config, clock replay.Clock) *sink {
	t.Helper()
	out := &sink{}
	playInto(t, cfg, clock, out)
	return out
}

func playInto(t testing.TB, cfg *Config, clock replay.Clock, out *sink) {
	t.Helper()
	require.NoError(t, cfg.Validate())
	require.NoError(t, cfg.Replay.Get().Validate())
	tel, in := newTestIngest(t, cfg, out)
	player := newPlayer(cfg, tel, clock)
	target := newReplayTarget(in)
	target.pause = func(context.Context, time.Duration) {}
	require.NoError(t, player.Play(t.Context(), target))
}

func newTestIngest(t testing.TB, cfg *Config, out *sink) (*telemetry.Telemetry, *ingest) {
	t.Helper()
	tel, err := telemetry.New(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	in, err := newIngest(cfg, receivertest.NewNopSettings(metadata.Type), consumers{logs: out, metrics: out, traces: out}, tel)
	require.NoError(t, err)
	return tel, in
}

const recordings = "../../recordings"

func eachRecording(t *testing.T, f func(t *testing.T, directory string)) {
	entries, err := os.ReadDir(recordings)
	require.NoError(t, err)
	n := 0
	for _, entry := range entries {
		if entry.IsDir() {
			n++
			t.Run(entry.Name(), func(t *testing.T) { f(t, filepath.Join(recordings, entry.Name())) })
		}
	}
	require.NotZero(t, n)
}

// lines are those of a file of a recording, nil if there is none.
func lines(t testing.TB, path string) []string {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	defer file.Close()
	in, err := gzip.NewReader(file)
	require.NoError(t, err)
	var all []string
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		all = append(all, scanner.Text())
	}
	require.NoError(t, scanner.Err())
	return all
}

// accessLines counts the access-log lines of a recording by node.
func accessLines(t testing.TB, directory string) map[string]int {
	paths, err := filepath.Glob(filepath.Join(directory, "ztunnel-*.log.gz"))
	require.NoError(t, err)
	counts := map[string]int{}
	for _, path := range paths {
		node := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "ztunnel-"), ".log.gz")
		for _, line := range lines(t, path) {
			if strings.Contains(line, "\taccess\tconnection ") || strings.Contains(line, `"scope":"access"`) {
				counts[node]++
			}
		}
	}
	return counts
}

func str(attrs pcommon.Map, name string) string {
	if v, ok := attrs.Get(name); ok {
		return v.AsString()
	}
	return ""
}

// final is the newest value of every cumulative series that was aggregated from access logs.
func (s *sink) final(t testing.TB) map[string]uint64 {
	values := map[string]uint64{}
	for _, md := range s.metrics {
		for _, rm := range md.ResourceMetrics().All() {
			node := str(rm.Resource().Attributes(), semconv.AttrNodeName)
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					if !slices.Contains([]string{semconv.MetricConnectionsClosed, semconv.MetricConnectionsFailed, semconv.MetricIO}, m.Name()) {
						continue
					}
					for _, p := range m.Sum().DataPoints().All() {
						key := fmt.Sprint(node, m.Name(), sortedAttrs(p.Attributes()))
						require.GreaterOrEqual(t, uint64(p.IntValue()), values[key], "a cumulative series fell")
						values[key] = uint64(p.IntValue())
					}
				}
			}
		}
	}
	return values
}

func sortedAttrs(attrs pcommon.Map) string {
	raw := attrs.AsRaw()
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		fmt.Fprintf(&text, "|%s=%v", key, raw[key])
	}
	return text.String()
}

// closed sums ztunnel.connections.closed over all series.
func closed(final map[string]uint64) (sum int) {
	for key, value := range final {
		if strings.Contains(key, semconv.MetricConnectionsClosed) {
			sum += int(value)
		}
	}
	return sum
}

func (s *sink) events(t testing.TB) (byName map[string]int, entities map[mesh.EntityType]int) {
	byName, entities = map[string]int{}, map[mesh.EntityType]int{}
	for _, ld := range s.logs {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					if !mesh.IsEntityScope(sl.Scope()) {
						byName[record.EventName()]++
						continue
					}
					event, err := mesh.ParseEvent(record)
					require.NoError(t, err)
					entities[event.Entity.Type()]++
				}
			}
		}
	}
	return byName, entities
}

// heartbeat is one point of ztunnel.source.up.
type heartbeat struct {
	at           time.Time
	source, node string
	up           bool
}

func heartbeats(md pmetric.Metrics) (all []heartbeat) {
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if m.Name() != semconv.MetricSourceUp {
					continue
				}
				for _, p := range m.Gauge().DataPoints().All() {
					all = append(all, heartbeat{
						at: p.Timestamp().AsTime(), source: str(p.Attributes(), semconv.LabelSource),
						node: str(rm.Resource().Attributes(), semconv.AttrNodeName), up: p.IntValue() == 1,
					})
				}
			}
		}
	}
	return all
}

// positions are the replay's positions by state.
func positions(md pmetric.Metrics) (states []string, at []time.Time) {
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if m.Name() != semconv.MetricReplayPosition {
					continue
				}
				for _, p := range m.Gauge().DataPoints().All() {
					states = append(states, str(p.Attributes(), semconv.LabelState))
					at = append(at, p.Timestamp().AsTime())
				}
			}
		}
	}
	return states, at
}

func TestReplayOfEveryRecording(t *testing.T) {
	eachRecording(t, func(t *testing.T, directory string) {
		out := play(t, replayConfig(directory), &fakeClock{})
		want := accessLines(t, directory)
		total := 0
		for _, n := range want {
			total += n
		}
		require.NotZero(t, total)

		names, entities := out.events(t)
		assert.Equal(t, total, names[semconv.EventAccess], "one flow record per access-log line")
		assert.Equal(t, total, closed(out.final(t)), "each line is a connection that closed")
		assert.NotZero(t, entities[mesh.TypeWorkload])
		assert.NotZero(t, entities[mesh.TypeService])
		assert.NotZero(t, entities[mesh.TypeZtunnel])

		spans := 0
		for _, td := range out.traces {
			for _, rs := range td.ResourceSpans().All() {
				if !strings.HasPrefix(str(rs.Resource().Attributes(), semconv.AttrNodeName), "node-") {
					for _, ss := range rs.ScopeSpans().All() {
						spans += ss.Spans().Len()
					}
				}
			}
		}
		wantSpans := 0
		for _, line := range lines(t, filepath.Join(directory, "otlp-traces.jsonl.gz")) {
			wantSpans += strings.Count(line, `"spanId"`)
		}
		assert.Equal(t, wantSpans, spans, "every application span passes")

		checkTime(t, out, time.Second)
	})
}

// checkTime checks that time goes on boundary by boundary, that nothing comes after a later boundary than its own, and that
// the end is said last and once.
func checkTime(t *testing.T, out *sink, interval time.Duration) {
	var last time.Time
	done := 0
	for i, md := range out.metrics {
		states, at := positions(md)
		require.Len(t, states, 1, "each batch states the position")
		if states[0] == semconv.ReplayDone {
			done++
			assert.Equal(t, len(out.metrics)-1, i, "done is the last")
			assert.Equal(t, 1, md.DataPointCount(), "done comes alone")
			assert.Equal(t, last, at[0])
			continue
		}
		if !last.IsZero() {
			require.Equal(t, last.Add(interval), at[0], "no boundary is left out")
		}
		assert.Equal(t, at[0], at[0].Truncate(interval))
		beats := heartbeats(md)
		require.NotEmpty(t, beats)
		for _, beat := range beats {
			require.Equal(t, at[0], beat.at)
		}
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					eachStamp(m, func(stamp time.Time) {
						require.False(t, stamp.After(at[0]), "%s after its boundary", m.Name())
						require.False(t, !last.IsZero() && stamp.Before(last), "%s before the boundary that precedes it", m.Name())
					})
				}
			}
		}
		last = at[0]
	}
	assert.Equal(t, 1, done)
}

func eachStamp(m pmetric.Metric, f func(time.Time)) {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		for _, p := range m.Gauge().DataPoints().All() {
			f(p.Timestamp().AsTime())
		}
	case pmetric.MetricTypeSum:
		for _, p := range m.Sum().DataPoints().All() {
			f(p.Timestamp().AsTime())
		}
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			f(p.Timestamp().AsTime())
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			f(p.Timestamp().AsTime())
		}
	}
}

func TestReplayOfAKilledZtunnel(t *testing.T) {
	out := play(t, replayConfig(filepath.Join(recordings, "node-loss")), &fakeClock{})
	down := map[string]int{}
	for _, md := range out.metrics {
		for _, beat := range heartbeats(md) {
			if !beat.up {
				down[beat.source+" "+beat.node]++
			}
		}
	}
	require.Len(t, down, 1, "%v", down)
	assert.InDelta(t, 60, down["metrics node-b"], 6)
}

// marshal writes everything that left in its order.
func (s *sink) marshal(t *testing.T) []byte {
	var out bytes.Buffer
	for _, td := range s.traces {
		raw, err := (&ptrace.JSONMarshaler{}).MarshalTraces(td)
		require.NoError(t, err)
		out.Write(raw)
	}
	for _, ld := range s.logs {
		// An entity's attributes are a map, in no particular order.
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					if attrs, ok := record.Attributes().Get(mesh.AttrEntityAttributes); ok {
						attrs.SetStr(attrs.AsString())
					}
				}
			}
		}
		raw, err := (&plog.JSONMarshaler{}).MarshalLogs(ld)
		require.NoError(t, err)
		out.Write(raw)
	}
	for _, md := range s.metrics {
		raw, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(md)
		require.NoError(t, err)
		out.Write(raw)
		out.WriteByte('\n')
	}
	return out.Bytes()
}

func TestReplayDoesNotDependOnSpeed(t *testing.T) {
	directory := filepath.Join(recordings, "policy-deny")
	fast := play(t, replayConfig(directory), &fakeClock{}).marshal(t)
	clock := &fakeClock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	began := clock.now
	slow := play(t, replayConfig(directory, func(cfg *Config) { cfg.Replay.Get().Speed = 20 }), clock).marshal(t)
	assert.True(t, bytes.Equal(fast, slow), "the same telemetry, byte by byte")
	assert.InDelta(t, 9.4, clock.now.Sub(began).Seconds(), 0.5, "188 s at 20 s a second")
}

func TestReplayDoesNotDependOnIntervals(t *testing.T) {
	directory := filepath.Join(recordings, "payment-refused")
	want := play(t, replayConfig(directory), &fakeClock{})
	for _, interval := range []time.Duration{100 * time.Millisecond, 5 * time.Second, time.Minute} {
		got := play(t, replayConfig(directory, func(cfg *Config) {
			cfg.FlushInterval = interval
			cfg.RefreshInterval = time.Minute
		}), &fakeClock{})
		assert.True(t, maps.Equal(want.final(t), got.final(t)), interval)
		checkTime(t, got, interval)
	}
}

func TestReplayRebased(t *testing.T) {
	directory := filepath.Join(recordings, "baseline")
	now := time.Date(2031, 5, 4, 3, 2, 1, 500, time.UTC)
	plain := play(t, replayConfig(directory), &fakeClock{})
	rebased := play(t, replayConfig(directory, func(cfg *Config) { cfg.Replay.Get().Rebase = rebaseNow }), &fakeClock{now: now})
	assert.True(t, maps.Equal(plain.final(t), rebased.final(t)))
	checkTime(t, rebased, time.Second)
	_, first := positions(plain.metrics[0])
	_, shifted := positions(rebased.metrics[0])
	shift := shifted[0].Sub(first[0])
	assert.WithinDuration(t, now, shifted[0], time.Second)

	expiry := func(s *sink) time.Time {
		for _, ld := range s.logs {
			for _, rl := range ld.ResourceLogs().All() {
				for _, sl := range rl.ScopeLogs().All() {
					for _, record := range sl.LogRecords().All() {
						if !mesh.IsEntityScope(sl.Scope()) {
							assert.WithinRange(t, record.Timestamp().AsTime(), first[0].Add(-time.Hour), shifted[0].Add(time.Hour))
							continue
						}
						event, err := mesh.ParseEvent(record)
						require.NoError(t, err)
						if z, ok := event.Entity.(*mesh.Ztunnel); ok && len(z.Certificates) > 0 {
							return z.Certificates[0].NotAfter
						}
					}
				}
			}
		}
		t.Fatal("no certificate")
		return time.Time{}
	}
	assert.Equal(t, expiry(plain).Add(shift), expiry(rebased))
}

// errEnough ends an endless replay.
var errEnough = fmt.Errorf("enough")

func TestReplayInALoop(t *testing.T) {
	directory := filepath.Join(recordings, "baseline")
	cfg := replayConfig(directory, func(cfg *Config) { cfg.Replay.Get().Loop = true })
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	out := &sink{}
	var newest time.Time
	boundaries := 0
	out.onMetrics = func(md pmetric.Metrics) error {
		states, at := positions(md)
		require.Equal(t, []string{semconv.ReplayRunning}, states)
		if !newest.IsZero() {
			require.Equal(t, newest.Add(time.Second), at[0], "time goes on over the rounds")
		}
		newest = at[0]
		if boundaries++; boundaries == 500 {
			cancel(errEnough)
		}
		return nil
	}
	tel, in := newTestIngest(t, cfg, out)
	player := newPlayer(cfg, tel, &fakeClock{})
	require.ErrorIs(t, player.Play(ctx, newReplayTarget(in)), context.Canceled)

	total := 0
	for _, n := range accessLines(t, directory) {
		total += n
	}
	assert.Greater(t, closed(out.final(t)), 2*total, "the connections of each round count")
	_, entities := out.events(t)
	one := play(t, replayConfig(directory), &fakeClock{})
	_, once := one.events(t)
	assert.Equal(t, once[mesh.TypeWorkload], entities[mesh.TypeWorkload], "what istiod says again is not news")
}

// BenchmarkReplay plays a recording of three minutes on three nodes.
func BenchmarkReplay(b *testing.B) {
	directory := filepath.Join(recordings, "policy-deny")
	b.ReportAllocs()
	for b.Loop() {
		play(b, replayConfig(directory), &fakeClock{})
	}
}
