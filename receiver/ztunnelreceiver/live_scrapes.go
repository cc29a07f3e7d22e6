package ztunnelreceiver

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/receiver"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/configdump"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/scrape"
)

const (
	metricsPath = "/metrics"
	dumpPath    = "/config_dump"

	// concurrency is how many endpoints of one source are asked at once.
	concurrency = 16
)

// openScrapes prepares the scraping of metrics and of config dumps.
func (l *live) openScrapes(ctx context.Context, set receiver.Settings, host component.Host) error {
	if config := l.cfg.Metrics.Get(); config != nil {
		if err := l.openMetrics(ctx, set, host, config); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	if config := l.cfg.ConfigDump.Get(); config != nil {
		if err := l.openDumps(ctx, set, host, config); err != nil {
			return fmt.Errorf("config_dump: %w", err)
		}
	}
	return nil
}

func (l *live) openMetrics(ctx context.Context, set receiver.Settings, host component.Host, config *MetricsConfig) error {
	client, err := httpClient(ctx, set, host, config.ClientConfig)
	if err != nil {
		return err
	}
	var targets scrape.StaticTargets
	for _, endpoint := range config.Endpoints {
		target, err := l.cfg.target(endpoint)
		if err != nil {
			return err
		}
		targets = append(targets, target)
	}
	scraper, err := scrape.NewScraper(scrape.ScraperConfig{
		Interval: config.Interval, Timeout: config.Timeout, Concurrency: concurrency, Client: client,
		Options: scrape.Options{Families: config.Families, MaxBytes: config.MaxResponseSize, Refresh: l.cfg.RefreshInterval},
	}, l.metricsTargets(targets), func(result scrape.Result) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.addScrape(result)
	})
	if err != nil {
		return err
	}
	l.repeatScraped = scraper.Repeat
	l.sources = append(l.sources, func(ctx context.Context) {
		scraper.Run(ctx)
		client.CloseIdleConnections()
	})
	return nil
}

func (l *live) openDumps(ctx context.Context, set receiver.Settings, host component.Host, config *ConfigDumpConfig) error {
	client, err := httpClient(ctx, set, host, config.ClientConfig)
	if err != nil {
		return err
	}
	var targets configdump.StaticTargets
	for _, endpoint := range config.Endpoints {
		address, err := withPath(endpoint.Endpoint, dumpPath)
		if err != nil {
			return err
		}
		targets = append(targets, configdump.Target{Node: cmp.Or(endpoint.Node, l.cfg.NodeName), URL: address})
	}
	if len(targets) > 0 {
		if err := l.pollDumps(config, client, targets); err != nil {
			return err
		}
	}
	if _, _, found := l.cfg.reads(); found {
		return l.pollDumps(config, l.kube.dumpClient(), dumpTargets{l.kube})
	}
	return nil
}

func (l *live) pollDumps(config *ConfigDumpConfig, client *http.Client, targets configdump.TargetProvider) error {
	poller, err := configdump.NewPoller(configdump.PollerConfig{
		Interval: config.Interval, Timeout: config.Timeout, Concurrency: concurrency, Client: client,
		Options: configdump.Options{State: config.State, MaxBytes: int(config.MaxResponseSize)},
	}, targets, func(result configdump.Result) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.addDump(result)
	})
	if err != nil {
		return err
	}
	l.sources = append(l.sources, func(ctx context.Context) {
		poller.Run(ctx)
		client.CloseIdleConnections()
	})
	return nil
}

func httpClient(ctx context.Context, set receiver.Settings, host component.Host, config confighttp.ClientConfig) (*http.Client, error) {
	client, err := config.ToClient(ctx, host.GetExtensions(), set.TelemetrySettings)
	if err != nil {
		return nil, fmt.Errorf("HTTP client: %w", err)
	}
	return client, nil
}

// target is an endpoint of metrics.
func (c *Config) target(endpoint EndpointConfig) (scrape.Target, error) {
	address, err := withPath(endpoint.Endpoint, metricsPath)
	if err != nil {
		return scrape.Target{}, err
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return scrape.Target{}, fmt.Errorf("endpoint: %w", err)
	}
	target := scrape.Target{
		Name: cmp.Or(endpoint.Node, c.NodeName), Instance: parsed.Host, Cluster: c.ClusterName, URL: address,
	}
	if endpoint.Kind == kindWaypoint {
		target.Kind, target.Name = scrape.Waypoint, endpoint.Waypoint
	}
	return target, nil
}

// withPath gives a URL a path if it has none.
func withPath(address, path string) (string, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("endpoint: %w", err)
	}
	if parsed.Path == "" || parsed.Path == "/" {
		parsed.Path = path
	}
	return parsed.String(), nil
}
