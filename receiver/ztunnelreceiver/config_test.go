package ztunnelreceiver

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/confmap/xconfmap"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/scrape"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/xds"
)

// loadConfig reads one configuration of testdata/config.yaml.
func loadConfig(t *testing.T, name string) (*Config, error) {
	t.Helper()
	all, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := all.Sub(component.NewIDWithName(metadata.Type, name).String())
	require.NoError(t, err)
	cfg := createDefaultConfig().(*Config)
	if err := sub.Unmarshal(cfg); err != nil {
		return nil, err
	}
	return cfg, xconfmap.Validate(cfg)
}

func TestConfig(t *testing.T) {
	cfg, err := loadConfig(t, "agent")
	require.NoError(t, err)
	assert.Equal(t, "node-a", cfg.NodeName)
	assert.Equal(t, "east", cfg.ClusterName)
	assert.Equal(t, 2*time.Second, cfg.FlushInterval)
	assert.Equal(t, 30*time.Second, cfg.RefreshInterval)
	assert.Equal(t, 1000, cfg.MaxSeries)
	assert.Equal(t, time.Hour, cfg.SeriesExpiry)
	assert.False(t, cfg.FlowRecords)
	assert.Equal(t, SpansConfig{Ratio: 10, SlowThreshold: 3 * time.Second}, cfg.Spans)
	storageID := component.MustNewIDWithName("file_storage", "positions")
	assert.Equal(t, &AccessLogsConfig{
		Include: []string{"/var/log/pods/istio-system_ztunnel-*/istio-proxy/*.log"}, Exclude: []string{"*.gz"},
		StartAt: "beginning", PollInterval: 100 * time.Millisecond, Format: "cri", MaxEntrySize: 32768, StorageID: &storageID,
	}, cfg.AccessLogs.Get())
	metrics := cfg.Metrics.Get()
	require.Len(t, metrics.Endpoints, 2)
	assert.Equal(t, 10*time.Second, metrics.Interval)
	assert.Equal(t, 3*time.Second, metrics.Timeout)
	assert.Equal(t, int64(1<<20), metrics.MaxResponseSize)
	assert.Equal(t, []string{"istio_*"}, metrics.Families)
	assert.True(t, metrics.TLS.InsecureSkipVerify)
	assert.True(t, cfg.ConfigDump.Get().State)
	assert.Equal(t, xds.Config{
		Endpoint:     "istiod.istio-system.svc:15012",
		MaxResources: 500,
		Node:         xds.Node{PodName: "nephilia-0", Namespace: "nephilia", NodeName: "node-a", ClusterID: "Kubernetes"},
		TLS: &xds.TLS{
			CAFile: "/var/run/secrets/istio/root-cert.pem", TokenFile: "/var/run/secrets/tokens/istio-token",
			ServerName: "istiod.istio-system.svc",
		},
	}, cfg.XDS.Get().client(cfg.NodeName, cfg.XDS.Get().MaxResources))

	ztunnel, err := cfg.target(metrics.Endpoints[0])
	require.NoError(t, err)
	assert.Equal(t, scrape.Target{
		Kind: scrape.Ztunnel, Name: "node-a", Instance: "localhost:15020", Cluster: "east", URL: "http://localhost:15020/metrics",
	}, ztunnel)
	waypoint, err := cfg.target(metrics.Endpoints[1])
	require.NoError(t, err)
	assert.Equal(t, scrape.Target{
		Kind: scrape.Waypoint, Name: "shop/waypoint", Instance: "waypoint.shop:15020", Cluster: "east", URL: "https://waypoint.shop:15020/metrics",
	}, waypoint)
	assert.False(t, cfg.Replay.HasValue())
}

func TestConfigDefaults(t *testing.T) {
	cfg, err := loadConfig(t, "virtual_machines")
	require.NoError(t, err)
	assert.Equal(t, time.Second, cfg.FlushInterval)
	assert.True(t, cfg.FlowRecords)
	assert.Equal(t, 200*time.Millisecond, cfg.AccessLogs.Get().PollInterval)
	assert.Equal(t, "end", cfg.AccessLogs.Get().StartAt)
	assert.Equal(t, "auto", cfg.AccessLogs.Get().Format)

	cfg, err = loadConfig(t, "gateway")
	require.NoError(t, err)
	assert.Nil(t, cfg.XDS.Get().client("", 0).TLS)
}

func TestConfigClusters(t *testing.T) {
	cfg, err := loadConfig(t, "clusters")
	require.NoError(t, err)
	config := cfg.XDS.Get()
	var endpoints, ids []string
	for _, cluster := range config.clusters() {
		endpoints, ids = append(endpoints, cluster.Endpoint), append(ids, cluster.ClusterID)
	}
	assert.Equal(t, []string{"istiod.east:15012", "istiod.west:15012"}, endpoints)
	assert.Equal(t, []string{"east", "west"}, ids)
	assert.Equal(t, 200_000, config.MaxResources)
	assert.Equal(t, "/tokens/west", config.clusters()[1].client("", 0).TLS.TokenFile)

	cfg, err = loadConfig(t, "first_cluster_too")
	require.NoError(t, err)
	assert.Len(t, cfg.XDS.Get().clusters(), 2)
}

func TestConfigKubernetes(t *testing.T) {
	cfg, err := loadConfig(t, "one_collector")
	require.NoError(t, err)
	want := defaultKubernetes()
	want.Waypoints, want.ConfigDump, want.State = true, true, []string{"workloads", "pods", "nodes", "events"}
	assert.Equal(t, &want, cfg.Kubernetes.Get())
	assert.True(t, cfg.apiLogs())
	assert.Empty(t, cfg.AccessLogs.Get().Include)
	assert.Equal(t, "end", cfg.AccessLogs.Get().StartAt)
	assert.Equal(t, 5*time.Second, cfg.Metrics.Get().Interval)
	assert.Equal(t, 30*time.Second, cfg.ConfigDump.Get().Interval)

	cfg, err = loadConfig(t, "daemon_set")
	require.NoError(t, err)
	assert.Equal(t, "node-a", cfg.NodeName)
	assert.False(t, cfg.apiLogs())
	assert.Equal(t, []string{"/var/log/pods/ambient_ztunnel-*/istio-proxy/*.log"}, cfg.AccessLogs.Get().Include)
	assert.True(t, cfg.Metrics.HasValue())
	assert.False(t, cfg.ConfigDump.HasValue())

	cfg, err = loadConfig(t, "away")
	require.NoError(t, err)
	assert.Equal(t, &KubernetesConfig{
		AuthType: "kubeConfig", Kubeconfig: "/home/me/.kube/config", Context: "east", Namespace: "istio-system",
		ZtunnelSelector: "app=ztunnel,rev=canary", WaypointSelector: "waypoint=yes", Logs: "off", Metrics: true, MetricsPort: 15090,
		Waypoints: true, WorkloadNamespaces: []string{"shop", "billing"},
	}, cfg.Kubernetes.Get())
	assert.False(t, cfg.AccessLogs.HasValue())
}

func TestConfigReplay(t *testing.T) {
	for name, want := range map[string]ReplayConfig{
		"replay":        {Directory: "recordings/policy-deny", Speed: 0, Rebase: rebaseNow, Loop: true},
		"replay_number": {Directory: "recordings/policy-deny", Speed: 20, Rebase: rebaseNone},
		"replay_text":   {Directory: "recordings/policy-deny", Speed: 2.5, Rebase: rebaseNone},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := loadConfig(t, name)
			require.NoError(t, err)
			assert.Equal(t, &want, cfg.Replay.Get())
		})
	}
}

func TestConfigErrors(t *testing.T) {
	for name, want := range map[string]string{
		"nothing":             "no source",
		"both":                "exclude each other",
		"no_directory":        "directory is needed",
		"bad_speed":           "speed must be a number above 0",
		"zero_speed":          `speed "0" must be a number above 0`,
		"fast_speed":          `speed "quick" must be a number above 0 or "max"`,
		"bad_rebase":          `rebase "yesterday"`,
		"no_include":          "include is needed",
		"no_node":             "whose log is it",
		"bad_start":           `start_at "middle"`,
		"bad_poll":            "poll_interval must be positive",
		"bad_format":          `format "xml"`,
		"small_entry":         "max_entry_size must be at least",
		"bad_regexp":          "node_from::path_regexp",
		"no_group":            "must have one group",
		"two_nodes":           "exclude each other",
		"no_endpoints":        "endpoints is needed",
		"one_endpoint":        "list endpoints",
		"empty_endpoint":      "metrics::endpoints::0: endpoint is needed",
		"bad_endpoint":        "must be an http or https URL",
		"same_endpoint":       "is there twice",
		"bad_kind":            `kind "sidecar"`,
		"no_waypoint":         "waypoint (namespace/name) is needed",
		"waypoint_of_ztunnel": `waypoint is for kind "waypoint" only`,
		"endpoint_of_nobody":  "node, or node_name for all, is needed",
		"dump_of_waypoint":    "a waypoint has none",
		"bad_interval":        "interval must be positive",
		"long_timeout":        "timeout must be positive and not longer than interval",
		"bad_size":            "max_response_size must be positive",
		"bad_family":          `family "*_total"`,
		"no_istiod":           "endpoint is needed: istiod",
		"no_cluster_id":       "b:15012: cluster_id is needed",
		"same_cluster_id":     `b:15012: cluster_id "east" is there twice`,
		"cluster_of_nowhere":  "endpoint is needed",
		"insecure_cluster":    "b:15012: tls: insecure excludes",
		"insecure_ca":         "insecure excludes",
		"no_resources":        "max_resources must be positive",
		"short_flush":         "flush_interval must be at least",
		"short_refresh":       "refresh_interval must not be shorter",
		"no_series":           "max_series must be positive",
		"short_expiry":        "series_expiry must be 0",
		"bad_threshold":       "slow_threshold must not be negative",

		"bad_auth":              `auth_type "none"`,
		"needless_kubeconfig":   "for auth_type kubeConfig only",
		"no_namespace":          "namespace is needed",
		"no_selector":           "ztunnel_selector is needed",
		"bad_selector":          "waypoint_selector: ",
		"bad_logs":              `logs "stream"`,
		"no_port":               "metrics_port must be positive",
		"bad_state":             `state "secrets"`,
		"same_state":            `state "nodes" is there twice`,
		"empty_namespace":       "a namespace is empty",
		"nothing_of_kubernetes": "nothing is to be read",
		"files_of_nobody":       "whose log is it",
		"files_and_streams":     "exclude each other",
		"kubernetes_replay":     "replay and a live source exclude each other",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(t, name)
			require.ErrorContains(t, err, want)
		})
	}
}
