package outagedetector

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/confmap/xconfmap"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

func loadConfig(t *testing.T, name string) *Config {
	t.Helper()
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := conf.Sub(name)
	require.NoError(t, err)
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, sub.Unmarshal(cfg))
	return cfg
}

func ptr[T any](value T) *T { return &value }

func TestConfigOfTestdata(t *testing.T) {
	assert.Equal(t, createDefaultConfig(), loadConfig(t, "outage_detector"))
	require.NoError(t, xconfmap.Validate(loadConfig(t, "outage_detector")))

	full := loadConfig(t, "outage_detector/full")
	require.NoError(t, xconfmap.Validate(full))
	storage := component.MustNewIDWithName("file_storage", "outages")
	assert.Equal(t, &Config{
		Storage: &storage, Confirm: 6 * time.Second, FlapWindow: 5 * time.Minute, QuietTimeout: 20 * time.Minute,
		SilenceTimeout: time.Minute, RefreshInterval: 30 * time.Second,
		Rules: map[string]rules.Change{
			"latency": {Enabled: ptr(false)},
			"http_errors": {
				MinCount: ptr(uint64(5)), MinRatio: ptr(0.1), Chance: ptr(1e-8), Noise: ptr(0.02), MinIntervals: ptr(2),
				Window: ptr(10 * time.Minute), Severity: ptr("warning"),
			},
			"traffic_loss": {Hold: ptr(time.Minute)},
			"burn_rate_1h": {Factor: ptr(10.0)},
		},
		Overrides: []rules.Override{
			{
				Subject: rules.Subject{Namespace: "shop", Workload: "checkout"},
				Rules:   map[string]rules.Change{"http_errors": {MinRatio: ptr(0.3)}},
			},
			{
				Subject: rules.Subject{Namespace: "legacy"}, Source: rules.Subject{Namespace: "shop", Workload: "batch"},
				Rules: map[string]rules.Change{"traffic_loss": {Enabled: ptr(false)}},
			},
		},
		SLOs: []SLO{
			{Subject: rules.Subject{Namespace: "shop"}, Objective: 0.999},
			{Subject: rules.Subject{Namespace: "shop", Workload: "checkout"}, Objective: 0.99, Latency: 300 * time.Millisecond},
		},
		Limits: Limits{MaxEdges: 1000, MaxEndpoints: 2000, MaxNodes: 100, MaxEntities: 3000, MaxExternal: 500, MaxOutages: 50},
	}, full)

	former := loadConfig(t, "outage_detector/former_names")
	assert.Equal(t, full.Limits, former.Limits)
	assert.Len(t, former.warnings, len(formerNames))
}

func TestConfigThatIsRefused(t *testing.T) {
	for name, want := range map[string]string{
		"unknown_rule":           `there is no rule "no_such_rule"`,
		"bad_share":              "min_ratio must lie in [0, 1], not 1.5",
		"bad_severity":           `severity must be critical or warning, not "dreadful"`,
		"override_of_everything": "an override needs a namespace, a workload or a source",
		"bad_objective":          "slos[0]: objective must lie between 0 and 1, not 1",
		"bad_limit":              "max_edges must be positive, not 0",
		"bad_time":               "quiet_timeout must be positive, not 0s",
	} {
		t.Run(name, func(t *testing.T) {
			assert.ErrorContains(t, xconfmap.Validate(loadConfig(t, "outage_detector/"+name)), want)
		})
	}
}
