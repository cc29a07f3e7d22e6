package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/otelcol"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const root = "../.."

// collector is the whole distribution, running in this process from a shipped configuration.
type collector struct {
	api    string // host:port of the topology API
	client *http.Client
}

// options of a collector under test.
type options struct {
	config   string            // below config/
	overlays []string          // further files below config/, laid over it
	env      map[string]string // what the configuration reads from the environment
	set      []string          // further configuration, each "a::b: value"
	// factories may add components.
	factories func(*otelcol.Factories)
}

// mapEnv is the env provider over a map, so that tests run side by side.
type mapEnv map[string]string

func (e mapEnv) Retrieve(_ context.Context, uri string, _ confmap.WatcherFunc) (*confmap.Retrieved, error) {
	name, fallback, _ := strings.Cut(strings.TrimPrefix(uri, "env:"), ":-")
	value, ok := e[name]
	if !ok || value == "" {
		value = fallback
	}
	return confmap.NewRetrievedFromYAML([]byte(value))
}

func (mapEnv) Scheme() string                 { return "env" }
func (mapEnv) Shutdown(context.Context) error { return nil }

// freeAddress is a loopback address that was free a moment ago. Its port is not among those that the kernel gives to whoever
// connects, so that a process that is killed finds it free when it starts again.
func freeAddress(t testing.TB) string {
	t.Helper()
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		listener, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		require.NoError(t, err)
		require.NoError(t, listener.Close())
		return address
	}
}

// startCollector runs a shipped configuration until the test ends, and returns once it has started.
func startCollector(t testing.TB, opts options) *collector {
	t.Helper()
	env := mapEnv{
		"NEPHILIA_API":        freeAddress(t),
		"NEPHILIA_DATA":       t.TempDir(),
		"NEPHILIA_OTLP_GRPC":  freeAddress(t),
		"NEPHILIA_OTLP_HTTP":  freeAddress(t),
		"NEPHILIA_PROMETHEUS": freeAddress(t),
		"NEPHILIA_HEALTH":     freeAddress(t),
	}
	for name, value := range opts.env {
		env[name] = value
	}
	uris := []string{"file:" + filepath.Join(root, "config", opts.config)}
	if shipped, err := os.ReadFile(filepath.Join(root, "config", opts.config)); err == nil && bytes.Contains(shipped, []byte("\n  memory_limiter:")) {
		// It writes its host at the start of each pipeline while its first check may read it, which the race detector reports.
		uris = append(uris, "yaml:processors::memory_limiter::check_interval: 1h")
	}
	for _, overlay := range opts.overlays {
		uris = append(uris, "file:"+filepath.Join(root, "config", overlay))
	}
	for _, setting := range opts.set {
		uris = append(uris, "yaml:"+setting)
	}
	running, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "otelcol-nephilia", Version: "test"},
		Factories: func() (otelcol.Factories, error) {
			factories, err := components()
			if err == nil && opts.factories != nil {
				opts.factories(&factories)
			}
			return factories, err
		},
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs: uris,
			ProviderFactories: []confmap.ProviderFactory{
				confmap.NewProviderFactory(func(confmap.ProviderSettings) confmap.Provider { return env }),
				fileprovider.NewFactory(),
				yamlprovider.NewFactory(),
			},
		}},
		DisableGracefulShutdown: true,
		LoggingOptions: []zap.Option{zap.WrapCore(func(zapcore.Core) zapcore.Core {
			return zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()), testWriter{t}, zapcore.WarnLevel)
		})},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- running.Run(ctx) }()
	c := &collector{api: env["NEPHILIA_API"], client: &http.Client{Timeout: time.Minute}}
	t.Cleanup(func() {
		c.client.CloseIdleConnections()
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err, "the collector stops cleanly")
		case <-time.After(time.Minute):
			t.Error("the collector does not stop")
		}
	})
	for running.GetState() != otelcol.StateRunning {
		select {
		case err := <-done:
			done <- nil
			require.NoError(t, err, "starting %s", opts.config)
			require.Equal(t, otelcol.StateRunning, running.GetState(), "the collector has ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
	return c
}

// testWriter hands the collector's warnings to the test's log.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(line []byte) (int, error) {
	defer func() { _ = recover() }() // a log line after the test's end
	w.t.Logf("collector: %s", strings.TrimSpace(string(line)))
	return len(line), nil
}

func (testWriter) Sync() error { return nil }

// get reads an API resource into out.
func (c *collector) get(t testing.TB, path string, query url.Values, out any) {
	t.Helper()
	require.NoError(t, c.tryGet(path, query, out))
}

func (c *collector) tryGet(path string, query url.Values, out any) error {
	response, err := c.client.Get("http://" + c.api + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", path, response.Status, body)
	}
	return json.Unmarshal(body, out)
}

// awaitReplay returns once the replay's data has all reached the API.
func (c *collector) awaitReplay(t testing.TB, within time.Duration) {
	t.Helper()
	var status struct {
		Replay struct{ State, Position string }
	}
	require.Eventually(t, func() bool {
		return c.tryGet("/api/v1/status", nil, &status) == nil && status.Replay.State == "done"
	}, within, 50*time.Millisecond, "the replay ends")
}

// The parts of the API's answers that the tests judge.
type (
	apiNode struct {
		ID, Type, Namespace, Name, App string
		InMesh                         bool `json:"in_mesh"`
	}
	apiEdge struct {
		Source, Destination, Service string
		Port                         int
		Protocol, Security           string
		Connections                  struct{ Opened, Closed, Failed, Active float64 }
		Failures                     map[string]float64
		Bytes                        struct{ Sent, Received float64 }
		Requests                     struct{ Total, Errors float64 }
	}
	apiGraph struct {
		Nodes []apiNode
		Edges []apiEdge
	}
	apiName   struct{ Namespace, Name string }
	apiOutage struct {
		ID, State, Kind, Severity, Summary, Policy string
		Root                                       struct{ Type, Namespace, Name string }
		StartedAt                                  time.Time  `json:"started_at"`
		DetectedAt                                 time.Time  `json:"detected_at"`
		EndedAt                                    *time.Time `json:"ended_at"`
		Edges                                      []struct {
			Source, Destination apiName
			Failed, Total       float64
		}
		Evidence []struct{ Text, Source string }
	}
)

// graph reads the graph over [start, end).
func (c *collector) graph(t testing.TB, start, end time.Time) *apiGraph {
	t.Helper()
	var graph apiGraph
	c.get(t, "/api/v1/graph", between(start, end), &graph)
	return &graph
}

func between(start, end time.Time) url.Values {
	return url.Values{"start": {start.UTC().Format(time.RFC3339Nano)}, "end": {end.UTC().Format(time.RFC3339Nano)}}
}

// parties maps node ids to workloads.
func (g *apiGraph) parties() map[string]party {
	parties := map[string]party{}
	for _, node := range g.Nodes {
		parties[node.ID] = party{node.Namespace, node.Name}
	}
	return parties
}
