package servicegraphprocessor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/nephilia/nephilia/internal/envoylog"
)

// Config configures the service_graph processor. All durations are of the data's own clock.
type Config struct {
	// FlushInterval is the least time between two emissions of edges.
	FlushInterval time.Duration `mapstructure:"flush_interval"`
	// RefreshInterval is the longest time between two emissions of an edge that does not change.
	RefreshInterval time.Duration `mapstructure:"refresh_interval"`
	// MaxLateness is how far the slowest node's heartbeat may hold back the graph's clock.
	MaxLateness time.Duration `mapstructure:"max_lateness"`

	// MaxEdges bounds the edges; what exceeds it is counted on one overflow edge.
	MaxEdges int `mapstructure:"max_edges"`
	// MaxPortsPerPair bounds the ports of one client, server and service; the connections to further ones are counted on an edge
	// without a port.
	MaxPortsPerPair int `mapstructure:"max_ports_per_pair"`
	// MaxFlows bounds the flow series (reporter, source pod, destination pod, port, service).
	MaxFlows int `mapstructure:"max_flows"`
	// MaxExternal bounds the parties outside the mesh that are told apart by address.
	MaxExternal int `mapstructure:"max_external"`
	// MaxEntities bounds the workloads, services, policies and ztunnels that are learned, each.
	MaxEntities int `mapstructure:"max_entities"`
	// EdgeExpiry is how long an edge, a flow series or a scraped series lives without news.
	EdgeExpiry time.Duration `mapstructure:"edge_expiry"`

	// ResolveHold is how long traffic of a pod waits for the mesh state that names its workload.
	ResolveHold time.Duration `mapstructure:"resolve_hold"`

	// Storage is the id of a storage extension that keeps the graph over a restart. Without one its counts begin anew.
	Storage *component.ID `mapstructure:"storage"`

	Reconcile ReconcileConfig `mapstructure:"reconcile"`
	Requests  RequestsConfig  `mapstructure:"requests"`
	FlowSpans FlowSpansConfig `mapstructure:"flow_spans"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// ReconcileConfig says how the two reports of one connection are told from two connections.
type ReconcileConfig struct {
	// SettleWindow is how long an excess of one reporter must last to be its own for good.
	SettleWindow time.Duration `mapstructure:"settle_window"`
	// ReasonHold is how long a failure whose client does not know the reason waits for the server's report.
	ReasonHold time.Duration `mapstructure:"reason_hold"`
	// MaxSkew is the ordinary lateness of one reporter against the other.
	MaxSkew time.Duration `mapstructure:"max_skew"`
}

// RequestsConfig configures the counting of requests from application spans and waypoints.
type RequestsConfig struct {
	// Wait is how long a server span waits for its client span where its address does not tell the client.
	Wait time.Duration `mapstructure:"wait"`
	// MaxSpans bounds the client spans remembered, and the server spans waiting, each.
	MaxSpans int `mapstructure:"max_spans"`
	// MaxRoutes bounds the routes of an edge; further ones are counted as "other".
	MaxRoutes int `mapstructure:"max_routes"`
	// VerifySenders counts a span only if it comes from a pod of the namespace that it says it is of, where the sender's address is a
	// pod's.
	VerifySenders bool `mapstructure:"verify_senders"`
	// Relays are the collectors whose pods send what others wrote: "namespace", or "namespace/workload".
	Relays []string `mapstructure:"relays"`
	// AccessLogFormat is the format of the access logs that waypoints and gateways send by themselves, where it is none of Istio's: Envoy's
	// format string, or a JSON object of the labels.
	AccessLogFormat string `mapstructure:"access_log_format"`
	// LatencyBuckets are the bounds of the traces_service_graph_request_* histograms.
	LatencyBuckets []time.Duration `mapstructure:"latency_buckets"`
}

// FlowSpansConfig configures the joining of a connection's spans.
type FlowSpansConfig struct {
	// Wait is how long a flow span waits for its counterpart.
	Wait time.Duration `mapstructure:"wait"`
	// ApplicationWait is how long a flow span waits for the application's span that used the connection.
	ApplicationWait time.Duration `mapstructure:"application_wait"`
	// MaxSpans bounds the flow spans held.
	MaxSpans int `mapstructure:"max_spans"`
	// MaxSkew bounds the difference between two nodes' clocks.
	MaxSkew time.Duration `mapstructure:"max_skew"`
}

func createDefaultConfig() component.Config {
	ms := time.Millisecond
	return &Config{
		FlushInterval:   time.Second,
		RefreshInterval: time.Minute,
		MaxLateness:     5 * time.Second,
		MaxEdges:        50_000,
		MaxPortsPerPair: 256,
		MaxFlows:        500_000,
		MaxExternal:     1000,
		MaxEntities:     200_000,
		EdgeExpiry:      time.Hour,
		ResolveHold:     10 * time.Second,
		Reconcile: ReconcileConfig{
			SettleWindow: time.Minute,
			ReasonHold:   2 * time.Second,
			MaxSkew:      100 * ms,
		},
		Requests: RequestsConfig{
			Wait:          10 * time.Second,
			MaxSpans:      100_000,
			MaxRoutes:     50,
			VerifySenders: true,
			LatencyBuckets: []time.Duration{
				2 * ms, 4 * ms, 6 * ms, 8 * ms, 10 * ms, 50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms,
				1000 * ms, 1400 * ms, 2000 * ms, 5000 * ms, 10_000 * ms, 15_000 * ms,
			},
		},
		FlowSpans: FlowSpansConfig{
			Wait:            5 * time.Second,
			ApplicationWait: 5 * time.Second,
			MaxSpans:        100_000,
			MaxSkew:         50 * ms,
		},
	}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"flush_interval", c.FlushInterval},
		{"refresh_interval", c.RefreshInterval},
		{"edge_expiry", c.EdgeExpiry},
		{"reconcile::settle_window", c.Reconcile.SettleWindow},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%s must be positive, got %s", d.name, d.value))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"max_lateness", c.MaxLateness},
		{"resolve_hold", c.ResolveHold},
		{"reconcile::reason_hold", c.Reconcile.ReasonHold},
		{"reconcile::max_skew", c.Reconcile.MaxSkew},
		{"requests::wait", c.Requests.Wait},
		{"flow_spans::wait", c.FlowSpans.Wait},
		{"flow_spans::application_wait", c.FlowSpans.ApplicationWait},
		{"flow_spans::max_skew", c.FlowSpans.MaxSkew},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative, got %s", d.name, d.value))
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"max_edges", c.MaxEdges},
		{"max_ports_per_pair", c.MaxPortsPerPair},
		{"max_flows", c.MaxFlows},
		{"max_external", c.MaxExternal},
		{"max_entities", c.MaxEntities},
		{"requests::max_spans", c.Requests.MaxSpans},
		{"requests::max_routes", c.Requests.MaxRoutes},
		{"flow_spans::max_spans", c.FlowSpans.MaxSpans},
	} {
		if n.value <= 0 {
			errs = append(errs, fmt.Errorf("%s must be positive, got %d", n.name, n.value))
		}
	}
	if c.Reconcile.ReasonHold >= c.Reconcile.SettleWindow {
		errs = append(errs, errors.New("reconcile::reason_hold must be less than reconcile::settle_window"))
	}
	if c.EdgeExpiry < 2*c.RefreshInterval {
		errs = append(errs, errors.New("edge_expiry must be at least twice refresh_interval"))
	}
	for _, relay := range c.Requests.Relays {
		if namespace, workload, one := strings.Cut(relay, "/"); namespace == "" || one && workload == "" || strings.Contains(workload, "/") {
			errs = append(errs, fmt.Errorf("requests::relays: %q is neither a namespace nor namespace/workload", relay))
		}
	}
	for i, bound := range c.Requests.LatencyBuckets {
		if bound <= 0 || (i > 0 && bound <= c.Requests.LatencyBuckets[i-1]) {
			errs = append(errs, errors.New("requests::latency_buckets must be positive and ascending"))
			break
		}
	}
	if _, err := c.Requests.accessLogFormat(); err != nil {
		errs = append(errs, fmt.Errorf("requests::access_log_format: %w", err))
	}
	return errors.Join(errs...)
}

// accessLogFormat compiles the format, nil if there is none.
func (c *RequestsConfig) accessLogFormat() (*envoylog.Format, error) {
	if c.AccessLogFormat == "" {
		return nil, nil
	}
	return envoylog.NewFormat(c.AccessLogFormat)
}
