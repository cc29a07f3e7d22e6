package flow

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// recordings is the folder of recordings at the root of the repository.
const recordings = "../../../../recordings"

// recorded is one line of a recorded log.
type recorded struct {
	node string
	line string
	at   time.Time
}

// tally is what the test's own counter and the processor are compared by.
type tally struct {
	closed, failed, unanswered, sent, received, lasted int64
}

// key is the part of a flow key that the test's counter knows of.
type key struct {
	node, direction, srcPod, dstPod, dstAddress, service string
	port                                                 int64
}

var field = regexp.MustCompile(`([a-z_.]+)=("(?:[^"\\]|\\.)*"|\S+)`)

// count reads a recording on a path of its own: regular expressions and encoding/json.
func count(t *testing.T, lines []recorded) map[key]tally {
	t.Helper()
	counts := map[key]tally{}
	for _, l := range lines {
		values := map[string]string{}
		if strings.HasPrefix(l.line, "{") {
			var object map[string]any
			require.NoError(t, json.Unmarshal([]byte(l.line), &object))
			if object["scope"] != "access" {
				continue
			}
			for k, v := range object {
				values[k] = fmt.Sprint(v)
				if n, ok := v.(float64); ok {
					values[k] = strconv.FormatInt(int64(n), 10)
				}
			}
		} else {
			if !strings.Contains(l.line, "\taccess\tconnection ") {
				continue
			}
			for _, m := range field.FindAllStringSubmatch(l.line, -1) {
				values[m[1]] = strings.Trim(m[2], `"`)
			}
		}
		target := values["dst.hbone_addr"]
		if target == "" {
			target = values["dst.addr"]
		}
		host, portText, ok := strings.Cut(target, ":")
		require.True(t, ok, l.line)
		port, err := strconv.ParseInt(portText, 10, 64)
		require.NoError(t, err)
		k := key{l.node, values["direction"], values["src.workload"], values["dst.workload"], host, values["dst.service"], port}
		c := counts[k]
		c.closed++
		if values["error"] != "" {
			c.failed++
		}
		sent, err := strconv.ParseInt(values["bytes_sent"], 10, 64)
		require.NoError(t, err)
		recv, err := strconv.ParseInt(values["bytes_recv"], 10, 64)
		require.NoError(t, err)
		if values["direction"] == "inbound" {
			sent, recv = recv, sent
		}
		if gone := strings.Contains(values["error"], "drain"); sent > 0 && recv == 0 && values["error"] == "" && !gone {
			c.unanswered++
		}
		c.sent += sent
		c.received += recv
		if values["duration"] != "" {
			c.lasted++
		}
		counts[k] = c
	}
	return counts
}

// countPoints adds up what the processor says.
func countPoints(t *testing.T, md pmetric.Metrics) map[key]tally {
	t.Helper()
	counts := map[key]tally{}
	eachPoint(md, func(node, metric string, attrs pcommon.Map, value int64) {
		str := func(name string) string {
			v, ok := attrs.Get(name)
			if !ok {
				return ""
			}
			return v.Str()
		}
		direction := map[string]string{semconv.ReporterSource: "outbound", semconv.ReporterDestination: "inbound"}[str(semconv.LabelReporter)]
		k := key{node, direction, str(semconv.LabelSourcePod), str(semconv.LabelDestinationPod), str(semconv.LabelDestinationAddress), str(semconv.LabelDestinationService), 0}
		if v, ok := attrs.Get(semconv.LabelDestinationPort); ok {
			k.port = v.Int()
		}
		c := counts[k]
		switch metric {
		case semconv.MetricConnectionsClosed:
			c.closed += value
		case semconv.MetricConnectionsFailed:
			c.failed += value
		case semconv.MetricConnectionsUnanswered:
			c.unanswered += value
		case semconv.MetricConnectionDuration:
			c.lasted += value
		case semconv.MetricIO:
			if str(semconv.LabelDirection) == semconv.DirectionSent {
				c.sent += value
			} else {
				c.received += value
			}
		default:
			t.Fatalf("unexpected metric %s", metric)
		}
		counts[k] = c
	})
	return counts
}

func eachPoint(md pmetric.Metrics, fn func(node, metric string, attrs pcommon.Map, value int64)) {
	for _, rm := range md.ResourceMetrics().All() {
		node, _ := rm.Resource().Attributes().Get(semconv.AttrNodeName)
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if m.Type() == pmetric.MetricTypeExponentialHistogram {
					for _, p := range m.ExponentialHistogram().DataPoints().All() {
						fn(node.Str(), m.Name(), p.Attributes(), int64(p.Count()))
					}
					continue
				}
				for _, p := range m.Sum().DataPoints().All() {
					fn(node.Str(), m.Name(), p.Attributes(), p.IntValue())
				}
			}
		}
	}
}

// readRecording returns the lines of a recording's logs, by time; lines without one follow their predecessor.
func readRecording(tb testing.TB, folder string) []recorded {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "ztunnel-*.log.gz"))
	require.NoError(tb, err)
	require.NotEmpty(tb, files)
	var lines []recorded
	parser := accesslog.NewParser(0)
	for _, file := range files {
		node := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "ztunnel-"), ".log.gz")
		f, err := os.Open(file)
		require.NoError(tb, err)
		zr, err := gzip.NewReader(f)
		require.NoError(tb, err)
		splitter := accesslog.NewEntrySplitter(accesslog.Style{}, 0, 0)
		emit := func(entry []byte) {
			nanos, ok := parser.EntryTime(entry)
			require.True(tb, ok)
			lines = append(lines, recorded{node, string(entry), time.Unix(0, nanos).UTC()})
		}
		scanner := bufio.NewScanner(zr)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			splitter.Line(scanner.Bytes(), emit)
		}
		require.NoError(tb, scanner.Err())
		splitter.Flush(emit)
		require.NoError(tb, f.Close())
	}
	slices.SortStableFunc(lines, func(a, b recorded) int { return a.at.Compare(b.at) })
	return lines
}

func recordingFolders(tb testing.TB) []string {
	tb.Helper()
	folders, err := filepath.Glob(filepath.Join(recordings, "*", "truth.json"))
	require.NoError(tb, err)
	require.NotEmpty(tb, folders)
	for i := range folders {
		folders[i] = filepath.Dir(folders[i])
	}
	return folders
}

func TestRecordingsAreCountedExactly(t *testing.T) {
	for _, folder := range recordingFolders(t) {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			lines := readRecording(t, folder)
			want := count(t, lines)
			require.NotEmpty(t, want)
			end := lines[len(lines)-1].at.Add(time.Second)

			for _, interval := range []time.Duration{time.Second, 7 * time.Second, time.Hour} {
				obs := counter{}
				p := New(Config{RecordMetrics: true}, obs)
				sum := map[key]tally{}
				next := lines[0].at.Truncate(interval).Add(interval)
				for _, l := range lines {
					for !l.at.Before(next) {
						merge(sum, countPoints(t, p.FlushMetrics(next, false)))
						next = next.Add(interval)
					}
					p.Entry(l.node, []byte(l.line), l.at)
				}
				merge(sum, countPoints(t, p.FlushMetrics(end, false)))
				assert.Equal(t, want, sum, "every %s", interval)
				assert.Equal(t, want, countPoints(t, p.FlushMetrics(end, true)), "refreshed")
				for _, bad := range []Counter{CountForeign, CountCut, CountIncomplete, CountTruncated, CountInvalidFields, CountClockOutliers, CountLate, CountOverflow} {
					assert.Zero(t, obs[bad], "counter %d", bad)
				}
				assert.Equal(t, int64(len(lines)), obs[CountEntries])
			}
		})
	}
}

// merge replaces what changed: points are cumulative.
func merge(into, changed map[key]tally) {
	for k, c := range changed {
		into[k] = c
	}
}

// TestRecordingsSurviveRestarts stops after every so many lines and goes on from the checkpoint alone.
func TestRecordingsSurviveRestarts(t *testing.T) {
	for _, folder := range recordingFolders(t) {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			lines := readRecording(t, folder)
			end := lines[len(lines)-1].at.Add(time.Second)
			run := func(restart bool) pmetric.Metrics {
				p := New(Config{RecordMetrics: true}, nil)
				stored := map[string][]byte{}
				next := lines[0].at.Truncate(5 * time.Second).Add(5 * time.Second)
				for i, l := range lines {
					if !l.at.Before(next) {
						p.FlushMetrics(next, false)
						next = next.Add(5 * time.Second)
						p.Advance(next)
					}
					if restart && i%997 == 996 {
						for k, v := range p.Checkpoint() {
							stored[k] = v
						}
						p = New(Config{RecordMetrics: true}, nil)
						require.NoError(t, p.Restore(func(key string) ([]byte, error) { return stored[key], nil }))
					}
					p.Entry(l.node, []byte(l.line), l.at)
				}
				p.Advance(end)
				return p.FlushMetrics(end, true)
			}
			want, got := run(false), run(true)
			assert.Equal(t, count(t, lines), countPoints(t, got))
			assert.Equal(t, asJSON(t, want), asJSON(t, got))
		})
	}
}

func asJSON(tb testing.TB, md pmetric.Metrics) string {
	tb.Helper()
	b, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(md)
	require.NoError(tb, err)
	return string(b)
}

// counter is an Observer.
type counter map[Counter]int64

func (c counter) Count(what Counter, n int64) { c[what] += n }

func recordedAccess(tb testing.TB, folder string) []recorded {
	tb.Helper()
	var rec accesslog.Record
	parser := accesslog.NewParser(0)
	var access []recorded
	for _, l := range readRecording(tb, folder) {
		if kind, _ := parser.Parse([]byte(l.line), &rec); kind == accesslog.KindAccess {
			access = append(access, l)
		}
	}
	require.NotEmpty(tb, access)
	return access
}
