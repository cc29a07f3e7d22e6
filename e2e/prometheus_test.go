package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nephilia/nephilia/e2e/internal/loopback"
)

// The recording that the tests replay, and a time span that holds it.
var (
	recording      = filepath.Join(root, "recordings", "policy-deny")
	recordingStart = time.Date(2026, 11, 23, 21, 20, 0, 0, time.UTC)
	recordingEnd   = time.Date(2026, 11, 23, 21, 30, 0, 0, time.UTC)
	afterRecording = time.Date(2026, 11, 23, 21, 27, 45, 0, time.UTC)
)

func replayAtOnce(env map[string]string) map[string]string {
	all := map[string]string{"NEPHILIA_RECORDING": recording, "NEPHILIA_REPLAY_SPEED": "max"}
	maps.Copy(all, env)
	return all
}

// byEdge are the labels that name an edge as nephilia.graph does.
const byEdge = `label_join(label_join(%s, "source", "/", "source_workload_namespace", "source_workload"), "destination", "/", "destination_workload_namespace", "destination_workload")`

// edgesOf reads the connections of each edge from a Prometheus.
func edgesOf(server string, at time.Time) (map[string]edgeCounts, error) {
	counts := map[string]edgeCounts{}
	for metric, set := range map[string]func(c *edgeCounts, value float64){
		"mesh_edge_connections_closed_total": func(c *edgeCounts, value float64) { c.closed = value },
		"mesh_edge_connections_failed_total": func(c *edgeCounts, value float64) { c.failed = value },
	} {
		values, err := query(server, "sum by (edge) (label_join("+fmt.Sprintf(byEdge, metric)+`, "edge", " → ", "source", "destination"))`, at, "edge")
		if err != nil {
			return nil, err
		}
		for edge, value := range values {
			c := counts[edge]
			set(&c, value)
			counts[edge] = c
		}
	}
	return counts, nil
}

func sameEdges(want, got map[string]edgeCounts) error {
	if !maps.Equal(want, got) {
		return fmt.Errorf("edges\n%v\nwant\n%v", got, want)
	}
	return nil
}

func requireDenied(t *testing.T, edges map[string]edgeCounts) {
	t.Helper()
	if denied := edges["shop/checkout-v1 → billing/payment-v1"]; denied.failed != 65 {
		t.Fatalf("checkout → payment: %+v, want 65 failed", denied)
	}
}

// A Prometheus scrapes the Prometheus exporter and answers PromQL for every edge as the API does.
func TestPrometheusScrapes(t *testing.T) {
	exporter := loopback.FreeAddress(t)
	n := startNephilia(t, replayAtOnce(map[string]string{"NEPHILIA_PROMETHEUS": exporter}), "replay.yaml", "examples/prometheus.yaml")
	server := startPrometheus(t, exporter)
	n.replayed(t)
	want, err := n.graph(recordingStart, recordingEnd)
	if err != nil {
		t.Fatal(err)
	}
	requireDenied(t, want)
	eventually(t, "Prometheus has every edge", func() error {
		got, err := edgesOf(server, time.Now())
		if err != nil {
			return err
		}
		return sameEdges(want, got)
	})
}

// A Prometheus takes the edges by remote write. A second collector, which never saw the data, answers from it for the
// past: the same counts, by the same API.
func TestRemoteWriteAndHistory(t *testing.T) {
	server := startPrometheus(t)
	n := startNephilia(t, replayAtOnce(map[string]string{"NEPHILIA_REMOTE_WRITE": server + "/api/v1/write"}), "replay.yaml", "examples/remote-write.yaml")
	n.replayed(t)
	want, err := n.graph(recordingStart, recordingEnd)
	if err != nil {
		t.Fatal(err)
	}
	requireDenied(t, want)
	eventually(t, "Prometheus has every edge", func() error {
		got, err := edgesOf(server, afterRecording)
		if err != nil {
			return err
		}
		return sameEdges(want, got)
	})

	replica := filepath.Join(t.TempDir(), "replica.yaml")
	config := `
receivers:
  otlp:
    protocols:
      http: {endpoint: ` + loopback.FreeAddress(t) + `}
exporters:
  topology:
extensions:
  topology_query:
    http: {endpoint: "${env:NEPHILIA_API}"}
service:
  extensions: [topology_query]
  telemetry: {metrics: {level: none}}
  pipelines:
    metrics: {receivers: [otlp], exporters: [topology]}
`
	if err := os.WriteFile(replica, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	second := startNephilia(t, map[string]string{"NEPHILIA_PROMETHEUS_QUERY": server}, replica, "examples/prometheus-history.yaml")
	eventually(t, "a replica answers for the past", func() error {
		got, err := second.graph(recordingStart, recordingEnd)
		if err != nil {
			return err
		}
		return sameEdges(want, got)
	})
	// A slice of the past holds what happened in it and nothing else.
	calm, err := second.graph(recordingStart, time.Date(2026, 11, 23, 21, 25, 40, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	if before := calm["shop/checkout-v1 → billing/payment-v1"]; before.failed != 0 || before.closed == 0 {
		t.Fatalf("before the denial: %+v", before)
	}
}
