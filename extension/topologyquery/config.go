package topologyquery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/internal/renamed"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Config is the extension's configuration.
type Config struct {
	// HTTP is the server of the API and the UI.
	HTTP HTTPConfig `mapstructure:"http"`
	// Directory is where the history and the mesh's state are kept. Without one they live in a temporary directory
	// and end with the process.
	Directory string `mapstructure:"directory"`

	Live    LiveConfig    `mapstructure:"live"`
	History HistoryConfig `mapstructure:"history"`
	Records RecordsConfig `mapstructure:"records"`
	// KeptConfig bounds what is kept of the mesh beside its history.
	KeptConfig `mapstructure:",squash"`
	Health     HealthConfig `mapstructure:"health"`
	Limits     LimitsConfig `mapstructure:"limits"`
	Events     EventsConfig `mapstructure:"events"`
	Links      LinksConfig  `mapstructure:"links"`
	// GRPC, where set, is the server of Jaeger's gRPC APIs: its remote storage and its query service.
	GRPC configoptional.Optional[configgrpc.ServerConfig] `mapstructure:"grpc"`
	// ServersConfig are other servers that keep what would be kept here.
	ServersConfig `mapstructure:",squash"`

	// warnings are to be logged at the start.
	warnings []string
}

// KeptConfig bounds what is kept of the mesh beside its history.
type KeptConfig struct {
	Outages   OutagesConfig   `mapstructure:"outages"`
	Changes   ChangesConfig   `mapstructure:"changes"`
	Endpoints EndpointsConfig `mapstructure:"endpoints"`
	Mesh      MeshConfig      `mapstructure:"mesh"`
}

// EndpointsConfig bounds the catalogue of endpoints.
type EndpointsConfig struct {
	// MaxServices bounds the services, MaxPaths the paths of each.
	MaxServices int `mapstructure:"max_services"`
	MaxPaths    int `mapstructure:"max_paths"`
	// MaxSizeMiB and Retention bound the counts of requests; the oldest go first.
	MaxSizeMiB int64         `mapstructure:"max_size_mib"`
	Retention  time.Duration `mapstructure:"retention"`
}

// ServersConfig are the servers that take the place of embedded stores.
type ServersConfig struct {
	// Prometheus, where set, answers for the past instead of the embedded history, and nothing is stored here.
	Prometheus configoptional.Optional[PrometheusConfig] `mapstructure:"prometheus"`
	// Jaeger, where set, answers for traces instead of the embedded store, and nothing is stored here.
	Jaeger configoptional.Optional[JaegerConfig] `mapstructure:"jaeger"`
}

// formerNames are options that have other names now, or none.
var formerNames = []renamed.Option{
	{Old: "flows::size"},
	{Old: "flows::max_records"},
	{Old: "traces::max_spans"},
	{Old: "traces::max_size_mib"},
	{Old: "traces::retention", New: "records::retention"},
	{Old: "outages::max", New: "outages::max_outages"},
	{Old: "changes::max", New: "changes::max_changes"},
	{Old: "limits::concurrent", New: "limits::max_concurrent"},
	{Old: "limits::queue", New: "limits::max_queued"},
}

// Unmarshal implements confmap.Unmarshaler: it understands options by their former names too.
func (c *Config) Unmarshal(conf *confmap.Conf) (err error) {
	if c.warnings, err = renamed.Move(conf, formerNames); err != nil {
		return err
	}
	return conf.Unmarshal(c)
}

var (
	basePath    = regexp.MustCompile(`^(/[A-Za-z0-9._~-]*[A-Za-z0-9_~-])+$`)
	frameOrigin = regexp.MustCompile(`^https?://(\*\.)?[A-Za-z0-9.-]+(:(\d+|\*))?$`)
)

// HTTPConfig is the server of the API and the UI.
type HTTPConfig struct {
	confighttp.ServerConfig `mapstructure:",squash"`
	// AllowedHosts are the names by which the server may be asked, beside localhost, addresses and the endpoint's own name; a leading
	// dot allows all names below. Without any, only a server that listens on the loopback interface alone checks them.
	AllowedHosts []string `mapstructure:"allowed_hosts"`
	// BasePath is the path under which a proxy serves the API and the UI, which answer without it as well.
	BasePath string `mapstructure:"base_path"`
	// FrameAncestors are the origins whose pages may show the UI in a frame.
	FrameAncestors []string `mapstructure:"frame_ancestors"`
}

// LiveConfig bounds the live graph.
type LiveConfig struct {
	// Window is how much data time is answered from memory.
	Window time.Duration `mapstructure:"window"`
	// MaxEdges and MaxSeries bound the edges and the incoming series that are remembered.
	MaxEdges  int `mapstructure:"max_edges"`
	MaxSeries int `mapstructure:"max_series"`
}

// HistoryConfig is the embedded history, and how the past is asked for.
type HistoryConfig struct {
	// Resolution is how often a series that changes gets a sample, live and stored.
	Resolution time.Duration `mapstructure:"resolution"`
	// Retention and MaxSizeMiB bound what is kept; 0 does not.
	Retention  time.Duration `mapstructure:"retention"`
	MaxSizeMiB int64         `mapstructure:"max_size_mib"`
	// OutOfOrderWindow is how much older than the newest sample one may be.
	OutOfOrderWindow time.Duration `mapstructure:"out_of_order_window"`
	// Metrics are the beginnings of the names of the metrics that are stored.
	Metrics []string `mapstructure:"metrics"`
	// Lookback is how long the newest sample of a series stands for what follows.
	Lookback time.Duration `mapstructure:"lookback"`
	// QueryTimeout and MaxSamples bound one query.
	QueryTimeout time.Duration `mapstructure:"query_timeout"`
	MaxSamples   int           `mapstructure:"max_samples"`
	// DiscardFormer removes at the start what an earlier run with this option kept, in a folder of the directory.
	DiscardFormer bool `mapstructure:"discard_former"`
}

// PrometheusConfig is a server that speaks Prometheus's HTTP API.
type PrometheusConfig struct {
	confighttp.ClientConfig `mapstructure:",squash"`
	// Selector, unless empty, is a list of label matchers that every query adds, such as cluster="a".
	Selector string `mapstructure:"selector"`
	// ReplicaLabel, unless empty, is the label by which the series of several that write the same to that server differ. Each answer
	// is from one of them.
	ReplicaLabel string `mapstructure:"replica_label"`
}

// RecordsConfig bounds the spans and flows that are kept on disk.
type RecordsConfig struct {
	// MaxSizeMiB bounds their files together.
	MaxSizeMiB int64 `mapstructure:"max_size_mib"`
	// Retention is how long a record is kept after it arrived; 0 does not bound.
	Retention time.Duration `mapstructure:"retention"`
	// VictoriaLogs, where set, is the server that keeps the records instead.
	VictoriaLogs configoptional.Optional[VictoriaLogsConfig] `mapstructure:"victorialogs"`
}

// VictoriaLogsConfig is a VictoriaLogs, or what answers for a cluster of it.
type VictoriaLogsConfig struct {
	confighttp.ClientConfig `mapstructure:",squash"`
}

// JaegerConfig is a server that speaks Jaeger's api_v3 over HTTP.
type JaegerConfig struct {
	confighttp.ClientConfig `mapstructure:",squash"`
}

// OutagesConfig bounds the outages that are kept.
type OutagesConfig struct {
	MaxOutages int `mapstructure:"max_outages"`
}

// ChangesConfig bounds the changes that are kept.
type ChangesConfig struct {
	MaxChanges int `mapstructure:"max_changes"`
}

// MeshConfig bounds the mesh's state.
type MeshConfig struct {
	// MaxEntities bounds the pods, services, policies and ztunnels, each.
	MaxEntities int `mapstructure:"max_entities"`
}

// HealthConfig says when something counts as unwell.
type HealthConfig struct {
	// DegradedAt and FailingAt are shares of failed connections or requests.
	DegradedAt float64 `mapstructure:"degraded_at"`
	FailingAt  float64 `mapstructure:"failing_at"`
	// SilentAfter is how long without a heartbeat, in data time, telemetry counts as lost.
	SilentAfter time.Duration `mapstructure:"silent_after"`
}

// LimitsConfig bounds what clients can ask for.
type LimitsConfig struct {
	// MaxConcurrent is the number of requests that are answered at a time; MaxQueued the number that wait for it.
	MaxConcurrent int `mapstructure:"max_concurrent"`
	MaxQueued     int `mapstructure:"max_queued"`
	// Timeout bounds how long one answer may be in the making, the event stream excepted.
	Timeout time.Duration `mapstructure:"timeout"`
	// MaxMemoryMiB bounds the memory of all queries together, and of the answers that are being sent.
	MaxMemoryMiB int64 `mapstructure:"max_memory_mib"`
	// MaxRange bounds the range of one request.
	MaxRange time.Duration `mapstructure:"max_range"`
}

// EventsConfig bounds the event stream.
type EventsConfig struct {
	MaxClients int           `mapstructure:"max_clients"`
	Queue      int           `mapstructure:"queue"`
	Heartbeat  time.Duration `mapstructure:"heartbeat"`
}

// LinksConfig is where the UI finds other tools.
type LinksConfig struct {
	Jaeger     string `mapstructure:"jaeger"`
	Grafana    string `mapstructure:"grafana"`
	Prometheus string `mapstructure:"prometheus"`
}

var _ component.Config = (*Config)(nil)

func createDefaultConfig() component.Config {
	server := confighttp.NewDefaultServerConfig()
	server.NetAddr.Endpoint = "localhost:16680"
	server.ReadHeaderTimeout = 10 * time.Second
	grpcServer := configgrpc.NewDefaultServerConfig()
	grpcServer.NetAddr = confignet.NewDefaultAddrConfig()
	grpcServer.NetAddr.Transport = confignet.TransportTypeTCP
	grpcServer.NetAddr.Endpoint = "localhost:17271"
	return &Config{
		HTTP: HTTPConfig{ServerConfig: server},
		Live: LiveConfig{Window: 15 * time.Minute, MaxEdges: 100_000, MaxSeries: 2_000_000},
		History: HistoryConfig{
			Resolution:       5 * time.Second,
			Retention:        15 * 24 * time.Hour,
			MaxSizeMiB:       10 << 10,
			OutOfOrderWindow: 24 * time.Hour,
			Metrics:          []string{"mesh.", "ztunnel.source.", "traces_service_graph_"},
			Lookback:         5 * time.Minute,
			QueryTimeout:     20 * time.Second,
			MaxSamples:       30_000_000,
		},
		Records: RecordsConfig{
			MaxSizeMiB: 4 << 10, Retention: 7 * 24 * time.Hour,
			VictoriaLogs: configoptional.Default(VictoriaLogsConfig{ClientConfig: confighttp.NewDefaultClientConfig()}),
		},
		KeptConfig: KeptConfig{
			Outages:   OutagesConfig{MaxOutages: 10_000},
			Changes:   ChangesConfig{MaxChanges: 10_000},
			Endpoints: EndpointsConfig{MaxServices: 5000, MaxPaths: 500, MaxSizeMiB: 128, Retention: 7 * 24 * time.Hour},
			Mesh:      MeshConfig{MaxEntities: 200_000},
		},
		Health: HealthConfig{DegradedAt: 0.01, FailingAt: 0.2, SilentAfter: 30 * time.Second},
		Limits: LimitsConfig{MaxConcurrent: 16, MaxQueued: 64, Timeout: 25 * time.Second, MaxRange: 31 * 24 * time.Hour, MaxMemoryMiB: 1024},
		Events: EventsConfig{MaxClients: 256, Queue: 64, Heartbeat: 10 * time.Second},
		GRPC:   configoptional.Default(grpcServer),
		ServersConfig: ServersConfig{
			Prometheus: configoptional.Default(PrometheusConfig{ClientConfig: confighttp.NewDefaultClientConfig()}),
			Jaeger:     configoptional.Default(JaegerConfig{ClientConfig: confighttp.NewDefaultClientConfig()}),
		},
	}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	positive := func(name string, ok bool) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s must be positive", name))
		}
	}
	positive("live::window", c.Live.Window > 0)
	positive("live::max_edges", c.Live.MaxEdges > 0)
	positive("live::max_series", c.Live.MaxSeries > 0)
	positive("history::resolution", c.History.Resolution >= time.Millisecond)
	positive("history::lookback", c.History.Lookback > 0)
	positive("history::query_timeout", c.History.QueryTimeout > 0)
	positive("history::max_samples", c.History.MaxSamples > 0)
	positive("records::max_size_mib", c.Records.MaxSizeMiB > 0)
	positive("outages::max_outages", c.Outages.MaxOutages > 0)
	positive("changes::max_changes", c.Changes.MaxChanges > 0)
	positive("endpoints::max_services", c.Endpoints.MaxServices > 0)
	positive("endpoints::max_paths", c.Endpoints.MaxPaths > 0)
	positive("endpoints::max_size_mib", c.Endpoints.MaxSizeMiB > 0)
	positive("endpoints::retention", c.Endpoints.Retention >= time.Minute)
	positive("mesh::max_entities", c.Mesh.MaxEntities > 0)
	positive("health::silent_after", c.Health.SilentAfter > 0)
	positive("limits::max_concurrent", c.Limits.MaxConcurrent > 0)
	positive("limits::timeout", c.Limits.Timeout > 0)
	positive("limits::max_range", c.Limits.MaxRange > 0)
	positive("limits::max_memory_mib", c.Limits.MaxMemoryMiB > 0)
	positive("events::max_clients", c.Events.MaxClients > 0)
	positive("events::queue", c.Events.Queue > 0)
	positive("events::heartbeat", c.Events.Heartbeat > 0)
	if c.Live.Window < c.History.Resolution {
		errs = append(errs, errors.New("live::window must not be shorter than history::resolution"))
	}
	if c.History.Retention < 0 || c.History.MaxSizeMiB < 0 || c.History.OutOfOrderWindow < 0 || c.Records.Retention < 0 || c.Limits.MaxQueued < 0 {
		errs = append(errs, errors.New("history::retention, history::max_size_mib, history::out_of_order_window, records::retention and limits::max_queued must not be negative"))
	}
	if !(c.Health.DegradedAt > 0 && c.Health.DegradedAt <= c.Health.FailingAt && c.Health.FailingAt <= 1) {
		errs = append(errs, errors.New("health: 0 < degraded_at ≤ failing_at ≤ 1 must hold"))
	}
	if c.HTTP.WriteTimeout > 0 && c.Limits.Timeout >= c.HTTP.WriteTimeout {
		errs = append(errs, errors.New("limits::timeout must be shorter than http::write_timeout, or the answer that says so never arrives"))
	}
	if query := int64(c.History.MaxSamples) * history.SampleBytes; !c.Prometheus.HasValue() && query > c.Limits.MaxMemoryMiB<<20 {
		errs = append(errs, fmt.Errorf("limits::max_memory_mib must have room for one query of history::max_samples: %d", query>>20+1))
	}
	for _, host := range c.HTTP.AllowedHosts {
		if host == "" || host == "." || strings.ContainsAny(host, ":/* ") {
			errs = append(errs, fmt.Errorf("http::allowed_hosts: %q is not a host's name", host))
		}
	}
	if p := c.HTTP.BasePath; p != "" && !basePath.MatchString(p) {
		errs = append(errs, fmt.Errorf("http::base_path must be like /mesh, not %q", p))
	}
	for _, origin := range c.HTTP.FrameAncestors {
		if origin != "'self'" && !frameOrigin.MatchString(origin) {
			errs = append(errs, fmt.Errorf("http::frame_ancestors: %q is neither 'self' nor like https://grafana.example", origin))
		}
	}
	if c.Prometheus.HasValue() {
		errs = append(errs, validateEndpoint("prometheus::endpoint", c.Prometheus.Get().Endpoint))
		if label := c.Prometheus.Get().ReplicaLabel; label != "" && !model.LegacyValidation.IsValidLabelName(label) {
			errs = append(errs, fmt.Errorf("prometheus::replica_label: %q is not a label's name", label))
		}
	}
	if c.Records.VictoriaLogs.HasValue() {
		errs = append(errs, validateEndpoint("records::victorialogs::endpoint", c.Records.VictoriaLogs.Get().Endpoint))
	}
	if c.Jaeger.HasValue() {
		errs = append(errs, validateEndpoint("jaeger::endpoint", c.Jaeger.Get().Endpoint))
	}
	for name, link := range map[string]string{"links::jaeger": c.Links.Jaeger, "links::grafana": c.Links.Grafana, "links::prometheus": c.Links.Prometheus} {
		if link != "" {
			errs = append(errs, validateEndpoint(name, link))
		}
	}
	return errors.Join(errs...)
}

func validateEndpoint(name, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s: %q is not an http or https URL", name, endpoint)
	}
	return nil
}

// allowedHosts are the names by which the server may be asked, none if it is not to be checked.
func (c *HTTPConfig) allowedHosts() []string {
	host, _, err := net.SplitHostPort(c.NetAddr.Endpoint)
	if err != nil {
		host = c.NetAddr.Endpoint
	}
	if len(c.AllowedHosts) == 0 {
		address, err := netip.ParseAddr(host)
		loopback := host == "localhost" || err == nil && address.IsLoopback()
		if !loopback {
			return nil
		}
	}
	names := append([]string{"localhost", ".localhost"}, c.AllowedHosts...)
	if host != "" {
		names = append(names, host)
	}
	return names
}

// keeps tells which metrics the history stores. How far the graph is says every sample's own time.
func (c *HistoryConfig) keeps(metric string) bool {
	if metric == semconv.MetricGraphTime {
		return false
	}
	for _, prefix := range c.Metrics {
		if strings.HasPrefix(metric, prefix) {
			return true
		}
	}
	return false
}
