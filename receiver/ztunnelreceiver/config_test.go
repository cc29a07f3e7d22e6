package ztunnelreceiver

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/confmap/xconfmap"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/record"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/scrape"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/accesslogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/cluster"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/metrics"
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
	assert.Equal(t, SpansConfig{SamplingPercentage: 10, SlowThreshold: 3 * time.Second}, cfg.Spans)
	storageID := component.MustNewIDWithName("file_storage", "positions")
	assert.Equal(t, &accesslogs.Config{
		Include: []string{"/var/log/pods/istio-system_ztunnel-*/istio-proxy/*.log"}, Exclude: []string{"*.gz"},
		StartAt: "beginning", PollInterval: 100 * time.Millisecond, Format: "cri", MaxEntrySize: 32768, StorageID: &storageID,
	}, cfg.AccessLogs.Get())
	scraped := cfg.Metrics.Get()
	require.Len(t, scraped.Endpoints, 2)
	assert.Equal(t, 10*time.Second, scraped.CollectionInterval)
	assert.Equal(t, 3*time.Second, scraped.Timeout)
	assert.Equal(t, int64(1<<20), scraped.MaxResponseSize)
	assert.Equal(t, []string{"istio_*"}, scraped.Families)
	assert.True(t, scraped.TLS.InsecureSkipVerify)
	assert.True(t, cfg.ConfigDump.Get().State)
	ztunnel, err := metrics.Target(scraped.Endpoints[0], cfg.NodeName, cfg.ClusterName)
	require.NoError(t, err)
	assert.Equal(t, scrape.Target{
		Kind: scrape.Ztunnel, Name: "node-a", Instance: "localhost:15020", Cluster: "east", URL: "http://localhost:15020/metrics",
	}, ztunnel)
	waypoint, err := metrics.Target(scraped.Endpoints[1], cfg.NodeName, cfg.ClusterName)
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
	assert.True(t, cfg.XDS.Get().TLS.Insecure)
}

func TestConfigClusters(t *testing.T) {
	cfg, err := loadConfig(t, "clusters")
	require.NoError(t, err)
	config := cfg.XDS.Get()
	var endpoints, ids []string
	for _, cluster := range config.All() {
		endpoints, ids = append(endpoints, cluster.Endpoint), append(ids, cluster.ClusterID)
	}
	assert.Equal(t, []string{"istiod.east:15012", "istiod.west:15012"}, endpoints)
	assert.Equal(t, []string{"east", "west"}, ids)
	assert.Equal(t, 200_000, config.MaxResources)
	assert.Equal(t, "/tokens/west", config.All()[1].TokenFile)

	cfg, err = loadConfig(t, "first_cluster_too")
	require.NoError(t, err)
	assert.Len(t, cfg.XDS.Get().All(), 2)
}

func TestConfigKubernetes(t *testing.T) {
	cfg, err := loadConfig(t, "one_collector")
	require.NoError(t, err)
	want := cluster.DefaultConfig()
	want.Waypoints, want.ConfigDump, want.State = true, true, []string{"workloads", "pods", "nodes", "events"}
	assert.Equal(t, &want, cfg.Kubernetes.Get())
	assert.Equal(t, cluster.LogsAPI, cfg.Kubernetes.Get().Logs)
	assert.Empty(t, cfg.AccessLogs.Get().Include)
	assert.Equal(t, "end", cfg.AccessLogs.Get().StartAt)
	assert.Equal(t, 5*time.Second, cfg.Metrics.Get().CollectionInterval)
	assert.Equal(t, 30*time.Second, cfg.ConfigDump.Get().CollectionInterval)

	cfg, err = loadConfig(t, "daemon_set")
	require.NoError(t, err)
	assert.Equal(t, "node-a", cfg.NodeName)
	assert.Equal(t, cluster.LogsFiles, cfg.Kubernetes.Get().Logs)
	assert.Equal(t, []string{"/var/log/pods/ambient_ztunnel-*/istio-proxy/*.log"}, cfg.AccessLogs.Get().Include)
	assert.Equal(t, []string{"/var/log/pods/ambient_istio-cni-node-*/install-cni/*.log"}, cfg.CNILogs.Get().Include)
	assert.True(t, cfg.Metrics.HasValue())
	assert.False(t, cfg.ConfigDump.HasValue())

	cfg, err = loadConfig(t, "away")
	require.NoError(t, err)
	assert.Equal(t, &cluster.Config{
		AuthType: "kubeConfig", Kubeconfig: "/home/me/.kube/config", Context: "east", Namespace: "istio-system",
		ZtunnelSelector: "app=ztunnel,rev=canary", WaypointSelector: "waypoint=yes", Logs: "off", Metrics: true, MetricsPort: 15090,
		CNIConfig: cluster.CNIConfig{CNISelector: "k8s-app=istio-cni-node"}, Waypoints: true, WorkloadNamespaces: []string{"shop", "billing"},
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

func TestConfigRecord(t *testing.T) {
	cfg, err := loadConfig(t, "record")
	require.NoError(t, err)
	assert.Equal(t, &record.Config{
		Directory: "/var/lib/nephilia/recordings", MaxSizeMiB: 512, Rotate: 30 * time.Minute, Scrub: true, ScrubKey: "nobody guesses this",
	}, cfg.Record.Get())
}

func TestConfigErrors(t *testing.T) {
	for name, want := range map[string]string{
		"nothing":             "no source",
		"record_nowhere":      "record: directory is required",
		"record_little":       "record: max_size_mib must be at least 16",
		"record_often":        "record: rotate must be at least 1m",
		"record_key":          "record: scrub_key must have at least 16 bytes",
		"both":                "exclude each other",
		"no_directory":        "directory is required",
		"bad_speed":           "speed must be a number above 0",
		"zero_speed":          `speed "0" must be a number above 0`,
		"fast_speed":          `speed "quick" must be a number above 0 or "max"`,
		"bad_rebase":          `rebase "yesterday"`,
		"no_include":          "include is required",
		"no_node":             "access_logs::node_from is required",
		"bad_start":           `start_at "middle"`,
		"bad_poll":            "poll_interval must be positive",
		"bad_format":          `format "xml"`,
		"small_entry":         "max_entry_size must be at least",
		"bad_regexp":          "node_from::path_regexp",
		"no_group":            "must have one group",
		"two_nodes":           "exclude each other",
		"no_endpoints":        "endpoints is required",
		"one_endpoint":        "use endpoints (a list)",
		"empty_endpoint":      "metrics::endpoints::0: endpoint is required",
		"bad_endpoint":        "must be an http or https URL",
		"same_endpoint":       "is listed twice",
		"bad_kind":            `kind "sidecar"`,
		"no_waypoint":         "waypoint (namespace/name) is required",
		"waypoint_of_ztunnel": `waypoint is for kind "waypoint" only`,
		"endpoint_of_nobody":  "node, or node_name for all, is required",
		"dump_of_waypoint":    "config_dump is not available for a waypoint",
		"bad_interval":        "collection_interval must be positive",
		"long_timeout":        "timeout must be positive and not longer than collection_interval",
		"bad_size":            "max_response_size must be positive",
		"bad_family":          `family "*_total"`,
		"no_istiod":           "endpoint is required: istiod",
		"no_cluster_id":       "b:15012: cluster_id is required",
		"same_cluster_id":     `b:15012: cluster_id "east" is listed twice`,
		"cluster_of_nowhere":  "endpoint is required",
		"insecure_cluster":    "b:15012: tls: insecure excludes",
		"insecure_ca":         "insecure excludes",
		"no_resources":        "max_resources must be positive",
		"short_flush":         "flush_interval must be at least",
		"short_refresh":       "refresh_interval must not be shorter",
		"no_series":           "max_series must be positive",
		"short_expiry":        "series_expiry must be 0",
		"bad_threshold":       "slow_threshold must not be negative",
		"bad_percentage":      "sampling_percentage must be between 0 and 100",

		"bad_auth":              `auth_type "none"`,
		"needless_kubeconfig":   "for auth_type kubeConfig only",
		"no_namespace":          "namespace is required",
		"no_selector":           "ztunnel_selector is required",
		"bad_selector":          "waypoint_selector: ",
		"bad_logs":              `logs "stream"`,
		"no_port":               "metrics_port must be positive",
		"bad_state":             `state "secrets"`,
		"same_state":            `state "nodes" is listed twice`,
		"empty_namespace":       "a namespace is empty",
		"nothing_of_kubernetes": "nothing is to be read",
		"files_of_nobody":       "access_logs::node_from is required",
		"files_and_streams":     "exclude each other",
		"kubernetes_replay":     "replay and a live source exclude each other",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(t, name)
			require.ErrorContains(t, err, want)
		})
	}
}

// Options that have another name now are read under the former one, too, and that is said.
func TestFormerNames(t *testing.T) {
	directory := map[string]any{"directory": "x"}
	for name, test := range map[string]struct {
		conf map[string]any
		want func(t *testing.T, cfg *Config)
	}{
		"metrics::interval": {
			map[string]any{"metrics": map[string]any{"interval": "7s"}},
			func(t *testing.T, cfg *Config) {
				assert.Equal(t, 7*time.Second, cfg.Metrics.Get().CollectionInterval)
			},
		},
		"config_dump::interval": {
			map[string]any{"config_dump": map[string]any{"interval": "7s"}},
			func(t *testing.T, cfg *Config) {
				assert.Equal(t, 7*time.Second, cfg.ConfigDump.Get().CollectionInterval)
			},
		},
		"spans::ratio": {
			map[string]any{"replay": directory, "spans": map[string]any{"ratio": 50}},
			func(t *testing.T, cfg *Config) { assert.InDelta(t, 2, cfg.Spans.SamplingPercentage, 1e-9) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := createDefaultConfig().(*Config)
			require.NoError(t, confmap.NewFromStringMap(test.conf).Unmarshal(cfg))
			test.want(t, cfg)
			require.Len(t, cfg.deprecated, 1)
			assert.Contains(t, cfg.deprecated[0], name)
		})
	}
	err := confmap.NewFromStringMap(map[string]any{"spans": map[string]any{"ratio": "often"}}).Unmarshal(createDefaultConfig())
	require.ErrorContains(t, err, "spans::ratio")
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, confmap.NewFromStringMap(map[string]any{"spans": map[string]any{"ratio": 0}}).Unmarshal(cfg))
	assert.Zero(t, cfg.Spans.SamplingPercentage)
}
