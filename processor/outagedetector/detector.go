package outagedetector

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/cause"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/lifecycle"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/metadata"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// detector is what the processors of one component share: it observes, judges, explains and keeps outages.
type detector struct {
	cfg       *Config
	logger    *zap.Logger
	telemetry *metadata.TelemetryBuilder

	mu       sync.Mutex // guards what follows
	store    *observe.Store
	judge    *judge.Judge
	finder   *cause.Finder
	registry *lifecycle.Registry
	emitter  emitter
	archive  archive
	reported reported
	arrived  time.Time // when anything arrived last, by the wall clock
	waiting  int64     // the boundary whose edges have not come yet, 0 if none

	done chan struct{}
	wg   sync.WaitGroup
}

func newDetector(set processor.Settings, cfg *Config) (*detector, error) {
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, fmt.Errorf("creating internal telemetry: %w", err)
	}
	for _, warning := range cfg.warnings {
		set.Logger.Warn(warning)
	}
	d := &detector{
		cfg: cfg, logger: set.Logger, telemetry: telemetry,
		store:   observe.NewStore(rules.NewCatalogue(cfg.Rules, cfg.Overrides), cfg.limits(), cfg.objectives()),
		emitter: newEmitter(set, telemetry, cfg.RefreshInterval),
		archive: archive{id: set.ID, logger: set.Logger, telemetry: telemetry},
	}
	d.judge = judge.New(d.store)
	d.finder = cause.New(d.store, d.judge)
	d.registry = lifecycle.New(lifecycle.Settings{
		Confirm: cfg.Confirm, Flap: cfg.FlapWindow, Quiet: cfg.QuietTimeout, MaxOpen: cfg.MaxOutages,
	}, d.store, d.finder)
	return d, nil
}

// Start implements component.Component.
func (d *detector) Start(ctx context.Context, host component.Host) error {
	if err := d.archive.open(ctx, host, d.cfg.Storage, d.registry); err != nil {
		return err
	}
	d.arrived = time.Now()
	d.done = make(chan struct{})
	if d.cfg.SilenceTimeout > 0 {
		d.wg.Go(d.watchSilence)
	}
	return nil
}

// Shutdown implements component.Component.
func (d *detector) Shutdown(ctx context.Context) error {
	if d.done != nil {
		close(d.done)
		d.wg.Wait()
		d.done = nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.archive.close(ctx, d.registry, d.store.Now)
	d.telemetry.Shutdown()
	return err
}

func (d *detector) consumeLogs(logs plog.Logs) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrived = time.Now()
	d.store.Logs(logs, d.arrived)
}

// consumeMetrics takes over a batch, judges the boundary that it reaches and appends the outages' gauges to it.
func (d *detector) consumeMetrics(ctx context.Context, metrics pmetric.Metrics) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrived = time.Now()
	boundary, edges := d.store.Metrics(metrics, d.arrived)
	if boundary == 0 || !d.due(boundary, edges) {
		return
	}
	d.store.Advance(boundary)
	transitions := d.round(ctx)
	d.emitter.events(ctx, transitions)
	d.emitter.chronic(ctx, metrics, &d.judge.Chronic, d.store.Now)
	d.emitter.gauges(metrics, transitions, d.registry.Open(), d.store)
	d.archive.save(ctx, d.registry, d.store.Now, len(transitions) > 0)
}

// due tells whether a boundary is to be judged: once its edges are there, however the batches were cut. Where there are no
// edges every other boundary is judged without.
func (d *detector) due(boundary int64, edges bool) bool {
	if edges || d.store.ReplayDone || d.waiting != 0 && boundary > d.waiting {
		d.waiting = 0
		return true
	}
	d.waiting = boundary
	return false
}

func (d *detector) round(ctx context.Context) []lifecycle.Transition {
	began := time.Now()
	judged := d.judge.Round()
	transitions := d.registry.Round(d.finder.Explain())
	d.store.Sweep()
	d.telemetry.OutageDetectorRoundDuration.Record(ctx, time.Since(began).Seconds())
	d.telemetry.OutageDetectorEdgesJudged.Add(ctx, int64(judged))
	d.telemetry.OutageDetectorEdges.Record(ctx, int64(d.store.Edges.Len()))
	d.telemetry.OutageDetectorOpen.Record(ctx, int64(len(d.registry.Open())))
	d.telemetry.OutageDetectorChronic.Record(ctx, int64(d.judge.Chronic.Len()))
	d.reported.report(ctx, d.telemetry, d.emitter.drops, d.store.Drops, d.registry.Overflowed, d.judge.Chronic.Overflowed)
	return transitions
}

// watchSilence makes open outages stale when nothing arrives any more. Only here does the wall clock count: a replay that
// has ended is silent by nature.
func (d *detector) watchSilence() {
	ticker := time.NewTicker(max(d.cfg.SilenceTimeout/4, time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-d.done:
			return
		case now := <-ticker.C:
			d.checkSilence(now)
		}
	}
}

func (d *detector) checkSilence(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.store.Replaying || now.Sub(d.arrived) < d.cfg.SilenceTimeout || len(d.registry.Open()) == 0 {
		return
	}
	transitions := d.registry.Silence(max(now.UnixNano(), d.store.Now))
	ctx := context.Background()
	d.emitter.events(ctx, transitions)
	metrics := pmetric.NewMetrics()
	d.emitter.gauges(metrics, transitions, d.registry.Open(), d.store)
	if metrics.DataPointCount() > 0 && d.emitter.nextMetrics != nil {
		if err := d.emitter.nextMetrics.ConsumeMetrics(ctx, metrics); err != nil {
			d.logger.Warn("Outages that became stale could not be handed on", zap.Error(err))
		}
	}
	d.archive.save(ctx, d.registry, d.store.Now, true)
}
