package outagedetector

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/lifecycle"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/metadata"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

const (
	// metricBudget is the share of an objective's error budget that is left.
	metricBudget = "mesh.slo.budget_left"
	// metricOpened counts the outages that opened.
	metricOpened = "mesh.outages"
)

// closing is the gauge of an outage that ended: it is written once more, as 0.
type closing struct {
	outage *outage.Outage
	at     int64
}

// emitter hands on what becomes of outages: events to the logs pipeline, gauges with the metrics.
type emitter struct {
	// nextMetrics and nextLogs are set before data flows.
	nextMetrics consumer.Metrics
	nextLogs    consumer.Logs

	version   string
	logger    *zap.Logger
	telemetry *metadata.TelemetryBuilder
	refresh   int64 // how often gauges are repeated

	// drops tells along with the gauges what was left out.
	drops *drops.Counter

	closing []closing
	opened  map[opening]int64 // bounded by the kinds and severities that there are
	shown   map[string]labels // by the outage's id, as written last; bounded by the outages that are open
	written int64             // when gauges were written last
}

func newEmitter(set processor.Settings, telemetry *metadata.TelemetryBuilder, refresh time.Duration) emitter {
	return emitter{
		version: set.BuildInfo.Version, logger: set.Logger, telemetry: telemetry, refresh: int64(refresh),
		drops: drops.NewCounter(metadata.Type.String()), opened: map[opening]int64{}, shown: map[string]labels{},
	}
}

// events hands transitions to the logs pipeline.
func (e *emitter) events(ctx context.Context, transitions []lifecycle.Transition) {
	if len(transitions) == 0 {
		return
	}
	for _, t := range transitions {
		e.telemetry.OutageDetectorTransitions.Add(ctx, 1, metric.WithAttributes(attribute.String("transition", t.Name)))
		if t.Name == semconv.TransitionOpened {
			e.opened[opening{t.Outage.Kind, t.Outage.Severity}]++
		}
		if t.Name == semconv.TransitionClosed || t.Name == semconv.TransitionStale {
			e.closing = append(e.closing, closing{t.Outage, t.At})
		}
	}
	if e.nextLogs == nil {
		return
	}
	logs, scope := e.logs()
	for _, t := range transitions {
		record := scope.LogRecords().AppendEmpty()
		record.SetTimestamp(pcommon.Timestamp(t.At))
		record.SetObservedTimestamp(pcommon.Timestamp(t.At))
		record.SetEventName(semconv.EventOutage)
		record.SetSeverityNumber(plog.SeverityNumberWarn)
		if t.Outage.Severity == rules.Critical {
			record.SetSeverityNumber(plog.SeverityNumberError)
		}
		record.Attributes().PutStr(semconv.AttrOutageID, t.Outage.ID)
		record.Attributes().PutStr(semconv.AttrOutageTransition, t.Name)
		if err := t.Outage.PutMap(record.Body().SetEmptyMap()); err != nil {
			e.logger.Error("An outage could not be encoded", zap.String("outage", t.Outage.ID), zap.Error(err))
		}
	}
	e.hand(ctx, logs)
}

func (e *emitter) logs() (plog.Logs, plog.ScopeLogs) {
	logs := plog.NewLogs()
	scope := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeOutageDetector)
	scope.Scope().SetVersion(e.version)
	return logs, scope
}

func (e *emitter) hand(ctx context.Context, logs plog.Logs) {
	if err := e.nextLogs.ConsumeLogs(ctx, logs); err != nil {
		events := logs.LogRecordCount()
		e.telemetry.OutageDetectorEventsFailed.Add(ctx, int64(events))
		e.logger.Error("Outage events could not be handed on", zap.Int("events", events), zap.Error(err))
	}
}

// gauges adds the outages' gauges to a batch: those that changed at once, those that are open at every refresh.
func (e *emitter) gauges(metrics pmetric.Metrics, transitions []lifecycle.Transition, open []*outage.Outage, store *observe.Store) {
	now := store.Now
	refresh := now-e.written >= e.refresh
	dropped := e.drops.Any(pcommon.Timestamp(now)) && refresh
	if len(transitions) == 0 && len(e.closing) == 0 && !refresh {
		return
	}
	e.written = now
	var budgets []budget
	if refresh {
		budgets = budgetsOf(store)
	}
	if len(open) == 0 && len(e.closing) == 0 && len(budgets) == 0 && len(e.opened) == 0 && !dropped {
		return
	}
	scope := e.scope(metrics)
	if len(open)+len(e.closing) > 0 {
		points := gauge(scope, semconv.MetricOutage, "1 while an outage is open, 0 at its end.", "{outage}")
		for _, o := range open {
			l := labelsOf(o)
			// Once more is known of an outage its series is another one, and the former is over.
			if before, known := e.shown[o.ID]; known && before != l {
				before.point(points, now, 0)
			}
			e.shown[o.ID] = l
			l.point(points, now, 1)
		}
		for _, c := range e.closing {
			l := labelsOf(c.outage)
			if before, known := e.shown[c.outage.ID]; known && before != l {
				before.point(points, c.at, 0)
			}
			delete(e.shown, c.outage.ID)
			l.point(points, c.at, 0)
		}
		e.closing = e.closing[:0]
	}
	e.appendOpened(scope, store)
	if dropped {
		e.drops.Append(scope, pcommon.Timestamp(now))
	}
	if len(budgets) > 0 {
		points := gauge(scope, metricBudget, "The share of an objective's error budget that is left; negative if it is overdrawn.", "1")
		for _, b := range budgets {
			b.point(points, now)
		}
	}
}

func (e *emitter) scope(metrics pmetric.Metrics) pmetric.ScopeMetrics {
	scope := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeOutageDetector)
	scope.Scope().SetVersion(e.version)
	return scope
}

// opening is what opened outages are counted by.
type opening struct{ kind, severity string }

// appendOpened adds how many outages opened.
func (e *emitter) appendOpened(scope pmetric.ScopeMetrics, store *observe.Store) {
	if len(e.opened) == 0 {
		return
	}
	m := scope.Metrics().AppendEmpty()
	m.SetName(metricOpened)
	m.SetDescription("Outages that opened, by what they were first taken for.")
	m.SetUnit("{outage}")
	sum := m.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	keys := slices.SortedFunc(maps.Keys(e.opened), func(a, b opening) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.severity, b.severity))
	})
	for _, key := range keys {
		p := sum.DataPoints().AppendEmpty()
		p.SetStartTimestamp(pcommon.Timestamp(store.Begin))
		p.SetTimestamp(pcommon.Timestamp(store.Now))
		p.SetIntValue(e.opened[key])
		p.Attributes().PutStr(semconv.LabelKind, key.kind)
		p.Attributes().PutStr(semconv.LabelSeverity, key.severity)
	}
}

func gauge(scope pmetric.ScopeMetrics, name, description, unit string) pmetric.NumberDataPointSlice {
	m := scope.Metrics().AppendEmpty()
	m.SetName(name)
	m.SetDescription(description)
	m.SetUnit(unit)
	return m.SetEmptyGauge().DataPoints()
}

// labels are those of an outage's gauge.
type labels struct {
	id, kind, severity string
	root               outage.Subject
}

func labelsOf(o *outage.Outage) labels { return labels{o.ID, o.Kind, o.Severity, o.Root} }

func (l labels) point(points pmetric.NumberDataPointSlice, at, value int64) {
	p := points.AppendEmpty()
	p.SetTimestamp(pcommon.Timestamp(at))
	p.SetIntValue(value)
	attrs := p.Attributes()
	attrs.PutStr(semconv.LabelOutageID, l.id)
	attrs.PutStr(semconv.LabelKind, l.kind)
	attrs.PutStr(semconv.LabelSeverity, l.severity)
	attrs.PutStr(semconv.LabelRootType, l.root.Type)
	attrs.PutStr(semconv.LabelRootNamespace, l.root.Namespace)
	attrs.PutStr(semconv.LabelRootName, l.root.Name)
}

// budget is the error budget of one workload's objective.
type budget struct {
	name outage.Name
	slo  string
	left float64
}

func (b budget) point(points pmetric.NumberDataPointSlice, now int64) {
	p := points.AppendEmpty()
	p.SetTimestamp(pcommon.Timestamp(now))
	p.SetDoubleValue(b.left)
	p.Attributes().PutStr(semconv.LabelDestinationNamespace, b.name.Namespace)
	p.Attributes().PutStr(semconv.LabelDestinationCanonicalService, b.name.Name)
	p.Attributes().PutStr("slo", b.slo)
}

// budgetsOf are what is left of the budgets of all objectives, in a stable order.
func budgetsOf(store *observe.Store) []budget {
	var all []budget
	for name, app := range store.Edges.Apps {
		for _, b := range app.Budgets {
			slo := "availability"
			if b.SLO.Threshold > 0 {
				slo = "latency " + b.SLO.Threshold.String()
			}
			all = append(all, budget{name: name, slo: slo, left: judge.Left(b, store.Now)})
		}
	}
	slices.SortFunc(all, func(a, b budget) int {
		return cmp.Or(observe.CompareNames(a.name, b.name), cmp.Compare(a.slo, b.slo))
	})
	return all
}

// reported is what the internal telemetry has been told of what was left out.
type reported struct {
	drops      observe.Drops
	overflowed uint64
	chronic    uint64
}

// report tells it, and what is emitted, what was left out since.
func (r *reported) report(ctx context.Context, telemetry *metadata.TelemetryBuilder, counter *drops.Counter, now observe.Drops, overflowed, chronic uint64) {
	before := r.drops
	for _, c := range [...]struct {
		bound string
		n     uint64
	}{
		{"edges", now.Edges - before.Edges},
		{"endpoints", now.Endpoints - before.Endpoints},
		{"nodes", now.Nodes - before.Nodes},
		{"entities", now.Entities - before.Entities},
		{"external", now.External - before.External},
		{"late", now.Late - before.Late},
		{"malformed", now.Malformed - before.Malformed},
		{"implausible_time", now.Implausible - before.Implausible},
		{"outages", overflowed - r.overflowed},
		{"chronic", chronic - r.chronic},
	} {
		if c.n > 0 {
			telemetry.OutageDetectorDropped.Add(ctx, int64(c.n), metric.WithAttributes(attribute.String("bound", c.bound)))
			counter.Add(c.bound, c.n)
		}
	}
	r.drops, r.overflowed, r.chronic = now, overflowed, chronic
}
