package servicegraphprocessor

import (
	"context"
	"fmt"
	"net/netip"
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

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/exposition"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/identity"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// How long heartbeats must be missing, by the wall clock, before the graph's clock goes on without them. Nodes that were heard
// are given more time: it may be the graph that is cut off from them, and what they send afterwards belongs to its own time.
const (
	quiet  = 30 * time.Second
	cutOff = 90 * time.Second
)

// graph is the service graph that the processors of one component ID share. It keeps the lock, the clock and the order of
// settling; what there is to settle is the parts'.
//
// mu guards all state and is held for a whole batch. What leaves keeps the order of its times: applying is held from before mu is
// taken until sending is, and sending while the next consumer is called.
type graph struct {
	applying sync.Mutex
	sending  sync.Mutex
	mu       sync.Mutex

	id        component.ID
	cfg       *Config
	logger    *zap.Logger
	telemetry *telemetry.Telemetry
	next      struct {
		metrics consumer.Metrics
		traces  consumer.Traces
		logs    consumer.Logs
	}

	clock *datatime.Clock
	parts
	schedule schedule
	catchUp  catchUp
	wall     wall
	saved    *saved
	ticking  ticking
}

// schedule is when, by the data's clock, what is done next.
type schedule struct {
	due, swept pcommon.Timestamp
	replayed   bool // a replay is over
}

// wall is what the graph knows of the wall clock.
type wall struct {
	now    func() time.Time
	beat   time.Time // when a heartbeat was believed last
	warned time.Time // when nodes whose clocks are wrong were logged last
	// reordered tells that batches came out of order, which is logged once.
	reordered bool
}

// ticking is the goroutine that goes on where no heartbeats come.
type ticking struct {
	ticker func(time.Duration) (ticks <-chan time.Time, stop func())
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func newTicker(interval time.Duration) (<-chan time.Time, func()) {
	ticker := time.NewTicker(interval)
	return ticker.C, ticker.Stop
}

func newGraph(set processor.Settings, cfg *Config) (*graph, error) {
	t, err := telemetry.New(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	clock := datatime.NewClock(cfg.MaxLateness)
	return &graph{
		id: set.ID, cfg: cfg, logger: set.Logger, telemetry: t, clock: clock,
		parts:   newParts(cfg, clock, set.BuildInfo.Version, t),
		catchUp: catchUp{moved: make(chan struct{})},
		wall:    wall{now: time.Now, beat: time.Now()},
		ticking: ticking{ticker: newTicker},
	}, nil
}

// Start takes up the stored state and begins to watch for heartbeats that stop.
func (g *graph) Start(startCtx context.Context, host component.Host) error {
	if err := g.open(startCtx, host); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.ticking.cancel = cancel
	ticks, stop := g.ticking.ticker(g.cfg.FlushInterval)
	g.ticking.done.Go(func() {
		defer stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks:
				if err := g.emitLocked(ctx, g.tick, pmetric.NewMetrics()); err != nil {
					g.logger.Warn("sending the service graph failed", zap.Error(err))
				}
			}
		}
	})
	return nil
}

// Shutdown ends the graph, which must be drained.
func (g *graph) Shutdown(ctx context.Context) error {
	if g.ticking.cancel != nil {
		g.ticking.cancel()
		g.ticking.done.Wait()
	}
	g.telemetry.Shutdown()
	if g.saved == nil {
		return nil
	}
	client := g.saved.client
	g.saved = nil
	if err := client.Close(ctx); err != nil {
		return fmt.Errorf("closing storage: %w", err)
	}
	return nil
}

// learn takes over the entity events among logs of a sender, whose address is not valid where it does not matter, and, if it is to, the
// records of requests, and gives what goes on at once: all but these, and those of these that need not wait. Logs stay as they are.
func (g *graph) learn(logs plog.Logs, requests bool, sender netip.Addr) (others, passed plog.Logs) {
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			if mesh.IsEntityScope(scope.Scope()) {
				g.learnScope(scope.LogRecords())
			}
		}
	}
	if !requests {
		return logs, plog.NewLogs()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	arrival := g.arrival()
	g.alongside.Take(logs)
	others = g.als.Take(g.proxied.Take(logs, arrival), g.senderOf(sender), arrival)
	return others, g.proxied.Passed()
}

// senderOf is the workload at an address, nil if it may send what others wrote.
func (g *graph) senderOf(addr netip.Addr) *mesh.Workload {
	by := g.names.Holder(addr)
	if by != nil && identity.Relays(g.cfg.Requests.Relays).Has(by) {
		return nil
	}
	return by
}

// arrival bounds the times that spans and records state which arrive now.
func (g *graph) arrival() moment.Arrival {
	arrival := moment.Arrival{Now: g.clock.Now(), Latest: g.clock.Limit(g.wall.now())}
	if arrival.Now > 0 {
		arrival.Latest = min(arrival.Latest, arrival.Now+pcommon.Timestamp(g.cfg.MaxLateness))
	}
	return arrival
}

func (g *graph) learnScope(events plog.LogRecordSlice) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range events.Len() {
		event, err := mesh.ParseEvent(events.At(i))
		switch {
		case err != nil:
			g.telemetry.Dropped(telemetry.DroppedEntity, 1)
		case !g.names.Apply(event):
			g.telemetry.Dropped(telemetry.DroppedEntityLimit, 1)
		}
		if z, ok := event.Entity.(*mesh.Ztunnel); ok && event.Deleted {
			// The node left: nothing more is expected of it, and what it told ages like everything else.
			g.clock.Forget(z.Node)
		}
	}
}

// consumeMetrics takes over a batch and sends what it does not consume, with the edges that it makes due.
func (g *graph) consumeMetrics(ctx context.Context, metrics pmetric.Metrics) error {
	if err := g.waitForSlowerNodes(ctx, metrics); err != nil {
		return err
	}
	return g.emitLocked(ctx, func() emission { return g.applyMetrics(metrics) }, metrics)
}

// applyMetrics takes over a batch, removes what it consumes, and returns what the batch makes due.
func (g *graph) applyMetrics(metrics pmetric.Metrics) emission {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.wall.now()
	if _, replay := datatime.ReadReplay(metrics); replay {
		g.clock.SetReplay()
	}
	arrival := moment.Arrival{Now: g.clock.Now(), Latest: g.clock.Limit(now)}
	metrics.ResourceMetrics().RemoveIf(func(resource pmetric.ResourceMetrics) bool {
		source := exposition.SourceOf(resource.Resource())
		resource.ScopeMetrics().RemoveIf(func(scope pmetric.ScopeMetrics) bool {
			exposition.RestoreHistograms(scope.Metrics())
			scope.Metrics().RemoveIf(func(metric pmetric.Metric) bool {
				g.alongside.Apply(resource.Resource(), scope.Scope().Name(), metric)
				return g.applyMetric(&source, metric, arrival)
			})
			return scope.Metrics().Len() == 0
		})
		g.scraped.EndScrape(&source)
		return resource.ScopeMetrics().Len() == 0
	})
	g.hear(metrics, now)
	marker := extractMarker(metrics)
	ended := marker.ResourceMetrics().Len() > 0
	if ended {
		g.clock.SkipToNewest()
		laterThanEmitted(g.clock, g.store.Emitted())
		g.schedule.replayed = true
	}
	e := g.emission(ended)
	e.marker = marker
	g.admit()
	return e
}

// applyMetric takes over one metric and tells whether it is consumed.
func (g *graph) applyMetric(source *exposition.Source, metric pmetric.Metric, arrival moment.Arrival) bool {
	exposition.RestoreCounter(metric)
	if g.flows.Apply(source.Node, metric, arrival) || g.dns.Apply(source, metric, arrival) {
		return true
	}
	if source.Waypoint == "" {
		// Connections are the ztunnels' to tell.
		g.scraped.Apply(source, metric, arrival)
	}
	g.waypoints.Apply(source, metric, arrival)
	return false
}

// hear takes over a batch's heartbeats and moves the clock.
func (g *graph) hear(metrics pmetric.Metrics, now time.Time) {
	before := g.clock.Now()
	for beat := range datatime.Read(metrics) {
		g.schedule.replayed = false
		verdict := g.clock.Hear(beat, now)
		g.telemetry.HeartbeatProblem(verdict.String())
		switch {
		case verdict.Counts():
			g.wall.beat = now
		case verdict == datatime.Ahead, verdict == datatime.Implausible:
			g.warnOfClocks(now)
		}
		if verdict == datatime.OutOfOrder && !g.wall.reordered {
			g.wall.reordered = true
			g.logger.Error("Batches come in another order than they were sent, so that what is counted may be wrong: is there a batch processor, "+
				"or more than one consumer, between the ztunnel receiver and service_graph?", zap.String("node", beat.Node))
		}
	}
	if g.clock.Heard() {
		g.clock.Advance(now)
	}
	if now := g.clock.Now(); now < before {
		// The time had run ahead of the wall clock and went back.
		g.schedule.due, g.schedule.swept = 0, min(g.schedule.swept, now)
		g.rewind(now)
	}
}

// warnOfClocks logs which nodes' clocks are wrong, once a minute.
func (g *graph) warnOfClocks(now time.Time) {
	if since := now.Sub(g.wall.warned); since >= 0 && since < time.Minute {
		return
	}
	g.wall.warned = now
	for _, problem := range g.clock.Problems(now) {
		if problem.Kind == datatime.ClockAhead {
			g.logger.Warn(problem.Sentence(), zap.String("node", problem.Node))
		}
	}
}

// flush brings everything up to the clock's time if an emission is due; with final nothing stays held.
func (g *graph) flush(final bool) (pmetric.Metrics, ptrace.Traces, plog.Logs) {
	now := g.clock.Now()
	if now == 0 || now < g.schedule.due && !final {
		return pmetric.NewMetrics(), ptrace.NewTraces(), plog.NewLogs()
	}
	g.names.Begin(now)
	interval := pcommon.Timestamp(g.cfg.FlushInterval)
	g.schedule.due = now - now%interval + interval

	m := moment.Moment{Now: now, Final: final, CatchingUp: g.clock.CatchingUp(g.wall.now())}
	// Logs come first: what others tell is counted beyond them.
	logs := g.proxied.Settle(m)
	g.requests.Retry(m)
	g.requests.Settle(m)
	g.flows.Settle(m)
	g.scraped.Settle(m)
	g.waypoints.Settle(m)
	traces := g.spans.Settle(m)
	g.sweep(m)
	metrics := g.store.Emit(now)
	g.dns.Emit(metrics.ResourceMetrics().At(0).ScopeMetrics().At(0), now)
	g.alongside.Emit(metrics.ResourceMetrics().At(0).ScopeMetrics().At(0), now)
	g.telemetry.AppendDropped(metrics.ResourceMetrics().At(0).ScopeMetrics().At(0), now)
	g.clock.Settle()
	g.recordSizes()
	return metrics, traces, logs
}

// sweep lets the parts forget what is silent for long; its edges may then expire.
func (g *graph) sweep(m moment.Moment) {
	if !m.Past(g.schedule.swept, max(g.cfg.EdgeExpiry/8, time.Minute)) {
		return
	}
	g.schedule.swept = m.Now
	g.scraped.Sweep(m.Now)
	g.proxied.Sweep(m.Now)
	g.waypoints.Sweep(m.Now)
	g.names.Sweep(m.Now, g.cfg.EdgeExpiry)
	g.flows.Sweep(m.Now)
	g.dns.Sweep(m.Now)
}

// recordSizes states the sizes of what the graph holds.
func (g *graph) recordSizes() {
	g.telemetry.Sizes(g.store.Edges.Len(), g.flows.Len())
	g.telemetry.Held("flow", g.flows.Waiting())
	servers, clients := g.requests.Held()
	g.telemetry.Held("server_span", servers)
	g.telemetry.Held("client_span", clients)
	g.telemetry.Held("flow_span", g.spans.Len())
	g.telemetry.Held("request", g.proxied.Len())
}

// tick goes on by the wall clock where no heartbeats come: there never were any, or they stopped.
func (g *graph) tick() emission {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.wall.now()
	switch elapsed := now.Sub(g.wall.beat); {
	case g.schedule.replayed, elapsed < quiet, g.clock.Named() && elapsed < cutOff:
		// Before the first heartbeat, too: a replay may take a while to begin, and has a time of its own.
		return nothing()
	case g.clock.Heard():
		g.clock.Set(g.clock.Newest() + pcommon.Timestamp(elapsed))
	default:
		g.clock.Set(pcommon.NewTimestampFromTime(now))
	}
	return g.emission(false)
}

// laterThanEmitted moves the clock on where it must: the points of the last emission stay what they are.
func laterThanEmitted(clock *datatime.Clock, emitted pcommon.Timestamp) {
	if emitted >= clock.Now() {
		clock.Set(emitted + pcommon.Timestamp(time.Millisecond))
	}
}

// drainMetrics sends all that is held before the metrics pipeline ends.
func (g *graph) drainMetrics(ctx context.Context) error {
	return g.emitLocked(ctx, func() emission {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.clock.Now() == 0 {
			g.clock.Set(pcommon.NewTimestampFromTime(g.wall.now()))
		} else {
			laterThanEmitted(g.clock, g.store.Emitted())
		}
		return g.emission(true)
	}, pmetric.NewMetrics())
}

// applyTraces takes over a batch of spans of a sender, whose address is not valid where it does not matter, and removes the flow spans
// that have to wait.
func (g *graph) applyTraces(traces ptrace.Traces, sender netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	arrival := g.arrival()
	by := g.senderOf(sender)
	traces.ResourceSpans().RemoveIf(func(resource ptrace.ResourceSpans) bool {
		origin := g.origins.Of(resource.Resource(), by)
		resource.ScopeSpans().RemoveIf(func(scope ptrace.ScopeSpans) bool {
			if scope.Scope().Name() == semconv.ScopeReceiver {
				g.spans.Apply(resource.Resource(), scope, arrival)
				return scope.Spans().Len() == 0
			}
			if !identity.Believed(g.names, origin, by) {
				g.telemetry.Dropped(telemetry.DroppedSender, scope.Spans().Len())
				return false
			}
			if by != nil {
				origin.Learnt = by
			}
			for _, span := range scope.Spans().All() {
				g.requests.Apply(origin, span, arrival)
			}
			return false
		})
		return resource.ScopeSpans().Len() == 0
	})
}

// held is what a part holds when the pipeline ends that it leaves by.
func held[T any](g *graph, settle func(moment.Moment) T) T {
	g.mu.Lock()
	defer g.mu.Unlock()
	return settle(moment.Moment{Now: max(g.clock.Now(), 1), Final: true})
}
