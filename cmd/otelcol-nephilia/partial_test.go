package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A recording may hold only some of its files.

// partOf copies those files of a recording that keep wants, each changed by change if there is one.
func partOf(t *testing.T, name string, keep func(file string) bool, change func(file string, content []byte) (string, []byte)) string {
	t.Helper()
	folder := t.TempDir()
	files, err := filepath.Glob(filepath.Join(root, "recordings", name, "*"))
	require.NoError(t, err)
	for _, path := range files {
		file := filepath.Base(path)
		if !keep(file) {
			continue
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		if change != nil {
			file, content = change(file, content)
		}
		require.NoError(t, os.WriteFile(filepath.Join(folder, file), content, 0o600))
	}
	return folder
}

func gunzip(t *testing.T, content []byte) []byte {
	t.Helper()
	reader, err := gzip.NewReader(bytes.NewReader(content))
	require.NoError(t, err)
	plain, err := io.ReadAll(reader)
	require.NoError(t, err)
	return plain
}

func everything(string) bool { return true }

func without(part string) func(string) bool {
	return func(file string) bool { return !strings.Contains(file, part) }
}

func replayed(t *testing.T, folder string) *collector {
	t.Helper()
	c := replay(t, folder, "max", nil)
	c.awaitReplay(t, 2*time.Minute)
	return c
}

func (tr *truth) wholeGraph(t *testing.T, c *collector) *apiGraph {
	t.Helper()
	return c.graph(t, tr.from.Add(-time.Hour), tr.to.Add(time.Hour))
}

func TestPlainFiles(t *testing.T) {
	folder := partOf(t, "policy-deny", everything, func(file string, content []byte) (string, []byte) {
		if !strings.HasSuffix(file, ".gz") {
			return file, content
		}
		return strings.TrimSuffix(file, ".gz"), gunzip(t, content)
	})
	tr := readTruth(t, filepath.Join(root, "recordings", "policy-deny"))
	c := replayed(t, folder)
	graph := tr.wholeGraph(t, c)
	requireEdges(t, tr, graph)
	requireRequests(t, tr, graph)
	requireReasons(t, tr, graph)
	requireOutages(t, tr, c)
}

// One node's view: each connection with one of its pods at either end, and of those between two of its pods one each.
func TestOneNodesLog(t *testing.T) {
	for _, node := range []string{"node-a", "node-b", "node-c"} {
		t.Run(node, func(t *testing.T) {
			folder := partOf(t, "policy-deny", func(file string) bool {
				return file == "ztunnel-"+node+".log.gz" || strings.HasPrefix(file, "xds.")
			}, nil)
			tr := readTruth(t, folder)
			graph := tr.wholeGraph(t, replayed(t, folder))
			requireEdges(t, tr, graph)
			requireReasons(t, tr, graph)
		})
	}
}

func TestNoSpans(t *testing.T) {
	folder := partOf(t, "payment-refused", without("otlp-traces"), nil)
	tr := readTruth(t, folder)
	c := replayed(t, folder)
	graph := tr.wholeGraph(t, c)
	requireEdges(t, tr, graph)
	requireRequests(t, tr, graph)
	requireReasons(t, tr, graph)
	requireOutages(t, tr, c)
}

// Without the control plane's word the access logs' own names must do: namespaces and services are the same, and
// nothing is lost or counted twice.
func TestNoMeshState(t *testing.T) {
	folder := partOf(t, "policy-deny", func(file string) bool {
		return !strings.HasPrefix(file, "xds.") && !strings.HasPrefix(file, "config_dump")
	}, nil)
	type pair struct{ source, destination, service string }
	sum := func(into map[pair]count, key pair, c count) {
		have := into[key]
		have.closed += c.closed
		have.failed += c.failed
		into[key] = have
	}
	tr := readTruth(t, folder)
	want, got := map[pair]count{}, map[pair]count{}
	for key, c := range tr.edges() {
		sum(want, pair{key.source.namespace, key.destination.namespace, key.service}, *c)
	}
	graph := tr.wholeGraph(t, replayed(t, folder))
	parties := graph.parties()
	for _, edge := range graph.Edges {
		if edge.Connections.Closed > 0 {
			sum(got, pair{parties[edge.Source].namespace, parties[edge.Destination].namespace, edge.Service},
				count{closed: int(edge.Connections.Closed), failed: int(edge.Connections.Failed)})
		}
	}
	assert.Equal(t, want, got)
	requireReasons(t, tr, graph)
}

// Scrapes minutes apart add little, and take nothing away: no count changes, and no gap between them is an outage.
func TestSparseScrapes(t *testing.T) {
	folder := partOf(t, "policy-deny", everything, func(file string, content []byte) (string, []byte) {
		if !strings.HasPrefix(file, "metrics-") {
			return file, content
		}
		const marker = "## scrape "
		var kept strings.Builder
		for i, scrape := range strings.Split(string(gunzip(t, content)), marker)[1:] {
			if i%24 == 0 {
				kept.WriteString(marker + scrape)
			}
		}
		return strings.TrimSuffix(file, ".gz"), []byte(kept.String())
	})
	tr := readTruth(t, folder)
	c := replayed(t, folder)
	graph := tr.wholeGraph(t, c)
	requireEdges(t, tr, graph)
	requireRequests(t, tr, graph)
	requireReasons(t, tr, graph)
	requireOutages(t, tr, c)
}

// From scrapes alone, the edges and their counts come from ztunnel's own series. A counter's value at the first scrape
// may be from before, so what is expected lies between the last value and the last less the first.
func TestScrapesAlone(t *testing.T) {
	folder := partOf(t, "policy-deny", func(file string) bool {
		return strings.HasPrefix(file, "metrics-") || strings.HasPrefix(file, "xds.")
	}, nil)
	tr := readTruth(t, filepath.Join(root, "recordings", "policy-deny"))
	graph := tr.wholeGraph(t, replayed(t, folder))
	type bounds struct{ least, most int }
	want := map[[2]party]bounds{}
	for pair, closed := range readScrapedClosed(t, folder) {
		want[pair] = bounds{closed[1] - closed[0], closed[1]}
	}
	require.NotEmpty(t, want)
	got := map[[2]party]int{}
	parties := graph.parties()
	for _, edge := range graph.Edges {
		got[[2]party{parties[edge.Source], parties[edge.Destination]}] += int(edge.Connections.Closed)
	}
	for pair, expected := range want {
		assert.GreaterOrEqual(t, got[pair], expected.least, "closed of %v", pair)
		assert.LessOrEqual(t, got[pair], expected.most, "closed of %v", pair)
	}
	for pair, closed := range got {
		if closed > 0 {
			assert.Contains(t, want, pair, "edge is made up")
		}
	}
}

// readScrapedClosed gives the first and the last value of the closed connections of each pair of workloads, as the
// better of the two reporters has them, summed over nodes.
func readScrapedClosed(t *testing.T, folder string) map[[2]party][2]int {
	t.Helper()
	type reported struct {
		pair     [2]party
		reporter string
	}
	first, last := map[reported]float64{}, map[reported]float64{}
	files, err := filepath.Glob(filepath.Join(folder, "metrics-*"))
	require.NoError(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		scrapes := strings.Split(string(gunzip(t, content)), "## scrape ")[1:]
		for which, into := range map[int]map[reported]float64{0: first, len(scrapes) - 1: last} {
			for _, line := range strings.Split(scrapes[which], "\n") {
				labels, value, ok := scrapedLine(line, "istio_tcp_connections_closed_total")
				if !ok {
					continue
				}
				key := reported{[2]party{
					{labels["source_workload_namespace"], labels["source_workload"]},
					{labels["destination_workload_namespace"], labels["destination_workload"]},
				}, labels["reporter"]}
				into[key] += value
			}
		}
	}
	closed := map[[2]party][2]int{}
	for key := range maps.Keys(last) {
		have := closed[key.pair]
		closed[key.pair] = [2]int{
			int(math.Max(float64(have[0]), first[key])),
			int(math.Max(float64(have[1]), last[key])),
		}
	}
	return closed
}

// TestWaypointAlone plays the scrapes of a waypoint, five minutes apart, without anything else: its requests are edges, and its
// failures an outage.
func TestWaypointAlone(t *testing.T) {
	const apart, healthy, failing = 5 * time.Minute, 24, 4
	begin := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	var body strings.Builder
	series := func(code string, value int) {
		fmt.Fprintf(&body, "istio_requests_total{reporter=\"waypoint\",source_workload=\"web\",source_canonical_service=\"web\","+
			"source_workload_namespace=\"shop\",destination_workload=\"orders\",destination_canonical_service=\"orders\","+
			"destination_workload_namespace=\"shop\",destination_service=\"orders.shop.svc.cluster.local\",request_protocol=\"http\","+
			"response_code=\"%s\",connection_security_policy=\"mutual_tls\"} %d\n", code, value)
	}
	good, bad := 0, 0
	for i := range healthy + failing + healthy {
		fmt.Fprintf(&body, "## scrape %s ok\n# TYPE istio_requests_total counter\n", begin.Add(time.Duration(i)*apart).Format(time.RFC3339))
		series("200", good)
		if bad > 0 {
			series("503", bad)
		}
		good += 250
		if i >= healthy && i < healthy+failing {
			good -= 200
			bad += 200
		}
	}
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "metrics-shop-waypoint.prom"), []byte(body.String()), 0o600))
	c := replayed(t, folder)
	graph := c.graph(t, begin.Add(12*apart+apart/2), begin.Add(24*time.Hour))
	require.Len(t, graph.Edges, 1)
	assert.InDelta(t, (healthy+failing+healthy-1-12)*250, graph.Edges[0].Requests.Total, 0)
	assert.InDelta(t, failing*200, graph.Edges[0].Requests.Errors, 0)
	var answer struct{ Outages []apiOutage }
	c.get(t, "/api/v1/outages", between(begin, begin.Add(24*time.Hour)), &answer)
	require.Len(t, answer.Outages, 1)
	assert.Equal(t, "http_errors", answer.Outages[0].Kind)
	assert.Equal(t, "orders", answer.Outages[0].Root.Name)
	assert.Equal(t, "resolved", answer.Outages[0].State)
}
