package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/outage"
)

// begun is when the tests' recordings start.
var begun = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// recorded is a folder with a truth of one fault, from 60 to 120 s, and scrapes that far apart.
func recorded(t *testing.T, scrapes time.Duration) *Truth {
	t.Helper()
	folder := t.TempDir()
	truth := `{"scenario":{"name":"one","seconds":600,"expect":[{"root":"shop/api","kind":"latency","from_s":60,"to_s":120,"edges":[["shop/web","shop/api"]]}]},
		"events":[{"time":"2026-03-02T09:00:00Z","do":"start"}]}`
	require.NoError(t, os.WriteFile(filepath.Join(folder, truthFile), []byte(truth), 0o600))
	if scrapes > 0 {
		var text string
		for i := range 3 {
			text += "## scrape " + begun.Add(time.Duration(i)*scrapes).Format(time.RFC3339Nano) + " ok\nup 1\n"
		}
		require.NoError(t, os.WriteFile(filepath.Join(folder, "metrics-a.prom"), []byte(text), 0o600))
	}
	read, err := readTruth(folder)
	require.NoError(t, err)
	return read
}

func at(seconds int) time.Time { return begun.Add(time.Duration(seconds) * time.Second) }

// outageOf is an outage from some second on, detected then and there, to another; 0 is never.
func outageOf(root, kind string, detected, ended int, edges ...outage.Edge) *outage.Outage {
	o := &outage.Outage{Kind: kind, Root: outage.Subject{Type: "workload", Namespace: "shop", Name: root}, StartedAt: at(detected - 5), DetectedAt: at(detected), Edges: edges}
	if ended > 0 {
		end := at(ended)
		o.EndedAt = &end
	}
	return o
}

var fromWeb = outage.Edge{Source: outage.Name{Namespace: "shop", Name: "web"}, Destination: outage.Name{Namespace: "shop", Name: "api"}}

// TestCompare holds each way of being wrong to be counted as such.
func TestCompare(t *testing.T) {
	right := outageOf("api", "latency", 66, 125, fromWeb)
	second := outageOf("cart", "latency", 66, 125)
	second.Candidates = []outage.Candidate{{Subject: second.Root}, {Subject: right.Root}}
	for name, test := range map[string]struct {
		scrapes time.Duration
		found   []*outage.Outage
		perfect bool
		alarms  int
		want    func(Match) bool
	}{
		"right":                    {found: []*outage.Outage{right}, perfect: true, want: func(m Match) bool { return m.Perfect() && m.RootTop3 }},
		"missed":                   {want: func(m Match) bool { return m.Outage == nil }},
		"found late":               {found: []*outage.Outage{outageOf("api", "latency", 80, 125, fromWeb)}, want: func(m Match) bool { return !m.DelayOK }},
		"found before it began":    {found: []*outage.Outage{outageOf("api", "latency", 50, 125, fromWeb)}, want: func(m Match) bool { return !m.DelayOK }},
		"another kind":             {found: []*outage.Outage{outageOf("api", "http_errors", 66, 125, fromWeb)}, want: func(m Match) bool { return !m.KindOK && m.RootOK }},
		"an edge lacks":            {found: []*outage.Outage{outageOf("api", "latency", 66, 125)}, want: func(m Match) bool { return !m.EdgesOK }},
		"another root":             {found: []*outage.Outage{second}, want: func(m Match) bool { return !m.RootOK && m.RootTop3 }},
		"closed late":              {found: []*outage.Outage{outageOf("api", "latency", 66, 160, fromWeb)}, want: func(m Match) bool { return !m.ClosedOK }},
		"closed with rare scrapes": {scrapes: time.Minute, found: []*outage.Outage{outageOf("api", "latency", 66, 235, fromWeb)}, perfect: true},
		"never closed":             {found: []*outage.Outage{outageOf("api", "latency", 66, 0, fromWeb)}, want: func(m Match) bool { return !m.ClosedOK }},
		"found twice": {
			found: []*outage.Outage{right, outageOf("api", "latency", 90, 125, fromWeb)}, want: func(m Match) bool { return m.Times == 2 },
		},
		"beside a false alarm": {found: []*outage.Outage{right, outageOf("cart", "traffic_loss", 300, 320)}, alarms: 1, want: func(m Match) bool { return m.Perfect() }},
	} {
		t.Run(name, func(t *testing.T) {
			truth := recorded(t, test.scrapes)
			assert.Equal(t, test.scrapes, truth.scrapes)
			result := compare(truth, test.found)
			assert.Equal(t, test.perfect, result.Perfect())
			assert.Len(t, result.FalseAlarms, test.alarms)
			if test.want != nil {
				assert.True(t, test.want(result.Expected[0]), "%+v", result.Expected[0])
			}
		})
	}
}

// TestAlternatives holds what truths leave open to be right either way.
func TestAlternatives(t *testing.T) {
	truth := recorded(t, 0)
	e := &truth.Scenario.Expect[0]
	e.Kind, e.Roots, e.Optional = "http_errors|latency", []string{"shop/api", "shop/waypoint"}, true
	for _, root := range []string{"api", "waypoint"} {
		for _, kind := range []string{"latency", "http_errors"} {
			result := compare(truth, []*outage.Outage{outageOf(root, kind, 66, 125, fromWeb)})
			assert.True(t, result.Perfect(), root, kind)
		}
	}
	missed := compare(truth, nil)
	assert.True(t, missed.Perfect())
	assert.Empty(t, missed.Expected)
}

// TestShares holds the totals to be shares of what was expected, and precision one of what was found.
func TestShares(t *testing.T) {
	var total tally
	right, wrong := outageOf("api", "latency", 66, 125, fromWeb), outageOf("cart", "latency", 66, 125)
	for _, found := range [][]*outage.Outage{{right}, {right}, {wrong}, nil} {
		result := compare(recorded(t, 0), found)
		total.add(&result)
	}
	assert.Equal(t, []int{4, 4, 3, 2, 2, 0}, []int{total.recordings, total.expected, total.found, total.root, total.top3, total.alarms})
}
