package topologyquery

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/promapi"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/processor/outagedetector"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver"
)

const recordings = "../../recordings"

// names lists the recordings.
func recordingNames(t *testing.T) []string {
	entries, err := os.ReadDir(recordings)
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		if _, err := os.Stat(filepath.Join(recordings, entry.Name(), "truth.json")); err == nil {
			names = append(names, entry.Name())
		}
	}
	require.NotEmpty(t, names)
	return names
}

// play replays a recording into an extension, through the pipelines of config/replay.yaml.
func play(t *testing.T, e *topologyQuery, name string) {
	t.Helper()
	ctx := t.Context()
	var parts []component.Component
	var (
		metrics consumer.Metrics
		logs    consumer.Logs
		traces  consumer.Traces
		err     error
	)
	metrics, err = consumer.NewMetrics(e.WriteMetrics)
	require.NoError(t, err)
	logs, err = consumer.NewLogs(e.WriteLogs)
	require.NoError(t, err)
	traces, err = consumer.NewTraces(e.WriteTraces)
	require.NoError(t, err)

	detector := outagedetector.NewFactory()
	detectorConfig, settings := detector.CreateDefaultConfig(), processortest.NewNopSettings(detector.Type())
	detectMetrics, err := detector.CreateMetrics(ctx, settings, detectorConfig, metrics)
	require.NoError(t, err)
	detectLogs, err := detector.CreateLogs(ctx, settings, detectorConfig, logs)
	require.NoError(t, err)

	graph := servicegraphprocessor.NewFactory()
	graphConfig, settings := graph.CreateDefaultConfig(), processortest.NewNopSettings(graph.Type())
	graphMetrics, err := graph.CreateMetrics(ctx, settings, graphConfig, detectMetrics)
	require.NoError(t, err)
	graphLogs, err := graph.CreateLogs(ctx, settings, graphConfig, detectLogs)
	require.NoError(t, err)
	graphTraces, err := graph.CreateTraces(ctx, settings, graphConfig, traces)
	require.NoError(t, err)

	receivers := ztunnelreceiver.NewFactory()
	receiverConfig := receivers.CreateDefaultConfig()
	require.NoError(t, confmap.NewFromStringMap(map[string]any{
		"replay": map[string]any{"directory": filepath.Join(recordings, name), "speed": "max"},
		"spans":  map[string]any{"ratio": 10},
	}).Unmarshal(receiverConfig))
	receiverSettings := receivertest.NewNopSettings(receivers.Type())
	receiveMetrics, err := receivers.CreateMetrics(ctx, receiverSettings, receiverConfig, graphMetrics)
	require.NoError(t, err)
	receiveLogs, err := receivers.CreateLogs(ctx, receiverSettings, receiverConfig, graphLogs)
	require.NoError(t, err)
	receiveTraces, err := receivers.CreateTraces(ctx, receiverSettings, receiverConfig, graphTraces)
	require.NoError(t, err)

	parts = append(parts, detectMetrics, detectLogs, graphMetrics, graphLogs, graphTraces, receiveMetrics, receiveLogs, receiveTraces)
	for _, part := range parts {
		require.NoError(t, part.Start(ctx, componenttest.NewNopHost()))
	}
	require.Eventually(t, func() bool {
		r, ok := e.stores.Sources.Replay()
		return ok && r.State == "done"
	}, time.Minute, 10*time.Millisecond)
	for i := len(parts) - 1; i >= 0; i-- {
		require.NoError(t, parts[i].Shutdown(context.Background()))
	}
}

// edgeCounts is an edge's counts in a form that can be compared.
type edgeCounts struct {
	Fields              [live.NumFields]uint64
	Failed              uint64
	Active              int64
	Reasons             map[live.Reason]uint64
	Requests, Conns     uint64
	request, connection []float64
}

var testQuantiles = []float64{0.5, 0.9, 0.99}

func toCompare(c *live.Counts) edgeCounts {
	out := edgeCounts{Fields: c.Fields, Failed: c.Failed, Active: c.Active, Requests: c.Request.Count, Conns: c.Connection.Count, Reasons: map[live.Reason]uint64{}}
	for _, r := range c.Reasons {
		out.Reasons[r.Reason] += r.Count
	}
	out.request, out.connection = make([]float64, 3), make([]float64, 3)
	c.Request.Quantiles(testQuantiles, out.request)
	c.Connection.Quantiles(testQuantiles, out.connection)
	return out
}

func fromMemory(e *topologyQuery, start, end int64) map[edge.Key]edgeCounts {
	out := map[edge.Key]edgeCounts{}
	window := e.stores.Live.Window(start, end, false)
	defer window.Release()
	for i, one := range window.Edges {
		out[one.Key] = toCompare(window.Counts[i])
	}
	return out
}

func fromPast(t *testing.T, past *history.Store, start, end int64) map[edge.Key]edgeCounts {
	out := map[edge.Key]edgeCounts{}
	require.NoError(t, past.Window(t.Context(), start, end, func(key *edge.Key, c *live.Counts) {
		if !c.Empty() {
			out[*key] = toCompare(c)
		}
	}))
	return out
}

// requireSame compares two answers: every count exactly, percentiles within a bucket of the live histograms.
func requireSame(t *testing.T, want, got map[edge.Key]edgeCounts, message string) {
	t.Helper()
	const bucket = 1.0 / 16
	for key, w := range want {
		g, ok := got[key]
		require.True(t, ok, "%s: %+v is missing", message, key)
		for i := range testQuantiles {
			for _, pair := range [][2]float64{{w.request[i], g.request[i]}, {w.connection[i], g.connection[i]}} {
				if math.IsNaN(pair[0]) || pair[0] == 0 {
					assert.Equal(t, math.IsNaN(pair[0]), math.IsNaN(pair[1]), "%s %+v", message, key)
					continue
				}
				assert.InDelta(t, math.Log2(pair[0]), math.Log2(pair[1]), bucket+1e-9, "%s %+v", message, key)
			}
		}
		w.request, w.connection, g.request, g.connection = nil, nil, nil, nil
		require.Equal(t, w, g, "%s: %+v", message, key)
	}
	require.Len(t, got, len(want), message)
}

func TestMemoryAndPastAgree(t *testing.T) {
	for _, name := range recordingNames(t) {
		for _, resolution := range []time.Duration{time.Second, 5 * time.Second} {
			t.Run(fmt.Sprint(name, resolution), func(t *testing.T) {
				e, base := start(t, func(c *Config) { c.History.Resolution = resolution })
				play(t, e, name)
				embedded := e.stores.Past
				remote := history.NewStore(history.NewRemote(http.DefaultClient, base+promapi.Prefix, nil), history.Settings{Lookback: e.config.History.Lookback})
				first, last := e.stores.Sources.Clock()
				random := rand.New(rand.NewPCG(1, 2))
				windows := [][2]int64{{first - 60_000, last}, {first, last}, {first - 3_600_000, last + 3_600_000}}
				for range 12 {
					from := first + random.Int64N(last-first)
					windows = append(windows, [2]int64{from, from + random.Int64N(last-from) + 1})
				}
				for _, w := range windows {
					message := fmt.Sprint(time.UnixMilli(w[0]).UTC(), " ", time.UnixMilli(w[1]).UTC())
					want := fromMemory(e, w[0], w[1])
					requireSame(t, want, fromPast(t, embedded, w[0], w[1]), "embedded "+message)
					requireSame(t, want, fromPast(t, remote, w[0], w[1]), "remote "+message)
				}
				require.NotEmpty(t, fromMemory(e, first-60_000, last))
				var g testGraph
				getJSON(t, base+"/api/v1/graph", http.StatusOK, &g)
				require.Equal(t, "live", g.From)
			})
		}
	}
}

func TestPastSurvivesRestart(t *testing.T) {
	directory := t.TempDir()
	config := func(c *Config) { c.Directory = directory; c.History.Resolution = time.Second }
	e, base := start(t, config)
	play(t, e, "policy-deny")
	first, last := e.stores.Sources.Clock()
	query := fmt.Sprintf("/api/v1/graph?start=%d&end=%d", first/1000-60, last/1000)
	var before, after testGraph
	getJSON(t, base+query, http.StatusOK, &before)
	var outagesBefore, outagesAfter any
	getJSON(t, base+"/api/v1/outages", http.StatusOK, &outagesBefore)
	require.NoError(t, e.Shutdown(t.Context()))

	e, base = start(t, config)
	getJSON(t, base+query, http.StatusOK, &after)
	assert.Equal(t, "history", after.From)
	after.From = before.From
	for i := range before.Edges {
		// Percentiles come from finer buckets on disk than in memory.
		before.Edges[i].DurationMS, after.Edges[i].DurationMS = struct{ P50, P99 *float64 }{}, struct{ P50, P99 *float64 }{}
	}
	assert.Equal(t, before, after)
	getJSON(t, base+"/api/v1/outages", http.StatusOK, &outagesAfter)
	assert.Equal(t, outagesBefore, outagesAfter)
	_, clock := e.stores.Sources.Clock()
	assert.Equal(t, last, clock)
}

func TestReplayDiscardsTheFormerOne(t *testing.T) {
	directory := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(directory, "thesis.tex"), nil, 0o600))
	config := func(c *Config) { c.Directory = directory; c.History.DiscardFormer = true }
	e, _ := start(t, config)
	play(t, e, "policy-deny")
	require.NoError(t, e.Shutdown(t.Context()))
	_, base := start(t, config)
	var nodes struct{ Nodes []any }
	getJSON(t, base+"/api/v1/graph", http.StatusOK, &nodes)
	assert.Empty(t, nodes.Nodes)
	assert.FileExists(t, filepath.Join(directory, "thesis.tex"))
}
