package outagedetector

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/extension/xextension/storage"
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
	id        component.ID
	logger    *zap.Logger
	telemetry *metadata.TelemetryBuilder
	version   string

	// members and the consumers are set before data flows.
	members     int
	nextMetrics consumer.Metrics
	nextLogs    consumer.Logs
	client      storage.Client

	mu       sync.Mutex // guards what follows
	store    *observe.Store
	judge    *judge.Judge
	finder   *cause.Finder
	registry *lifecycle.Registry
	dropped  observe.Drops
	overflow uint64
	closing  []closing
	opened   map[opening]int64
	shown    map[string]labels // by the outage's id: those of its gauge as it was written last
	gauges   int64             // when the gauges were written last
	arrived  time.Time
	waiting  int64 // the boundary whose edges have not come yet, 0 if none
	saved    int64

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
		cfg: cfg, id: set.ID, logger: set.Logger, telemetry: telemetry, version: set.BuildInfo.Version,
		opened: map[opening]int64{}, shown: map[string]labels{},
		store: observe.NewStore(rules.NewCatalogue(cfg.Rules, cfg.Overrides), cfg.limits(), cfg.objectives()),
	}
	d.judge = judge.New(d.store)
	d.finder = cause.New(d.store, d.judge)
	d.registry = lifecycle.New(lifecycle.Settings{
		Confirm: cfg.Confirm, Flap: cfg.FlapWindow, Quiet: cfg.QuietTimeout, MaxOpen: cfg.MaxOutages,
	}, d.store, d.finder)
	return d, nil
}

func (d *detector) start(ctx context.Context, host component.Host) error {
	if err := d.restore(ctx, host); err != nil {
		return err
	}
	d.arrived = time.Now()
	d.done = make(chan struct{})
	if d.cfg.SilenceTimeout > 0 {
		d.wg.Go(d.watchSilence)
	}
	return nil
}

func (d *detector) stop(ctx context.Context) error {
	if d.done != nil {
		close(d.done)
		d.wg.Wait()
		d.done = nil
	}
	d.telemetry.Shutdown()
	return d.closeStorage(ctx)
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
	d.sendEvents(ctx, transitions)
	d.appendGauges(metrics, transitions)
	d.save(ctx, len(transitions) > 0)
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
	d.countDrops(ctx)
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
	at := max(now.UnixNano(), d.store.Now)
	transitions := d.registry.Silence(at)
	ctx := context.Background()
	d.sendEvents(ctx, transitions)
	metrics := pmetric.NewMetrics()
	d.appendGauges(metrics, transitions)
	if metrics.DataPointCount() > 0 && d.nextMetrics != nil {
		if err := d.nextMetrics.ConsumeMetrics(ctx, metrics); err != nil {
			d.logger.Warn("Outages that became stale could not be handed on", zap.Error(err))
		}
	}
	d.save(ctx, true)
}
