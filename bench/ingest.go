package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// setup is one way to read an access log.
type setup struct {
	name    string
	config  string // %s is the file
	counter string // what the collector has read, as counter has it
}

const (
	// entriesRead is the receiver's count of access-log entries.
	entriesRead = `otelcol_receiver_ztunnel_entries{kind="access"`
	// recordsSent is an exporter's count of log records.
	recordsSent = `otelcol_exporter_sent_log_records{`
)

// The peer is the usual way to read ztunnel's log with contrib's components. It gives log records with attributes,
// while ours goes on to edges, each connection once. Both begin at the file's start, keep no offsets, and end in an
// exporter that counts and drops.
var setups = []setup{
	{
		name: "filelog + regex_parser + key_value_parser",
		config: `
receivers:
  file_log:
    include: [%s]
    start_at: beginning
    operators:
      - type: regex_parser
        regex: '^(?P<time>[^\t]+)\t(?P<level>[^\t]+)\t(?P<target>[^\t]+)\t(?P<message>[^\t]*)\t(?P<fields>.*)$'
      - type: key_value_parser
        parse_from: attributes.fields
exporters:
  debug: {verbosity: basic}
service:
  pipelines:
    logs: {receivers: [file_log], exporters: [debug]}
`,
		counter: recordsSent,
	},
	{
		name: "ztunnel + service_graph → edge metrics",
		config: `
receivers:
  ztunnel:
    node_name: node-a
    access_logs: {include: [%s], start_at: beginning}
processors:
  service_graph:
exporters:
  debug: {verbosity: basic}
service:
  pipelines:
    metrics: {receivers: [ztunnel], processors: [service_graph], exporters: [debug]}
`,
		counter: entriesRead,
	},
	{
		name: "the same + a flow record a line + 1 % spans",
		config: `
receivers:
  ztunnel:
    node_name: node-a
    access_logs: {include: [%s], start_at: beginning}
processors:
  service_graph:
exporters:
  debug: {verbosity: basic}
service:
  pipelines:
    metrics: {receivers: [ztunnel], processors: [service_graph], exporters: [debug]}
    logs: {receivers: [ztunnel], processors: [service_graph], exporters: [debug]}
    traces: {receivers: [ztunnel], processors: [service_graph], exporters: [debug]}
`,
		counter: entriesRead,
	},
}

// requestSetups are ways to read the access log of a waypoint. Ours ends in log records, too, and in edges with requests, codes and latency.
var requestSetups = []setup{
	{
		name: "filelog + regex_parser",
		config: `
receivers:
  file_log:
    include: [%s]
    start_at: beginning
    operators:
      - type: regex_parser
        regex: '^\[(?P<time>[^\]]+)\] "(?P<method>\S+) (?P<path>[^"]*) (?P<protocol>\S+)" (?P<code>\d+) (?P<flags>\S+) (?P<details>\S+) (?P<termination>\S+) "(?P<transport_failure>[^"]*)" (?P<received>\d+) (?P<sent>\d+) (?P<duration>\d+) (?P<upstream_time>\S+) "(?P<forwarded_for>[^"]*)" "(?P<agent>[^"]*)" "(?P<id>[^"]*)" "(?P<authority>[^"]*)" "(?P<upstream>[^"]*)" (?P<cluster>\S+) (?P<upstream_local>\S+) (?P<local>\S+) (?P<remote>\S+) (?P<server_name>\S+) (?P<route>\S+)$'
exporters:
  debug: {verbosity: basic}
service:
  pipelines:
    logs: {receivers: [file_log], exporters: [debug]}
`,
		counter: recordsSent,
	},
	{
		name: "ztunnel + service_graph → records and edge metrics",
		config: `
receivers:
  ztunnel:
    node_name: node-a
    envoy_logs: {include: [%s], start_at: beginning, proxy_from: {static: shop-0/waypoint}}
processors:
  service_graph:
exporters:
  debug: {verbosity: basic}
service:
  pipelines:
    metrics: {receivers: [ztunnel], processors: [service_graph], exporters: [debug]}
    logs: {receivers: [ztunnel], processors: [service_graph], exporters: [debug]}
`,
		counter: recordsSent,
	},
}

func benchIngest(ctx context.Context, binary, folder string, lines, runs int) error {
	m := newMesh(200, 1000)
	for _, log := range []struct {
		of     string
		line   func(b []byte, n int, at time.Time) []byte
		setups []setup
	}{
		{"ztunnel's access log", m.appendLine, setups},
		{"a waypoint's access log", m.appendRequest, requestSetups},
	} {
		path, size, err := writeLog(folder, "access.log", lines, log.line)
		if err != nil {
			return err
		}
		fmt.Printf("\n%d lines of %s, of %d bytes, 1,000 edges, from a file; median of %d runs, start and stop included\n\n",
			lines, log.of, size/int64(lines), runs)
		if err := measureAll(ctx, log.setups, binary, folder, path, lines, runs); err != nil {
			return err
		}
	}
	return nil
}

// measureAll prints what each set-up needs to read a file; the first is what the others are compared to.
func measureAll(ctx context.Context, setups []setup, binary, folder, path string, lines, runs int) error {
	fmt.Println("| set-up | CPU time | lines per CPU second | × | peak RSS |")
	fmt.Println("|---|---:|---:|---:|---:|")
	var peer float64
	for _, s := range setups {
		var measured []usage
		for range runs {
			u, err := s.measure(ctx, binary, folder, path, lines)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			measured = append(measured, u)
		}
		slices.SortFunc(measured, func(a, b usage) int { return int(a.cpu - b.cpu) })
		median := measured[len(measured)/2]
		rate := float64(lines) / median.cpu.Seconds()
		if peer == 0 {
			peer = rate
		}
		fmt.Printf("| %s | %.2f s | %.0f | %.1f | %d MiB |\n", s.name, median.cpu.Seconds(), rate, rate/peer, median.peakRSS>>20)
	}
	return nil
}

func (s setup) measure(ctx context.Context, binary, folder, path string, lines int) (usage, error) {
	c, err := startCollector(ctx, binary, folder, fmt.Sprintf(s.config, path))
	if err != nil {
		return usage{}, err
	}
	return c.during(func() error { return c.await(ctx, s.counter, float64(lines)) })
}
