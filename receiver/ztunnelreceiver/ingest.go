package ztunnelreceiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/configdump"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/flow"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/scrape"
)

const (
	// maxGathered is how many records gather before they leave without waiting for a boundary.
	maxGathered = 8192
	// dumpPatience is after how long without a dump another ztunnel's is believed about the mesh.
	dumpPatience = 2 * time.Minute
	// maxChanges bounds the changes that gather between two boundaries.
	maxChanges = 10_000
	// format is what the collector's own telemetry calls the receiver's data.
	format = "ztunnel"
)

var errOutboxFull = errors.New("too much was refused before it")

// consumers are the next consumers of each signal, nil for those that no pipeline wants.
type consumers struct {
	logs    consumer.Logs
	metrics consumer.Metrics
	traces  consumer.Traces
}

// ingest is where everything that was read comes together, live or replayed, and from where it leaves at the boundaries. It
// has no goroutine and no lock: its owner makes one call at a time.
type ingest struct {
	cfg  *Config
	tel  *telemetry
	flow *flow.Processor
	live *liveness
	// waypoints tells of each waypoint that is scraped whether it answers; bounded by maxSources.
	waypoints map[string]bool
	// dumps says what is new in the mesh's state that config dumps hold.
	dumps *configdump.State

	// Gathered since the last boundary.
	scraped pmetric.Metrics
	events  []mesh.Event
	changes []mesh.Change
	spans   ptrace.Traces

	logs    outbox[plog.Logs]
	metrics outbox[pmetric.Metrics]
	traces  outbox[ptrace.Traces]
	wants   consumers

	refreshed time.Time
	// repeatScraped lets the next scrapes tell also what did not change.
	repeatScraped func()
	// lostEvents is set when records were dropped, among which may have been the state of entities.
	lostEvents bool
	// commit makes what was read so far permanent, before metrics that count it leave. It may be nil.
	commit func(ctx context.Context, at time.Time)
}

func newIngest(cfg *Config, set receiver.Settings, next consumers, tel *telemetry) (*ingest, error) {
	obs, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: set.ID, Transport: format, ReceiverCreateSettings: set,
	})
	if err != nil {
		return nil, fmt.Errorf("observing the receiver: %w", err)
	}
	in := &ingest{
		cfg: cfg, tel: tel, live: newLiveness(), waypoints: map[string]bool{}, dumps: configdump.NewState(dumpPatience), wants: next,
		scraped: pmetric.NewMetrics(), spans: ptrace.NewTraces(), repeatScraped: func() {},
	}
	flowConfig := flow.Config{
		MaxSeries:     cfg.MaxSeries,
		Expiry:        cfg.SeriesExpiry,
		MaxEntry:      cfg.maxEntry(),
		RecordLogs:    next.logs != nil,
		RecordMetrics: next.metrics != nil,
		RecordSpans:   next.traces != nil,
		SampleRatioN:  cfg.Spans.Ratio,
		SlowThreshold: cfg.Spans.SlowThreshold,
		Cluster:       cfg.ClusterName,
	}
	if err := flowConfig.Validate(); err != nil {
		return nil, err
	}
	in.flow = flow.New(flowConfig, tel)
	in.logs = outbox[plog.Logs]{
		items:   plog.Logs.LogRecordCount,
		refused: in.refused(pipeline.SignalLogs),
		send: func(ctx context.Context, data plog.Logs) error {
			n := data.LogRecordCount()
			ctx = obs.StartLogsOp(ctx)
			if next.logs.Capabilities().MutatesData {
				data = copied(data, plog.NewLogs)
			}
			err := next.logs.ConsumeLogs(ctx, data)
			obs.EndLogsOp(ctx, format, n, err)
			return err
		},
	}
	in.metrics = outbox[pmetric.Metrics]{
		items:   pmetric.Metrics.DataPointCount,
		refused: in.refused(pipeline.SignalMetrics),
		send: func(ctx context.Context, data pmetric.Metrics) error {
			n := data.DataPointCount()
			ctx = obs.StartMetricsOp(ctx)
			if next.metrics.Capabilities().MutatesData {
				data = copied(data, pmetric.NewMetrics)
			}
			err := next.metrics.ConsumeMetrics(ctx, data)
			obs.EndMetricsOp(ctx, format, n, err)
			return err
		},
	}
	in.traces = outbox[ptrace.Traces]{
		items:   ptrace.Traces.SpanCount,
		refused: in.refused(pipeline.SignalTraces),
		send: func(ctx context.Context, data ptrace.Traces) error {
			n := data.SpanCount()
			ctx = obs.StartTracesOp(ctx)
			if next.traces.Capabilities().MutatesData {
				data = copied(data, ptrace.NewTraces)
			}
			err := next.traces.ConsumeTraces(ctx, data)
			obs.EndTracesOp(ctx, format, n, err)
			return err
		},
	}
	return in, nil
}

// copied is for consumers that change what they get: what they refuse must be whole for the next attempt.
func copied[T interface{ CopyTo(T) }](data T, create func() T) T {
	whole := create()
	data.CopyTo(whole)
	return whole
}

// refused counts what the next consumer of a signal did not take.
func (in *ingest) refused(signal pipeline.Signal) func(context.Context, int, bool, error) {
	return func(ctx context.Context, n int, dropped bool, err error) {
		outcome := "retried"
		if dropped {
			outcome = "dropped"
			switch signal {
			case pipeline.SignalMetrics:
				// The series are cumulative: sending all again makes up for it.
				in.refreshed = time.Time{}
				in.repeatScraped()
			case pipeline.SignalLogs:
				in.lostEvents = true
			}
		}
		in.tel.ReceiverZtunnelItemsRefused.Add(ctx, int64(n), metric.WithAttributeSet(attribute.NewSet(
			attribute.String(attrSignal, signal.String()), attribute.String(attrOutcome, outcome))))
		in.tel.warn("Telemetry was refused", zap.Stringer("signal", signal), zap.String("outcome", outcome),
			zap.Int("items", n), zap.Error(err))
	}
}

// Entry takes a log entry of a node's ztunnel; observed is when it was read.
func (in *ingest) entry(ctx context.Context, node string, entry []byte, observed time.Time) {
	in.flow.Entry(node, entry, observed)
	if logs, spans := in.flow.Pending(); max(logs, spans) >= maxGathered {
		in.sendRecords(ctx)
	}
}

// addEvents takes what happened to the mesh's entities.
func (in *ingest) addEvents(events []mesh.Event) {
	if in.wants.logs != nil {
		in.events = append(in.events, events...)
	}
}

// addChanges takes what changed of what the mesh runs on.
func (in *ingest) addChanges(changes []mesh.Change) {
	if in.wants.logs == nil {
		return
	}
	room := min(len(changes), maxChanges-len(in.changes))
	in.changes = append(in.changes, changes[:room]...)
	in.dropped(reasonChanges, len(changes)-room)
}

// addScraped takes scraped series; md is not used afterwards.
func (in *ingest) addScraped(md pmetric.Metrics) {
	if in.wants.metrics != nil {
		md.ResourceMetrics().MoveAndAppendTo(in.scraped.ResourceMetrics())
	}
}

// addScrape takes what a scrape gave; its metrics are not used afterwards.
func (in *ingest) addScrape(result scrape.Result) {
	if result.Err != nil && result.Target.Aside {
		return
	}
	in.addScraped(result.Metrics)
	in.dropped(reasonScrapeSeries, result.Stats.Dropped())
	if result.Gone {
		delete(in.waypoints, result.Target.Name)
	}
	if result.Gone || result.Target.Aside {
		return
	}
	up, seen := result.Err == nil, result.At
	if !up {
		seen = time.Time{}
		in.failed(semconv.SourceMetrics, "A scrape failed", result.Target.Name, result.Err)
	}
	if result.Target.Kind == scrape.Ztunnel {
		in.live.set(semconv.SourceMetrics, result.Target.Name, up, seen)
		return
	}
	// Waypoints are no node's: together they are one source, which delivers while any of them answers.
	if _, known := in.waypoints[result.Target.Name]; known || len(in.waypoints) < maxSources {
		in.waypoints[result.Target.Name] = up
	}
	for _, answers := range in.waypoints {
		up = up || answers
	}
	in.live.set(semconv.SourceMetrics, "", up, seen)
}

// addDump takes a config dump.
func (in *ingest) addDump(result configdump.Result) {
	up, seen := result.Err == nil, result.At
	if up {
		in.dropped(reasonEntityLimit, result.Dump.Dropped)
		in.addEvents(in.dumps.Apply(result.Dump))
	} else {
		seen = time.Time{}
		in.failed(semconv.SourceConfigDump, "A config dump failed", result.Target.Node, result.Err)
	}
	in.live.set(semconv.SourceConfigDump, result.Target.Node, up, seen)
}

// failed counts and tells of a source that could not be read.
func (in *ingest) failed(source, message, name string, err error) {
	in.tel.ReceiverZtunnelScrapeErrors.Add(context.Background(), 1, with(attrSource, source))
	in.tel.warn(message, zap.String("name", name), zap.Error(err))
}

// dropped counts what was left out.
func (in *ingest) dropped(reason string, n int) {
	if n > 0 {
		in.tel.ReceiverZtunnelItemsDropped.Add(context.Background(), int64(n), with(attrReason, reason))
	}
}

// addSpans takes applications' spans; spans is not used afterwards.
func (in *ingest) addSpans(spans ptrace.Traces) {
	if in.wants.traces != nil {
		spans.ResourceSpans().MoveAndAppendTo(in.spans.ResourceSpans())
	}
}

// sendRecords hands on entities, flow records and spans, in this order, so that who is talked about is known first.
func (in *ingest) sendRecords(ctx context.Context) {
	if in.wants.logs != nil {
		logs := in.takeEvents()
		in.takeChanges(logs)
		in.flow.FlushLogs().ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
		in.logs.put(logs)
		in.logs.flush(ctx)
	}
	if in.wants.traces != nil {
		spans := in.spans
		in.spans = ptrace.NewTraces()
		in.flow.FlushSpans().ResourceSpans().MoveAndAppendTo(spans.ResourceSpans())
		in.traces.put(spans)
		in.traces.flush(ctx)
	}
}

func (in *ingest) takeEvents() plog.Logs {
	logs := plog.NewLogs()
	if len(in.events) == 0 {
		return logs
	}
	resource := logs.ResourceLogs().AppendEmpty()
	putResource(resource.Resource().Attributes(), "", in.cfg.ClusterName)
	scope := resource.ScopeLogs().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	mesh.MarkEntityScope(scope.Scope())
	for _, event := range in.events {
		if err := event.AppendTo(scope.LogRecords()); err != nil {
			in.tel.ReceiverZtunnelItemsDropped.Add(context.Background(), 1, with(attrReason, reasonEntity))
			in.tel.warn("An entity cannot be sent", zap.Error(err))
		}
	}
	clear(in.events)
	in.events = in.events[:0]
	return logs
}

func (in *ingest) takeChanges(logs plog.Logs) {
	if len(in.changes) == 0 {
		return
	}
	resource := logs.ResourceLogs().AppendEmpty()
	if in.cfg.ClusterName != "" {
		resource.Resource().Attributes().PutStr(semconv.AttrClusterName, in.cfg.ClusterName)
	}
	scope := resource.ScopeLogs().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	for _, change := range in.changes {
		change.AppendTo(scope.LogRecords())
	}
	clear(in.changes)
	in.changes = in.changes[:0]
}

// flush hands on everything that belongs before the boundary at: records and spans, then, committed, metrics and heartbeats.
// Without whole, what was read of the logs is not in a state that can be committed, and the flow series have to wait.
// tail is appended to the metrics.
func (in *ingest) flush(ctx context.Context, at time.Time, whole bool, tail func(md pmetric.Metrics)) {
	in.sendRecords(ctx)
	md := in.scraped
	in.scraped = pmetric.NewMetrics()
	if whole {
		refresh := at.Before(in.refreshed) || at.Sub(in.refreshed) >= in.cfg.RefreshInterval
		if refresh {
			in.refreshed = at
		}
		in.flow.FlushMetrics(at, refresh).ResourceMetrics().MoveAndAppendTo(md.ResourceMetrics())
		// After FlushMetrics, which gives new series their start, and before anything of it leaves: what is restored is then never
		// less than what was seen.
		if in.commit != nil {
			in.commit(ctx, at)
		}
		in.tel.ReceiverZtunnelSeries.Record(ctx, int64(in.flow.Series()))
	}
	if in.wants.metrics == nil {
		return
	}
	for _, node := range in.live.nodes(semconv.SourceAccessLog) {
		in.live.seen(semconv.SourceAccessLog, node, in.flow.LastSeen(node))
	}
	in.live.appendTo(md, at, in.cfg.ClusterName)
	if tail != nil {
		tail(md)
	}
	in.metrics.put(md)
	in.metrics.flush(ctx)
}

// waiting tells whether anything was refused and waits for another attempt.
func (in *ingest) waiting() bool {
	return !in.logs.empty() || !in.metrics.empty() || !in.traces.empty()
}

// retry offers what was refused again.
func (in *ingest) retry(ctx context.Context) {
	in.logs.flush(ctx)
	in.traces.flush(ctx)
	in.metrics.flush(ctx)
}

// maxEntry is the largest log entry in bytes.
func (c *Config) maxEntry() int {
	if logs := c.AccessLogs.Get(); logs != nil {
		return logs.MaxEntrySize
	}
	return defaultMaxEntry
}

var _ component.Config = (*Config)(nil)
