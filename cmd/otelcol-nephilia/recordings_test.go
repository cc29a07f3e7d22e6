package main

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var replaySpeed = flag.String("replay-speed", "max", "speed at which TestRecordings replays")

// chunkings are ways to cut the same data into batches; the result may not depend on them.
var chunkings = map[string][]string{
	"as shipped":  nil,
	"one second":  {"receivers::ztunnel::flush_interval: 1s"},
	"half minute": {"receivers::ztunnel::flush_interval: 30s"},
}

func recordingNames(t testing.TB) []string {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join(root, "recordings", "*", "truth.json"))
	require.NoError(t, err)
	require.NotEmpty(t, folders)
	names := make([]string, len(folders))
	for i, folder := range folders {
		names[i] = filepath.Base(filepath.Dir(folder))
	}
	return names
}

func replay(t testing.TB, folder, speed string, set []string) *collector {
	t.Helper()
	return startCollector(t, options{
		config: "replay.yaml",
		env:    map[string]string{"NEPHILIA_RECORDING": folder, "NEPHILIA_REPLAY_SPEED": speed},
		set:    set,
	})
}

func TestRecordings(t *testing.T) {
	for _, name := range recordingNames(t) {
		folder := filepath.Join(root, "recordings", name)
		tr := readTruth(t, folder)
		for _, chunking := range slices.Sorted(maps.Keys(chunkings)) {
			if chunking != "as shipped" && *replaySpeed != "max" {
				continue
			}
			t.Run(name+"/"+chunking, func(t *testing.T) {
				c := replay(t, folder, *replaySpeed, chunkings[chunking])
				c.awaitReplay(t, 10*time.Minute)
				graph := c.graph(t, tr.from.Add(-time.Hour), tr.to.Add(time.Hour))
				requireEdges(t, tr, graph)
				requireRequests(t, tr, graph)
				requireReasons(t, tr, graph)
				// A detector's windows may follow the flush interval, so only the shipped one is held to the limits.
				if chunking != "half minute" {
					requireOutages(t, tr, c)
				}
			})
		}
	}
}

// requireEdges holds every edge's connections and bytes to the raw access logs.
func requireEdges(t *testing.T, tr *truth, graph *apiGraph) {
	t.Helper()
	want := tr.edges()
	got := map[flow]*count{}
	parties := graph.parties()
	for _, edge := range graph.Edges {
		if edge.Connections.Closed == 0 && edge.Connections.Opened == edge.Connections.Active {
			continue // a connection that was still open when the recording ended, or L7 alone
		}
		key := flow{parties[edge.Source], parties[edge.Destination], edge.Service, edge.Port}
		c := got[key]
		if c == nil {
			c = &count{}
			got[key] = c
		}
		c.closed += int(edge.Connections.Closed)
		c.failed += int(edge.Connections.Failed)
		c.sent += int(edge.Bytes.Sent)
		c.received += int(edge.Bytes.Received)
	}
	for key, expected := range want {
		found := got[key]
		if !assert.NotNil(t, found, "edge is missing: %s with %+v", key, *expected) {
			continue
		}
		assert.Equal(t, expected.closed, found.closed, "closed of %s", key)
		assert.Equal(t, expected.failed, found.failed, "failed of %s", key)
		assertWithin(t, expected.sent, found.sent, "bytes sent of %s", key)
		assertWithin(t, expected.received, found.received, "bytes received of %s", key)
	}
	for key, found := range got {
		assert.Contains(t, want, key, "edge is made up: %s with %+v", key, *found)
	}
}

// assertWithin allows the one percent that a connection cut by the recording's ends may carry.
func assertWithin(t *testing.T, want, got int, format string, args ...any) {
	t.Helper()
	assert.LessOrEqual(t, math.Abs(float64(got-want)), math.Max(1, 0.01*float64(want)),
		fmt.Sprintf(format, args...)+fmt.Sprintf(": %d, want %d", got, want))
}

// requireRequests holds requests and errors of each pair to the applications' spans.
func requireRequests(t *testing.T, tr *truth, graph *apiGraph) {
	t.Helper()
	got := map[[2]party]l7{}
	parties := graph.parties()
	for _, edge := range graph.Edges {
		if edge.Requests.Total == 0 && edge.Requests.Errors == 0 {
			continue
		}
		pair := [2]party{parties[edge.Source], parties[edge.Destination]}
		counted := got[pair]
		counted.requests += int(edge.Requests.Total)
		counted.errors += int(edge.Requests.Errors)
		got[pair] = counted
	}
	assert.Equal(t, tr.spans, got, "requests and errors by client and server")
}

// requireReasons holds the failures' reasons to what the best-informed side wrote.
func requireReasons(t *testing.T, tr *truth, graph *apiGraph) {
	t.Helper()
	want, got := map[string]int{}, map[string]int{}
	for _, edge := range tr.edges() {
		for reason, n := range edge.reasons {
			want[reason] += n
		}
	}
	for _, edge := range graph.Edges {
		for reason, n := range edge.Failures {
			if n > 0 {
				got[reason] += int(n)
			}
		}
	}
	assert.Equal(t, want, got, "failures by reason")
}

// requireOutages holds the outages to the scenario: each expected one once, in time, with root, kind, edges and
// policy, and nothing else.
func requireOutages(t *testing.T, tr *truth, c *collector) {
	t.Helper()
	var answer struct{ Outages []apiOutage }
	c.get(t, "/api/v1/outages", between(tr.from.Add(-time.Hour), tr.to.Add(time.Hour)), &answer)
	var said []string
	for _, o := range answer.Outages {
		said = append(said, fmt.Sprintf("%s %s %s/%s %s: %s", o.State, o.Kind, o.Root.Namespace, o.Root.Name, o.StartedAt, o.Summary))
	}
	require.Len(t, answer.Outages, len(tr.expect), "outages:\n%s", strings.Join(said, "\n"))
	for _, expected := range tr.expect {
		i := slices.IndexFunc(answer.Outages, func(o apiOutage) bool {
			return o.Kind == expected.Kind && o.root() == expected.Root
		})
		require.GreaterOrEqual(t, i, 0, "no %s of %s among:\n%s", expected.Kind, expected.Root, strings.Join(said, "\n"))
		o := answer.Outages[i]
		began := tr.start.Add(time.Duration(expected.FromS * float64(time.Second)))
		ended := tr.start.Add(time.Duration(expected.ToS * float64(time.Second)))
		limit := time.Duration(max(expected.WithinS, 10) * float64(time.Second))
		assert.False(t, o.DetectedAt.Before(began), "detected %s before the fault at %s", o.DetectedAt, began)
		assert.LessOrEqual(t, o.DetectedAt.Sub(began), limit, "time to detection")
		if assert.NotNil(t, o.EndedAt, "%s has not ended: %s", o.ID, o.State) {
			assert.LessOrEqual(t, o.EndedAt.Sub(ended), 30*time.Second, "time from the fault's end to the outage's")
			assert.False(t, o.EndedAt.Before(ended.Add(-5*time.Second)), "ended %s while the fault lasted until %s", o.EndedAt, ended)
		}
		found := map[[2]string]bool{}
		for _, edge := range o.Edges {
			found[[2]string{edge.Source.Namespace + "/" + edge.Source.Name, edge.Destination.Namespace + "/" + edge.Destination.Name}] = true
		}
		for _, edge := range expected.Edges {
			assert.True(t, found[edge], "edge %v is not among %v", edge, found)
		}
		if expected.Kind == "policy_denied" {
			assert.Equal(t, "billing/no-checkout", o.Policy)
			assert.True(t, slices.ContainsFunc(o.Evidence, func(e struct{ Text, Source string }) bool {
				return strings.Contains(e.Text, o.Policy)
			}), "the policy's name is in the evidence: %+v", o.Evidence)
		}
	}
}

// root is the outage's root as truth.json writes it.
func (o *apiOutage) root() string {
	if o.Root.Type == "node" {
		return "node/" + o.Root.Name
	}
	return o.Root.Namespace + "/" + o.Root.Name
}

// TestRecordingHistoryBySlices checks that the graph's counts add up however time is cut: each connection lies in
// exactly one slice.
func TestRecordingHistoryBySlices(t *testing.T) {
	folder := filepath.Join(root, "recordings", "policy-deny")
	tr := readTruth(t, folder)
	c := replay(t, folder, "max", nil)
	c.awaitReplay(t, 2*time.Minute)
	start, end := tr.from.Truncate(time.Minute), tr.to.Add(time.Minute).Truncate(time.Minute).Add(time.Minute)
	whole := total(c.graph(t, start, end))
	var sum count
	for at := start; at.Before(end); at = at.Add(20 * time.Second) {
		part := total(c.graph(t, at, at.Add(20*time.Second)))
		sum.closed += part.closed
		sum.failed += part.failed
		sum.sent += part.sent
	}
	assert.Equal(t, whole.closed, sum.closed)
	assert.Equal(t, whole.failed, sum.failed)
	assert.Equal(t, whole.sent, sum.sent)
}

func total(graph *apiGraph) count {
	var c count
	for _, edge := range graph.Edges {
		c.closed += int(edge.Connections.Closed)
		c.failed += int(edge.Connections.Failed)
		c.sent += int(edge.Bytes.Sent)
	}
	return c
}

// TestRecordingGroups checks that every grouping holds the same connections.
func TestRecordingGroups(t *testing.T) {
	folder := filepath.Join(root, "recordings", "payment-refused")
	tr := readTruth(t, folder)
	c := replay(t, folder, "max", nil)
	c.awaitReplay(t, 2*time.Minute)
	query := between(tr.from.Add(-time.Hour), tr.to.Add(time.Hour))
	var byWorkload apiGraph
	c.get(t, "/api/v1/graph", query, &byWorkload)
	for _, group := range []string{"workload", "service", "app", "namespace"} {
		var graph apiGraph
		grouped := url.Values{"group_by": {group}}
		maps.Copy(grouped, query)
		c.get(t, "/api/v1/graph", grouped, &graph)
		assert.Equal(t, total(&byWorkload), total(&graph), group)
		assert.NotEmpty(t, graph.Nodes, group)
	}
}
