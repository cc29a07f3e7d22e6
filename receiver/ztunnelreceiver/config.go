package ztunnelreceiver

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"

	"github.com/nephilia/nephilia/internal/renamed"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/flow"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/record"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/accesslogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/cluster"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/cnilogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/configdumps"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/controlplane"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/endpoints"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/envoylogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/metrics"
)

// Config is the configuration of the ztunnel receiver. Each source is optional; at least one is required.
type Config struct {
	// NodeName is the node whose ztunnel's log is read, unless access_logs::node_from says otherwise. In Kubernetes
	// ${env:K8S_NODE_NAME}.
	NodeName string `mapstructure:"node_name"`
	// ClusterName becomes k8s.cluster.name of everything that leaves.
	ClusterName string `mapstructure:"cluster_name"`

	// FlushInterval is the distance between boundaries: at its multiples, telemetry and heartbeats leave.
	FlushInterval time.Duration `mapstructure:"flush_interval"`
	// RefreshInterval is after how long a series, aggregated or scraped, leaves again although it did not change.
	RefreshInterval time.Duration `mapstructure:"refresh_interval"`

	SeriesConfig `mapstructure:",squash"`

	RecordsConfig `mapstructure:",squash"`

	AccessLogs configoptional.Optional[accesslogs.Config]   `mapstructure:"access_logs"`
	EnvoyLogs  configoptional.Optional[envoylogs.Config]    `mapstructure:"envoy_logs"`
	CNILogs    configoptional.Optional[cnilogs.Config]      `mapstructure:"cni_logs"`
	Metrics    configoptional.Optional[metrics.Config]      `mapstructure:"metrics"`
	ConfigDump configoptional.Optional[configdumps.Config]  `mapstructure:"config_dump"`
	XDS        configoptional.Optional[controlplane.Config] `mapstructure:"xds"`
	Kubernetes configoptional.Optional[cluster.Config]      `mapstructure:"kubernetes"`

	RecordingsConfig `mapstructure:",squash"`

	// deprecated are sentences about options under their former names.
	deprecated []string
}

// RecordingsConfig says which recording is played, and whether what is read is recorded.
type RecordingsConfig struct {
	Replay configoptional.Optional[ReplayConfig]  `mapstructure:"replay"`
	Record configoptional.Optional[record.Config] `mapstructure:"record"`
}

// SeriesConfig bounds the series that are aggregated from access logs.
type SeriesConfig struct {
	MaxSeries int `mapstructure:"max_series"`
	// SeriesExpiry is after how long a series without a record is forgotten; 0 is never.
	SeriesExpiry time.Duration `mapstructure:"series_expiry"`
}

// RecordsConfig says what single access-log entries become.
type RecordsConfig struct {
	// FlowRecords says whether access-log entries become log records. The ztunnels' own messages and the entities do anyway.
	FlowRecords bool `mapstructure:"flow_records"`
	// Spans says which access-log entries become spans.
	Spans SpansConfig `mapstructure:"spans"`
}

// formerNames are the names that options had before.
var formerNames = []renamed.Option{
	{Old: "metrics::interval", New: "metrics::collection_interval"},
	{Old: "config_dump::interval", New: "config_dump::collection_interval"},
	{Old: "spans::ratio", New: "spans::sampling_percentage", Convert: percentageOf},
}

// percentageOf is the percentage of one in N, where 0 is none.
func percentageOf(oneIn any) (any, error) {
	n, err := strconv.ParseUint(fmt.Sprint(oneIn), 10, 64)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%v must be a whole number", oneIn)
	case n == 0:
		return 0.0, nil
	}
	return 100 / float64(n), nil
}

// SpansConfig says which access-log entries become spans, besides all of failed connections.
type SpansConfig struct {
	// SamplingPercentage is how many of a hundred connections become spans; 0 makes none but the failed and slow ones.
	SamplingPercentage float64 `mapstructure:"sampling_percentage"`
	// SlowThreshold is from which life on a connection always becomes a span; 0 is none.
	SlowThreshold time.Duration `mapstructure:"slow_threshold"`
}

// ReplayConfig plays a recording.
type ReplayConfig struct {
	// Directory holds the recording.
	Directory string `mapstructure:"directory"`
	// Speed is how many seconds pass in one, or "max".
	Speed Speed `mapstructure:"speed"`
	// Rebase is "none", which keeps the recording's times, or "now", which shifts them so that it starts now.
	Rebase string `mapstructure:"rebase"`
	// Loop starts over at the end.
	Loop bool `mapstructure:"loop"`
}

const (
	speedMax   = "max"
	maxSpeed   = 1e6
	rebaseNone = "none"
	rebaseNow  = "now"

	minFlushInterval = 10 * time.Millisecond
)

func createDefaultConfig() component.Config {
	return &Config{
		FlushInterval:   time.Second,
		RefreshInterval: time.Minute,
		SeriesConfig:    SeriesConfig{MaxSeries: flow.DefaultMaxSeries, SeriesExpiry: 24 * time.Hour},
		RecordsConfig:   RecordsConfig{FlowRecords: true, Spans: SpansConfig{SamplingPercentage: 1, SlowThreshold: 10 * time.Second}},
		AccessLogs:      configoptional.Default(accesslogs.DefaultConfig()),
		EnvoyLogs:       configoptional.Default(envoylogs.DefaultConfig()),
		CNILogs:         configoptional.Default(cnilogs.DefaultConfig()),
		Metrics:         configoptional.Default(metrics.DefaultConfig()),
		ConfigDump:      configoptional.Default(configdumps.DefaultConfig()),
		XDS:             configoptional.Default(controlplane.DefaultConfig()),
		Kubernetes:      configoptional.Default(cluster.DefaultConfig()),
		RecordingsConfig: RecordingsConfig{
			Replay: configoptional.Default(ReplayConfig{Speed: 1, Rebase: rebaseNone}),
			Record: configoptional.Default(record.DefaultConfig()),
		},
	}
}

// Validate implements xconfmap.Validator. The sources validate themselves.
func (c *Config) Validate() error {
	var errs []error
	// In a replay, envoy_logs says the format of the recorded ones.
	live := c.AccessLogs.HasValue() || c.EnvoyLogs.HasValue() && !c.Replay.HasValue() || c.CNILogs.HasValue() || c.Metrics.HasValue() || c.ConfigDump.HasValue() || c.XDS.HasValue() || c.Kubernetes.HasValue()
	switch {
	case !live && !c.Replay.HasValue():
		errs = append(errs, errors.New("no source: one of access_logs, envoy_logs, cni_logs, metrics, config_dump, xds, kubernetes and replay is required"))
	case live && c.Replay.HasValue():
		errs = append(errs, errors.New("replay and a live source exclude each other: one clock drives everything"))
	}
	if c.FlushInterval < minFlushInterval {
		errs = append(errs, fmt.Errorf("flush_interval must be at least %v", minFlushInterval))
	}
	if c.RefreshInterval < c.FlushInterval {
		errs = append(errs, errors.New("refresh_interval must not be shorter than flush_interval"))
	}
	if c.MaxSeries < 1 {
		errs = append(errs, errors.New("max_series must be positive"))
	}
	if c.SeriesExpiry < 0 || (c.SeriesExpiry > 0 && c.SeriesExpiry < c.RefreshInterval) {
		errs = append(errs, errors.New("series_expiry must be 0 (never) or at least refresh_interval"))
	}
	if !(c.Spans.SamplingPercentage >= 0 && c.Spans.SamplingPercentage <= 100) {
		errs = append(errs, errors.New("spans::sampling_percentage must be between 0 and 100"))
	}
	if c.Spans.SlowThreshold < 0 {
		errs = append(errs, errors.New("spans::slow_threshold must not be negative"))
	}
	k := c.Kubernetes.Get()
	if logs := c.AccessLogs.Get(); logs != nil {
		if err := logs.ValidateFiles(c.NodeName, k != nil && k.Logs == cluster.LogsAPI); err != nil {
			errs = append(errs, fmt.Errorf("access_logs: %w", err))
		}
	}
	if logs := c.EnvoyLogs.Get(); logs != nil && !c.Replay.HasValue() {
		if err := logs.ValidateFiles(k != nil && k.Logs == cluster.LogsAPI && k.Waypoints); err != nil {
			errs = append(errs, fmt.Errorf("envoy_logs: %w", err))
		}
	}
	if logs := c.CNILogs.Get(); logs != nil {
		if err := logs.ValidateFiles(c.NodeName, k != nil && k.Logs == cluster.LogsAPI && k.CNI); err != nil {
			errs = append(errs, fmt.Errorf("cni_logs: %w", err))
		}
	}
	if ids := c.storageIDs(); len(ids) > 1 && slices.ContainsFunc(ids[1:], func(id component.ID) bool { return id != ids[0] }) {
		errs = append(errs, errors.New("cni_logs::storage, access_logs::storage and envoy_logs::storage must be the same: what is read is stored in one transaction"))
	}
	if scraped := c.Metrics.Get(); scraped != nil {
		errs = append(errs, endpoints.Validate("metrics", scraped.Endpoints, c.NodeName, k != nil && (k.Metrics || k.Waypoints), true))
	}
	if dumps := c.ConfigDump.Get(); dumps != nil {
		errs = append(errs, endpoints.Validate("config_dump", dumps.Endpoints, c.NodeName, k != nil && k.ConfigDump, false))
	}
	return errors.Join(errs...)
}

// storageID is the storage that keeps positions in logs, nil if there is none.
func (c *Config) storageID() *component.ID {
	if ids := c.storageIDs(); len(ids) > 0 {
		return &ids[0]
	}
	return nil
}

// storageIDs are the storages that sources name.
func (c *Config) storageIDs() (ids []component.ID) {
	add := func(id *component.ID) {
		if id != nil {
			ids = append(ids, *id)
		}
	}
	if logs := c.AccessLogs.Get(); logs != nil {
		add(logs.StorageID)
	}
	if logs := c.EnvoyLogs.Get(); logs != nil && !c.Replay.HasValue() {
		add(logs.StorageID)
	}
	if logs := c.CNILogs.Get(); logs != nil {
		add(logs.StorageID)
	}
	return ids
}

// Unmarshal implements confmap.Unmarshaler. What is to be read through Kubernetes is read with the defaults of its source,
// unless that says otherwise.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	var err error
	if c.deprecated, err = renamed.Move(conf, formerNames); err != nil {
		return err
	}
	if err := conf.Unmarshal(c); err != nil {
		return err
	}
	k := c.Kubernetes.Get()
	if k == nil {
		return nil
	}
	c.NodeName = cmp.Or(c.NodeName, k.Node)
	if k.Logs == cluster.LogsAPI || k.Logs == cluster.LogsFiles {
		c.AccessLogs.GetOrInsertDefault()
	}
	if logs := c.AccessLogs.Get(); k.Logs == cluster.LogsFiles && len(logs.Include) == 0 {
		logs.Include = []string{"/var/log/pods/" + k.Namespace + "_ztunnel-*/istio-proxy/*.log"}
	}
	if k.CNI && k.Logs != cluster.LogsOff {
		if logs := c.CNILogs.GetOrInsertDefault(); k.Logs == cluster.LogsFiles && len(logs.Include) == 0 {
			logs.Include = []string{"/var/log/pods/" + cmp.Or(k.CNINamespace, k.Namespace) + "_istio-cni-node-*/install-cni/*.log"}
		}
	}
	if k.Metrics || k.Waypoints {
		c.Metrics.GetOrInsertDefault()
	}
	if k.ConfigDump {
		c.ConfigDump.GetOrInsertDefault()
	}
	return nil
}

// Validate implements xconfmap.Validator.
func (c *ReplayConfig) Validate() error {
	var errs []error
	if c.Directory == "" {
		errs = append(errs, errors.New("directory is required: the recording"))
	}
	if !(c.Speed >= 0 && c.Speed <= maxSpeed) {
		errs = append(errs, fmt.Errorf("speed must be a number above 0 and not above %g, or %q", maxSpeed, speedMax))
	}
	if c.Rebase != rebaseNone && c.Rebase != rebaseNow {
		errs = append(errs, fmt.Errorf("rebase %q must be %q or %q", c.Rebase, rebaseNone, rebaseNow))
	}
	return errors.Join(errs...)
}

// Speed is how many seconds of a recording pass in one; 0 is as fast as possible, written "max".
type Speed float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Speed) UnmarshalText(text []byte) error {
	if string(text) == speedMax {
		*s = 0
		return nil
	}
	speed, err := strconv.ParseFloat(string(text), 64)
	if err != nil || speed == 0 {
		return fmt.Errorf("speed %q must be a number above 0 or %q", text, speedMax)
	}
	*s = Speed(speed)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (s Speed) MarshalText() ([]byte, error) {
	if s == 0 {
		return []byte(speedMax), nil
	}
	return strconv.AppendFloat(nil, float64(s), 'g', -1, 64), nil
}
