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
	"sync/atomic"
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
	const first = 6 // the scrape that is served until the graph has begun
	var began atomic.Bool
	untyped := regexp.MustCompile(`(?m)^# (TYPE|HELP|EOF).*\n`)
	var targets []string
	for _, node := range []string{"node-a", "node-b", "node-c"} {
		var served atomic.Int64
		scrapes := scrapesOf(t, filepath.Join(root, "recordings", "policy-deny", "metrics-"+node+".prom.gz"))
		ztunnel := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if began.Load() {
				served.Add(1)
			}
			text := scrapes[min(first+int(served.Load()), len(scrapes)-1)]
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
	var known struct{ Workloads []struct{ Name string } }
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		assert.NoError(t, c.tryGet("/api/v1/workloads", nil, &known))
		assert.NotEmpty(t, known.Workloads, "those of open connections, until something happens")
	}, 2*time.Minute, 250*time.Millisecond)
	began.Store(true)
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
	c.get(t, "/api/v1/workloads", between(time.Now().Add(-time.Hour), time.Now()), &known)
	assert.GreaterOrEqual(t, len(known.Workloads), 10)
	var status struct {
		Sources []struct {
			Node, Source string
			Up           bool
		}
	}
	c.get(t, "/api/v1/status", nil, &status)
	require.Len(t, status.Sources, len(targets))
	for _, one := range status.Sources {
		assert.Contains(t, targets, one.Node)
		assert.Equal(t, "metrics", one.Source)
		assert.True(t, one.Up)
	}
	var nodes struct{ Nodes []struct{ Name string } }
	c.get(t, "/api/v1/nodes", nil, &nodes)
	assert.Len(t, nodes.Nodes, len(targets))
	var payment struct{ Inbound []struct{ Source string } }
	c.get(t, "/api/v1/workloads/billing/payment-v1", between(time.Now().Add(-time.Hour), time.Now()), &payment)
	assert.NotEmpty(t, payment.Inbound)
}
