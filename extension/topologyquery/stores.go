package topologyquery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/endpoints"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/events"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/httpapi"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/lines"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/outages"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/proxies"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/state"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/records"
	"github.com/nephilia/nephilia/internal/records/victorialogs"
)

// saveEvery is how often a changed state is written to disk.
const saveEvery = 2 * time.Second

// storage opens the stores, keeps on disk what must outlive the process, and closes them.
type storage struct {
	config    *Config
	telemetry component.TelemetrySettings
	// memory is what all queries have together.
	memory    *budget.Budget
	stores    *stores.Stores
	embedded  *history.Embedded
	records   *records.Store
	directory string
	// temporary is the directory that ends with the process, empty if one is configured.
	temporary string
	closers   []func()
	// opened tells that all stores are there.
	opened atomic.Bool
	// state is nil where nothing outlives the process.
	state *state.Keeper
}

// open opens the stores, with what was kept from before a restart. restored tells that there is a history from then.
func (s *storage) open(ctx context.Context, host component.Host) (restored bool, err error) {
	if err := s.openDirectory(); err != nil {
		return false, err
	}
	c := s.config
	hub := events.New(c.Events.MaxClients, c.Events.Queue)
	s.stores = &stores.Stores{
		Live: live.New(live.Settings{
			Window:     c.Live.Window.Milliseconds(),
			Resolution: c.History.Resolution.Milliseconds(),
			MaxEdges:   c.Live.MaxEdges,
		}),
		Sources:   sources.New(),
		Inventory: inventory.New(c.Mesh.MaxEntities),
		Changes:   changes.New(c.Changes.MaxChanges),
		Proxies:   proxies.New(),
		Outages: outages.New(c.Outages.MaxOutages, func(o *outage.Outage, transition string, at int64) {
			body, err := httpapi.OutageEvent(o, transition, time.UnixMilli(at))
			if err != nil {
				s.telemetry.Logger.Error("An outage could not be sent to clients", zap.String("outage", o.ID), zap.Error(err))
				return
			}
			hub.Publish("outage", body)
		}),
		Events: hub,
		Drops:  drops.NewTable(),
	}
	s.stores.Sources.SilentAfter = c.Health.SilentAfter
	s.stores.Endpoints = endpoints.New(endpoints.Settings{
		MaxServices: c.Endpoints.MaxServices, MaxTemplates: c.Endpoints.MaxPaths, MaxBytes: c.Endpoints.MaxSizeMiB << 20,
		Retention: c.Endpoints.Retention.Milliseconds(),
		Now: func() int64 {
			_, now := s.stores.Sources.Clock()
			return now
		},
	})
	if err := s.openHistory(ctx, host); err != nil {
		return false, err
	}
	if err := s.openRecords(ctx, host); err != nil {
		return false, err
	}
	if err := s.openTraces(ctx, host); err != nil {
		return false, err
	}
	restored, err = s.restore(ctx)
	s.opened.Store(true)
	return restored, err
}

// now is the data's time, and the wall clock's before there is any data.
func (s *storage) now() time.Time {
	if _, now := s.stores.Sources.Clock(); now > 0 {
		return time.UnixMilli(now)
	}
	return time.Now()
}

// openRecords opens the flows and lines, and the spans unless something else keeps them.
func (s *storage) openRecords(ctx context.Context, host component.Host) error {
	kinds := []records.Kind{flows.Kind, lines.Kind}
	if !s.config.Jaeger.HasValue() {
		kinds = append(kinds, traces.Kind)
	}
	if s.config.Records.VictoriaLogs.HasValue() {
		return s.openVictoriaLogs(ctx, host, kinds)
	}
	kinds = append(kinds, flows.SampleKind)
	if !s.config.Jaeger.HasValue() {
		kinds = append(kinds, traces.SampleKind)
	}
	kept, err := records.Open(records.Settings{
		Directory: filepath.Join(s.directory, "records"),
		MaxBytes:  s.config.Records.MaxSizeMiB << 20,
		Retention: s.config.Records.Retention,
		Now:       s.now,
		Logger:    s.telemetry.Logger,
		Leaving:   s.keepSamples,
	}, kinds...)
	if err != nil {
		return err
	}
	s.records, s.stores.Records = kept, kept
	s.stores.Flows, s.stores.Lines = flows.NewStore(kept.Table(flows.KindName), kept.Table(flows.SampleKind.Name)), lines.NewStore(kept.Table(lines.KindName))
	if !s.config.Jaeger.HasValue() {
		s.stores.Spans = traces.NewStore(kept.Table(traces.KindName), kept.Table(traces.SampleKind.Name), s.appOf)
	}
	return nil
}

// servedRecords are the records of all kinds that a server keeps.
type servedRecords []*victorialogs.Table

// Status tells what is kept of each.
func (s servedRecords) Status() []records.Status {
	all := make([]records.Status, 0, len(s))
	for _, t := range s {
		all = append(all, t.Status())
	}
	return all
}

func (s *storage) openVictoriaLogs(ctx context.Context, host component.Host, kinds []records.Kind) error {
	server := s.config.Records.VictoriaLogs.Get()
	client, err := server.ToClient(ctx, host.GetExtensions(), s.telemetry)
	if err != nil {
		return fmt.Errorf("making the client of VictoriaLogs: %w", err)
	}
	settings := victorialogs.Settings{Client: client, Endpoint: strings.TrimSuffix(server.Endpoint, "/"), Logger: s.telemetry.Logger}
	var served servedRecords
	for _, kind := range kinds {
		t := victorialogs.Open(settings, kind)
		served = append(served, t)
		s.closers = append(s.closers, func() {
			if err := t.Close(); err != nil {
				s.telemetry.Logger.Error("The last records are lost", zap.String("kind", kind.Name), zap.Error(err))
			}
		})
		switch kind.Name {
		case flows.KindName:
			s.stores.Flows = flows.NewStore(t, nil)
		case lines.KindName:
			s.stores.Lines = lines.NewStore(t)
		case traces.KindName:
			s.stores.Spans = traces.NewStore(t, nil, s.appOf)
		}
	}
	s.closers = append(s.closers, client.CloseIdleConnections)
	s.stores.Records = served
	return nil
}

// appOf is the app of a pod, empty where it is not known.
func (s *storage) appOf(namespace, pod string) string {
	if w := s.stores.Inventory.Pod(namespace, pod); w != nil {
		return w.App()
	}
	return ""
}

// maxOutagesKept bounds the outages of one time of which samples are kept.
const maxOutagesKept = 64

// keepSamples copies records of outages that are still known before they leave.
func (s *storage) keepSamples(t *records.Table, after, before uint64) {
	if !s.opened.Load() {
		return
	}
	var keep func(ctx context.Context, o *outage.Outage, ended time.Time, after, before uint64) error
	switch {
	case t == s.records.Table(flows.KindName):
		keep = s.stores.Flows.KeepSamples
	case s.stores.Spans != nil && t == s.records.Table(traces.KindName):
		keep = s.stores.Spans.KeepSamples
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepWithin)
	defer cancel()
	from, until := t.Bounds(after, before)
	for i, o := range s.stores.Outages.List(from, until, "") {
		if i >= maxOutagesKept {
			break
		}
		ended := s.now()
		if o.EndedAt != nil {
			ended = *o.EndedAt
		}
		if err := keep(ctx, o, ended, after, before); err != nil {
			s.telemetry.Logger.Warn("Samples of an outage could not be kept", zap.String("outage", o.ID), zap.Error(err))
		}
	}
}

// keepWithin bounds how long the samples of what leaves may take to be copied.
const keepWithin = 30 * time.Second

func (s *storage) openTraces(ctx context.Context, host component.Host) error {
	if s.config.Jaeger.HasValue() {
		jaeger := s.config.Jaeger.Get()
		client, err := jaeger.ToClient(ctx, host.GetExtensions(), s.telemetry)
		if err != nil {
			return fmt.Errorf("making the client of Jaeger: %w", err)
		}
		s.closers = append(s.closers, client.CloseIdleConnections)
		s.stores.Traces = traces.NewJaeger(client, jaeger.Endpoint, s.appOf)
		return nil
	}
	s.stores.Traces = s.stores.Spans
	return nil
}

// discarded is the folder in the directory that does not outlive the next start.
const discarded = "discarded-at-next-start"

func (s *storage) openDirectory() error {
	s.directory = s.config.Directory
	if s.directory == "" {
		temporary, err := os.MkdirTemp("", "nephilia-")
		if err != nil {
			return fmt.Errorf("making a directory for the history: %w", err)
		}
		s.temporary, s.directory = temporary, temporary
		return nil
	}
	if s.config.History.DiscardFormer {
		s.directory = filepath.Join(s.directory, discarded)
		if err := os.RemoveAll(s.directory); err != nil {
			return fmt.Errorf("discarding the former history: %w", err)
		}
	}
	if err := os.MkdirAll(s.directory, 0o750); err != nil {
		return fmt.Errorf("making the directory for the history: %w", err)
	}
	return nil
}

func (s *storage) openHistory(ctx context.Context, host component.Host) error {
	c := &s.config.History
	if s.config.Prometheus.HasValue() {
		remote := s.config.Prometheus.Get()
		client, err := remote.ToClient(ctx, host.GetExtensions(), s.telemetry)
		if err != nil {
			return fmt.Errorf("making the client of Prometheus: %w", err)
		}
		s.closers = append(s.closers, client.CloseIdleConnections)
		s.stores.Past = history.NewStore(history.NewRemote(client, remote.Endpoint, s.memory), history.Settings{
			Matchers: remote.Selector, ReplicaLabel: remote.ReplicaLabel, Lookback: c.Lookback,
		})
		return nil
	}
	// The TSDB says a lot when all is well.
	logger := slog.New(zapslog.NewHandler(s.telemetry.Logger.WithOptions(zap.IncreaseLevel(zap.WarnLevel)).Core(), zapslog.WithCaller(true)))
	embedded, err := history.OpenEmbedded(logger, history.EmbeddedSettings{
		Directory:        filepath.Join(s.directory, "tsdb"),
		Retention:        c.Retention,
		MaxBytes:         c.MaxSizeMiB << 20,
		OutOfOrderWindow: c.OutOfOrderWindow,
		Lookback:         c.Lookback,
		QueryTimeout:     c.QueryTimeout,
		MaxSamples:       c.MaxSamples,
		Memory:           s.memory,
	})
	if err != nil {
		return err
	}
	s.embedded = embedded
	s.stores.Past = history.NewStore(embedded, history.Settings{Lookback: c.Lookback})
	s.stores.History = history.NewWriter(embedded.Appendable(), c.Resolution.Milliseconds())
	return nil
}

// restore takes over what was kept. restored tells that there is a history from before.
func (s *storage) restore(ctx context.Context) (restored bool, err error) {
	all := s.stores
	var kept state.Clock
	if s.temporary == "" {
		s.state, kept, err = state.Open(ctx, s.directory, all)
		switch {
		case s.state == nil:
			return false, err
		case err != nil:
			// The state is made again by what arrives; a broken file must not keep the mesh invisible.
			s.telemetry.Logger.Error("Starting without all of the mesh's former state", zap.Error(err))
		}
		if err := all.Endpoints.Open(ctx, filepath.Join(s.directory, "endpoints")); err != nil {
			s.telemetry.Logger.Error("Starting without all that was known of endpoints", zap.Error(err))
		}
	}
	first, clock := kept.First, kept.Now
	if s.embedded != nil {
		// After a crash the series are newer than the state.
		if oldest, newest, ok := s.embedded.Bounds(); ok {
			if first == 0 {
				first = oldest
			}
			clock = max(clock, newest)
			all.History.Resume(newest)
		}
	}
	if clock == 0 {
		return false, nil
	}
	all.Sources.Restore(first, clock)
	return true, nil
}

// keepState writes the state to disk whenever it has changed.
func (s *storage) keepState(ctx context.Context) {
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := s.saveState(ctx, false); err != nil {
				s.telemetry.Logger.Error("The mesh's state is not safe on disk", zap.Error(err))
			}
		}
	}
}

// saveState writes to disk what has changed, if there is anything to outlive the process; with all, also what can wait.
func (s *storage) saveState(ctx context.Context, all bool) error {
	if s.state == nil {
		return nil
	}
	return errors.Join(s.state.Save(ctx), s.stores.Endpoints.Save(ctx, all))
}

// close closes the stores.
func (s *storage) close() error {
	var errs []error
	if s.embedded != nil {
		errs = append(errs, s.embedded.Close())
		s.embedded = nil
	}
	if s.records != nil {
		errs = append(errs, s.records.Close())
		s.records = nil
	}
	for _, closer := range s.closers {
		closer()
	}
	s.closers = nil
	if s.temporary != "" {
		errs = append(errs, os.RemoveAll(s.temporary))
		s.temporary = ""
	}
	return errors.Join(errs...)
}
