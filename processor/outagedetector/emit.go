package outagedetector

import (
	"context"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/life"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// metricBudget is the share of an objective's error budget that is left.
const metricBudget = "mesh.slo.budget_left"

// closing is the gauge of an outage that ended: it is written once more, as 0.
type closing struct {
	outage *outage.Outage
	at     int64
}

// sendEvents hands transitions to the logs pipeline.
func (d *detector) sendEvents(ctx context.Context, transitions []life.Transition) {
	if len(transitions) == 0 {
		return
	}
	for _, t := range transitions {
		d.telemetry.OutageDetectorTransitions.Add(ctx, 1, metric.WithAttributes(attribute.String("transition", t.Name)))
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
func (d *detector) appendGauges(metrics pmetric.Metrics, transitions []life.Transition) {
	now := d.store.Now
	refresh := now-d.gauges >= int64(d.cfg.RefreshInterval)
	open := d.ledger.Open()
	if len(transitions) == 0 && len(d.closing) == 0 && !refresh {
		return
	}
	d.gauges = now
	budgets := d.budgets(now, refresh)
	if len(open) == 0 && len(d.closing) == 0 && len(budgets) == 0 {
		return
	}
	scope := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeOutageDetector)
	scope.Scope().SetVersion(d.version)
	if len(open)+len(d.closing) > 0 {
		points := gauge(scope, semconv.MetricOutage, "1 while an outage is open, 0 at its end.", "1")
		for _, o := range open {
			outagePoint(points, o, now, 1)
		}
		for _, c := range d.closing {
			outagePoint(points, c.outage, c.at, 0)
		}
		d.closing = d.closing[:0]
	}
	if len(budgets) > 0 {
		points := gauge(scope, metricBudget, "The share of an objective's error budget that is left; negative if it is overdrawn.", "1")
		for _, b := range budgets {
			b.point(points, now)
		}
	}
}

func gauge(scope pmetric.ScopeMetrics, name, description, unit string) pmetric.NumberDataPointSlice {
	m := scope.Metrics().AppendEmpty()
	m.SetName(name)
	m.SetDescription(description)
	m.SetUnit(unit)
	return m.SetEmptyGauge().DataPoints()
}

func outagePoint(points pmetric.NumberDataPointSlice, o *outage.Outage, at, value int64) {
	p := points.AppendEmpty()
	p.SetTimestamp(pcommon.Timestamp(at))
	p.SetIntValue(value)
	attrs := p.Attributes()
	attrs.PutStr(semconv.LabelOutageID, o.ID)
	attrs.PutStr(semconv.LabelKind, o.Kind)
	attrs.PutStr(semconv.LabelSeverity, o.Severity)
	attrs.PutStr(semconv.LabelRootType, o.Root.Type)
	attrs.PutStr(semconv.LabelRootNamespace, o.Root.Namespace)
	attrs.PutStr(semconv.LabelRootName, o.Root.Name)
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
	for name, app := range d.store.Apps {
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
		{"late", now.Late - before.Late},
		{"malformed", now.Malformed - before.Malformed},
		{"outages", d.ledger.Overflowed - d.overflow},
	} {
		if c.n > 0 {
			d.telemetry.OutageDetectorDropped.Add(ctx, int64(c.n), metric.WithAttributes(attribute.String("bound", c.bound)))
		}
	}
	d.overflow = d.ledger.Overflowed
}
