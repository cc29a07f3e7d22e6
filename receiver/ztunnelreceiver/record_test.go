package ztunnelreceiver

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/record"
)

// recorded plays a recording, records it meanwhile, and returns the folder of what was recorded.
func recorded(t *testing.T, name string, change func(*record.Config)) (folder string, out *sink) {
	t.Helper()
	config := record.DefaultConfig()
	config.Directory = t.TempDir()
	change(&config)
	require.NoError(t, config.Validate())
	out = &sink{}
	cfg := replayConfig(filepath.Join(recordings, name), func(c *Config) { c.Record = configoptional.Some(config) })
	tel, in := newTestIngest(t, cfg, out)
	require.NoError(t, newPlayer(cfg, tel, &fakeClock{now: epoch}).Play(t.Context(), newReplayTarget(in)))
	require.NoError(t, in.record.Close())
	entries, err := os.ReadDir(config.Directory)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	return filepath.Join(config.Directory, entries[0].Name()), out
}

// shape is what metrics say without the names in them: for each metric, the values of its last points in order.
func shape(batches []pmetric.Metrics) map[string][]int64 {
	last := map[string]map[string]int64{}
	for _, md := range batches {
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					if m.Type() != pmetric.MetricTypeSum {
						continue
					}
					for _, p := range m.Sum().DataPoints().All() {
						if last[m.Name()] == nil {
							last[m.Name()] = map[string]int64{}
						}
						last[m.Name()][keyOf(rm, p)] = p.IntValue()
					}
				}
			}
		}
	}
	out := map[string][]int64{}
	for name, series := range last {
		for _, value := range series {
			out[name] = append(out[name], value)
		}
		slices.Sort(out[name])
	}
	return out
}

func keyOf(rm pmetric.ResourceMetrics, p pmetric.NumberDataPoint) string {
	var key []string
	for name, value := range rm.Resource().Attributes().All() {
		key = append(key, name+"="+value.AsString())
	}
	for name, value := range p.Attributes().All() {
		key = append(key, name+"="+value.AsString())
	}
	slices.Sort(key)
	return strings.Join(key, ",")
}

// What was recorded says the same as what was read.
func TestRecordingOfAReplay(t *testing.T) {
	for _, name := range []string{"policy-deny", "payment-refused", "node-loss"} {
		t.Run(name, func(t *testing.T) {
			folder, read := recorded(t, name, func(*record.Config) {})
			again := play(t, replayConfig(folder), &fakeClock{now: epoch})
			assert.Equal(t, shape(read.metrics), shape(again.metrics))
			assert.Equal(t, entities(t, read), entities(t, again))
		})
	}
}

// entities counts the records of logs by their event's name.
func entities(t *testing.T, out *sink) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, ld := range out.logs {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					name := record.EventName()
					if kind, ok := record.Attributes().Get("otel.entity.type"); ok {
						name += kind.AsString()
					}
					counts[name]++
				}
			}
		}
	}
	return counts
}

// secrets are names and addresses of the recorded mesh.
var secrets = []string{"checkout", "payment", "frontend", "catalog", "shipping", "loadgen", "billing", "shop", "redis", "postgres", "no-checkout", "10.244.", "10.96."}

// Scrubbed, it says the same of others: the same figures, and no name or address.
func TestScrubbedRecording(t *testing.T) {
	for _, name := range []string{"policy-deny", "payment-refused"} {
		t.Run(name, func(t *testing.T) {
			if name != "policy-deny" && testing.Short() {
				t.Skip("takes seconds")
			}
			folder, read := recorded(t, name, func(c *record.Config) { c.Scrub, c.ScrubKey = true, "nobody guesses this key" })
			files, err := os.ReadDir(folder)
			require.NoError(t, err)
			require.NotEmpty(t, files)
			for _, file := range files {
				text, err := os.ReadFile(filepath.Join(folder, file.Name()))
				require.NoError(t, err)
				for _, secret := range secrets {
					if at := strings.Index(string(text), secret); at >= 0 {
						t.Errorf("%s has %q: %.200q", file.Name(), secret, text[max(at-80, 0):])
					}
					assert.NotContains(t, file.Name(), secret)
				}
			}
			again := play(t, replayConfig(folder), &fakeClock{now: epoch})
			want, got := shape(read.metrics), shape(again.metrics)
			for name, values := range want {
				assert.Equal(t, values, got[name], name)
			}
			wanted, found := entities(t, read), entities(t, again)
			delete(wanted, "ztunnel.log") // those of several lines are left out
			delete(found, "ztunnel.log")
			assert.Equal(t, wanted, found)
		})
	}
}

// Recordings are bounded together, and each can be played by itself.
func TestRecordingsRotate(t *testing.T) {
	config := record.DefaultConfig()
	config.Directory, config.Rotate = t.TempDir(), time.Minute
	cfg := replayConfig(filepath.Join(recordings, "baseline"), func(c *Config) { c.Record = configoptional.Some(config) })
	tel, in := newTestIngest(t, cfg, &sink{})
	require.NoError(t, newPlayer(cfg, tel, &fakeClock{now: epoch}).Play(t.Context(), newReplayTarget(in)))
	require.NoError(t, in.record.Close())
	entries, err := os.ReadDir(config.Directory)
	require.NoError(t, err)
	require.Greater(t, len(entries), 1)
	last := play(t, replayConfig(filepath.Join(config.Directory, entries[len(entries)-1].Name())), &fakeClock{now: epoch})
	assert.Positive(t, entities(t, last)["istio.workload"], "%v", entities(t, last))
}
