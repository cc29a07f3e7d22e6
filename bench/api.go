package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
  pprof: {endpoint: "localhost:%d"}
service:
  extensions: [topology_query, pprof]
  pipelines:
    metrics: {receivers: [ztunnel], processors: [service_graph, outage_detector], exporters: [topology]}
    logs: {receivers: [ztunnel], processors: [service_graph, outage_detector], exporters: [topology]}
`

const (
	// trafficRate is how many lines a second arrive while the API is asked.
	trafficRate = 5000
	// pause is the time between two requests: answers that did not change are kept, and back to back most would be one of those.
	pause = 150 * time.Millisecond
)

// benchAPI reads the log of a mesh through the whole collector and, while it goes on growing, times GET /api/v1/graph
// for windows that are in memory and, after a restart, for ranges of the stored history.
// Profiles of the process are left in a folder, unless that is empty.
func benchAPI(ctx context.Context, binary, folder, profiles string, workloads, edges, requests int) error {
	m := newMesh(workloads, edges)
	// Every edge's connection is there several times, from both sides.
	lines := edges * 2 * 5
	path, _, err := writeLog(folder, "api.log", lines, m.appendLine)
	if err != nil {
		return err
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	pprof, err := freePort(ctx)
	if err != nil {
		return err
	}
	api := fmt.Sprintf("http://localhost:%d/api/v1/graph", port)
	config := fmt.Sprintf(apiConfig, path, port, filepath.Join(folder, "data"), pprof)
	fmt.Printf("\nGET /api/v1/graph, %d workloads, %d edges, while %d lines a second arrive; %d requests, %v apart\n\n",
		workloads, edges, trafficRate, requests, pause)
	fmt.Println("| range | p50 | p95 | p99 | body |")
	fmt.Println("|---|---:|---:|---:|---:|")

	fresh, err := startCollector(ctx, binary, folder, config)
	if err != nil {
		return err
	}
	live, err := fresh.during(func() error {
		if err := fresh.await(ctx, entriesRead, float64(lines)); err != nil {
			return err
		}
		if err := awaitEdges(ctx, api, edges); err != nil {
			return err
		}
		traffic, quiet := context.WithCancel(ctx)
		followed := make(chan error, 1)
		go func() { followed <- m.follow(traffic, path, trafficRate) }()
		saved := make(chan error, 1)
		go func() { saved <- saveProfiles(traffic, profiles, pprof) }()
		err := errors.Join(
			timeRequests(ctx, "live (no range)", api, url.Values{}, 0, requests),
			timeRequests(ctx, "last 5 minutes", api, url.Values{}, 5*time.Minute, requests),
			timeRequests(ctx, "last 5 minutes, by namespace", api, url.Values{"group_by": {"namespace"}}, 5*time.Minute, requests),
		)
		quiet()
		return errors.Join(err, <-followed, <-saved)
	})
	if err != nil {
		return err
	}

	// What a new process did not see itself comes from the stored history.
	again, err := startCollector(ctx, binary, folder, strings.Replace(config, "start_at: beginning", "start_at: end", 1))
	if err != nil {
		return err
	}
	history, err := again.during(func() error {
		return errors.Join(
			awaitEdges(ctx, api+"?"+timeRange(10*time.Minute).Encode(), edges),
			timeRequests(ctx, "10 minutes of history", api, url.Values{}, 10*time.Minute, max(requests/10, 10)),
		)
	})
	if err != nil {
		return err
	}
	fmt.Printf("\nPeak RSS: %d MiB live, %d MiB answering from history.\n", live.peakRSS>>20, history.peakRSS>>20)
	return nil
}

// saveProfiles writes a CPU profile of ten seconds, and the heap's.
func saveProfiles(ctx context.Context, folder string, port int) error {
	if folder == "" {
		return nil
	}
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return fmt.Errorf("making the folder of profiles: %w", err)
	}
	for _, name := range []string{"profile?seconds=10", "heap"} {
		body, _, err := get(ctx, fmt.Sprintf("http://localhost:%d/debug/pprof/%s", port, name))
		if err != nil {
			return fmt.Errorf("profiling: %w", err)
		}
		file, _, _ := strings.Cut(name, "?")
		if err := os.WriteFile(filepath.Join(folder, file+".pprof"), body, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func timeRange(length time.Duration) url.Values {
	now := time.Now()
	return url.Values{"start": {now.Add(-length).UTC().Format(time.RFC3339)}, "end": {now.UTC().Format(time.RFC3339)}}
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

// timeRequests asks for the graph of the newest length of time, over and over.
func timeRequests(ctx context.Context, name, api string, query url.Values, length time.Duration, requests int) error {
	var took []time.Duration
	size := 0
	for range requests {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		if length > 0 {
			maps.Copy(query, timeRange(length))
		}
		body, elapsed, err := get(ctx, api+"?"+query.Encode())
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
	// One allocation, so that the time is the server's more than this client's.
	var body bytes.Buffer
	body.Grow(int(max(response.ContentLength, 0)) + bytes.MinRead)
	if _, err := body.ReadFrom(response.Body); err != nil {
		return nil, 0, err
	}
	elapsed := time.Since(start)
	if response.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s: %.200s", response.Status, body.Bytes())
	}
	return body.Bytes(), elapsed, nil
}
