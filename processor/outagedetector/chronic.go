package outagedetector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// chronic hands on what becomes of chronic conditions: an event for each of which there is news, the gauges of those and, at every refresh, of all.
func (e *emitter) chronic(ctx context.Context, metrics pmetric.Metrics, found *judge.Chronic, now int64) {
	changed := found.TakeChanged()
	if len(changed) > 0 && e.nextLogs != nil {
		logs, scope := e.logs()
		for _, s := range changed {
			c := chronicOf(s)
			record := scope.LogRecords().AppendEmpty()
			record.SetTimestamp(pcommon.Timestamp(now))
			record.SetObservedTimestamp(pcommon.Timestamp(now))
			record.SetEventName(semconv.EventChronic)
			record.SetSeverityNumber(plog.SeverityNumberInfo)
			if err := c.PutMap(record.Body().SetEmptyMap()); err != nil {
				e.logger.Error("A chronic condition could not be encoded", zap.String("condition", c.ID), zap.Error(err))
			}
		}
		e.hand(ctx, logs)
	}
	told := changed
	if now-e.written >= e.refresh {
		told = found.Standing()
		for _, s := range changed {
			if s.Ended != 0 {
				told = append(told, s)
			}
		}
	}
	if len(told) == 0 {
		return
	}
	points := gauge(e.scope(metrics), semconv.MetricChronic, "The share that fails of an edge of which a part always fails; 0 once it does well.", "1")
	for _, s := range told {
		point := points.AppendEmpty()
		point.SetTimestamp(pcommon.Timestamp(now))
		if s.Ended == 0 && s.Total > 0 {
			point.SetDoubleValue(min(float64(s.Failed)/float64(s.Total), 1))
		}
		attrs := point.Attributes()
		attrs.PutStr(semconv.LabelKind, s.Kind)
		attrs.PutStr(semconv.LabelSourceNamespace, s.Pair.Source.Name.Namespace)
		attrs.PutStr(semconv.LabelSourceCanonicalService, s.Pair.Source.Name.Name)
		attrs.PutStr(semconv.LabelDestinationNamespace, s.Pair.Destination.Name.Namespace)
		attrs.PutStr(semconv.LabelDestinationCanonicalService, s.Pair.Destination.Name.Name)
	}
}

// chronicOf is a condition as events carry it. Whoever finds it gives it the same id.
func chronicOf(s *judge.Condition) *outage.Chronic {
	source, destination := s.Pair.Source.Name, s.Pair.Destination.Name
	sum := sha256.Sum256(fmt.Appendf(nil, "chronic\x00%s\x00%s\x00%s\x00%s\x00%s",
		s.Kind, source.Namespace, source.Name, destination.Namespace, destination.Name))
	c := &outage.Chronic{
		ID: hex.EncodeToString(sum[:8]), Kind: s.Kind, Policy: s.Policy,
		Edge:          outage.Edge{Source: source, Destination: destination, Failed: min(s.Failed, s.Total), Total: s.Total},
		WindowSeconds: s.Window.Seconds(), Since: time.Unix(0, s.Since).UTC(), Updated: time.Unix(0, s.Updated).UTC(),
	}
	if s.Ended != 0 {
		ended := time.Unix(0, s.Ended).UTC()
		c.EndedAt = &ended
	}
	c.Summary = chronicSummary(s, c)
	return c
}

func chronicSummary(s *judge.Condition, c *outage.Chronic) string {
	noun, failed := "connections", "failed ("+strings.ReplaceAll(s.Kind, "_", " ")+")"
	if s.Family == observe.RequestErrors {
		noun, failed = "requests", "failed"
	}
	if s.Kind == rules.KindPolicyDenied {
		failed = "were denied"
		if s.Policy != "" {
			failed += " by AuthorizationPolicy " + s.Policy
		}
	}
	edge := c.Source.Name + " → " + c.Destination.Name
	if s.Ended != 0 {
		return fmt.Sprintf("%s: %s no longer fail as they always did.", edge, noun)
	}
	return fmt.Sprintf("%s: %d of %d %s %s in the last %s, as always.", edge, c.Failed, c.Total, noun, failed, s.Window)
}
