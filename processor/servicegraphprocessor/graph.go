package servicegraphprocessor

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadata"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

// How long heartbeats must be missing, by the wall clock, before the graph's clock goes on without them. Nodes that were heard
// are given more time: it may be the graph that is cut off from them, and what they send afterwards belongs to its own time.
const (
	quiet  = 30 * time.Second
	cutOff = 90 * time.Second
)

// graph is the service graph that the processors of one component ID share.
//
// mu guards all state and is held for a whole batch. What leaves keeps the order of its times: applying is held from before mu is
// taken until sending is, and sending while the next consumer is called.
type graph struct {
	applying sync.Mutex
	sending  sync.Mutex
	mu       sync.Mutex

	id        component.ID
	cfg       *Config
	limits    reconcile.Limits
	version   string
	logger    *zap.Logger
	telemetry *metadata.TelemetryBuilder
	counters  counters
	// ctx is what internal telemetry is recorded with.
	ctx context.Context

	nextMetrics consumer.Metrics
	nextTraces  consumer.Traces

	clock          clock
	directory      *naming.Directory
	flows          *flowTable
	edges          *edgeTable
	services       *serviceTable
	endpoints      map[naming.Pod]*endpoint
	dirtyEndpoints []*endpoint
	requests       *requestTable
	flowSpans      *flowSpanTable
	scrapes        *scrapeTable
	// waypointEdges are those with requests that waypoints told since the last flush.
	waypointEdges []*edgeState
	saved         *saved

	flushed   pcommon.Timestamp
	due       pcommon.Timestamp
	refreshed pcommon.Timestamp
	swept     pcommon.Timestamp
	finished  bool // a replay is over
	// admitted is up to when what nodes send is taken where they have to wait for each other; moved is closed when that changes.
	admitted pcommon.Timestamp
	moved    chan struct{}

	// wall is the wall clock at the last heartbeat, now the wall clock.
	wall    time.Time
	now     func() time.Time
	members int
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func newGraph(set processor.Settings, cfg *Config) (*graph, error) {
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	g := &graph{
		id:  set.ID,
		cfg: cfg,
		limits: reconcile.Limits{
			Window: cfg.Reconcile.SettleWindow,
			Skew:   cfg.Reconcile.MaxSkew,
			Hold:   cfg.Reconcile.ReasonHold,
		},
		version:   set.BuildInfo.Version,
		logger:    set.Logger,
		telemetry: telemetry,
		counters:  newCounters(),
		ctx:       context.Background(),
		clock:     newClock(cfg.MaxLateness),
		directory: naming.NewDirectory(naming.Config{
			MaxEntities: cfg.MaxEntities, MaxExternal: cfg.MaxExternal, MaxWeights: cfg.MaxEdges, Hold: cfg.ResolveHold,
		}),
		flows:     newFlowTable(cfg),
		services:  newServiceTable(cfg),
		endpoints: map[naming.Pod]*endpoint{},
		requests:  newRequestTable(cfg),
		now:       time.Now,
		moved:     make(chan struct{}),
	}
	g.edges = newEdgeTable(cfg, g.directory.Externals, g.overflowed)
	g.flowSpans = newFlowSpanTable(cfg)
	g.scrapes = newScrapeTable(cfg)
	g.wall = g.now()
	return g, nil
}

// start takes up the stored state and begins to watch for heartbeats that stop.
func (g *graph) start(startCtx context.Context, host component.Host) error {
	if err := g.open(startCtx, host); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.done.Add(1)
	go func() {
		defer g.done.Done()
		ticker := time.NewTicker(g.cfg.FlushInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if err := g.tick(ctx); err != nil {
					g.logger.Warn("sending the service graph failed", zap.Error(err))
				}
			}
		}
	}()
	return nil
}

func (g *graph) stop(ctx context.Context) error {
	if g.cancel != nil {
		g.cancel()
		g.done.Wait()
	}
	g.telemetry.Shutdown()
	return g.close(ctx)
}

// learn takes over the entity events among log records.
func (g *graph) learn(logs plog.Logs) {
	resources := logs.ResourceLogs()
	for i := range resources.Len() {
		scopes := resources.At(i).ScopeLogs()
		for j := range scopes.Len() {
			if mesh.IsEntityScope(scopes.At(j).Scope()) {
				g.learnScope(scopes.At(j).LogRecords())
			}
		}
	}
}

func (g *graph) learnScope(events plog.LogRecordSlice) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range events.Len() {
		event, err := mesh.ParseEvent(events.At(i))
		switch {
		case err != nil:
			g.dropped("invalid_entity", 1)
		case !g.directory.Apply(event):
			g.dropped("entity_limit", 1)
		}
	}
}

// consumeMetrics implements the metrics processor.
func (g *graph) consumeMetrics(ctx context.Context, metrics pmetric.Metrics) error {
	if err := g.awaitTurn(ctx, metrics); err != nil {
		return err
	}
	return g.turn(ctx, func() departure { return g.applyMetrics(metrics) }, metrics)
}

// departure is what leaves at once: edges, spans, and the marker of a replay's end, which must leave last. Before it does,
// what was recorded of it is committed.
type departure struct {
	edges    pmetric.Metrics
	traces   ptrace.Traces
	marker   pmetric.Metrics
	recorded journal.Batch
}

// turn applies something and sends what that makes due, with the rest of the batch that it came in, if any. What leaves
// keeps the order in which it was applied, and while it does, the next batch can be applied.
func (g *graph) turn(ctx context.Context, apply func() departure, rest pmetric.Metrics) error {
	g.applying.Lock()
	d := apply()
	g.sending.Lock()
	g.applying.Unlock()
	defer g.sending.Unlock()
	g.commit(ctx, d.recorded)
	var errs error
	if d.traces.ResourceSpans().Len() > 0 && g.nextTraces != nil {
		errs = g.nextTraces.ConsumeTraces(ctx, d.traces)
	}
	d.edges.ResourceMetrics().MoveAndAppendTo(rest.ResourceMetrics())
	if g.nextMetrics == nil {
		return errs
	}
	if rest.ResourceMetrics().Len() > 0 {
		errs = errors.Join(errs, g.nextMetrics.ConsumeMetrics(ctx, rest))
	}
	if d.marker.ResourceMetrics().Len() > 0 {
		errs = errors.Join(errs, g.nextMetrics.ConsumeMetrics(ctx, d.marker))
	}
	return errs
}

// applyMetrics takes over a batch, removes what it consumes, and returns what the batch makes due.
func (g *graph) applyMetrics(metrics pmetric.Metrics) departure {
	g.mu.Lock()
	defer g.mu.Unlock()
	marker, done := pmetric.NewMetrics(), false
	metrics.ResourceMetrics().RemoveIf(func(resource pmetric.ResourceMetrics) bool {
		source := sourceOf(resource.Resource())
		resource.ScopeMetrics().RemoveIf(func(scope pmetric.ScopeMetrics) bool {
			scope.Metrics().RemoveIf(func(metric pmetric.Metric) bool {
				return g.applyMetric(&source, metric)
			})
			return scope.Metrics().Len() == 0
		})
		g.endScrape(&source)
		return resource.ScopeMetrics().Len() == 0
	})
	if g.clock.beats() {
		g.clock.advance(g.now())
	}
	if replayDone(metrics) {
		done = true
		marker = extractMarker(metrics)
		g.clock.catchUp()
		g.finished = true
	}
	d := g.depart(done)
	d.marker = marker
	g.admit()
	return d
}

// depart is what is due now; with force, everything that is held.
func (g *graph) depart(force bool) departure {
	d := departure{marker: pmetric.NewMetrics()}
	d.edges, d.traces = g.flush(force)
	d.recorded = g.saved.record(g)
	return d
}

// applyMetric takes over one metric and tells whether it is consumed.
func (g *graph) applyMetric(source *metricSource, metric pmetric.Metric) bool {
	name := metric.Name()
	switch {
	case isFlowMetric(name):
		g.applyFlows(source.node, metric)
		return true
	case name == semconv.MetricSourceUp:
		g.applyHeartbeats(source, metric)
	case name == semconv.MetricReplayPosition:
		g.clock.replay = true
	default:
		g.applyScraped(source, metric)
	}
	return false
}

func (g *graph) applyHeartbeats(source *metricSource, metric pmetric.Metric) {
	if metric.Type() != pmetric.MetricTypeGauge {
		return
	}
	points := metric.Gauge().DataPoints()
	for i := range points.Len() {
		g.finished = false
		if now := g.now(); g.clock.heartbeat(source.node, points.At(i).Timestamp(), now) {
			g.wall = now
		}
	}
}

// flush brings everything up to the clock's time if an emission is due; with force nothing stays held.
func (g *graph) flush(force bool) (pmetric.Metrics, ptrace.Traces) {
	now := g.clock.time
	metrics, traces := pmetric.NewMetrics(), ptrace.NewTraces()
	if now == 0 {
		return metrics, traces
	}
	g.directory.Begin(now)
	if now < g.due && !force {
		return metrics, traces
	}
	interval := pcommon.Timestamp(g.cfg.FlushInterval)
	g.due = now - now%interval + interval

	g.retryRequests(now, force)
	g.countRequests(now, force)
	g.settleFlows(now, force)
	g.settleScrapes(now, force)
	g.settleWaypoints(now, force)
	traces = g.flowSpans.flush(g, now, force)
	g.sweep(now)
	metrics = g.emit(now)
	g.flushed = now
	g.clock.flushed()
	g.record()
	return metrics, traces
}

// settleFlows reconciles what flows reported since the last flush.
func (g *graph) settleFlows(now pcommon.Timestamp, force bool) {
	t := g.flows
	for i, p := range t.touched {
		p.touched = false
		t.touched[i] = nil
		g.settlePair(p, now)
		if !p.waits {
			p.waits = true
			t.waiting = append(t.waiting, p)
		}
	}
	t.touched = t.touched[:0]
	left := t.waiting[:0]
	for _, p := range t.waiting {
		g.saved.pair(p)
		if p.failures.Held() > 0 {
			t.counted = p.failures.Release(now, g.limits, t.counted[:0])
			p.creditFailed(t.counted)
		}
		if p.waits = g.deliver(p, now, force); p.waits {
			left = append(left, p)
		}
	}
	clear(t.waiting[len(left):])
	t.waiting = left
}

// tick goes on by the wall clock where no heartbeats come: there never were any, or they stopped.
func (g *graph) tick(ctx context.Context) error {
	return g.turn(ctx, g.tickState, pmetric.NewMetrics())
}

func (g *graph) tickState() departure {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	switch elapsed := now.Sub(g.wall); {
	case g.finished, elapsed < quiet, g.clock.named && elapsed < cutOff:
		// Before the first heartbeat, too: a replay may take a while to begin, and has a time of its own.
		return departure{edges: pmetric.NewMetrics(), traces: ptrace.NewTraces(), marker: pmetric.NewMetrics()}
	case g.clock.beats():
		g.clock.set(g.clock.newest + pcommon.Timestamp(elapsed))
	default:
		g.clock.set(pcommon.NewTimestampFromTime(now))
	}
	return g.depart(false)
}

// drainMetrics sends all that is held before the metrics pipeline ends.
func (g *graph) drainMetrics(ctx context.Context) error {
	return g.turn(ctx, func() departure {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.clock.time == 0 {
			g.clock.set(pcommon.NewTimestampFromTime(g.now()))
		} else {
			// A moment later than the last emission, whose points must stay what they are.
			g.clock.set(g.clock.time + pcommon.Timestamp(time.Millisecond))
		}
		return g.depart(true)
	}, pmetric.NewMetrics())
}
