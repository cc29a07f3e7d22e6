// Package endpoints has what sources share that ask ztunnels and waypoints over HTTP.
package endpoints

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
)

// Concurrency is how many endpoints of one source are asked at once.
const Concurrency = 16

// The kinds of endpoints.
const (
	KindZtunnel  = "ztunnel"
	KindWaypoint = "waypoint"
)

// Config is one ztunnel's or waypoint's endpoint.
type Config struct {
	// Endpoint is a URL; of metrics, the path is /metrics if there is none, of config dumps /config_dump.
	Endpoint string `mapstructure:"endpoint"`
	// Node is the ztunnel's node; by default node_name.
	Node string `mapstructure:"node"`
	// Kind is "ztunnel" or "waypoint".
	Kind string `mapstructure:"kind"`
	// Waypoint is the waypoint's "namespace/name".
	Waypoint string `mapstructure:"waypoint"`
}

// DefaultClient is how endpoints are asked.
func DefaultClient() confighttp.ClientConfig {
	client := confighttp.NewDefaultClientConfig()
	client.Timeout = 5 * time.Second
	return client
}

// Client returns the client of a source.
func Client(ctx context.Context, config confighttp.ClientConfig, host component.Host, set component.TelemetrySettings) (*http.Client, error) {
	client, err := config.ToClient(ctx, host.GetExtensions(), set)
	if err != nil {
		return nil, fmt.Errorf("HTTP client: %w", err)
	}
	return client, nil
}

// WithPath gives a URL a path if it has none.
func WithPath(address, path string) (string, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("endpoint: %w", err)
	}
	if parsed.Path == "" || parsed.Path == "/" {
		parsed.Path = path
	}
	return parsed.String(), nil
}

// ValidateClient checks how a source asks.
func ValidateClient(client *confighttp.ClientConfig, interval time.Duration, maxSize int64) error {
	var errs []error
	if client.Endpoint != "" {
		errs = append(errs, errors.New("use endpoints (a list) instead of endpoint"))
	}
	if interval <= 0 {
		errs = append(errs, errors.New("collection_interval must be positive"))
	}
	if client.Timeout <= 0 || client.Timeout > interval {
		errs = append(errs, errors.New("timeout must be positive and not longer than collection_interval"))
	}
	if maxSize <= 0 {
		errs = append(errs, errors.New("max_response_size must be positive"))
	}
	return errors.Join(errs...)
}

// Validate checks the endpoints of a source. node is the default of their nodes; found tells that others are found through Kubernetes.
func Validate(source string, list []Config, node string, found, waypoints bool) error {
	var errs []error
	if len(list) == 0 && !found {
		errs = append(errs, errors.New(source+": endpoints is required"))
	}
	fail := func(i int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s::endpoints::%d: %w", source, i, fmt.Errorf(format, args...)))
	}
	seen := map[string]bool{}
	for i, e := range list {
		target, err := url.Parse(e.Endpoint)
		switch {
		case e.Endpoint == "":
			fail(i, "endpoint is required")
		case err != nil:
			fail(i, "endpoint: %w", err)
		case (target.Scheme != "http" && target.Scheme != "https") || target.Host == "":
			fail(i, "endpoint %q must be an http or https URL", e.Endpoint)
		case seen[e.Endpoint]:
			fail(i, "endpoint %q is listed twice", e.Endpoint)
		}
		seen[e.Endpoint] = true
		switch {
		case e.Kind != "" && e.Kind != KindZtunnel && e.Kind != KindWaypoint:
			fail(i, "kind %q must be %q or %q", e.Kind, KindZtunnel, KindWaypoint)
		case e.Kind == KindWaypoint && !waypoints:
			fail(i, "%s is not available for a waypoint", source)
		case e.Kind == KindWaypoint && e.Waypoint == "":
			fail(i, "waypoint (namespace/name) is required")
		case e.Kind != KindWaypoint && e.Waypoint != "":
			fail(i, "waypoint is for kind %q only", KindWaypoint)
		case e.Kind != KindWaypoint && e.Node == "" && node == "":
			fail(i, "node, or node_name for all, is required")
		}
	}
	return errors.Join(errs...)
}
