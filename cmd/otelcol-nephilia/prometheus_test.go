package main

import (
	"bufio"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scrapesOf are the expositions of a recording's ztunnel, one after the other.
func scrapesOf(t *testing.T, path string) (scrapes [][]byte) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	require.NoError(t, err)
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "## scrape ") {
			scrapes = append(scrapes, nil)
			continue
		}
		last := len(scrapes) - 1
		scrapes[last] = append(append(scrapes[last], lines.Bytes()...), '\n')
	}
	require.NoError(t, lines.Err())
	require.Greater(t, len(scrapes), 10)
	return scrapes
}

// TestMetricsOnly lets the prometheus receiver read a recording's ztunnels, one of them from a Prometheus that says nothing of types: without a
// log there are edges, and the denial is an outage. Where no heartbeat comes, the graph begins after half a minute.
func TestMetricsOnly(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for half a minute")
	}
	const before, first = 32, 6 // seconds, and the scrape that is served until then
	began := time.Now()
	untyped := regexp.MustCompile(`(?m)^# (TYPE|HELP|EOF).*\n`)
	var targets []string
	for _, node := range []string{"node-a", "node-b", "node-c"} {
		scrapes := scrapesOf(t, filepath.Join(root, "recordings", "policy-deny", "metrics-"+node+".prom.gz"))
		ztunnel := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			passed := int(time.Since(began).Seconds()) - before
			text := scrapes[min(first+max(passed, 0), len(scrapes)-1)]
			if node == "node-b" {
				text = untyped.ReplaceAll(text, nil)
			}
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = w.Write(text)
		}))
		t.Cleanup(ztunnel.Close)
		targets = append(targets, strings.TrimPrefix(ztunnel.URL, "http://"))
	}
	c := startCollector(t, options{config: "prometheus.yaml", env: map[string]string{
		"NEPHILIA_TARGETS": "[" + strings.Join(targets, ", ") + "]", "NEPHILIA_SCRAPE_INTERVAL": "1s", "NEPHILIA_TELEMETRY_PORT": "0",
	}})
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		var found struct {
			Outages []struct {
				Kind string
				Root struct{ Name string }
			}
		}
		assert.NoError(t, c.tryGet("/api/v1/outages", between(time.Now().Add(-time.Hour), time.Now()), &found))
		if assert.NotEmpty(t, found.Outages) {
			assert.Equal(t, "policy_denied", found.Outages[0].Kind)
			assert.Equal(t, "payment", found.Outages[0].Root.Name)
		}
	}, 2*time.Minute, 250*time.Millisecond)
	var g apiGraph
	c.get(t, "/api/v1/graph", between(time.Now().Add(-time.Hour), time.Now().Add(time.Minute)), &g)
	assert.GreaterOrEqual(t, len(g.Edges), 10)
}
