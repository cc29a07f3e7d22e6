package scrape

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

const recordings = "../../../../recordings"

type recorded struct {
	at   time.Time
	ok   bool
	body []byte
}

// readScrapes reads a recording's scrapes, each after a line "## scrape TIME ok|failed".
func readScrapes(tb testing.TB, path string) []recorded {
	tb.Helper()
	file, err := os.Open(path)
	require.NoError(tb, err)
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	require.NoError(tb, err)
	var scrapes []recorded
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "## scrape "); ok {
			when, state, _ := strings.Cut(rest, " ")
			at, err := time.Parse(time.RFC3339Nano, when)
			require.NoError(tb, err)
			scrapes = append(scrapes, recorded{at: at, ok: state == "ok"})
			continue
		}
		last := &scrapes[len(scrapes)-1]
		last.body = append(append(last.body, lines.Bytes()...), '\n')
	}
	require.NoError(tb, lines.Err())
	return scrapes
}

// samples gives the values of an outcome as "name{label=value,…}"; histograms by their count.
func samples(md pmetric.Metrics) map[string]float64 {
	out := map[string]float64{}
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				switch m.Type() {
				case pmetric.MetricTypeSum:
					for _, p := range m.Sum().DataPoints().All() {
						out[m.Name()+fmt.Sprint(p.Attributes().AsRaw())] = p.DoubleValue()
					}
				case pmetric.MetricTypeGauge:
					for _, p := range m.Gauge().DataPoints().All() {
						value := p.DoubleValue()
						if p.ValueType() == pmetric.NumberDataPointValueTypeInt {
							value = float64(p.IntValue())
						}
						out[m.Name()+fmt.Sprint(p.Attributes().AsRaw())] = value
					}
				case pmetric.MetricTypeHistogram:
					for _, p := range m.Histogram().DataPoints().All() {
						out[m.Name()+fmt.Sprint(p.Attributes().AsRaw())] = float64(p.Count())
					}
				}
			}
		}
	}
	return out
}

var (
	at   = time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)
	node = Target{Name: "node-a"}
)

func TestParse(t *testing.T) {
	bucket := func(le string, n int) string { return fmt.Sprintf("istio_d_bucket{le=%q} %d\n", le, n) }
	for name, tc := range map[string]struct {
		body    string
		options Options
		want    map[string]float64
		stats   Stats
	}{
		"nothing": {body: "", want: map[string]float64{}},
		"a counter's family lacks _total": {
			body:  "# TYPE istio_x counter\nistio_x_total{a=\"1\"} 3\n# EOF\n",
			want:  map[string]float64{"istio_x_totalmap[a:1]": 3},
			stats: Stats{Points: 1},
		},
		"so it does in Prometheus text": {
			body:  "# TYPE istio_x counter\nistio_x_total 3\n",
			want:  map[string]float64{"istio_x_totalmap[]": 3},
			stats: Stats{Points: 1},
		},
		"created timestamps are no series": {
			body:  "# TYPE istio_x counter\nistio_x_total 3\nistio_x_created 1.7e9\n# EOF\n",
			want:  map[string]float64{"istio_x_totalmap[]": 3},
			stats: Stats{Points: 1},
		},
		"timestamps are the scrape's": {
			body:  "istio_x 3 1395066363000\n",
			want:  map[string]float64{"istio_xmap[]": 3},
			stats: Stats{Points: 1},
		},
		"only what is to be kept": {
			body:    "tokio_num_workers 1\nistio_x 1\nistio_y 1\nistio 1\nup 0\n",
			options: Options{Families: []string{"istio_x", "tokio_*", "up"}},
			want:    map[string]float64{"istio_xmap[]": 1, "tokio_num_workersmap[]": 1},
			stats:   Stats{Points: 2, Filtered: 3},
		},
		"untyped series are gauges": {
			body:  "istio_x 1\n# TYPE istio_z counter\nistio_y_total 2\nistio_zz 1\n",
			want:  map[string]float64{"istio_xmap[]": 1, "istio_y_totalmap[]": 2, "istio_zzmap[]": 1},
			stats: Stats{Points: 3},
		},
		"empty labels are none": {
			body:  "istio_x{a=\"\",b=\"1\"} 1\n",
			want:  map[string]float64{"istio_xmap[b:1]": 1},
			stats: Stats{Points: 1},
		},
		"escapes": {
			body:  `istio_x{a="q\"\\\n"} 1` + "\n",
			want:  map[string]float64{"istio_xmap[a:q\"\\\n]": 1},
			stats: Stats{Points: 1},
		},
		"values that make no sense": {
			body:  "# TYPE istio_c counter\nistio_c{a=\"1\"} NaN\nistio_c{a=\"2\"} -1\nistio_c{a=\"3\"} +Inf\nistio_c{a=\"4\"} 1e308\n# TYPE istio_g gauge\nistio_g{a=\"1\"} NaN\nistio_g{a=\"2\"} -Inf\nistio_g{a=\"3\"} -1\n",
			want:  map[string]float64{"istio_cmap[a:4]": 1e308, "istio_gmap[a:3]": -1},
			stats: Stats{Points: 2, BadValues: 5},
		},
		"duplicates": {
			body:  "istio_x{a=\"1\",b=\"2\"} 1\nistio_x{b=\"2\",a=\"1\"} 2\nistio_x{a=\"1\",a=\"2\"} 3\n",
			want:  map[string]float64{"istio_xmap[a:1 b:2]": 1},
			stats: Stats{Points: 1, Duplicates: 1, BadValues: 1},
		},
		"too many series": {
			body:    "istio_x{a=\"1\"} 1\nistio_x{a=\"2\"} 1\nistio_x{a=\"3\"} 1\nistio_x{a=\"4\"} 1\n",
			options: Options{MaxSeries: 2},
			want:    map[string]float64{"istio_xmap[a:1]": 1, "istio_xmap[a:2]": 1},
			stats:   Stats{Points: 2, Overflowed: 2},
		},
		"too many and too long labels": {
			body:    "istio_x{a=\"1\",b=\"2\",c=\"3\"} 1\nistio_x{a=\"12345678901234567\"} 1\nistio_x{abcdefghi=\"1\"} 1\nistio_x{a=\"1\",b=\"2\"} 1\n",
			options: Options{MaxLabels: 2, MaxLabelNameLength: 8, MaxLabelValueLength: 16},
			want:    map[string]float64{"istio_xmap[a:1 b:2]": 1},
			stats:   Stats{Points: 1, Oversized: 3},
		},
		"summaries are not supported": {
			body:  "# TYPE istio_s summary\nistio_s{quantile=\"0.5\"} 1\nistio_s_sum 1\nistio_s_count 1\nistio_x 1\n",
			want:  map[string]float64{"istio_xmap[]": 1},
			stats: Stats{Points: 1, Unsupported: 3},
		},
		"histograms without all parts": {
			body:  "# TYPE istio_d histogram\n" + bucket("1", 1) + bucket("+Inf", 2),
			want:  map[string]float64{"istio_dmap[]": 2},
			stats: Stats{Points: 1},
		},
		"histograms without buckets": {
			body:  "# TYPE istio_d histogram\nistio_d_count 2\nistio_d_sum 1\n",
			want:  map[string]float64{"istio_dmap[]": 2},
			stats: Stats{Points: 1},
		},
		"histograms that contradict themselves": {
			body: "# TYPE istio_d histogram\n" + bucket("1", 3) + bucket("+Inf", 2) +
				"# TYPE istio_e histogram\nistio_e_bucket{le=\"+Inf\"} 2\nistio_e_count 3\n" +
				"# TYPE istio_f histogram\nistio_f_bucket{le=\"1\"} 2\nistio_f_bucket{le=\"1.0\"} 2\nistio_f_count 3\n" +
				"# TYPE istio_g histogram\nistio_g_bucket{le=\"wide\"} 2\nistio_g_count 3\n" +
				"# TYPE istio_h histogram\nistio_h_sum 2\n" +
				"# TYPE istio_i histogram\nistio_i_count 2\nistio_i_count 3\n" +
				"# TYPE istio_j histogram\nistio_j_count NaN\n" +
				"# TYPE istio_k histogram\nistio_k_bucket{le=\"1\"} 1.5\nistio_k_count 2\n" +
				"# TYPE istio_l histogram\nistio_l_bucket 1\nistio_l_count 2\n" +
				"# TYPE istio_m histogram\nistio_m 1\n",
			want:  map[string]float64{"istio_mmap[]": 1},
			stats: Stats{Points: 1, BadValues: 9},
		},
		"histograms with too many buckets": {
			body:    "# TYPE istio_d histogram\n" + bucket("1", 1) + bucket("2", 1) + bucket("+Inf", 2),
			options: Options{MaxBuckets: 2},
			want:    map[string]float64{},
			stats:   Stats{Oversized: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			md, stats, err := Parse(strings.NewReader(tc.body), "", at, node, tc.options, nil)
			require.NoError(t, err)
			tc.want["upmap[]"] = 1
			assert.Equal(t, tc.want, samples(md))
			assert.Equal(t, tc.stats, stats)
		})
	}
}

func TestParseFails(t *testing.T) {
	for name, tc := range map[string]struct {
		body        string
		contentType string
		want        string
	}{
		"HTML":                   {"<!DOCTYPE html><html><body>502</body></html>", "text/html; charset=utf-8", `content type "text/html" is no exposition`},
		"HTML without saying so": {"<!DOCTYPE html><html><body>502</body></html>", "", "parsing exposition"},
		"HTML as text":           {"<html>", "text/plain", "parsing exposition"},
		"JSON":                   {"{}", "application/json", "is no exposition"},
		"protobuf":               {"\x0a\x01", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily", "is no exposition"},
		"odd content type":       {"", ";;", "content type"},
		"cut OpenMetrics":        {"# TYPE istio_x counter\nistio_x_total 3\n", openMetrics, "does not end with # EOF"},
		"cut line":               {"istio_x{a=\"1", "", "parsing exposition"},
		"data after the end":     {"# EOF\nistio_x 1\n# EOF\n", openMetrics, "after # EOF"},
		"no value":               {"istio_x\n", "", "parsing exposition"},
		"no number":              {"istio_x one\n", "", "parsing exposition"},
		"NUL":                    {"istio_x 1\n\x00\nistio_y 1\n", "", "NUL"},
		"invalid UTF-8":          {"istio_x{a=\"\xff\"} 1\n", "", "parsing exposition"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Parse(strings.NewReader(tc.body), tc.contentType, at, node, Options{}, nil)
			require.ErrorContains(t, err, tc.want)
			assert.Less(t, len(err.Error()), 500)
		})
	}
	_, _, err := Parse(strings.NewReader("istio_x 1\n"), "", at, node, Options{MaxBytes: 9}, nil)
	require.ErrorIs(t, err, ErrTooLarge)
	_, _, err = Parse(strings.NewReader("istio_x 1\n"), "", at, node, Options{MaxBytes: 10}, nil)
	require.NoError(t, err)
	broken := errors.New("connection reset")
	_, _, err = Parse(iotest.ErrReader(broken), "", at, node, Options{}, nil)
	require.ErrorIs(t, err, broken)
}

// TestUptime has the first scrapes of Envoys that ran for long or not, and the next one.
func TestUptime(t *testing.T) {
	for uptime, want := range map[string]time.Duration{"3": 4 * time.Second, "59": 60 * time.Second, "60": 0, "-1": 0, "NaN": 0} {
		tracker := NewTracker()
		for scrape := range 2 {
			body := "# TYPE envoy_server_uptime gauge\nenvoy_server_uptime{} " + uptime + "\n# TYPE istio_requests_total counter\nistio_requests_total 7\n"
			now := at.Add(time.Duration(scrape) * time.Second)
			md, _, err := Parse(strings.NewReader(body), "", now, Target{Kind: Waypoint, Name: "shop/waypoint"}, Options{}, tracker)
			require.NoError(t, err)
			for _, m := range md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
				if m.Type() == pmetric.MetricTypeSum {
					assert.Equal(t, at.Add(-want).UnixNano(), int64(m.Sum().DataPoints().At(0).StartTimestamp()), uptime)
				}
			}
		}
	}
}

func TestParseHistogram(t *testing.T) {
	body, err := os.ReadFile(filepath.Join("testdata", "waypoint.prom"))
	require.NoError(t, err)
	md, _, err := Parse(bytes.NewReader(body), prometheusText, at, Target{Kind: Waypoint, Name: "shop/waypoint"}, Options{}, nil)
	require.NoError(t, err)
	metrics := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
	for _, m := range metrics.All() {
		if m.Name() != "istio_request_duration_milliseconds" {
			continue
		}
		assert.Equal(t, pmetric.AggregationTemporalityCumulative, m.Histogram().AggregationTemporality())
		require.Equal(t, 2, m.Histogram().DataPoints().Len())
		p := m.Histogram().DataPoints().At(0)
		assert.Equal(t, []float64{0.5, 1, 5}, p.ExplicitBounds().AsRaw())
		assert.Equal(t, []uint64{0, 30, 80, 10}, p.BucketCounts().AsRaw())
		assert.EqualValues(t, 120, p.Count())
		assert.InDelta(t, 341.5, p.Sum(), 0)
		_, hasLE := p.Attributes().Get("le")
		assert.False(t, hasLE)
		return
	}
	require.Fail(t, "no histogram")
}

func TestDown(t *testing.T) {
	md := Down(Target{Name: "node-a", Instance: "10.0.0.1:15020", Cluster: "west"}, at)
	assert.Equal(t, map[string]float64{"upmap[]": 0}, samples(md))
	assert.Equal(t, map[string]any{
		semconv.AttrServiceName: "ztunnel", semconv.AttrNodeName: "node-a", semconv.AttrClusterName: "west",
		semconv.AttrServiceInstanceID: "10.0.0.1:15020",
	}, md.ResourceMetrics().At(0).Resource().Attributes().AsRaw())
	attrs := Down(Target{Kind: Waypoint, Name: "shop/waypoint"}, at).ResourceMetrics().At(0).Resource().Attributes().AsRaw()
	assert.Equal(t, map[string]any{semconv.AttrServiceName: "waypoint", semconv.AttrWaypoint: "shop/waypoint"}, attrs)
}

func TestOptionsValidate(t *testing.T) {
	require.NoError(t, Options{Families: DefaultFamilies()}.Validate())
	for _, o := range []Options{
		{Families: []string{""}},
		{Families: []string{"a*b"}},
		{Families: []string{"*_total"}},
		{MaxBytes: -1},
		{MaxSeries: -1},
		{MaxLabels: -1},
		{MaxLabelNameLength: -1},
		{MaxLabelValueLength: -1},
		{MaxBuckets: -1},
	} {
		require.Error(t, o.Validate(), "%+v", o)
	}
}

func FuzzScrape(f *testing.F) {
	scrapes := readScrapes(f, filepath.Join(recordings, "policy-deny", "metrics-node-a.prom.gz"))
	f.Add(scrapes[0].body, openMetrics) // a young ztunnel's, which is short
	f.Add([]byte("# TYPE istio_x counter\n# UNIT istio_x bytes\n# HELP istio_x a\nistio_x_total{a=\"1\",b=\"\\\"\"} 1\nistio_y 2\n"), prometheusText)
	f.Add([]byte("<html>"), "text/html")
	f.Add([]byte("# TYPE istio_x histogram\nistio_x_bucket{le=\"+Inf\"} 1\n"), "")
	options := Options{MaxSeries: 50, MaxLabelValueLength: 64, Refresh: 3 * time.Second}
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		tracker := NewTracker()
		for i := range 4 {
			md, stats, err := Parse(bytes.NewReader(body), contentType, at.Add(time.Duration(i)*time.Second), node, options, tracker)
			if err != nil {
				if len(tracker.series) > 0 {
					t.Fatal("a failed scrape is remembered")
				}
				return
			}
			if points := md.DataPointCount(); points != stats.Points+1 || points+stats.Unchanged > options.MaxSeries+1 {
				t.Fatalf("%d points, %+v", points, stats)
			}
			if i%3 == 0 && stats.Unchanged > 0 || len(tracker.texts) > len(tracker.series) {
				t.Fatalf("scrape %d: %+v", i, stats)
			}
			for _, value := range samples(md) {
				if math.IsNaN(value) || math.IsInf(value, 0) {
					t.Fatalf("value %v", value)
				}
			}
		}
		if tracker.Restarts() > 0 {
			t.Fatal("the same scrape again is no restart")
		}
	})
}

func BenchmarkParse(b *testing.B) {
	scrapes := readScrapes(b, filepath.Join(recordings, "policy-deny", "metrics-node-b.prom.gz"))
	body := scrapes[len(scrapes)-1].body
	for _, bench := range []struct {
		name    string
		copies  int
		refresh time.Duration
	}{{"recorded", 1, 0}, {"busy", 100, 0}, {"unchanged", 100, time.Hour}} {
		b.Run(bench.name, func(b *testing.B) {
			body := multiply(body, bench.copies)
			tracker := NewTracker()
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			when, points := at, 0
			for b.Loop() {
				when = when.Add(time.Second)
				_, stats, err := Parse(bytes.NewReader(body), openMetrics, when, node, Options{Refresh: bench.refresh}, tracker)
				if err != nil {
					b.Fatal(err)
				}
				points = stats.Points + stats.Unchanged
			}
			b.ReportMetric(float64(points)*float64(b.N)/b.Elapsed().Seconds(), "series/s")
		})
	}
}

// multiply gives every labelled series n times with different labels.
func multiply(body []byte, n int) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(body) {
		if bytes.HasPrefix(line, []byte("#")) || !bytes.Contains(line, []byte("{")) {
			out.Write(line)
			continue
		}
		for i := range n {
			out.Write(bytes.Replace(line, []byte("{"), fmt.Appendf(nil, "{copy=\"%d\",", i), 1))
		}
	}
	return out.Bytes()
}
