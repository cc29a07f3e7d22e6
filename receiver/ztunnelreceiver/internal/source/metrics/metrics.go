// Package metrics is the source of what ztunnels and waypoints measure: scrapes of their Prometheus endpoints.
package metrics

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/config/confighttp"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/scrape"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/cluster"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/endpoints"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

const (
	ztunnelPath  = "/metrics"
	waypointPath = "/stats/prometheus"
	// maxWaypoints bounds the waypoints of which it is known whether they answer.
	maxWaypoints = 50_000
)

// Config says where ztunnels and waypoints serve metrics.
type Config struct {
	confighttp.ClientConfig `mapstructure:",squash"`

	Endpoints          []endpoints.Config `mapstructure:"endpoints"`
	CollectionInterval time.Duration      `mapstructure:"collection_interval"`
	MaxResponseSize    int64              `mapstructure:"max_response_size"`
	// Families are the metrics to keep: names, or beginnings with a "*" behind.
	Families []string `mapstructure:"families"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		ClientConfig:       endpoints.DefaultClient(),
		CollectionInterval: 5 * time.Second,
		MaxResponseSize:    scrape.DefaultMaxBytes,
		Families:           scrape.DefaultFamilies(),
	}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	return errors.Join(
		endpoints.ValidateClient(&c.ClientConfig, c.CollectionInterval, c.MaxResponseSize),
		scrape.Options{Families: c.Families}.Validate(),
	)
}

// Target is what to scrape at an endpoint of the configuration.
func Target(endpoint endpoints.Config, node, clusterName string) (scrape.Target, error) {
	address, err := endpoints.WithPath(endpoint.Endpoint, ztunnelPath)
	if err != nil {
		return scrape.Target{}, err
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return scrape.Target{}, fmt.Errorf("endpoint: %w", err)
	}
	target := scrape.Target{Name: cmp.Or(endpoint.Node, node), Instance: parsed.Host, Cluster: clusterName, URL: address}
	if endpoint.Kind == endpoints.KindWaypoint {
		target.Kind, target.Name = scrape.Waypoint, endpoint.Waypoint
	}
	return target, nil
}

// live scrapes endpoints of the configuration and those that are found through Kubernetes.
type live struct {
	*scrape.Scraper
	client *http.Client
}

// Open prepares the scraping.
func Open(ctx context.Context, config *Config, env *source.Env) (source.Source, error) {
	client, err := endpoints.Client(ctx, config.ClientConfig, env.Host, env.Settings.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	var static scrape.StaticTargets
	for _, endpoint := range config.Endpoints {
		target, err := Target(endpoint, env.Node, env.Cluster)
		if err != nil {
			return nil, err
		}
		static = append(static, target)
	}
	var targets scrape.TargetProvider = static
	if env.Kubernetes.Scrapes() {
		targets = found{static, env.Kubernetes, env.Cluster}
	}
	taken := newTaker(env)
	scraper, err := scrape.NewScraper(scrape.ScraperConfig{
		Interval: config.CollectionInterval, Timeout: config.Timeout, Concurrency: endpoints.Concurrency, Client: client,
		Options: scrape.Options{Families: config.Families, MaxBytes: config.MaxResponseSize, Refresh: env.Refresh},
		Raw:     env.Record != nil,
	}, targets, func(result scrape.Result) {
		env.Sink.Lock()
		defer env.Sink.Unlock()
		taken.take(result)
		if !result.Gone && !result.Target.Aside {
			env.Record.Scrape(result.Target.Name, result.At, result.Raw, result.Err != nil)
		}
	})
	if err != nil {
		return nil, err
	}
	return &live{scraper, client}, nil
}

// Run implements source.Source.
func (l *live) Run(ctx context.Context) {
	l.Scraper.Run(ctx)
	l.client.CloseIdleConnections()
}

// found are endpoints of the configuration and those of pods.
type found struct {
	scrape.StaticTargets
	cluster *cluster.Source
	name    string
}

// Targets implements scrape.TargetProvider.
func (f found) Targets() []scrape.Target {
	targets := append([]scrape.Target(nil), f.StaticTargets...)
	add := func(target scrape.Target, pod *kube.Pod, path string) {
		target.Cluster, target.Waiting, target.Aside = f.name, pod.Waiting, pod.Aside
		target.Instance = pod.Name
		if pod.IP != "" {
			target.Instance = net.JoinHostPort(pod.IP, strconv.Itoa(int(f.cluster.Config().MetricsPort)))
			target.URL = "http://" + target.Instance + path
		}
		targets = append(targets, target)
	}
	if f.cluster.Config().Metrics {
		for _, pod := range f.cluster.Ztunnels() {
			add(scrape.Target{Kind: scrape.Ztunnel, Name: pod.Node}, &pod, ztunnelPath)
		}
	}
	for _, pod := range f.cluster.Waypoints() {
		if pod.IP != "" && pod.Gateway != "" {
			add(scrape.Target{Kind: scrape.Waypoint, Name: pod.Namespace + "/" + pod.Gateway}, &pod, waypointPath)
		}
	}
	return targets
}

// taker takes scrapes, live or recorded.
type taker struct {
	env *source.Env
	// waypoints tells of each waypoint that is scraped whether it answers; bounded by maxWaypoints.
	waypoints map[string]bool
}

func newTaker(env *source.Env) *taker { return &taker{env: env, waypoints: map[string]bool{}} }

// take takes what a scrape gave; its metrics are not used afterwards. The lock is held.
func (t *taker) take(result scrape.Result) {
	target := &result.Target
	if result.Err != nil && target.Aside {
		return
	}
	t.env.Sink.AddMetrics(result.Metrics)
	t.env.Telemetry.Dropped(telemetry.ReasonScrapeSeries, result.Stats.Dropped())
	if result.Gone {
		delete(t.waypoints, target.Name)
	}
	if result.Gone || target.Aside {
		return
	}
	up, seen := result.Err == nil, result.At
	if !up {
		seen = time.Time{}
		t.env.Telemetry.Failed(semconv.SourceMetrics, "A scrape failed", target.Name, result.Err)
	}
	if target.Kind == scrape.Ztunnel {
		t.env.Sink.Up(semconv.SourceMetrics, target.Name, up, seen)
		t.env.Sink.Left(semconv.SourceMetrics, target.Name, result.Stats.Dropped())
		return
	}
	// Waypoints are no node's: together they are one source, which delivers while any of them answers.
	if _, known := t.waypoints[target.Name]; known || len(t.waypoints) < maxWaypoints {
		t.waypoints[target.Name] = up
	}
	for _, answers := range t.waypoints {
		up = up || answers
	}
	t.env.Sink.Up(semconv.SourceMetrics, "", up, seen)
	t.env.Sink.Left(semconv.SourceMetrics, "", result.Stats.Dropped())
}

// player takes recorded scrapes.
type player struct {
	*taker
	trackers map[string]*scrape.Tracker // bounded by the recording's files
}

// NewPlayer returns what takes the scrapes of a recording.
func NewPlayer(env *source.Env) source.Player {
	return &player{taker: newTaker(env), trackers: map[string]*scrape.Tracker{}}
}

// Begin implements source.Player.
func (*player) Begin(replay.Contents) {}

// Repeat implements source.Repeater.
func (p *player) Repeat() {
	for _, tracker := range p.trackers {
		tracker.Repeat()
	}
}

// Part implements source.Player.
func (p *player) Part(part *replay.Part) {
	target := scrape.Target{Name: part.Name, Instance: part.Name, Cluster: p.env.Cluster}
	if part.Waypoint {
		target.Kind = scrape.Waypoint
	}
	p.env.Record.Scrape(part.Name, part.Recorded(), part.Raw, part.Failed)
	tracker := p.trackers[part.Name]
	if tracker == nil {
		tracker = scrape.NewTracker()
		p.trackers[part.Name] = tracker
	}
	result := scrape.Result{Target: target, At: part.Time, Err: replay.ErrFailed}
	if !part.Failed {
		result.Metrics, result.Stats, result.Err = scrape.Parse(bytes.NewReader(part.Raw), "", part.Time, target,
			scrape.Options{MaxBytes: replay.MaxPart, Refresh: p.env.Refresh}, tracker)
	}
	if result.Err != nil {
		result.Metrics = scrape.Down(target, part.Time)
	}
	p.take(result)
}
