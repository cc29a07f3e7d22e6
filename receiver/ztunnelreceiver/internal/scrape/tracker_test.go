package scrape

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// starts gives the starts of an outcome's cumulative points by "name{label:value …}", in seconds after at.
func starts(md pmetric.Metrics) map[string]float64 {
	out := map[string]float64{}
	since := func(start pcommon.Timestamp) float64 { return start.AsTime().Sub(at).Seconds() }
	for _, m := range md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
		switch m.Type() {
		case pmetric.MetricTypeSum:
			for _, p := range m.Sum().DataPoints().All() {
				out[m.Name()+fmt.Sprint(p.Attributes().AsRaw())] = since(p.StartTimestamp())
			}
		case pmetric.MetricTypeHistogram:
			for _, p := range m.Histogram().DataPoints().All() {
				out[m.Name()+fmt.Sprint(p.Attributes().AsRaw())] = since(p.StartTimestamp())
			}
		}
	}
	return out
}

func TestStartTimestamps(t *testing.T) {
	type scrape struct {
		seconds int
		values  map[string]int // of istio_x{a=…}
		want    map[string]float64
	}
	for name, tc := range map[string]struct {
		kind     Kind
		scrapes  []scrape
		restarts uint64
	}{
		"the first scrape is a baseline, what comes later counts from zero": {
			scrapes: []scrape{
				{0, map[string]int{"a": 5}, map[string]float64{"a": 0}},
				{5, map[string]int{"a": 5, "b": 3}, map[string]float64{"a": 0, "b": 0}},
				{10, map[string]int{"a": 6, "b": 3, "c": 1}, map[string]float64{"a": 0, "b": 0, "c": 5}},
			},
		},
		"one falling counter restarts the whole ztunnel": {
			scrapes: []scrape{
				{0, map[string]int{"a": 5, "b": 2}, map[string]float64{"a": 0, "b": 0}},
				{60, map[string]int{"a": 1, "b": 3}, map[string]float64{"a": 0, "b": 0}},
				{65, map[string]int{"a": 0, "b": 4}, map[string]float64{"a": 60, "b": 60}},
				{70, map[string]int{"a": 9, "b": 9}, map[string]float64{"a": 60, "b": 60}},
			},
			restarts: 2,
		},
		"so does one that is gone": {
			scrapes: []scrape{
				{0, map[string]int{"a": 5, "b": 2}, map[string]float64{"a": 0, "b": 0}},
				{5, map[string]int{"a": 5, "b": 2}, map[string]float64{"a": 0, "b": 0}},
				{60, map[string]int{"a": 5}, map[string]float64{"a": 5}},
				{65, map[string]int{"a": 5, "b": 7}, map[string]float64{"a": 5, "b": 60}},
			},
			restarts: 1,
		},
		"a waypoint's series reset one by one": {
			kind: Waypoint,
			scrapes: []scrape{
				{0, map[string]int{"a": 5, "b": 2}, map[string]float64{"a": 0, "b": 0}},
				{5, map[string]int{"a": 1, "b": 3}, map[string]float64{"a": 0, "b": 0}},
				{10, map[string]int{"a": 2}, map[string]float64{"a": 0}},
				{15, map[string]int{"a": 0, "b": 8}, map[string]float64{"a": 10, "b": 10}},
			},
		},
		"times that step back begin anew": {
			scrapes: []scrape{
				{60, map[string]int{"a": 5}, map[string]float64{"a": 60}},
				{0, map[string]int{"a": 1, "b": 1}, map[string]float64{"a": 0, "b": 0}},
				{5, map[string]int{"a": 1, "b": 1, "c": 1}, map[string]float64{"a": 0, "b": 0, "c": 0}},
				{5, map[string]int{"a": 1}, map[string]float64{"a": 5}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := NewTracker()
			for i, s := range tc.scrapes {
				body := "# TYPE istio_x counter\n"
				want := map[string]float64{}
				for a, value := range s.values {
					body += fmt.Sprintf("istio_x_total{a=%q} %d\n", a, value)
					want["istio_x_totalmap[a:"+a+"]"] = s.want[a]
				}
				md, _, err := Parse(strings.NewReader(body), "", at.Add(time.Duration(s.seconds)*time.Second), Target{Kind: tc.kind}, Options{}, tracker)
				require.NoError(t, err)
				assert.Equal(t, want, starts(md), "scrape %d", i)
				assert.Len(t, tracker.series, len(s.values), "no more is remembered than there is")
			}
			assert.Equal(t, tc.restarts, tracker.Restarts())
		})
	}
}

func TestOverflowIsNoRestart(t *testing.T) {
	tracker := NewTracker()
	options := Options{MaxSeries: 2}
	for i, order := range []string{"abc", "cab", "bca"} {
		body := "# TYPE istio_x counter\n"
		for _, a := range order {
			body += fmt.Sprintf("istio_x_total{a=\"%c\"} 1\n", a)
		}
		_, stats, err := Parse(strings.NewReader(body), "", at.Add(time.Duration(i)*time.Second), node, options, tracker)
		require.NoError(t, err)
		assert.Equal(t, 1, stats.Overflowed)
	}
	assert.Zero(t, tracker.Restarts())
}

func TestFailedScrapeIsNotRemembered(t *testing.T) {
	tracker := NewTracker()
	good := "# TYPE istio_x counter\nistio_x_total 1\n# EOF\n"
	for i, body := range []string{good, "# TYPE istio_x counter\nistio_x_total 0\n", good} {
		_, _, err := Parse(strings.NewReader(body), openMetrics, at.Add(time.Duration(i)*time.Second), node, Options{}, tracker)
		assert.Equal(t, body != good, err != nil)
	}
	assert.Zero(t, tracker.Restarts())
	assert.Equal(t, at.Add(2*time.Second), tracker.last)
}

func TestRecordings(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(recordings, "*", "metrics-*.prom.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		name := filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			tracker := NewTracker()
			var first, last time.Time
			var gap [2]time.Time // the last success before and the first one after the failures
			failed := 0
			for _, s := range readScrapes(t, path) {
				if !s.ok {
					failed++
					gap[0] = last
					continue
				}
				md, stats, err := Parse(bytes.NewReader(s.body), "", s.at, node, Options{}, tracker)
				require.NoError(t, err)
				require.Zero(t, stats.Dropped())
				assert.Positive(t, stats.Points)
				if failed > 0 && gap[1].IsZero() {
					gap[1] = s.at
				}
				if first.IsZero() {
					first = s.at
				}
				earliest := first
				if failed > 0 {
					earliest = gap[0]
				}
				for series, start := range starts(md) {
					assert.GreaterOrEqual(t, at.Add(time.Duration(start*float64(time.Second))).Sub(earliest), -time.Microsecond, series)
				}
				last = s.at
			}
			if name == "node-loss/metrics-node-b.prom.gz" {
				assert.Positive(t, failed)
				assert.EqualValues(t, 1, tracker.Restarts(), "a killed ztunnel begins anew")
			} else {
				assert.Zero(t, failed)
				assert.Zero(t, tracker.Restarts())
			}
		})
	}
}
