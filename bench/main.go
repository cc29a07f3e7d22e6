// Command bench measures the built otelcol-nephilia from the outside: as whole processes, by the CPU time and memory
// that the kernel accounts to them, beside the same work done with contrib's components in the same binary.
//
// It prints Markdown. README.md says what is compared and how to read it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	binary := flag.String("binary", "../bin/otelcol-nephilia", "the collector to measure")
	lines := flag.Int("lines", 1_000_000, "access-log lines to read")
	runs := flag.Int("runs", 3, "runs of each set-up; the median counts")
	workloads := flag.Int("workloads", 2000, "workloads of the API's graph")
	edges := flag.Int("edges", 20_000, "edges of the API's graph")
	requests := flag.Int("requests", 200, "requests for the graph")
	profiles := flag.String("profiles", "", "folder for CPU and heap profiles of the API's process")
	only := flag.String("only", "", "ingest, api or records; all by default")
	records := recordsSettings{}
	flag.StringVar(&records.standalone, "standalone", "../config/standalone.yaml", "the configuration that keeps records")
	flag.IntVar(&records.spans, "spans", 800_000, "spans to keep")
	flag.IntVar(&records.connections, "connections", 60_000, "connections to keep")
	flag.Parse()

	path, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("no binary: run make build (%w)", err)
	}
	folder, err := os.MkdirTemp("", "nephilia-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()

	fmt.Printf("%s, %s\n", time.Now().UTC().Format(time.DateOnly), machine())
	if *only == "" || *only == "ingest" {
		if err := benchIngest(ctx, path, folder, *lines, *runs); err != nil {
			return fmt.Errorf("reading access logs: %w", err)
		}
	}
	if *only == "" || *only == "api" {
		if err := benchAPI(ctx, path, folder, *profiles, *workloads, *edges, *requests); err != nil {
			return fmt.Errorf("serving the graph: %w", err)
		}
	}
	if *only == "" || *only == "records" {
		if err := benchRecords(ctx, path, folder, *profiles, records); err != nil {
			return fmt.Errorf("keeping records: %w", err)
		}
	}
	return nil
}
