package house

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/otlptranslator"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/metrics.md")

// kinds are the types of metrics that are emitted.
var kinds = map[string]otlptranslator.MetricType{
	"counter": otlptranslator.MetricTypeMonotonicCounter, "gauge": otlptranslator.MetricTypeGauge,
	"native histogram": otlptranslator.MetricTypeExponentialHistogram, "histogram": otlptranslator.MetricTypeHistogram,
}

const (
	ofEdges     = "an edge's"
	ofEndpoints = "`destination_pod`, `destination_workload`, `destination_workload_namespace`, `destination_canonical_service`, `node`"
	ofAskers    = "`node`, the `source_` labels, `request_query_type`"
)

// emitted are the metrics that leave the pipelines of a gateway, as the data model has them.
var emitted = []struct{ name, unit, kind, labels, says string }{
	{"mesh.edge.connections.opened", "{connection}", "counter", ofEdges, "connections that were attempted"},
	{"mesh.edge.connections.closed", "{connection}", "counter", ofEdges, "connections that ended, well or not"},
	{"mesh.edge.connections.failed", "{connection}", "counter", ofEdges + ", `error_type`, `policy`", "those of them that failed, by reason"},
	{"mesh.edge.connections.unanswered", "{connection}", "counter", ofEdges, "connections that carried bytes to the server and none back"},
	{"mesh.edge.connections.active", "{connection}", "gauge", ofEdges, "connections that are open"},
	{"mesh.edge.io", "By", "counter", ofEdges + ", `direction`", "bytes carried: `sent` and `received` by the client"},
	{"mesh.edge.connection.duration", "s", "native histogram", ofEdges, "how long connections lived; not a response time"},
	{"mesh.edge.requests", "{request}", "counter", ofEdges + ", `http_route`", "requests that were answered"},
	{"mesh.edge.request.failed", "{request}", "counter", ofEdges + ", `http_route`", "those of them that were answered with an error"},
	{"mesh.edge.responses", "{request}", "counter", ofEdges + ", `response_code`, `response_flags`, `request_source`; of denied ones `error_type`, `policy`", "requests by what answered them"},
	{"mesh.edge.request.duration", "s", "native histogram", ofEdges + ", `http_route`", "how long the server took to answer"},
	{"mesh.endpoint.connections.closed", "{connection}", "counter", ofEndpoints, "connections to a pod that ended"},
	{"mesh.endpoint.connections.failed", "{connection}", "counter", ofEndpoints + ", `error_type`", "those of them that failed"},
	{"mesh.endpoint.requests", "{request}", "counter", ofEndpoints, "requests that a pod answered"},
	{"mesh.endpoint.request.failed", "{request}", "counter", ofEndpoints, "those of them that it answered with an error"},
	{"mesh.dns.queries", "{query}", "counter", ofAskers, "names that a workload asked its node's ztunnel for"},
	{"mesh.dns.forwarded", "{query}", "counter", ofAskers, "those of them that the ztunnel asked its resolver for"},
	{"mesh.dns.failed", "{query}", "counter", ofAskers, "those of them that ended without an address; search domains make most do so in health"},
	{"mesh.dns.duration", "s", "native histogram", ofAskers, "how long the resolver took"},
	{"mesh.dns.lookups", "{query}", "counter", ofAskers + ", `dns_question_name`, `result`", "names and what came of them; only at `dns=debug`"},
	{"mesh.graph.time", "s", "gauge", "", "the time before which the graph is complete, since 1970"},
	{"mesh.outage", "{outage}", "gauge", "`outage_id`, `kind`, `severity`, `root_type`, `root_namespace`, `root_name`", "1 while an outage is open"},
	{"mesh.outages", "{outage}", "counter", "`kind`, `severity`", "outages that opened"},
	{"mesh.chronic", "1", "gauge", "`kind`, `source_workload_namespace`, `source_canonical_service`, `destination_workload_namespace`, `destination_canonical_service`", "the share that fails of an edge of which a part always fails"},
	{"mesh.slo.budget_left", "1", "gauge", "`destination_workload_namespace`, `destination_canonical_service`, `slo`", "the share of an objective's error budget that is left; negative if overdrawn"},
	{"traces_service_graph_request_total", "", "counter", "`client`, `server`, `connection_type`, their namespaces", "requests between services, as Tempo names them"},
	{"traces_service_graph_request_failed_total", "", "counter", "the same", "those of them that failed"},
	{"traces_service_graph_request_server_seconds", "", "histogram", "the same", "how long the server took"},
	{"traces_service_graph_request_client_seconds", "", "histogram", "the same", "how long the client waited"},
	{"ztunnel.source.up", "1", "gauge", "`k8s_node_name`, `source`", "1: the source delivers, 0: it fails"},
	{"ztunnel.source.problem", "1", "gauge", "`k8s_node_name`, `source`, `problem`, `detail`", "1 while a source does not say all that there is (see [troubleshooting](troubleshooting.md))"},
	{"ztunnel.source.last_seen", "s", "gauge", "`k8s_node_name`, `source`", "when the source's newest record was written, since 1970"},
	{"ztunnel.heartbeats", "{heartbeat}", "counter", "`k8s_node_name`", "heartbeats of a node's receiver"},
	{"nephilia.dropped", "{item}", "counter", "`component`, `reason`", "what a component left out of the data"},
}

// consumed are those that service_graph takes in and lets out as edges, and those that only a replay has.
var consumed = regexp.MustCompile(`^(up|ztunnel\.(connection|connections|io|dns|replay)\b.*)$`)

// TestMetricsReference holds docs/metrics.md to the components' metadata, and both to the names in the code, the dashboards and the alert rules.
func TestMetricsReference(t *testing.T) {
	var b strings.Builder
	b.WriteString(metricsIntroduction)
	namer := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	known := map[string]bool{}
	for _, metric := range emitted {
		name, err := namer.Build(otlptranslator.Metric{Name: metric.name, Unit: metric.unit, Type: kinds[metric.kind]})
		require.NoError(t, err)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, metric.kind, metric.labels, metric.says)
		known[metric.name], known[name] = true, true
	}
	b.WriteString(ownIntroduction)
	for _, metric := range ownMetrics(t) {
		b.WriteString(metric)
	}
	path := filepath.Join(root, "docs/metrics.md")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
	}
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, b.String(), string(written), "run make golden")

	names, err := os.ReadFile(filepath.Join(root, "internal/semconv/semconv.go"))
	require.NoError(t, err)
	for _, match := range regexp.MustCompile(`(?m)^\tMetric\w+\s*= "([^"]+)"$`).FindAllStringSubmatch(string(names), -1) {
		assert.Truef(t, known[match[1]] || consumed.MatchString(match[1]), "%s is not in docs/metrics.md", match[1])
	}
	var users []string
	for _, pattern := range []string{"deploy/grafana/*.json", "deploy/alerts/*.rules.yaml"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		users = append(users, found...)
	}
	require.NotEmpty(t, users)
	for _, user := range users {
		text, err := os.ReadFile(user)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`\b(mesh|ztunnel|traces|nephilia)_[a-z_]+`).FindAllString(string(text), -1) {
			name = regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
			assert.Truef(t, known[name], "%s uses %s, which is not in docs/metrics.md", user, name)
		}
	}
}

// ownMetrics are rows of what the components count of themselves, from their metadata.
func ownMetrics(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "*/*/metadata.yaml"))
	require.NoError(t, err)
	rows := map[string]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var metadata struct {
			Attributes map[string]struct {
				Name string `yaml:"name_override"`
			}
			Telemetry struct {
				Metrics map[string]struct {
					Description string
					Attributes  []string
					Histogram   any
					Gauge       any
				}
			}
		}
		require.NoError(t, yaml.Unmarshal(raw, &metadata))
		for name, metric := range metadata.Telemetry.Metrics {
			kind := "counter"
			switch {
			case metric.Histogram != nil:
				kind = "histogram"
			case metric.Gauge != nil:
				kind = "gauge"
			}
			var labels []string
			for _, attribute := range metric.Attributes {
				if other := metadata.Attributes[attribute].Name; other != "" {
					attribute = other
				}
				labels = append(labels, "`"+attribute+"`")
			}
			rows[name] = fmt.Sprintf("| `otelcol_%s` | %s | %s | %s |\n", name, kind, strings.Join(labels, ", "), strings.TrimSpace(metric.Description))
		}
	}
	var sorted []string
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		sorted = append(sorted, rows[name])
	}
	return sorted
}

const metricsIntroduction = `# Metrics, as Prometheus spells them

Written by a test from the data model's names and the components' metadata (` + "`make golden`" + `). [data-model.md](data-model.md) has the same metrics as OpenTelemetry names
them, and says what exactly each counts.

## Of the mesh

A gateway serves these at port 9464 (` + "`NEPHILIA_PROMETHEUS`" + `), writes them by remote write, and answers PromQL over them under ` + "`/prometheus`" + ` of its API.

*An edge's* labels are ` + "`source_workload`, `source_workload_namespace`, `source_canonical_service`, `source_canonical_revision`, `source_cluster`" + `, the same with
` + "`destination_`, `destination_service`, `destination_port`, `request_protocol`, `connection_security_policy`, `waypoint`" + `. Without a waypoint, name or policy the label is absent.
A native histogram needs ` + "`scrape_native_histograms: true`" + ` in Prometheus.

| metric | type | labels | says |
|---|---|---|---|
`

const ownIntroduction = `
## Of the collector itself

Every agent and gateway serves these at port 8888 (` + "`NEPHILIA_TELEMETRY_PORT`; in Kubernetes, the Service `<fullname>-telemetry`" + `), beside the
[collector's own](https://opentelemetry.io/docs/collector/internal-telemetry/).

| metric | type | labels | says |
|---|---|---|---|
`
