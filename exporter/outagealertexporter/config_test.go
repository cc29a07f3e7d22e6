package outagealertexporter

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/confmap/xconfmap"

	"github.com/nephilia/nephilia/exporter/outagealertexporter/internal/metadata"
)

func loadConfig(t *testing.T, name string) (*Config, error) {
	t.Helper()
	all, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := all.Sub(component.NewIDWithName(metadata.Type, name).String())
	require.NoError(t, err)
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, sub.Unmarshal(cfg))
	return cfg, xconfmap.Validate(cfg)
}

func TestConfig(t *testing.T) {
	plain, err := loadConfig(t, "")
	require.NoError(t, err)
	assert.Equal(t, "http://alertmanager:9093", plain.Endpoint)
	assert.Equal(t, 10*time.Second, plain.Timeout)
	assert.Equal(t, time.Minute, plain.ResendInterval)
	assert.Equal(t, "http://localhost:16680", plain.ExternalURL)
	assert.Equal(t, 1000, plain.MaxAlerts)

	all, err := loadConfig(t, "all")
	require.NoError(t, err)
	assert.Equal(t, "https://alertmanager.example/prefix/", all.Endpoint)
	assert.Equal(t, 5*time.Second, all.Timeout)
	assert.Equal(t, 2*time.Minute, all.ResendInterval)
	assert.Equal(t, "https://mesh.example", all.ExternalURL)
	assert.Equal(t, 50, all.MaxAlerts)
	assert.Equal(t, map[string]string{"cluster": "one"}, all.Labels)
}

func TestConfigIsChecked(t *testing.T) {
	for name, want := range map[string]string{
		"no_endpoint": "endpoint must be the URL of an Alertmanager",
		"too_often":   "resend_interval must lie between 30s and 3m0s, not 5s",
		"own_label":   `labels: "kind" is set by the exporter`,
		"no_label":    `labels: "not-a-name" is no name for a label`,
		"no_room":     "max_alerts must be positive, not 0",
		"no_page":     "external_url must be the URL of the UI",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(t, name)
			require.ErrorContains(t, err, want)
		})
	}
}
