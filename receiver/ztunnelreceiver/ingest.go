package ztunnelreceiver

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/flow"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/record"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

const (
	// maxGathered is how many records gather before they leave without waiting for a boundary.
	maxGathered = 2048
	// maxEvents bounds the entities' events that gather while nothing can leave.
	maxEvents = 1_000_000
	// maxChanges bounds the changes that gather between two boundaries.
	maxChanges = 10_000
)

// ingest is where everything that was read comes together, live or replayed, and from where it leaves at the boundaries. It
// has no goroutine. Whoever brings what was read holds the lock; what is sent is sent without it.
type ingest struct {
	sync.Mutex

	cfg *Config
	tel *telemetry.Telemetry
	// instance tells this receiver from those of other collectors and other configurations.
	instance string
	flow     *flow.Processor
	// liveness knows which sources deliver.
	liveness *liveness
	// gathered came since the last boundary.
	gathered gathered
	out      *outlets

	refreshed time.Time
	// repeatScraped lets the next scrapes tell also what did not change.
	repeatScraped func()
	// lostEvents is set when records were dropped, among which may have been the state of entities.
	lostEvents bool
	// checkpoint takes what makes permanent what was read so far; it is nil if nothing is stored.
	checkpoint func(at time.Time) *checkpoint
	// read is set when entries came since the last checkpoint.
	read bool
	// record takes what is read; nil if nothing is recorded.
	record *record.Recorder
	// full is called when so much was gathered that it should leave without waiting for a boundary.
	full func()
}

// gathered is what came since the last boundary, besides what the flow processor holds.
type gathered struct {
	scraped pmetric.Metrics
	// points are those of scraped.
	points  int
	events  []mesh.Event
	changes []mesh.Change
	spans   ptrace.Traces
	// requests are records of requests.
	requests requestBatch
}

// checkpoint is what is to be stored before the metrics of a boundary leave.
type checkpoint struct {
	at  time.Time
	ops []*storage.Operation
	// written is told, with the lock held, whether they are in the storage.
	written func(ok bool)
}

func newIngest(cfg *Config, set receiver.Settings, next consumers, tel *telemetry.Telemetry) (*ingest, error) {
	in := &ingest{
		cfg: cfg, tel: tel, instance: instanceOf(cfg, set), liveness: newLiveness(),
		gathered: gathered{scraped: pmetric.NewMetrics(), spans: ptrace.NewTraces()}, repeatScraped: func() {}, full: func() {},
	}
	flowConfig := flow.Config{
		MaxSeries:     cfg.MaxSeries,
		Expiry:        cfg.SeriesExpiry,
		MaxEntry:      cfg.maxEntry(),
		RecordLogs:    next.logs != nil,
		RecordMetrics: next.metrics != nil,
		RecordSpans:   next.traces != nil,
		SamplingRatio: cfg.Spans.SamplingPercentage / 100,
		SlowThreshold: cfg.Spans.SlowThreshold,
		Cluster:       cfg.ClusterName,
	}
	if err := flowConfig.Validate(); err != nil {
		return nil, err
	}
	in.flow = flow.New(flowConfig, tel)
	var err error
	if in.out, err = newOutlets(set, next, in.refused); err != nil || !cfg.Record.HasValue() {
		return in, err
	}
	in.record, err = record.New(*cfg.Record.Get(), func(message string, err error) {
		tel.Dropped(telemetry.ReasonRecord, 1)
		tel.Warn(message, zap.Error(err))
	})
	return in, err
}

// instanceOf names a receiver by its collector and its component ID. A replay's is the same whoever plays it.
func instanceOf(cfg *Config, set receiver.Settings) string {
	if cfg.Replay.HasValue() {
		return set.ID.String()
	}
	if collector, ok := set.Resource.Attributes().Get(semconv.AttrServiceInstanceID); ok {
		return collector.AsString() + "/" + set.ID.String()
	}
	return set.ID.String()
}

// refused counts what the next consumer of a signal did not take.
func (in *ingest) refused(signal pipeline.Signal) func(context.Context, int, bool, error) {
	return func(ctx context.Context, n int, dropped bool, err error) {
		outcome := telemetry.OutcomeRetried
		in.Lock()
		defer in.Unlock()
		if dropped {
			outcome = telemetry.OutcomeDropped
			switch signal {
			case pipeline.SignalMetrics:
				// The series are cumulative: sending all again makes up for it.
				in.refreshed = time.Time{}
				in.repeatScraped()
			case pipeline.SignalLogs:
				in.lostEvents = true
			}
		}
		in.tel.Refused(ctx, signal, outcome, n, err)
	}
}

// Entry implements source.Sink.
func (in *ingest) Entry(node string, entry []byte, observed time.Time) {
	in.read = true
	in.flow.Entry(node, entry, observed)
	if logs, spans := in.flow.Pending(); max(logs, spans) >= maxGathered {
		in.takeRecords()
		in.full()
	}
}

// NewRequest implements source.Sink.
func (in *ingest) NewRequest(of source.Proxy) (plog.LogRecord, bool) {
	if in.out.wants.logs == nil {
		return plog.LogRecord{}, false
	}
	in.read = true
	if in.gathered.requests.count >= maxGathered {
		in.takeRecords()
		in.full()
	}
	return in.gathered.requests.add(of, in.cfg.ClusterName), true
}

// Up implements source.Sink.
func (in *ingest) Up(source, node string, up bool, seen time.Time) {
	in.liveness.set(source, node, up, seen)
}

// Ails implements source.Sink.
func (in *ingest) Ails(source, node, problem, detail string) {
	in.liveness.ails(source, node, problem, detail)
}

// Forget implements source.Sink.
func (in *ingest) Forget(node string) { in.liveness.remove(node) }

// Left implements source.Sink.
func (in *ingest) Left(source, node string, n int) { in.liveness.left(source, node, n) }

// AddEvents implements source.Sink.
func (in *ingest) AddEvents(events []mesh.Event) {
	if in.out.wants.logs == nil {
		return
	}
	room := min(len(events), maxEvents-len(in.gathered.events))
	in.gathered.events = append(in.gathered.events, events[:room]...)
	if left := len(events) - room; left > 0 {
		in.lostEvents = true
		in.tel.Dropped(telemetry.ReasonEntityLimit, left)
	}
}

// AddChanges implements source.Sink.
func (in *ingest) AddChanges(changes []mesh.Change) {
	if in.out.wants.logs == nil {
		return
	}
	room := min(len(changes), maxChanges-len(in.gathered.changes))
	in.gathered.changes = append(in.gathered.changes, changes[:room]...)
	in.tel.Dropped(telemetry.ReasonChanges, len(changes)-room)
}

// AddMetrics implements source.Sink.
func (in *ingest) AddMetrics(md pmetric.Metrics) {
	if in.out.wants.metrics == nil {
		return
	}
	n := md.DataPointCount()
	if in.gathered.points > 0 && in.gathered.points+n > maxWaiting {
		// The series are cumulative: a later scrape makes up for it.
		in.repeatScraped()
		in.tel.Dropped(telemetry.ReasonScrapeBacklog, n)
		return
	}
	in.gathered.points += n
	md.ResourceMetrics().MoveAndAppendTo(in.gathered.scraped.ResourceMetrics())
}

// AddSpans implements source.Sink.
func (in *ingest) AddSpans(spans ptrace.Traces) {
	if in.out.wants.traces != nil {
		spans.ResourceSpans().MoveAndAppendTo(in.gathered.spans.ResourceSpans())
	}
}

// takeRecords puts entities, flow records and spans on their way.
func (in *ingest) takeRecords() {
	if in.out.wants.logs != nil {
		logs := in.takeEvents()
		in.takeChanges(logs)
		in.flow.FlushLogs().ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
		in.out.logs.put(logs)
		// By themselves: who takes requests away need not copy the rest.
		in.out.logs.put(in.gathered.requests.take())
	}
	if in.out.wants.traces != nil {
		spans := in.gathered.spans
		in.gathered.spans = ptrace.NewTraces()
		in.flow.FlushSpans().ResourceSpans().MoveAndAppendTo(spans.ResourceSpans())
		in.out.traces.put(spans)
	}
}

func (in *ingest) takeEvents() plog.Logs {
	logs := plog.NewLogs()
	if len(in.gathered.events) == 0 {
		return logs
	}
	resource := logs.ResourceLogs().AppendEmpty()
	putResource(resource.Resource().Attributes(), "", in.cfg.ClusterName)
	scope := resource.ScopeLogs().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	mesh.MarkEntityScope(scope.Scope())
	for _, event := range in.gathered.events {
		if err := event.AppendTo(scope.LogRecords()); err != nil {
			in.tel.Dropped(telemetry.ReasonEntity, 1)
			in.tel.Warn("An entity cannot be sent", zap.Error(err))
		}
	}
	clear(in.gathered.events)
	in.gathered.events = in.gathered.events[:0]
	return logs
}

func (in *ingest) takeChanges(logs plog.Logs) {
	if len(in.gathered.changes) == 0 {
		return
	}
	resource := logs.ResourceLogs().AppendEmpty()
	if in.cfg.ClusterName != "" {
		resource.Resource().Attributes().PutStr(semconv.AttrClusterName, in.cfg.ClusterName)
	}
	scope := resource.ScopeLogs().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	for _, change := range in.gathered.changes {
		change.AppendTo(scope.LogRecords())
	}
	clear(in.gathered.changes)
	in.gathered.changes = in.gathered.changes[:0]
}

// boundary is what leaves at a boundary, after the records before it.
type boundary struct {
	metrics pmetric.Metrics
	// saved is stored before the metrics leave; it may be nil.
	saved *checkpoint
}

// take puts everything that belongs before the boundary at on its way: records and spans at once, the rest when it is delivered.
// Without whole, what was read of the logs is not in a state that can be stored, and the flow series have to wait. The lock is held.
func (in *ingest) take(at time.Time, whole bool) boundary {
	in.takeRecords()
	b := boundary{metrics: in.gathered.scraped}
	in.gathered.scraped, in.gathered.points = pmetric.NewMetrics(), 0
	if whole {
		refresh := at.Before(in.refreshed) || at.Sub(in.refreshed) >= in.cfg.RefreshInterval
		if refresh {
			in.refreshed = at
		}
		in.flow.FlushMetrics(at, refresh).ResourceMetrics().MoveAndAppendTo(b.metrics.ResourceMetrics())
		// After FlushMetrics, which gives new series their start: what is restored is then never less than what was seen.
		if in.checkpoint != nil {
			b.saved = in.checkpoint(at)
		}
		in.tel.ReceiverZtunnelSeries.Record(context.Background(), int64(in.flow.Series()))
	}
	for _, node := range in.liveness.nodes(semconv.SourceAccessLog) {
		log := in.flow.Log(node)
		in.liveness.seen(semconv.SourceAccessLog, node, log.LastSeen)
		if log.RequestsOnly && log.Problem == "" && !in.liveness.up(semconv.SourceMetrics, node) {
			log.Problem, log.Detail = semconv.ProblemNotUnderstood, "Lines of requests come and none of connections: ztunnel leaves these out, and requests are read from its metrics, which do not come."
		}
		in.liveness.ails(semconv.SourceAccessLog, node, log.Problem, log.Detail)
		in.liveness.leftTotal(semconv.SourceAccessLog, node, log.Dropped)
	}
	in.liveness.appendTo(b.metrics, at, in.cfg.ClusterName)
	in.appendDropped(b.metrics, at)
	return b
}

// appendDropped says what this receiver left out, if anything.
func (in *ingest) appendDropped(md pmetric.Metrics, at time.Time) {
	resource := pmetric.NewResourceMetrics()
	scope := resource.ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	in.tel.AppendDropped(scope, pcommon.NewTimestampFromTime(at))
	if scope.Metrics().Len() == 0 {
		return
	}
	putResource(resource.Resource().Attributes(), "", in.cfg.ClusterName)
	resource.Resource().Attributes().PutStr(semconv.AttrServiceInstanceID, in.instance)
	resource.MoveTo(md.ResourceMetrics().AppendEmpty())
}

// deliver hands on what was taken: the records, then, stored by save, the metrics that count them. The lock is not held; one goroutine
// delivers, so that the order stays.
func (in *ingest) deliver(ctx context.Context, b boundary, save func(ctx context.Context, saved *checkpoint)) {
	in.out.records(ctx)
	if b.saved != nil {
		save(ctx, b.saved)
	}
	if in.out.wants.metrics == nil {
		return
	}
	in.out.metrics.put(b.metrics)
	in.out.metrics.flush(ctx)
}

// retry offers what was refused again.
func (in *ingest) retry(ctx context.Context) {
	in.out.records(ctx)
	in.out.metrics.flush(ctx)
}

// maxEntry is the largest log entry in bytes.
func (c *Config) maxEntry() int {
	if logs := c.AccessLogs.Get(); logs != nil {
		return logs.MaxEntrySize
	}
	return defaultMaxEntry
}

var _ source.Sink = (*ingest)(nil)
