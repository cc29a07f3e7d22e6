package ztunnelreceiver

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// copyRecording copies a recording's files, decompressed, changing what change says; an empty result leaves a file out.
func copyRecording(t testing.TB, name string, change func(file, text string) string) string {
	t.Helper()
	dir := t.TempDir()
	paths, err := filepath.Glob(filepath.Join(recordings, name, "*"))
	require.NoError(t, err)
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		file := filepath.Base(path)
		if strings.HasSuffix(file, ".gz") {
			in, err := gzip.NewReader(bytes.NewReader(raw))
			require.NoError(t, err)
			var text bytes.Buffer
			_, err = text.ReadFrom(in)
			require.NoError(t, err)
			raw, file = text.Bytes(), strings.TrimSuffix(file, ".gz")
		}
		if text := change(file, string(raw)); text != "" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
		}
	}
	return dir
}

func unchanged(_, text string) string { return text }

func TestReplayWithoutCompression(t *testing.T) {
	packed := play(t, replayConfig(filepath.Join(recordings, "baseline")), &fakeClock{})
	plain := play(t, replayConfig(copyRecording(t, "baseline", unchanged)), &fakeClock{})
	assert.True(t, maps.Equal(packed.final(t), plain.final(t)))
	assert.True(t, bytes.Equal(packed.marshal(t), plain.marshal(t)))
}

func TestReplayWithFilesMissing(t *testing.T) {
	only := func(prefix string) func(file, text string) string {
		return func(file, text string) string {
			if strings.HasPrefix(file, prefix) {
				return text
			}
			return ""
		}
	}
	sources := func(s *sink) map[string]bool {
		found := map[string]bool{}
		for _, md := range s.metrics {
			for _, beat := range heartbeats(md) {
				found[beat.source+" "+beat.node] = true
			}
		}
		return found
	}
	tests := map[string]struct {
		keep func(file, text string) string
		want map[string]bool
	}{
		"one node's log": {only("ztunnel-node-b"), map[string]bool{"access_log node-b": true}},
		"scrapes":        {only("metrics-"), map[string]bool{"metrics node-a": true, "metrics node-b": true, "metrics node-c": true}},
		"dumps":          {only("config_dump-node-c"), map[string]bool{"config_dump node-c": true}},
		"xds in JSON":    {only("xds.jsonl"), map[string]bool{"xds ": true}},
		"xds in binary":  {only("xds.binpb"), map[string]bool{"xds ": true}},
		"spans":          {only("otlp"), map[string]bool{"spans ": true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out := play(t, replayConfig(copyRecording(t, "policy-deny", test.keep)), &fakeClock{})
			assert.Equal(t, test.want, sources(out))
			checkTime(t, out, time.Second)
		})
	}
}

func TestReplayTakesTheMeshFromDumpsIfItMust(t *testing.T) {
	want := play(t, replayConfig(filepath.Join(recordings, "policy-deny")), &fakeClock{})
	out := play(t, replayConfig(copyRecording(t, "policy-deny", func(file, text string) string {
		if strings.HasPrefix(file, "xds") {
			return ""
		}
		return text
	})), &fakeClock{})
	keys := func(s *sink) (known, gone map[string]bool) {
		known, gone = map[string]bool{}, map[string]bool{}
		for _, ld := range s.logs {
			for _, rl := range ld.ResourceLogs().All() {
				for _, sl := range rl.ScopeLogs().All() {
					if !mesh.IsEntityScope(sl.Scope()) {
						continue
					}
					for _, record := range sl.LogRecords().All() {
						event, err := mesh.ParseEvent(record)
						require.NoError(t, err)
						key := string(event.Entity.Type()) + " " + event.Entity.Key()
						if event.Deleted {
							gone[key] = true
						} else {
							known[key] = true
						}
					}
				}
			}
		}
		return known, gone
	}
	known, gone := keys(out)
	wantKnown, wantGone := keys(want)
	assert.Equal(t, wantKnown, known)
	assert.Equal(t, wantGone, gone)
	_, entities := out.events(t)
	_, wanted := want.events(t)
	assert.LessOrEqual(t, entities[mesh.TypeWorkload], wanted[mesh.TypeWorkload]+4, "only what changes is said")
}

func TestReplayOfHostileTimes(t *testing.T) {
	want := play(t, replayConfig(filepath.Join(recordings, "baseline")), &fakeClock{})
	// Lines in the middle and at both ends of a log state absurd times; a scrape and a dump do, too.
	n := 0
	out := play(t, replayConfig(copyRecording(t, "baseline", func(file, text string) string {
		if !strings.HasPrefix(file, "ztunnel-node-a") {
			return strings.Replace(text, "## scrape 2026", "## scrape 2099", 2)
		}
		all := strings.SplitAfter(text, "\n")
		for i, line := range all {
			if !strings.Contains(line, "\taccess\t") || i%100 > 2 {
				continue
			}
			n++
			year := []string{"1970", "2100", "2026-11-23T23"}[i%3]
			all[i] = year + line[len(year):]
		}
		all[0] = "2100" + all[0][4:]
		return strings.Join(all, "")
	})), &fakeClock{})
	require.Greater(t, n, 20)
	checkTime(t, out, time.Second)
	assert.Equal(t, closed(want.final(t)), closed(out.final(t)), "nothing is lost")
	assert.Len(t, out.metrics, len(want.metrics), "time does not run away")
	for _, ld := range out.logs {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					assert.WithinDuration(t, epoch.Add(20*time.Minute), record.Timestamp().AsTime(), 5*time.Minute)
				}
			}
		}
	}
}

func TestReplayOfUnreadableFiles(t *testing.T) {
	dir := copyRecording(t, "baseline", func(file, text string) string {
		switch {
		case strings.HasPrefix(file, "config_dump-node-a"):
			return "not JSON\n{\"time\":5}\n[]\n" + text + "{\"time\":\"2026-11-23T21:20:00Z\",\"config_dump\":7}\n"
		case strings.HasPrefix(file, "xds.jsonl"):
			return text
		case strings.HasPrefix(file, "xds.binpb"):
			return text[:len(text)-10]
		case strings.HasPrefix(file, "otlp"):
			return "{}\n{\"resourceSpans\":3}\n" + text[:len(text)/2]
		case strings.HasPrefix(file, "metrics-node-b"):
			return "garbage before\n" + text[:len(text)/2]
		}
		return text
	})
	// A compressed file that was cut off, and one that cannot be opened.
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write([]byte(strings.Repeat(accessText(0, 100), 20)))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ztunnel-node-x.log.gz"), packed.Bytes()[:packed.Len()/2], 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ztunnel-node-y.log.gz"), []byte{0x1f, 0x8b, 1}, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "metrics-node-z.prom"), 0o700))
	out := play(t, replayConfig(dir), &fakeClock{})
	checkTime(t, out, time.Second)
	total := 0
	for _, n := range accessLines(t, filepath.Join(recordings, "baseline")) {
		total += n
	}
	assert.Greater(t, closed(out.final(t)), total, "what can be read of the cut file counts")
	assert.Equal(t, []drops.Total{
		{Component: "ztunnel", Reason: "recording_file", Count: 4}, {Component: "ztunnel", Reason: "recording_part", Count: 6},
	}, droppedOf(out.metrics...))
}

func TestReplayOfNothing(t *testing.T) {
	for name, prepare := range map[string]func(dir string){
		"no folder":       func(dir string) { require.NoError(t, os.Remove(dir)) },
		"an empty one":    func(string) {},
		"empty files":     func(dir string) { appendTo(t, filepath.Join(dir, "ztunnel-a.log"), "") },
		"files of others": func(dir string) { appendTo(t, filepath.Join(dir, "truth.json"), "{}") },
		"nothing timed":   func(dir string) { appendTo(t, filepath.Join(dir, "ztunnel-a.log"), "hello\n") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "recording")
			require.NoError(t, os.Mkdir(dir, 0o700))
			prepare(dir)
			tel, in := newTestIngest(t, replayConfig(dir), &sink{})
			player := newPlayer(in.cfg, tel, &fakeClock{})
			require.ErrorContains(t, player.Play(t.Context(), newReplayTarget(in)), "recording")
		})
	}
}

func TestReplayOfAWaypoint(t *testing.T) {
	dir := copyRecording(t, "baseline", unchanged)
	var text strings.Builder
	for i := range 3 {
		at := time.Date(2026, 11, 23, 21, 19+i, 0, 0, time.UTC).Format(time.RFC3339)
		fmt.Fprintf(&text, "## scrape %s ok\n# TYPE istio_requests_total counter\nistio_requests_total{reporter=\"waypoint\",response_code=\"200\"} %d\n", at, 10*(i+1))
	}
	appendTo(t, filepath.Join(dir, "metrics-shop-waypoint.prom"), text.String())
	out := play(t, replayConfig(dir), &fakeClock{})
	var values []float64
	for _, md := range out.metrics {
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					if m.Name() == "istio_requests_total" {
						assert.Equal(t, semconv.ServiceNameWaypoint, str(rm.Resource().Attributes(), semconv.AttrServiceName))
						assert.Equal(t, "shop-waypoint", str(rm.Resource().Attributes(), semconv.AttrWaypoint))
						values = append(values, m.Sum().DataPoints().At(0).DoubleValue())
					}
				}
			}
		}
	}
	assert.Equal(t, []float64{10, 20, 30}, values)
	for _, md := range out.metrics {
		for _, beat := range heartbeats(md) {
			assert.NotEqual(t, "shop-waypoint", beat.node)
		}
	}
}

func TestReplayOfKubernetesLogs(t *testing.T) {
	want := play(t, replayConfig(filepath.Join(recordings, "baseline")), &fakeClock{})
	out := play(t, replayConfig(copyRecording(t, "baseline", func(file, text string) string {
		if !strings.HasPrefix(file, "ztunnel-") {
			return text
		}
		var cri strings.Builder
		for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
			const head = "2026-11-23T21:25:00.250079123Z stdout "
			if len(line) > 300 {
				cri.WriteString(head + "P " + line[:150] + "\n")
				line = line[150:]
			}
			cri.WriteString(head + "F " + line + "\n")
		}
		return cri.String()
	})), &fakeClock{})
	assert.True(t, maps.Equal(want.final(t), out.final(t)))
}

// TestReplayIntoAFullPipeline refuses every third batch for a while: nothing may be missing or out of order.
func TestReplayIntoAFullPipeline(t *testing.T) {
	directory := filepath.Join(recordings, "baseline")
	want := play(t, replayConfig(directory), &fakeClock{})
	calls := 0
	out := &sink{onMetrics: func(pmetric.Metrics) error {
		if calls++; calls%3 == 0 {
			return fmt.Errorf("no room")
		}
		return nil
	}}
	playInto(t, replayConfig(directory), &fakeClock{}, out)
	assert.True(t, bytes.Equal(want.marshal(t), out.marshal(t)))

	calls = 0
	refused := &sink{onMetrics: func(pmetric.Metrics) error {
		if calls++; calls%3 == 0 && calls < 100 {
			return consumererror.NewPermanent(fmt.Errorf("not this one"))
		}
		return nil
	}}
	playInto(t, replayConfig(directory), &fakeClock{}, refused)
	assert.True(t, maps.Equal(want.final(t), refused.final(t)), "the series that were lost come again")
}

func FuzzReplay(f *testing.F) {
	sample := func(name string, length int) []byte {
		all := lines(f, filepath.Join(recordings, name))
		text := strings.Join(all[:min(length, len(all))], "\n") + "\n"
		return []byte(text[:min(len(text), 4096)])
	}
	f.Add([]byte(accessText(0, 5)), sample("baseline/metrics-node-a.prom.gz", 60), []byte(`{"time":"2026-11-23T21:00:00Z","config_dump":{}}`),
		sample("policy-deny/xds.jsonl.gz", 4), sample("baseline/otlp-traces.jsonl.gz", 2))
	f.Add([]byte("2026-11-23T21:00:00Z stdout P half\n2100-01-01T00:00:00Z\tinfo\taccess\tconnection complete\n{\"time\":\"1970-01-01T00:00:00Z\"}\n"),
		[]byte("## scrape 2026-11-23T21:00:00Z failed\n## scrape x\n"), []byte("{}\n"), []byte("{}\n"), []byte("{}\n"))
	f.Fuzz(func(t *testing.T, log, scrapes, dumps, responses, spans []byte) {
		dir := t.TempDir()
		for name, content := range map[string][]byte{
			"ztunnel-a.log": log, "metrics-a.prom": scrapes, "config_dump-a.jsonl": dumps, "xds.jsonl": responses,
			"otlp-traces.jsonl": spans, "xds.binpb.gz": responses,
		} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
		}
		// A boundary a minute, because the text may hold any time.
		cfg := replayConfig(dir, func(cfg *Config) { cfg.FlushInterval = 12 * time.Hour; cfg.RefreshInterval = 12 * time.Hour })
		out := &sink{}
		tel, in := newTestIngest(t, cfg, out)
		if newPlayer(cfg, tel, &fakeClock{}).Play(context.Background(), newReplayTarget(in)) == nil {
			states, _ := positions(out.metrics[len(out.metrics)-1])
			require.Equal(t, []string{semconv.ReplayDone}, states)
			var last time.Time
			for _, md := range out.metrics {
				_, at := positions(md)
				require.False(t, at[0].Before(last))
				last = at[0]
			}
		}
	})
}
