// Package telemetry is what the receiver tells of itself: counts of what it does and leaves out, and warnings where somebody has to act.
package telemetry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/flow"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
)

// Values of the telemetry's attributes.
const (
	attrReason   = "reason"
	attrSource   = "source"
	attrSignal   = "signal"
	attrOutcome  = "outcome"
	attrKind     = "kind"
	attrRole     = "role"
	attrResource = "resource"
)

// Reasons why something was left out.
const (
	ReasonEntityLimit  = "entity_limit"
	ReasonEntity       = "entity_invalid"
	reasonPart         = "recording_part"
	reasonFile         = "recording_file"
	ReasonScrapeSeries = "scrape_series"
	// Scrapes that came while nothing could leave.
	ReasonScrapeBacklog = "scrape_backlog"
	ReasonPods          = "pod_limit"
	ReasonChanges       = "change_limit"
	// What could not be recorded.
	ReasonRecord = "record"
	// What the next component refused for good, with the signal behind it.
	reasonRefused = "refused_"
)

// What became of items that the next component refused.
const (
	OutcomeRetried = "retried"
	OutcomeDropped = "dropped"
)

// Telemetry counts what the receiver does, and warns of it, now and then, where somebody has to act.
type Telemetry struct {
	*metadata.TelemetryBuilder
	Log *zap.Logger
	// drops tells along with the data what was left out.
	drops *drops.Counter

	mu sync.Mutex
	// warned is when each warning was last written; bounded by the warnings that there are.
	warned map[string]time.Time
}

// warnEvery is how often the same warning is written.
const warnEvery = time.Minute

// New returns the telemetry of a receiver. It is to be shut down.
func New(set component.TelemetrySettings) (*Telemetry, error) {
	builder, err := metadata.NewTelemetryBuilder(set)
	if err != nil {
		return nil, fmt.Errorf("internal telemetry: %w", err)
	}
	return &Telemetry{
		TelemetryBuilder: builder, Log: set.Logger, drops: drops.NewCounter(metadata.Type.String()), warned: map[string]time.Time{},
	}, nil
}

// Warn writes a warning unless it was written a short while ago.
func (t *Telemetry) Warn(message string, fields ...zap.Field) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.warned[message]) >= warnEvery {
		t.warned[message] = now
		t.Log.Warn(message, fields...)
	}
}

func with(key, value string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String(key, value)))
}

// Count implements flow.Observer.
func (t *Telemetry) Count(what flow.Counter, n int64) {
	ctx := context.Background()
	damaged := func(reason string) { t.ReceiverZtunnelEntriesDamaged.Add(ctx, n, with(attrReason, reason)) }
	switch what {
	case flow.CountEntries:
		t.ReceiverZtunnelEntries.Add(ctx, n, with(attrKind, "any"))
	case flow.CountAccess:
		t.ReceiverZtunnelEntries.Add(ctx, n, with(attrKind, "access"))
	case flow.CountForeign:
		t.LeftOut("foreign", n)
	case flow.CountCut:
		t.LeftOut("cut", n)
	case flow.CountIncomplete:
		t.LeftOut("incomplete", n)
	case flow.CountTruncated:
		damaged("oversized")
	case flow.CountInvalidFields:
		damaged("invalid_field")
	case flow.CountLate:
		damaged("late")
	case flow.CountEarly:
		damaged("early")
	case flow.CountClockOutliers:
		t.ReceiverZtunnelClockOutliers.Add(ctx, n, with(attrSource, semconv.SourceAccessLog))
	case flow.CountRepeated:
		t.ReceiverZtunnelLogLinesRepeated.Add(ctx, n)
	case flow.CountOverflow:
		t.ReceiverZtunnelFlowsOverflowed.Add(ctx, n)
	case flow.CountDrained:
		t.ReceiverZtunnelClosingErrors.Add(ctx, n, with(attrReason, "drained"))
	case flow.CountClosing:
		t.ReceiverZtunnelClosingErrors.Add(ctx, n, with(attrReason, "answered"))
	case flow.CountExpired:
		t.ReceiverZtunnelSeriesExpired.Add(ctx, n)
	case flow.CountNodesDropped:
		t.Dropped("node_limit", int(n))
	case flow.CountLogsDropped:
		t.Dropped("record_limit", int(n))
	case flow.CountSpansDropped:
		t.Dropped("span_limit", int(n))
	}
}

// LeftOut counts lines and entries of logs that could not be taken.
func (t *Telemetry) LeftOut(reason string, n int64) {
	t.ReceiverZtunnelEntriesDamaged.Add(context.Background(), n, with(attrReason, reason))
	t.drops.Add(reason, uint64(n))
}

// Failed counts and tells of a source that could not be read.
func (t *Telemetry) Failed(source, message, name string, err error) {
	t.SourceErrors(source, 1)
	t.Warn(message, zap.String("name", name), zap.Error(err))
}

// SourceErrors counts how often a source could not be read.
func (t *Telemetry) SourceErrors(source string, n int64) {
	t.ReceiverZtunnelScrapeErrors.Add(context.Background(), n, with(attrSource, source))
}

// Dropped counts what was left out.
func (t *Telemetry) Dropped(reason string, n int) {
	if n > 0 {
		t.ReceiverZtunnelItemsDropped.Add(context.Background(), int64(n), with(attrReason, reason))
		t.drops.Add(reason, uint64(n))
	}
}

// AppendDropped adds to a scope what was left out up to a boundary.
func (t *Telemetry) AppendDropped(scope pmetric.ScopeMetrics, at pcommon.Timestamp) {
	t.drops.Append(scope, at)
}

// Refused counts and tells of n items of a signal that the next consumer did not take.
func (t *Telemetry) Refused(ctx context.Context, signal pipeline.Signal, outcome string, n int, err error) {
	t.ReceiverZtunnelItemsRefused.Add(ctx, int64(n), metric.WithAttributeSet(attribute.NewSet(
		attribute.String(attrSignal, signal.String()), attribute.String(attrOutcome, outcome))))
	if outcome == OutcomeDropped {
		t.drops.Add(reasonRefused+signal.String(), uint64(n))
	}
	t.Warn("Telemetry was refused", zap.Stringer("signal", signal), zap.String("outcome", outcome), zap.Int("items", n), zap.Error(err))
}

// Reconnected counts streams of pods' logs that ended, by why.
func (t *Telemetry) Reconnected(reason string) {
	t.ReceiverZtunnelLogReconnects.Add(context.Background(), 1, with(attrReason, reason))
}

// Pods says how many pods of a role there are.
func (t *Telemetry) Pods(role string, n int) {
	t.ReceiverZtunnelPods.Record(context.Background(), int64(n), with(attrRole, role))
}

// KubernetesError counts a resource that could not be followed.
func (t *Telemetry) KubernetesError(resource, reason string) {
	t.ReceiverZtunnelKubernetesErrors.Add(context.Background(), 1, metric.WithAttributeSet(attribute.NewSet(
		attribute.String(attrResource, resource), attribute.String(attrReason, reason))))
}

// ClockOutlier implements replay.Report.
func (t *Telemetry) ClockOutlier(kind replay.Kind, _ string, n int) {
	t.ReceiverZtunnelClockOutliers.Add(context.Background(), int64(n), with(attrSource, sourceOf(kind)))
}

// Unreadable implements replay.Report.
func (t *Telemetry) Unreadable(kind replay.Kind, name string, final bool, err error) {
	fields := []zap.Field{zap.Stringer("kind", kind), zap.String("name", name), zap.Error(err)}
	if final {
		t.Dropped(reasonFile, 1)
		t.Log.Warn("A file of the recording cannot be read, or not to its end", fields...)
		return
	}
	t.Dropped(reasonPart, 1)
	t.Warn("A part of the recording cannot be read", fields...)
}

// UnknownFiles implements replay.Report.
func (t *Telemetry) UnknownFiles(directory string, names []string) {
	t.Log.Warn("The recording has files of names that replay does not know; they are left out",
		zap.String("directory", directory), zap.Strings("files", names))
}

func sourceOf(kind replay.Kind) string {
	switch kind {
	case replay.KindXDS:
		return semconv.SourceXDS
	case replay.KindConfigDump:
		return semconv.SourceConfigDump
	case replay.KindScrape:
		return semconv.SourceMetrics
	case replay.KindSpans:
		return semconv.SourceSpans
	case replay.KindRequest:
		return semconv.SourceEnvoyLog
	case replay.KindEntry:
	}
	return semconv.SourceAccessLog
}
