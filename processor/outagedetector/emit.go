package outagedetector

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/lifecycle"
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

// sendEvents hands transitions to the logs pipeline.
func (d *detector) sendEvents(ctx context.Context, transitions []lifecycle.Transition) {
	if len(transitions) == 0 {
		return
	}
	for _, t := range transitions {
		d.telemetry.OutageDetectorTransitions.Add(ctx, 1, metric.WithAttributes(attribute.String("transition", t.Name)))
		if t.Name == semconv.TransitionOpened {
			d.opened[opening{t.Outage.Kind, t.Outage.Severity}]++
		}
		if t.Name == semconv.TransitionClosed || t.Name == semconv.TransitionStale {
			d.closing = append(d.closing, closing{t.Outage, t.At})
		}
	}
	if d.nextLogs == nil {
		return
	}
	logs := plog.NewLogs()
	scope := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeOutageDetector)
	scope.Scope().SetVersion(d.version)
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
			d.logger.Error("An outage could not be encoded", zap.String("outage", t.Outage.ID), zap.Error(err))
		}
	}
	if err := d.nextLogs.ConsumeLogs(ctx, logs); err != nil {
		d.telemetry.OutageDetectorEventsFailed.Add(ctx, int64(len(transitions)))
		d.logger.Error("Outage events could not be handed on", zap.Int("events", len(transitions)), zap.Error(err))
	}
}

// appendGauges adds the outages' gauges to a batch: those that changed at once, those that are open at every refresh.
func (d *detector) appendGauges(metrics pmetric.Metrics, transitions []lifecycle.Transition) {
	now := d.store.Now
	refresh := now-d.gauges >= int64(d.cfg.RefreshInterval)
	open := d.registry.Open()
	if len(transitions) == 0 && len(d.closing) == 0 && !refresh {
		return
	}
	d.gauges = now
	budgets := d.budgets(now, refresh)
	if len(open) == 0 && len(d.closing) == 0 && len(budgets) == 0 && len(d.opened) == 0 {
		return
	}
	scope := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeOutageDetector)
	scope.Scope().SetVersion(d.version)
	if len(open)+len(d.closing) > 0 {
		points := gauge(scope, semconv.MetricOutage, "1 while an outage is open, 0 at its end.", "{outage}")
		for _, o := range open {
			l := labelsOf(o)
			// Once more is known of an outage its series is another one, and the former is over.
			if before, known := d.shown[o.ID]; known && before != l {
				before.point(points, now, 0)
			}
			d.shown[o.ID] = l
			l.point(points, now, 1)
		}
		for _, c := range d.closing {
			l := labelsOf(c.outage)
			if before, known := d.shown[c.outage.ID]; known && before != l {
				before.point(points, c.at, 0)
			}
			delete(d.shown, c.outage.ID)
			l.point(points, c.at, 0)
		}
		d.closing = d.closing[:0]
	}
	d.appendOpened(scope, now)
	if len(budgets) > 0 {
		points := gauge(scope, metricBudget, "The share of an objective's error budget that is left; negative if it is overdrawn.", "1")
		for _, b := range budgets {
			b.point(points, now)
		}
	}
}

// opening is what opened outages are counted by.
type opening struct{ kind, severity string }

// appendOpened adds how many outages opened.
func (d *detector) appendOpened(scope pmetric.ScopeMetrics, now int64) {
	if len(d.opened) == 0 {
		return
	}
	m := scope.Metrics().AppendEmpty()
	m.SetName(metricOpened)
	m.SetDescription("Outages that opened, by what they were first taken for.")
	m.SetUnit("{outage}")
	sum := m.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	keys := slices.SortedFunc(maps.Keys(d.opened), func(a, b opening) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.severity, b.severity))
	})
	for _, key := range keys {
		p := sum.DataPoints().AppendEmpty()
		p.SetStartTimestamp(pcommon.Timestamp(d.store.Begin))
		p.SetTimestamp(pcommon.Timestamp(now))
		p.SetIntValue(d.opened[key])
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

func (d *detector) budgets(now int64, refresh bool) []budget {
	if !refresh || len(d.cfg.SLOs) == 0 {
		return nil
	}
	var all []budget
	for name, app := range d.store.Edges.Apps {
		for _, b := range app.Budgets {
			slo := "availability"
			if b.SLO.Threshold > 0 {
				slo = "latency " + b.SLO.Threshold.String()
			}
			all = append(all, budget{name: name, slo: slo, left: judge.Left(b, now)})
		}
	}
	sortBudgets(all)
	return all
}

// countDrops tells the internal telemetry what was left out since it was told last.
func (d *detector) countDrops(ctx context.Context) {
	now, before := d.store.Drops, d.dropped
	d.dropped = now
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
		{"outages", d.registry.Overflowed - d.overflow},
	} {
		if c.n > 0 {
			d.telemetry.OutageDetectorDropped.Add(ctx, int64(c.n), metric.WithAttributes(attribute.String("bound", c.bound)))
		}
	}
	d.overflow = d.registry.Overflowed
}
