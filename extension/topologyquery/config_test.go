package topologyquery

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/confmap/xconfmap"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/metadata"
)

func load(t *testing.T, name string) *Config {
	t.Helper()
	all, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := all.Sub(component.NewIDWithName(metadata.Type, name).String())
	require.NoError(t, err)
	config := createDefaultConfig().(*Config)
	require.NoError(t, sub.Unmarshal(config))
	return config
}

func TestConfig(t *testing.T) {
	assert.Equal(t, createDefaultConfig(), load(t, ""))
	for _, name := range []string{"", "all", "remote"} {
		require.NoError(t, xconfmap.Validate(load(t, name)), name)
	}
	all := load(t, "all")
	assert.Equal(t, "localhost:8080", all.HTTP.NetAddr.Endpoint)
	assert.True(t, all.HTTP.Auth.HasValue())
	assert.False(t, load(t, "").GRPC.HasValue())
	assert.Equal(t, "localhost:17272", all.GRPC.Get().NetAddr.Endpoint)
	assert.Equal(t, LiveConfig{Window: 30 * time.Minute, MaxEdges: 1000, MaxSeries: 10000}, all.Live)
	assert.Equal(t, HistoryConfig{
		Resolution: time.Second, Retention: 72 * time.Hour, MaxSizeMiB: 100, OutOfOrderWindow: time.Hour, Metrics: []string{"mesh.", "istio_"},
		Lookback: 2 * time.Minute, QueryTimeout: 10 * time.Second, MaxSamples: 1_000_000,
	}, all.History)
	assert.Equal(t, RecordsConfig{MaxSizeMiB: 10, Retention: time.Hour, VictoriaLogs: createDefaultConfig().(*Config).Records.VictoriaLogs}, all.Records)
	assert.Equal(t, LimitsConfig{MaxConcurrent: 4, MaxQueued: 8, Timeout: 10 * time.Second, MaxRange: 24 * time.Hour, MaxMemoryMiB: 64}, all.Limits)
	assert.Equal(t, []string{"nephilia.example", ".mesh.example"}, all.HTTP.AllowedHosts)
	assert.Equal(t, "/mesh", all.HTTP.BasePath)
	assert.Equal(t, []string{"'self'", "https://*.grafana.example:3000"}, all.HTTP.FrameAncestors)
	assert.Equal(t, map[string]string{"jaeger": "https://jaeger.example", "grafana": "https://grafana.example/d/mesh", "prometheus": "https://prometheus.example"}, all.Links.asMap())
	assert.False(t, all.Prometheus.HasValue())
	former := load(t, "former_names")
	assert.Len(t, former.warnings, len(formerNames))
	assert.Equal(t, []any{all.Records.Retention, all.Outages, all.Changes}, []any{former.Records.Retention, former.Outages, former.Changes})
	assert.Equal(t, []int{4, 8}, []int{former.Limits.MaxConcurrent, former.Limits.MaxQueued})
	remote := load(t, "remote")
	assert.Equal(t, "http://prometheus:9090", remote.Prometheus.Get().Endpoint)
	assert.Equal(t, `cluster="a"`, remote.Prometheus.Get().Selector)
	assert.Equal(t, "replica", remote.Prometheus.Get().ReplicaLabel)
	assert.Equal(t, "http://jaeger:16686", remote.Jaeger.Get().Endpoint)
	assert.Equal(t, "http://victorialogs:9428", remote.Records.VictoriaLogs.Get().Endpoint)

	for name, want := range map[string]string{
		"bad_live": "live::max_edges must be positive", "bad_health": "degraded_at ≤ failing_at",
		"bad_prometheus": "prometheus::endpoint", "bad_replica_label": "prometheus::replica_label", "bad_jaeger": "jaeger::endpoint", "bad_victorialogs": "records::victorialogs::endpoint", "bad_link": "links::grafana", "bad_history": "history::retention",
		"bad_timeout": "limits::timeout must be shorter", "bad_memory": "limits::max_memory_mib must have room for one query of history::max_samples: 916", "bad_base": `http::base_path must be like /mesh, not "mesh/"`, "bad_frame": "http::frame_ancestors: ", "bad_host": `http::allowed_hosts: "*.example"`,
	} {
		require.ErrorContains(t, xconfmap.Validate(load(t, name)), want, name)
	}
}

func TestStartFailsClearly(t *testing.T) {
	taken, _ := start(t, nil)
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"address in use":    {func(c *Config) { c.HTTP.NetAddr.Endpoint = taken.listener.Addr().String() }, "address already in use"},
		"directory is file": {func(c *Config) { c.Directory = "config.go" }, "not a directory"},
		"directory in use":  {func(c *Config) { c.Directory = taken.storage.directory }, "lock"},
	} {
		t.Run(name, func(t *testing.T) {
			config := createDefaultConfig().(*Config)
			config.HTTP.NetAddr.Endpoint = "127.0.0.1:0"
			config.Directory = t.TempDir()
			test.change(config)
			e, err := newExtension(newSettings(), config)
			require.NoError(t, err)
			require.ErrorContains(t, e.Start(t.Context(), newHost()), test.want)
			require.NoError(t, e.Shutdown(t.Context()))
		})
	}
}
