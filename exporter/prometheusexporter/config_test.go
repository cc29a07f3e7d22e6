package prometheusexporter

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/confmap/xconfmap"

	"github.com/nephilia/nephilia/exporter/prometheusexporter/internal/metadata"
)

func TestConfig(t *testing.T) {
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	for _, test := range []struct {
		name, problem string
		check         func(*Config)
	}{
		{name: "", check: func(c *Config) {
			assert.Equal(t, 1_000_000, c.MaxSeries)
			assert.Equal(t, 5*time.Minute, c.MetricExpiration)
			assert.Positive(t, c.WriteTimeout, "slow readers")
		}},
		{name: "all", check: func(c *Config) {
			suffixes, utf8 := c.names()
			assert.True(t, suffixes && utf8)
			assert.Equal(t, "east", c.ConstLabels["cluster"])
			assert.Equal(t, 5000, c.MaxSeries)
			assert.Equal(t, 10*time.Minute, c.MetricExpiration)
			assert.True(t, c.SendTimestamps && c.EnableOpenMetrics && c.WithoutScopeInfo)
			assert.True(t, c.ResourceToTelemetrySettings.Enabled && c.ResourceToTelemetrySettings.ExcludeServiceAttributes)
		}},
		{name: "no_endpoint", problem: "endpoint must be given"},
		{name: "no_series", problem: "max_series must be positive, not 0"},
		{name: "no_expiration", problem: "metric_expiration must be positive, not 0s"},
		{name: "bad_strategy", problem: "invalid translation_strategy: Backwards"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := createDefaultConfig()
			sub, err := conf.Sub(component.NewIDWithName(metadata.Type, test.name).String())
			require.NoError(t, err)
			require.NoError(t, sub.Unmarshal(cfg))
			if test.problem != "" {
				require.ErrorContains(t, xconfmap.Validate(cfg), test.problem)
				return
			}
			require.NoError(t, xconfmap.Validate(cfg))
			test.check(cfg.(*Config))
		})
	}
}
