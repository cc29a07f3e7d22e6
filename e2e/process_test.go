package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nephilia/nephilia/e2e/internal/loopback"
)

const root = ".."

func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("NEPHILIA_BINARY")
	if path == "" {
		path = filepath.Join(root, "bin", "otelcol-nephilia")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no binary: run make build (%v)", err)
	}
	return path
}

type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

// start runs a program until the test ends.
func start(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	var out output
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		hangs := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer hangs.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s does not end well: %v", name, err)
		}
		if t.Failed() {
			t.Logf("%s %s said:\n%s", name, strings.Join(args, " "), out.String())
		}
	})
}

// nephilia is a running collector.
type nephilia struct{ api string }

// startNephilia runs the binary from the repository's root with some of its configurations (below config/, or paths of
// their own) and environment.
func startNephilia(t *testing.T, env map[string]string, configs ...string) *nephilia {
	t.Helper()
	n := &nephilia{api: loopback.FreeAddress(t)}
	environment := []string{"NEPHILIA_API=" + n.api, "NEPHILIA_DATA=" + t.TempDir(), "NEPHILIA_TELEMETRY_PORT=0"}
	for name, value := range env {
		environment = append(environment, name+"="+value)
	}
	var args []string
	for _, config := range configs {
		if !filepath.IsAbs(config) {
			config = filepath.Join(root, "config", config)
		}
		args = append(args, "--config", config)
	}
	start(t, environment, binary(t), args...)
	return n
}

// replayed waits until the recording has reached the API.
func (n *nephilia) replayed(t *testing.T) {
	t.Helper()
	eventually(t, "the replay is done", func() error {
		var status struct {
			Replay struct{ State string }
		}
		if err := get("http://"+n.api+"/api/v1/status", nil, &status); err != nil {
			return err
		}
		if status.Replay.State != "done" {
			return fmt.Errorf("replay is %q", status.Replay.State)
		}
		return nil
	})
}

// edgeCounts are the connections of an edge.
type edgeCounts struct{ closed, failed float64 }

// graph reads the connections of each edge, by "namespace/source → namespace/destination".
func (n *nephilia) graph(start, end time.Time) (map[string]edgeCounts, error) {
	var graph struct {
		Nodes []struct{ ID, Namespace, Name string }
		Edges []struct {
			Source, Destination string
			Connections         struct{ Closed, Failed float64 }
		}
	}
	query := url.Values{"start": {start.UTC().Format(time.RFC3339)}, "end": {end.UTC().Format(time.RFC3339)}}
	if err := get("http://"+n.api+"/api/v1/graph", query, &graph); err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, node := range graph.Nodes {
		names[node.ID] = node.Namespace + "/" + node.Name
	}
	counts := map[string]edgeCounts{}
	for _, edge := range graph.Edges {
		name := names[edge.Source] + " → " + names[edge.Destination]
		c := counts[name]
		c.closed += edge.Connections.Closed
		c.failed += edge.Connections.Failed
		counts[name] = c
	}
	return counts, nil
}

// startPrometheus runs Debian's Prometheus, which scrapes the targets every second, and returns its URL.
func startPrometheus(t *testing.T, targets ...string) string {
	t.Helper()
	return startPrometheusWith(t, "", targets...)
}

// startPrometheusWith is the same with more of a configuration.
func startPrometheusWith(t *testing.T, more string, targets ...string) string {
	t.Helper()
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Fatal("prometheus is not installed: apt-get install prometheus")
	}
	folder := t.TempDir()
	config := "global: {scrape_interval: 1s, evaluation_interval: 1s}\nscrape_configs: []\n"
	if len(targets) > 0 {
		encoded, err := json.Marshal(targets)
		if err != nil {
			t.Fatal(err)
		}
		config = fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nscrape_configs:\n  - job_name: nephilia\n    static_configs: [{targets: %s}]\n", encoded)
	}
	path := filepath.Join(folder, "prometheus.yml")
	if err := os.WriteFile(path, []byte(config+more), 0o600); err != nil {
		t.Fatal(err)
	}
	address := loopback.FreeAddress(t)
	start(t, nil, "prometheus",
		"--config.file="+path, "--storage.tsdb.path="+filepath.Join(folder, "data"),
		"--web.listen-address="+address, "--web.enable-remote-write-receiver", "--enable-feature=native-histograms", "--log.level=warn")
	server := "http://" + address
	eventually(t, "Prometheus is ready", func() error { return get(server+"/-/ready", nil, nil) })
	return server
}

// query evaluates PromQL at a time and returns the values by the labels asked for, joined by a blank.
func query(server, expression string, at time.Time, labels ...string) (map[string]float64, error) {
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	values := url.Values{"query": {expression}, "time": {at.UTC().Format(time.RFC3339)}}
	if err := get(server+"/api/v1/query", values, &answer); err != nil {
		return nil, err
	}
	result := map[string]float64{}
	for _, sample := range answer.Data.Result {
		var key []string
		for _, label := range labels {
			key = append(key, sample.Metric[label])
		}
		var value float64
		if _, err := fmt.Sscan(fmt.Sprint(sample.Value[1]), &value); err != nil {
			return nil, fmt.Errorf("reading %v: %w", sample.Value, err)
		}
		result[strings.Join(key, " ")] += value
	}
	return result, nil
}

// get reads a JSON resource; out may be nil.
func get(address string, query url.Values, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %.500s", address, response.Status, body)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}

// eventually tries until there is no error, for a minute.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}
