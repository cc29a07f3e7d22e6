package ztunnelreceiver

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/flow"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/scrape"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
)

// Config is the configuration of the ztunnel receiver. Each source is optional; at least one is needed.
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
	// MaxSeries bounds the series that are aggregated from access logs.
	MaxSeries int `mapstructure:"max_series"`
	// SeriesExpiry is after how long a series without a record is forgotten; 0 is never.
	SeriesExpiry time.Duration `mapstructure:"series_expiry"`

	// FlowRecords says whether access-log entries become log records. The ztunnels' own messages and the entities do anyway.
	FlowRecords bool `mapstructure:"flow_records"`
	// Spans says which access-log entries become spans.
	Spans SpansConfig `mapstructure:"spans"`

	AccessLogs configoptional.Optional[AccessLogsConfig] `mapstructure:"access_logs"`
	Metrics    configoptional.Optional[MetricsConfig]    `mapstructure:"metrics"`
	ConfigDump configoptional.Optional[ConfigDumpConfig] `mapstructure:"config_dump"`
	XDS        configoptional.Optional[XDSConfig]        `mapstructure:"xds"`
	Kubernetes configoptional.Optional[KubernetesConfig] `mapstructure:"kubernetes"`
	Replay     configoptional.Optional[ReplayConfig]     `mapstructure:"replay"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// SpansConfig says which access-log entries become spans, besides all of failed connections.
type SpansConfig struct {
	// Ratio N makes one in N connections a span; 0 makes none but the failed and slow ones.
	Ratio uint64 `mapstructure:"ratio"`
	// SlowThreshold is from which life on a connection always becomes a span; 0 is none.
	SlowThreshold time.Duration `mapstructure:"slow_threshold"`
}

// AccessLogsConfig says which files ztunnels write their logs to.
type AccessLogsConfig struct {
	Include []string `mapstructure:"include"`
	Exclude []string `mapstructure:"exclude"`
	// StartAt is "beginning" or "end": where to begin in a file that is there at the very first start.
	StartAt      string        `mapstructure:"start_at"`
	PollInterval time.Duration `mapstructure:"poll_interval"`
	// Format is "auto", "cri" (Kubernetes' log files) or "bare".
	Format       string         `mapstructure:"format"`
	NodeFrom     NodeFromConfig `mapstructure:"node_from"`
	MaxEntrySize int            `mapstructure:"max_entry_size"`
	// StorageID is the storage extension that keeps offsets and series over a restart.
	StorageID *component.ID `mapstructure:"storage"`
}

// NodeFromConfig says which node a file belongs to: the one, or the other.
type NodeFromConfig struct {
	// PathRegexp has one group, which gives the node in a file's path.
	PathRegexp string `mapstructure:"path_regexp"`
	// Static is the node of all files; by default node_name.
	Static string `mapstructure:"static"`
}

// EndpointConfig is one ztunnel's or waypoint's endpoint.
type EndpointConfig struct {
	// Endpoint is a URL; of metrics, the path is /metrics if there is none, of config dumps /config_dump.
	Endpoint string `mapstructure:"endpoint"`
	// Node is the ztunnel's node; by default node_name.
	Node string `mapstructure:"node"`
	// Kind is "ztunnel" or "waypoint".
	Kind string `mapstructure:"kind"`
	// Waypoint is the waypoint's "namespace/name".
	Waypoint string `mapstructure:"waypoint"`
}

// MetricsConfig says where ztunnels and waypoints serve metrics.
type MetricsConfig struct {
	confighttp.ClientConfig `mapstructure:",squash"`

	Endpoints       []EndpointConfig `mapstructure:"endpoints"`
	Interval        time.Duration    `mapstructure:"interval"`
	MaxResponseSize int64            `mapstructure:"max_response_size"`
	// Families are the metrics to keep: names, or beginnings with a "*" behind.
	Families []string `mapstructure:"families"`
}

// ConfigDumpConfig says where ztunnels serve their config dump.
type ConfigDumpConfig struct {
	confighttp.ClientConfig `mapstructure:",squash"`

	Endpoints       []EndpointConfig `mapstructure:"endpoints"`
	Interval        time.Duration    `mapstructure:"interval"`
	MaxResponseSize int64            `mapstructure:"max_response_size"`
	// State takes workloads, services and policies from the dumps too: for a mesh whose istiod cannot be asked.
	State bool `mapstructure:"state"`
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
	kindZtunnel  = "ztunnel"
	kindWaypoint = "waypoint"

	speedMax   = "max"
	maxSpeed   = 1e6
	rebaseNone = "none"
	rebaseNow  = "now"

	startAtBeginning = "beginning"
	startAtEnd       = "end"

	minFlushInterval = 10 * time.Millisecond
)

func createDefaultConfig() component.Config {
	http := func() confighttp.ClientConfig {
		client := confighttp.NewDefaultClientConfig()
		client.Timeout = 5 * time.Second
		return client
	}
	return &Config{
		FlushInterval:   time.Second,
		RefreshInterval: time.Minute,
		MaxSeries:       flow.DefaultMaxSeries,
		SeriesExpiry:    24 * time.Hour,
		FlowRecords:     true,
		Spans:           SpansConfig{Ratio: 100, SlowThreshold: 10 * time.Second},
		AccessLogs: configoptional.Default(AccessLogsConfig{
			StartAt:      startAtEnd,
			PollInterval: 200 * time.Millisecond,
			Format:       string(tail.FormatAuto),
			MaxEntrySize: 64 << 10,
		}),
		Metrics: configoptional.Default(MetricsConfig{
			ClientConfig:    http(),
			Interval:        5 * time.Second,
			MaxResponseSize: 64 << 20,
			Families:        scrape.DefaultFamilies(),
		}),
		ConfigDump: configoptional.Default(ConfigDumpConfig{
			ClientConfig:    http(),
			Interval:        30 * time.Second,
			MaxResponseSize: 128 << 20,
		}),
		XDS: configoptional.Default(XDSConfig{
			MaxResources: 200_000,
		}),
		Kubernetes: configoptional.Default(defaultKubernetes()),
		Replay: configoptional.Default(ReplayConfig{
			Speed:  1,
			Rebase: rebaseNone,
		}),
	}
}

// Validate implements xconfmap.Validator. The sources validate themselves.
func (c *Config) Validate() error {
	var errs []error
	live := c.AccessLogs.HasValue() || c.Metrics.HasValue() || c.ConfigDump.HasValue() || c.XDS.HasValue() || c.Kubernetes.HasValue()
	switch {
	case !live && !c.Replay.HasValue():
		errs = append(errs, errors.New("no source: one of access_logs, metrics, config_dump, xds, kubernetes and replay is needed"))
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
	if c.Spans.SlowThreshold < 0 {
		errs = append(errs, errors.New("spans::slow_threshold must not be negative"))
	}
	fromAPI, metricsFound, dumpsFound := c.reads()
	if logs := c.AccessLogs.Get(); logs != nil {
		errs = append(errs, c.validateFiles(logs, fromAPI))
	}
	if metrics := c.Metrics.Get(); metrics != nil {
		errs = append(errs, c.validateEndpoints("metrics", metrics.Endpoints, metricsFound, true))
	}
	if dumps := c.ConfigDump.Get(); dumps != nil {
		errs = append(errs, c.validateEndpoints("config_dump", dumps.Endpoints, dumpsFound, false))
	}
	return errors.Join(errs...)
}

func (c *Config) validateFiles(logs *AccessLogsConfig, fromAPI bool) error {
	switch {
	case fromAPI && len(logs.Include) > 0:
		return errors.New("access_logs: include and kubernetes::logs \"api\" exclude each other")
	case fromAPI:
		return nil
	case len(logs.Include) == 0:
		return errors.New("access_logs: include is needed: the files that ztunnels log to")
	case c.NodeName == "" && logs.NodeFrom == (NodeFromConfig{}):
		return errors.New("access_logs: whose log is it? node_name (in Kubernetes ${env:K8S_NODE_NAME}) or access_logs::node_from is needed")
	}
	return nil
}

// validateEndpoints checks a source's endpoints; found tells that others are found through Kubernetes.
func (c *Config) validateEndpoints(source string, endpoints []EndpointConfig, found, waypoints bool) error {
	var errs []error
	if len(endpoints) == 0 && !found {
		errs = append(errs, errors.New(source+": endpoints is needed"))
	}
	fail := func(i int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s::endpoints::%d: %w", source, i, fmt.Errorf(format, args...)))
	}
	seen := map[string]bool{}
	for i, e := range endpoints {
		target, err := url.Parse(e.Endpoint)
		switch {
		case e.Endpoint == "":
			fail(i, "endpoint is needed")
		case err != nil:
			fail(i, "endpoint: %w", err)
		case (target.Scheme != "http" && target.Scheme != "https") || target.Host == "":
			fail(i, "endpoint %q must be an http or https URL", e.Endpoint)
		case seen[e.Endpoint]:
			fail(i, "endpoint %q is there twice", e.Endpoint)
		}
		seen[e.Endpoint] = true
		switch {
		case e.Kind != "" && e.Kind != kindZtunnel && e.Kind != kindWaypoint:
			fail(i, "kind %q must be %q or %q", e.Kind, kindZtunnel, kindWaypoint)
		case e.Kind == kindWaypoint && !waypoints:
			fail(i, "a waypoint has none")
		case e.Kind == kindWaypoint && e.Waypoint == "":
			fail(i, "waypoint (namespace/name) is needed")
		case e.Kind != kindWaypoint && e.Waypoint != "":
			fail(i, "waypoint is for kind %q only", kindWaypoint)
		case e.Kind != kindWaypoint && e.Node == "" && c.NodeName == "":
			fail(i, "node, or node_name for all, is needed")
		}
	}
	return errors.Join(errs...)
}

// Validate implements xconfmap.Validator.
func (c *AccessLogsConfig) Validate() error {
	var errs []error
	if c.StartAt != startAtBeginning && c.StartAt != startAtEnd {
		errs = append(errs, fmt.Errorf("start_at %q must be %q or %q", c.StartAt, startAtBeginning, startAtEnd))
	}
	if c.PollInterval <= 0 {
		errs = append(errs, errors.New("poll_interval must be positive"))
	}
	switch tail.Format(c.Format) {
	case tail.FormatAuto, tail.FormatCRI, tail.FormatBare:
	default:
		errs = append(errs, fmt.Errorf("format %q must be %q, %q or %q", c.Format, tail.FormatAuto, tail.FormatCRI, tail.FormatBare))
	}
	if c.MaxEntrySize < 1024 {
		errs = append(errs, errors.New("max_entry_size must be at least 1024"))
	}
	if c.NodeFrom.PathRegexp != "" {
		if c.NodeFrom.Static != "" {
			errs = append(errs, errors.New("node_from: path_regexp and static exclude each other"))
		}
		if pattern, err := regexp.Compile(c.NodeFrom.PathRegexp); err != nil {
			errs = append(errs, fmt.Errorf("node_from::path_regexp: %w", err))
		} else if pattern.NumSubexp() != 1 {
			errs = append(errs, errors.New("node_from::path_regexp must have one group, which gives the node"))
		}
	}
	return errors.Join(errs...)
}

// Validate implements xconfmap.Validator.
func (c *MetricsConfig) Validate() error {
	return errors.Join(
		validateScrapes(c.ClientConfig, c.Interval, c.MaxResponseSize),
		scrape.Options{Families: c.Families}.Validate(),
	)
}

// Validate implements xconfmap.Validator.
func (c *ConfigDumpConfig) Validate() error {
	return validateScrapes(c.ClientConfig, c.Interval, c.MaxResponseSize)
}

func validateScrapes(client confighttp.ClientConfig, interval time.Duration, maxSize int64) error {
	var errs []error
	if client.Endpoint != "" {
		errs = append(errs, errors.New("endpoint is not for here: list endpoints"))
	}
	if interval <= 0 {
		errs = append(errs, errors.New("interval must be positive"))
	}
	if client.Timeout <= 0 || client.Timeout > interval {
		errs = append(errs, errors.New("timeout must be positive and not longer than interval"))
	}
	if maxSize <= 0 {
		errs = append(errs, errors.New("max_response_size must be positive"))
	}
	return errors.Join(errs...)
}

// Validate implements xconfmap.Validator.
func (c *ReplayConfig) Validate() error {
	var errs []error
	if c.Directory == "" {
		errs = append(errs, errors.New("directory is needed: the recording"))
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
