package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"time"
)

const apiConfig = `
receivers:
  ztunnel:
    node_name: node-a
    access_logs: {include: [%s], start_at: beginning}
processors:
  service_graph:
  outage_detector:
exporters:
  topology:
extensions:
  topology_query:
    http: {endpoint: "localhost:%d"}
    directory: %s
service:
  extensions: [topology_query]
  pipelines:
    metrics: {receivers: [ztunnel], processors: [service_graph, outage_detector], exporters: [topology]}
    logs: {receivers: [ztunnel], processors: [service_graph, outage_detector], exporters: [topology]}
`

// benchAPI reads the log of a mesh through the whole collector and times GET /api/v1/graph, for the live window and for
// ranges of the stored history.
func benchAPI(ctx context.Context, binary, folder string, workloads, edges, requests int) error {
	// Every edge's connection is there several times, from both sides.
	lines := edges * 2 * 5
	path, _, err := newMesh(workloads, edges).writeLog(folder, "api.log", lines)
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	c, err := startCollector(ctx, binary, folder, fmt.Sprintf(apiConfig, path, port, filepath.Join(folder, "data")))
	if err != nil {
		return err
	}
	api := fmt.Sprintf("http://localhost:%d/api/v1/graph", port)
	measured := func() error {
		if err := c.await(ctx, entriesRead, float64(lines)); err != nil {
			return err
		}
		if err := awaitEdges(ctx, api, edges); err != nil {
			return err
		}
		fmt.Printf("\nGET /api/v1/graph, %d workloads, %d edges, %d requests one after the other\n\n", workloads, edges, requests)
		fmt.Println("| range | p50 | p95 | p99 | body |")
		fmt.Println("|---|---:|---:|---:|---:|")
		now := time.Now()
		for _, r := range []struct {
			name  string
			query url.Values
		}{
			{"live (no range)", url.Values{}},
			{"last 5 minutes", timeRange(now.Add(-5*time.Minute), now)},
			{"last 5 minutes, by namespace", with(timeRange(now.Add(-5*time.Minute), now), "group_by", "namespace")},
			{"last hour", timeRange(now.Add(-time.Hour), now)},
		} {
			if err := timeRequests(ctx, r.name, api+"?"+r.query.Encode(), requests); err != nil {
				return err
			}
		}
		return nil
	}()
	u, err := c.stop()
	if measured != nil {
		return measured
	}
	if err != nil {
		return err
	}
	fmt.Printf("\nThe collector's CPU time over all of that was %.1f s, its peak RSS %d MiB.\n", u.cpu.Seconds(), u.peakRSS>>20)
	return nil
}

func timeRange(start, end time.Time) url.Values {
	return url.Values{"start": {start.UTC().Format(time.RFC3339)}, "end": {end.UTC().Format(time.RFC3339)}}
}

func with(query url.Values, name, value string) url.Values {
	query.Set(name, value)
	return query
}

// awaitEdges waits until the graph is complete.
func awaitEdges(ctx context.Context, api string, edges int) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	have := 0
	for {
		body, _, err := get(ctx, api)
		var graph struct{ Edges []json.RawMessage }
		if err == nil && json.Unmarshal(body, &graph) == nil {
			if have = len(graph.Edges); have >= edges {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d edges, %d are there: %w", edges, have, ctx.Err())
		case <-time.After(time.Second):
		}
	}
}

func timeRequests(ctx context.Context, name, address string, requests int) error {
	var took []time.Duration
	size := 0
	for range requests {
		body, elapsed, err := get(ctx, address)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		size = len(body)
		took = append(took, elapsed)
	}
	slices.Sort(took)
	at := func(quantile float64) float64 {
		return float64(took[int(quantile*float64(len(took)-1))].Microseconds()) / 1000
	}
	fmt.Printf("| %s | %.1f ms | %.1f ms | %.1f ms | %.1f MiB |\n", name, at(0.5), at(0.95), at(0.99), float64(size)/(1<<20))
	return nil
}

// get reads a whole answer, uncompressed, and says how long that took.
func get(ctx context.Context, address string) ([]byte, time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Accept-Encoding", "identity")
	start := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, 0, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s: %.200s", response.Status, body)
	}
	return body, time.Since(start), nil
}
