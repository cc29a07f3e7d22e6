package ztunnelreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/envoylogs"
)

func TestConfigEnvoyLogs(t *testing.T) {
	cfg, err := loadConfig(t, "agent")
	require.NoError(t, err)
	storageID := component.MustNewIDWithName("file_storage", "positions")
	assert.Equal(t, &envoylogs.Config{
		Include: []string{"/var/log/pods/*_waypoint-*/istio-proxy/*.log"}, Exclude: []string{"*.gz"}, StartAt: "beginning",
		PollInterval: 100 * time.Millisecond, MaxEntrySize: 32768, Format: "%START_TIME% %REQ(:METHOD)% %RESPONSE_CODE%",
		ProxyFrom: envoylogs.ProxyFromConfig{PathRegexp: "/pods/([^/]+_[^/]+)_"}, StorageID: &storageID,
	}, cfg.EnvoyLogs.Get())

	for what, spoil := range map[string]func(c *envoylogs.Config){
		"include is required":                     func(c *envoylogs.Config) { c.Include = nil },
		"start_at":                                func(c *envoylogs.Config) { c.StartAt = "middle" },
		"poll_interval must be positive":          func(c *envoylogs.Config) { c.PollInterval = 0 },
		"max_entry_size must be at least 1024":    func(c *envoylogs.Config) { c.MaxEntrySize = 100 },
		"%RESPONSE_CODE% is missing":              func(c *envoylogs.Config) { c.Format = "%START_TIME% %REQ(:METHOD)%" },
		"path_regexp and static exclude":          func(c *envoylogs.Config) { c.ProxyFrom.Static = "shop/waypoint" },
		"path_regexp must have one group":         func(c *envoylogs.Config) { c.ProxyFrom.PathRegexp = "pods" },
		"envoy_logs::storage must be the same":    func(c *envoylogs.Config) { c.StorageID = &component.ID{} },
		"proxy_from::path_regexp: error parsing":  func(c *envoylogs.Config) { c.ProxyFrom.PathRegexp = "(" },
		"START_TIME(%d) is not read: RFC 3339, %": func(c *envoylogs.Config) { c.Format = "%START_TIME(%d)% %REQ(:METHOD)% %RESPONSE_CODE%" },
	} {
		cfg, err := loadConfig(t, "agent")
		require.NoError(t, err)
		spoil(cfg.EnvoyLogs.Get())
		err = cfg.Validate()
		if err == nil {
			err = cfg.EnvoyLogs.Get().Validate()
		}
		assert.ErrorContains(t, err, what)
	}
}
