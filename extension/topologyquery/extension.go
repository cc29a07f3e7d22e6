package topologyquery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/extension/topologyquery/api"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/httpapi"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/ingest"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/metadata"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
	"github.com/nephilia/nephilia/extension/topologyquery/ui"
)

// topologyQuery is the extension: it holds the stores, which the topology exporter writes to, and serves them.
type topologyQuery struct {
	config    *Config
	settings  extension.Settings
	storage   *storage
	stores    *stores.Stores
	ingester  *ingest.Ingester
	api       *httpapi.Server
	telemetry *metadata.TelemetryBuilder
	// changed is signalled after each write.
	changed chan struct{}

	server   *http.Server
	listener net.Listener
	grpc     *grpcServer
	stop     context.CancelFunc
	done     sync.WaitGroup
	closing  sync.Once
}

func newExtension(settings extension.Settings, config *Config) (*topologyQuery, error) {
	for _, warning := range config.warnings {
		settings.Logger.Warn(warning)
	}
	return &topologyQuery{
		config: config, settings: settings, changed: make(chan struct{}, 1),
		storage: &storage{
			config: config, telemetry: settings.TelemetrySettings, memory: budget.New(config.Limits.MaxMemoryMiB << 20),
		},
	}, nil
}

// shutdownGrace is how long requests may take to finish.
const shutdownGrace = 5 * time.Second

// Start opens the stores and begins to serve.
func (t *topologyQuery) Start(ctx context.Context, host component.Host) error {
	if err := t.open(ctx, host); err != nil {
		return errors.Join(err, t.Shutdown(ctx))
	}
	if err := t.serve(ctx, host); err != nil {
		return errors.Join(err, t.Shutdown(ctx))
	}
	if err := t.serveGRPC(ctx, host); err != nil {
		return errors.Join(err, t.Shutdown(ctx))
	}
	background, stop := context.WithCancel(context.Background())
	t.stop = stop
	t.done.Go(func() { t.storage.keepState(background) })
	t.done.Go(func() { t.api.Publish(background, t.changed) })
	t.done.Go(func() { watchClocks(background, t.settings.Logger, t.stores.Sources.Problems) })
	return nil
}

// open opens the stores and what writes to them.
func (t *topologyQuery) open(ctx context.Context, host component.Host) error {
	restored, err := t.storage.open(ctx, host)
	t.stores = t.storage.stores
	if err != nil {
		return err
	}
	settings := ingest.Settings{
		MaxSeries:    t.config.Live.MaxSeries,
		SeriesExpiry: t.config.Live.Window.Milliseconds(),
		Keep:         t.config.History.keeps,
		// A server of its own may know more of the past than this process.
		Restored: restored || t.stores.History == nil,
		Changed: func() {
			select {
			case t.changed <- struct{}{}:
			default:
			}
		},
	}
	if t.storage.state != nil {
		settings.State = t.storage.state
	}
	if t.storage.embedded != nil {
		settings.Catalog = t.storage.embedded.Catalog
	}
	t.ingester = ingest.New(t.stores, settings)
	return t.report()
}

func (t *topologyQuery) serve(ctx context.Context, host component.Host) error {
	t.api = httpapi.New(t.stores, httpapi.Settings{
		Build:  httpapi.Build{Command: t.settings.BuildInfo.Command, Version: t.settings.BuildInfo.Version},
		Health: httpapi.Health{DegradedAt: t.config.Health.DegradedAt, FailingAt: t.config.Health.FailingAt},
		Limits: httpapi.Limits{
			MaxRange: t.config.Limits.MaxRange, Timeout: t.config.Limits.Timeout,
			Concurrent: t.config.Limits.MaxConcurrent, Queue: t.config.Limits.MaxQueued,
		},
		Links:       t.config.Links.asMap(),
		SilentAfter: t.config.Health.SilentAfter,
		Heartbeat:   t.config.Events.Heartbeat,
		UI:          ui.FS(),
		OpenAPI:     api.OpenAPI,
		Place: httpapi.Place{
			AllowedHosts: t.config.HTTP.allowedHosts(), BasePath: t.config.HTTP.BasePath, FrameAncestors: t.config.HTTP.FrameAncestors,
		},
		Memory:     t.storage.memory,
		Prometheus: t.prometheusAPI(),
		Retention:  t.config.History.Retention,
		Dropped:    t.dropped,
		Hooks: httpapi.Hooks{
			Observe:  t.observe,
			Rejected: t.rejected,
			Failed: func(_ context.Context, err error) {
				t.settings.Logger.Error("A request could not be answered", zap.Error(err))
			},
		},
	})
	var err error
	t.server, err = t.config.HTTP.ToServer(ctx, host.GetExtensions(), t.settings.TelemetrySettings, t.api.Handler())
	if err != nil {
		return fmt.Errorf("making the HTTP server: %w", err)
	}
	if auth := t.config.HTTP.Auth.Get(); auth != nil {
		t.server.Handler = httpapi.Challenge(t.server.Handler, challengeOf(auth.AuthenticatorID))
	}
	t.listener, err = t.config.HTTP.ToListener(ctx)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", t.config.HTTP.NetAddr.Endpoint, err)
	}
	t.settings.Logger.Info("Serving the topology API and the UI", zap.String("endpoint", t.listener.Addr().String()))
	t.done.Go(func() {
		if err := t.server.Serve(t.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			componentstatus.ReportStatus(host, componentstatus.NewFatalErrorEvent(err))
		}
	})
	return nil
}

// challengeOf is how an authenticator wants to be spoken to; all but basicauth read bearer tokens.
func challengeOf(authenticator component.ID) string {
	if authenticator.Type().String() == "basicauth" {
		return `Basic realm="Nephilia", charset="UTF-8"`
	}
	return `Bearer realm="Nephilia"`
}

// Shutdown stops serving and closes the stores.
func (t *topologyQuery) Shutdown(ctx context.Context) (err error) {
	t.closing.Do(func() { err = t.shutdown(ctx) })
	return err
}

func (t *topologyQuery) shutdown(ctx context.Context) error {
	var errs []error
	if t.stores != nil {
		t.stores.Events.Close()
	}
	if t.server != nil {
		// What is being answered still reads the stores.
		graceful, cancel := context.WithTimeout(ctx, shutdownGrace)
		if err := t.server.Shutdown(graceful); err != nil {
			errs = append(errs, t.server.Close())
		}
		cancel()
	}
	t.grpc.stop()
	if t.stop != nil {
		t.stop()
	}
	t.done.Wait()
	if t.ingester != nil {
		// What is still in memory.
		errs = append(errs, t.ingester.Final(ctx))
		errs = append(errs, t.storage.saveState(ctx, true))
	}
	if t.telemetry != nil {
		t.telemetry.Shutdown()
	}
	return errors.Join(append(errs, t.storage.close())...)
}

// WriteMetrics takes metrics over; they can be queried when it returns.
func (t *topologyQuery) WriteMetrics(ctx context.Context, md pmetric.Metrics) error {
	return t.ingester.Metrics(ctx, md)
}

// WriteLogs takes flow records, entity events and outage events over.
func (t *topologyQuery) WriteLogs(ctx context.Context, ld plog.Logs) error {
	return t.ingester.Logs(ctx, ld)
}

// WriteTraces takes spans over.
func (t *topologyQuery) WriteTraces(ctx context.Context, td ptrace.Traces) error {
	return t.ingester.Traces(ctx, td)
}

func (l *LinksConfig) asMap() map[string]string {
	links := map[string]string{}
	for name, link := range map[string]string{"jaeger": l.Jaeger, "grafana": l.Grafana, "prometheus": l.Prometheus} {
		if link != "" {
			links[name] = link
		}
	}
	return links
}
