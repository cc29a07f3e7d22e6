package servicegraphprocessor

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

func TestConfig(t *testing.T) {
	defaults := createDefaultConfig().(*Config)
	for _, tt := range []struct {
		id     string
		want   *Config
		errors []string
	}{
		{id: "service_graph", want: defaults},
		{id: "service_graph/all", want: &Config{
			FlushInterval: 5 * time.Second, RefreshInterval: 2 * time.Minute, MaxLateness: 10 * time.Second,
			MaxEdges: 1000, MaxPortsPerPair: 64, MaxFlows: 5000, MaxExternal: 10, MaxEntities: 2000, EdgeExpiry: 30 * time.Minute,
			ResolveHold: 5 * time.Second,
			Reconcile:   ReconcileConfig{SettleWindow: 30 * time.Second, ReasonHold: 10 * time.Second, MaxSkew: 50 * time.Millisecond},
			Requests: RequestsConfig{
				Wait: 3 * time.Second, MaxSpans: 400, MaxRoutes: 5, Relays: []string{"observability", "shop/collector"},
				LatencyBuckets: []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second},
			},
			FlowSpans: FlowSpansConfig{Wait: 2 * time.Second, MaxSpans: 300, MaxSkew: 20 * time.Millisecond},
		}},
		{id: "service_graph/negative", errors: []string{
			"flush_interval must be positive, got 0s", "max_edges must be positive, got -1", "requests::wait must not be negative, got -1s",
		}},
		{id: "service_graph/hold", errors: []string{"reconcile::reason_hold must be less than reconcile::settle_window"}},
		{id: "service_graph/expiry", errors: []string{"edge_expiry must be at least twice refresh_interval"}},
		{id: "service_graph/relays", errors: []string{`requests::relays: "shop/" is neither a namespace nor namespace/workload`}},
		{id: "service_graph/buckets", errors: []string{"requests::latency_buckets must be positive and ascending"}},
	} {
		t.Run(tt.id, func(t *testing.T) {
			all, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
			require.NoError(t, err)
			conf, err := all.Sub(tt.id)
			require.NoError(t, err)
			cfg := createDefaultConfig().(*Config)
			require.NoError(t, conf.Unmarshal(cfg))
			err = cfg.Validate()
			if tt.want != nil {
				require.NoError(t, err)
				assert.Equal(t, tt.want, cfg)
			}
			for _, text := range tt.errors {
				assert.ErrorContains(t, err, text)
			}
		})
	}
}
