package topologyquery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/events"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/httpapi"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/ingest"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/outages"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/state"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
	"github.com/nephilia/nephilia/internal/outage"
)

// saveEvery is how often a changed state is written to disk.
const saveEvery = 2 * time.Second

// open opens the stores, with what was kept from before a restart.
func (t *topologyQuery) open(ctx context.Context, host component.Host) error {
	if err := t.openDirectory(); err != nil {
		return err
	}
	hub := events.New(t.config.Events.MaxClients, t.config.Events.Queue)
	stores := ingest.Stores{
		Live: live.New(live.Settings{
			Window:     t.config.Live.Window.Milliseconds(),
			Resolution: t.config.History.Resolution.Milliseconds(),
			MaxEdges:   t.config.Live.MaxEdges,
		}),
		Sources:   sources.New(),
		Inventory: inventory.New(t.config.Mesh.MaxEntities),
		Flows:     flows.New(t.config.Flows.Size),
		Changes:   changes.New(t.config.Changes.Max),
		Outages: outages.New(t.config.Outages.Max, func(o *outage.Outage, transition string, at int64) {
			body, err := httpapi.OutageEvent(o, transition, time.UnixMilli(at))
			if err != nil {
				t.logger.Error("An outage could not be sent to clients", zap.String("outage", o.ID), zap.Error(err))
				return
			}
			hub.Publish("outage", body)
		}),
	}
	reader, err := t.openTraces(ctx, host, &stores)
	if err != nil {
		return err
	}
	engine, err := t.openHistory(ctx, host)
	if err != nil {
		return err
	}
	if t.embedded != nil {
		stores.History = history.NewWriter(t.embedded.Appendable(), t.config.History.Resolution.Milliseconds())
	}
	restored, err := t.restore(&stores)
	if err != nil {
		return err
	}
	t.ingester = ingest.New(stores, ingest.Settings{
		MaxSeries:    t.config.Live.MaxSeries,
		SeriesExpiry: t.config.Live.Window.Milliseconds(),
		Keep:         t.config.History.keeps,
		// A server of its own may know more of the past than this process.
		Restored: restored || t.embedded == nil,
		Changed: func() {
			select {
			case t.changed <- struct{}{}:
			default:
			}
		},
	})
	t.stores = httpapi.Stores{
		Live:      stores.Live,
		Sources:   stores.Sources,
		Inventory: stores.Inventory,
		Flows:     stores.Flows,
		Outages:   stores.Outages,
		Changes:   stores.Changes,
		Past:      engine,
		Traces:    reader,
		Events:    hub,
	}
	return t.report()
}

func (t *topologyQuery) openTraces(ctx context.Context, host component.Host, stores *ingest.Stores) (traces.Reader, error) {
	inventory := stores.Inventory
	appOf := func(namespace, pod string) string {
		if w := inventory.Pod(namespace, pod); w != nil {
			return w.App()
		}
		return ""
	}
	if t.config.Jaeger.HasValue() {
		jaeger := t.config.Jaeger.Get()
		client, err := jaeger.ToClient(ctx, host.GetExtensions(), t.settings.TelemetrySettings)
		if err != nil {
			return nil, fmt.Errorf("making the client of Jaeger: %w", err)
		}
		t.closers = append(t.closers, client.CloseIdleConnections)
		return traces.NewJaeger(client, jaeger.Endpoint, appOf), nil
	}
	t.spans = traces.NewStore(traces.Settings{
		MaxSpans:  t.config.Traces.MaxSpans,
		MaxBytes:  t.config.Traces.MaxSizeMiB << 20,
		Retention: t.config.Traces.Retention,
		AppOf:     appOf,
	})
	stores.Spans = t.spans
	return t.spans, nil
}

func (t *topologyQuery) openDirectory() error {
	t.directory = t.config.Directory
	if t.directory == "" {
		temporary, err := os.MkdirTemp("", "nephilia-")
		if err != nil {
			return fmt.Errorf("making a directory for the history: %w", err)
		}
		t.temporary, t.directory = temporary, temporary
		return nil
	}
	if err := os.MkdirAll(t.directory, 0o750); err != nil {
		return fmt.Errorf("making the directory for the history: %w", err)
	}
	return nil
}

func (t *topologyQuery) openHistory(ctx context.Context, host component.Host) (*history.Store, error) {
	c := &t.config.History
	if t.config.Prometheus.HasValue() {
		remote := t.config.Prometheus.Get()
		client, err := remote.ToClient(ctx, host.GetExtensions(), t.settings.TelemetrySettings)
		if err != nil {
			return nil, fmt.Errorf("making the client of Prometheus: %w", err)
		}
		t.closers = append(t.closers, client.CloseIdleConnections)
		return history.NewStore(history.NewRemote(client, remote.Endpoint), history.Settings{
			Matchers: remote.Selector, ReplicaLabel: remote.ReplicaLabel, Lookback: c.Lookback,
		}), nil
	}
	// The TSDB says a lot when all is well.
	logger := slog.New(zapslog.NewHandler(t.logger.WithOptions(zap.IncreaseLevel(zap.WarnLevel)).Core()))
	embedded, err := history.OpenEmbedded(logger, history.EmbeddedSettings{
		Directory:        filepath.Join(t.directory, "tsdb"),
		Retention:        c.Retention,
		MaxBytes:         c.MaxSizeMiB << 20,
		OutOfOrderWindow: c.OutOfOrderWindow,
		Lookback:         c.Lookback,
		QueryTimeout:     c.QueryTimeout,
		MaxSamples:       c.MaxSamples,
	})
	if err != nil {
		return nil, err
	}
	t.embedded = embedded
	return history.NewStore(embedded, history.Settings{Lookback: c.Lookback}), nil
}

// restore takes over what was kept. restored tells that there is a history from before.
func (t *topologyQuery) restore(stores *ingest.Stores) (restored bool, err error) {
	kept, err := state.Load(t.directory)
	if err != nil {
		// The state is made again by what arrives; a broken file must not keep the mesh invisible.
		t.logger.Error("Starting without the mesh's former state", zap.Error(err))
	}
	var first, clock int64
	if kept != nil {
		stores.Inventory.Restore(kept.Mesh)
		stores.Outages.Restore(kept.Outages)
		stores.Changes.Restore(kept.Changes)
		first, clock = kept.First, kept.Clock
	}
	if t.embedded != nil {
		// After a crash the series are newer than the state.
		if oldest, newest, ok := t.embedded.Bounds(); ok {
			if first == 0 {
				first = oldest
			}
			clock = max(clock, newest)
			stores.History.Resume(newest)
		}
	}
	if clock == 0 {
		return false, nil
	}
	stores.Sources.Restore(first, clock)
	return true, nil
}

// keepState writes the state to disk whenever it has changed.
func (t *topologyQuery) keepState(ctx context.Context) {
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := t.saveState(false); err != nil {
				t.logger.Error("The mesh's state is not safe on disk", zap.Error(err))
			}
		}
	}
}

func (t *topologyQuery) saveState(always bool) error {
	version := [3]uint64{t.stores.Inventory.Version(), t.stores.Outages.Version(), t.stores.Changes.Version()}
	if !always && version == t.saved {
		return nil
	}
	first, clock := t.stores.Sources.Clock()
	err := state.Save(t.directory, &state.State{
		First: first, Clock: clock,
		Mesh: t.stores.Inventory.Snapshot(), Outages: t.stores.Outages.Snapshot(), Changes: t.stores.Changes.Snapshot(),
	})
	if err == nil {
		t.saved = version
	}
	return err
}

// close stores what is still in memory and closes the stores.
func (t *topologyQuery) close(ctx context.Context) error {
	var errs []error
	if t.ingester != nil {
		errs = append(errs, t.ingester.Final(ctx))
		if t.temporary == "" {
			errs = append(errs, t.saveState(true))
		}
		t.ingester = nil
	}
	if t.embedded != nil {
		errs = append(errs, t.embedded.Close())
		t.embedded = nil
	}
	if t.telemetry != nil {
		t.telemetry.Shutdown()
	}
	for _, closer := range t.closers {
		closer()
	}
	t.closers = nil
	if t.temporary != "" {
		errs = append(errs, os.RemoveAll(t.temporary))
		t.temporary = ""
	}
	return errors.Join(errs...)
}
