package scrape

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// exposition is what a target serves that has so many connections of each client.
func exposition(connections map[string]int) string {
	body := "# TYPE istio_tcp_connections_opened counter\n"
	for client, n := range connections {
		body += fmt.Sprintf("istio_tcp_connections_opened_total{source_workload=%q} %d\n", client, n)
	}
	return body
}

func TestUnchangedStaysBehind(t *testing.T) {
	type scrape struct {
		seconds int
		opened  map[string]int
		want    []string
		repeat  bool
	}
	for name, tc := range map[string]struct {
		kind    Kind
		scrapes []scrape
	}{
		"until the refresh": {
			scrapes: []scrape{
				{0, map[string]int{"a": 5, "b": 0}, []string{"a", "b"}, false},
				{5, map[string]int{"a": 5, "b": 0}, nil, false},
				{10, map[string]int{"a": 6, "b": 0}, []string{"a"}, false},
				{55, map[string]int{"a": 6, "b": 0, "c": 0}, []string{"c"}, false},
				{60, map[string]int{"a": 6, "b": 0, "c": 0}, []string{"a", "b", "c"}, false},
				{65, map[string]int{"a": 6, "b": 0, "c": 0}, nil, false},
			},
		},
		"not when the ztunnel began anew": {
			scrapes: []scrape{
				{0, map[string]int{"a": 5, "b": 7}, []string{"a", "b"}, false},
				{5, map[string]int{"a": 5, "b": 6}, []string{"a", "b"}, false},
				{10, map[string]int{"a": 5}, []string{"a"}, false},
				{15, map[string]int{"a": 5}, nil, false},
			},
		},
		"a waypoint forgets a series by itself": {
			kind: Waypoint,
			scrapes: []scrape{
				{0, map[string]int{"a": 5, "b": 7}, []string{"a", "b"}, false},
				{5, map[string]int{"a": 5}, nil, false},
				{10, map[string]int{"a": 5, "b": 7}, []string{"b"}, false},
			},
		},
		"not when what was told was lost": {
			scrapes: []scrape{
				{0, map[string]int{"a": 5}, []string{"a"}, false},
				{5, map[string]int{"a": 5}, []string{"a"}, true},
				{10, map[string]int{"a": 5}, nil, false},
			},
		},
		"not when time steps back": {
			scrapes: []scrape{
				{10, map[string]int{"a": 5}, []string{"a"}, false},
				{5, map[string]int{"a": 5}, []string{"a"}, false},
				{10, map[string]int{"a": 5}, nil, false},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := NewTracker()
			for i, s := range tc.scrapes {
				if s.repeat {
					tracker.Repeat()
				}
				md, stats, err := Parse(strings.NewReader(exposition(s.opened)), "", at.Add(time.Duration(s.seconds)*time.Second),
					Target{Kind: tc.kind}, Options{Refresh: time.Minute}, tracker)
				require.NoError(t, err)
				want := map[string]float64{"upmap[]": 1}
				for _, client := range s.want {
					want["istio_tcp_connections_opened_totalmap[source_workload:"+client+"]"] = float64(s.opened[client])
				}
				assert.Equal(t, want, samples(md), "scrape %d", i)
				assert.Equal(t, len(s.want), stats.Points)
				assert.Equal(t, len(s.opened)-len(s.want), stats.Unchanged)
				assert.Len(t, tracker.series, len(s.opened), "no more is remembered than there is")
				assert.Len(t, tracker.texts, len(s.opened))
			}
		})
	}
}

// Labels in another order are the same series, however often that changes.
func TestUnchangedInAnotherOrder(t *testing.T) {
	tracker := NewTracker()
	for i := range 6 {
		labels := []string{`a="1",b="2"`, `b="2",a="1"`}[i%2]
		body := "# TYPE istio_tcp_sent_bytes counter\nistio_tcp_sent_bytes_total{" + labels + "} 3\n"
		_, stats, err := Parse(strings.NewReader(body), "", at.Add(time.Duration(i)*time.Second), node, Options{Refresh: time.Hour}, tracker)
		require.NoError(t, err)
		assert.Zero(t, stats.Dropped())
		assert.Len(t, tracker.series, 1)
		assert.Len(t, tracker.texts, 1)
	}
	assert.Zero(t, tracker.Restarts())
}

func TestUnchangedTwiceIsADuplicate(t *testing.T) {
	tracker := NewTracker()
	body := "# TYPE istio_tcp_sent_bytes counter\nistio_tcp_sent_bytes_total 3\nistio_tcp_sent_bytes_total 3\n"
	for i := range 2 {
		_, stats, err := Parse(strings.NewReader(body), "", at.Add(time.Duration(i)*time.Second), node, Options{Refresh: time.Hour}, tracker)
		require.NoError(t, err)
		assert.Equal(t, Stats{Duplicates: 1, Points: 1 - i, Unchanged: i}, stats)
	}
}

// Whoever keeps the last of each series knows as much as whoever is told all of them at each scrape.
func TestUnchangedOfRecordings(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(recordings, "*", "metrics-*.prom.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(filepath.Base(filepath.Dir(path))+"/"+filepath.Base(path), func(t *testing.T) {
			all, some := NewTracker(), NewTracker()
			values, began := map[string]float64{}, map[string]float64{}
			unchanged := 0
			for _, s := range readScrapes(t, path) {
				if !s.ok {
					continue
				}
				want, wantStats, err := Parse(bytes.NewReader(s.body), "", s.at, node, Options{}, all)
				require.NoError(t, err)
				got, stats, err := Parse(bytes.NewReader(s.body), "", s.at, node, Options{Refresh: time.Minute}, some)
				require.NoError(t, err)
				require.Equal(t, wantStats.Points, stats.Points+stats.Unchanged)
				if some.told.Equal(s.at) {
					clear(values)
					clear(began)
				}
				maps.Copy(values, samples(got))
				maps.Copy(began, starts(got))
				require.Equal(t, samples(want), values)
				require.Equal(t, starts(want), began)
				unchanged += stats.Unchanged
			}
			assert.Equal(t, all.Restarts(), some.Restarts())
			assert.Positive(t, unchanged)
		})
	}
}
