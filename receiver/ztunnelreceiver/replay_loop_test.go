package ztunnelreceiver

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
)

// playRounds plays a recording in a loop; onRound is called at the end of each round, and with false ends the replay.
func playRounds(t *testing.T, cfg *Config, out *sink, onRound func(round int) bool) error {
	t.Helper()
	cfg.Replay.Get().Loop = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tel, in := newTestIngest(t, cfg, out)
	player := newPlayer(cfg, tel, &fakeClock{})
	target := &roundTarget{replayTarget: newReplayTarget(in), ended: func(round int) {
		if !onRound(round) {
			cancel()
		}
	}}
	return player.Play(ctx, target)
}

type roundTarget struct {
	*replayTarget
	// round counts the rounds that began.
	round int
	ended func(round int)
}

func (t *roundTarget) Begin(contents replay.Contents) {
	if t.round > 0 {
		t.ended(t.round - 1)
	}
	t.round++
	t.replayTarget.Begin(contents)
}

// spanIDs are the ids of one span.
type spanIDs struct {
	trace        pcommon.TraceID
	span, parent pcommon.SpanID
}

func allSpans(batches []ptrace.Traces) (ids []spanIDs) {
	for _, td := range batches {
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, span := range ss.Spans().All() {
					ids = append(ids, spanIDs{span.TraceID(), span.SpanID(), span.ParentSpanID()})
				}
			}
		}
	}
	return ids
}

func TestEachRoundOfALoopHasItsOwnSpans(t *testing.T) {
	directory := filepath.Join(recordings, "policy-deny")
	config := func() *Config {
		return replayConfig(directory, func(cfg *Config) { cfg.Spans.SamplingPercentage = 100 })
	}
	once := allSpans(play(t, config(), &fakeClock{}).traces)
	rounds := func() (ids [2][]spanIDs) {
		out := &sink{}
		from := 0
		err := playRounds(t, config(), out, func(round int) bool {
			ids[round] = allSpans(out.traces[from:])
			from = len(out.traces)
			return round == 0
		})
		require.ErrorIs(t, err, context.Canceled)
		return ids
	}
	ids := rounds()
	assert.Equal(t, once, ids[0], "the first round has the recording's ids")
	require.Len(t, ids[1], len(once))
	assert.Equal(t, ids, rounds(), "the same ids whenever it is played")

	first := map[spanIDs]bool{}
	traces := map[pcommon.TraceID]pcommon.TraceID{}
	spans := map[pcommon.SpanID]pcommon.SpanID{}
	for i, a := range ids[0] {
		b := ids[1][i]
		first[spanIDs{trace: a.trace, span: a.span}] = true
		require.NotEqual(t, a.trace, b.trace)
		require.NotEqual(t, a.span, b.span)
		require.Equal(t, a.parent.IsEmpty(), b.parent.IsEmpty())
		if renewed, ok := traces[a.trace]; ok {
			require.Equal(t, renewed, b.trace, "what was one trace is one")
		}
		traces[a.trace], spans[a.span] = b.trace, b.span
	}
	parents := 0
	for i, a := range ids[0] {
		b := ids[1][i]
		require.False(t, first[spanIDs{trace: b.trace, span: b.span}], "an id comes twice")
		if renewed, ok := spans[a.parent]; ok && !a.parent.IsEmpty() {
			parents++
			require.Equal(t, renewed, b.parent)
		}
	}
	assert.Greater(t, parents, 1000)
}

func TestAReplayThatFailsSaysWhy(t *testing.T) {
	dir := copyRecording(t, "baseline", unchanged)
	out := &sink{}
	err := playRounds(t, replayConfig(dir), out, func(int) bool {
		require.NoError(t, os.RemoveAll(dir))
		return true
	})
	require.ErrorContains(t, err, dir)
	states, at := positions(out.metrics[len(out.metrics)-1])
	assert.Equal(t, []string{semconv.ReplayFailed}, states)
	_, before := positions(out.metrics[len(out.metrics)-2])
	assert.Equal(t, before, at, "the last boundary that was reached")
	reasons := 0
	eachPosition(out.metrics[len(out.metrics)-1], func(point pmetric.NumberDataPoint) {
		reasons++
		assert.Contains(t, str(point.Attributes(), semconv.LabelReason), dir)
	})
	assert.Equal(t, 1, reasons)
}

func eachPosition(md pmetric.Metrics, f func(pmetric.NumberDataPoint)) {
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if m.Name() != semconv.MetricReplayPosition {
					continue
				}
				for _, point := range m.Gauge().DataPoints().All() {
					f(point)
				}
			}
		}
	}
}

func TestAReplayOfNothingDoesNotStart(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(dir string)
		want    []string
	}{
		"no folder":     {func(dir string) { require.NoError(t, os.Remove(dir)) }, []string{"there is no such folder"}},
		"an empty one":  {func(string) {}, []string{"it is empty", "ztunnel-NODE.log"}},
		"a file":        {func(dir string) { require.NoError(t, os.Remove(dir)); appendTo(t, dir, "x") }, []string{"not a directory"}},
		"unknown files": {func(dir string) { appendTo(t, filepath.Join(dir, "access.log"), accessText(0, 3)) }, []string{"found access.log", "metrics-NAME.prom"}},
		"nothing timed": {func(dir string) { appendTo(t, filepath.Join(dir, "ztunnel-a.log"), "hello\n") }, []string{"nothing in its files", "ztunnel-a.log"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "recording")
			require.NoError(t, os.Mkdir(dir, 0o700))
			test.prepare(dir)
			r, err := newReceiver(replayConfig(dir), receivertest.NewNopSettings(metadata.Type))
			require.NoError(t, err)
			err = r.Start(t.Context(), componenttest.NewNopHost())
			for _, want := range append(test.want, dir) {
				require.ErrorContains(t, err, want)
			}
			require.NoError(t, r.Shutdown(t.Context()))
		})
	}
}

func TestUnknownFilesOfARecordingAreNamedOnce(t *testing.T) {
	dir := copyRecording(t, "baseline", unchanged)
	appendTo(t, filepath.Join(dir, "waypoint.txt"), "x")
	core, logs := observer.New(zapcore.WarnLevel)
	cfg := replayConfig(dir, func(cfg *Config) { cfg.Replay.Get().Loop = true })
	tel, in := newTestIngest(t, cfg, &sink{})
	tel.Log = zap.New(core)
	player := newPlayer(cfg, tel, &fakeClock{})
	require.NoError(t, player.Open())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.ErrorIs(t, player.Play(ctx, &roundTarget{replayTarget: newReplayTarget(in), ended: func(round int) {
		if round == 1 {
			cancel()
		}
	}}), context.Canceled)
	require.Len(t, logs.All(), 1)
	assert.Equal(t, []any{"waypoint.txt"}, logs.All()[0].ContextMap()["files"])
}
