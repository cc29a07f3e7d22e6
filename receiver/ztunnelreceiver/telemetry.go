package ztunnelreceiver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/flow"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
)

// Values of the telemetry's attributes.
const (
	attrReason  = "reason"
	attrSource  = "source"
	attrSignal  = "signal"
	attrOutcome = "outcome"
	attrKind    = "kind"
	attrRole    = "role"

	reasonEntityLimit  = "entity_limit"
	reasonEntity       = "entity_invalid"
	reasonPart         = "recording_part"
	reasonFile         = "recording_file"
	reasonScrapeSeries = "scrape_series"
	// Scrapes that came while nothing could leave.
	reasonScrapeBacklog = "scrape_backlog"
	reasonPods          = "pod_limit"
	reasonChanges       = "change_limit"
)

// telemetry counts what the receiver does, and warns of it, now and then, where somebody has to act.
type telemetry struct {
	*metadata.TelemetryBuilder
	log *zap.Logger

	mu sync.Mutex
	// warned is when each warning was last written; bounded by the warnings that there are.
	warned map[string]time.Time
}

// warnEvery is how often the same warning is written.
const warnEvery = time.Minute

func newTelemetry(set component.TelemetrySettings) (*telemetry, error) {
	builder, err := metadata.NewTelemetryBuilder(set)
	if err != nil {
		return nil, fmt.Errorf("internal telemetry: %w", err)
	}
	return &telemetry{TelemetryBuilder: builder, log: set.Logger, warned: map[string]time.Time{}}, nil
}

// warn writes a warning unless it was written a short while ago.
func (t *telemetry) warn(message string, fields ...zap.Field) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.warned[message]) >= warnEvery {
		t.warned[message] = now
		t.log.Warn(message, fields...)
	}
}

func with(key, value string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String(key, value)))
}

// Count implements flow.Observer.
func (t *telemetry) Count(what flow.Counter, n int64) {
	ctx := context.Background()
	damaged := func(reason string) { t.ReceiverZtunnelEntriesDamaged.Add(ctx, n, with(attrReason, reason)) }
	dropped := func(reason string) { t.ReceiverZtunnelItemsDropped.Add(ctx, n, with(attrReason, reason)) }
	switch what {
	case flow.CountEntries:
		t.ReceiverZtunnelEntries.Add(ctx, n, with(attrKind, "any"))
	case flow.CountAccess:
		t.ReceiverZtunnelEntries.Add(ctx, n, with(attrKind, "access"))
	case flow.CountForeign:
		damaged("foreign")
	case flow.CountCut:
		damaged("cut")
	case flow.CountIncomplete:
		damaged("incomplete")
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
	case flow.CountOverflow:
		t.ReceiverZtunnelFlowsOverflowed.Add(ctx, n)
	case flow.CountDrained:
		t.ReceiverZtunnelClosingErrors.Add(ctx, n, with(attrReason, "drained"))
	case flow.CountClosing:
		t.ReceiverZtunnelClosingErrors.Add(ctx, n, with(attrReason, "answered"))
	case flow.CountExpired:
		t.ReceiverZtunnelSeriesExpired.Add(ctx, n)
	case flow.CountNodesDropped:
		dropped("node_limit")
	case flow.CountLogsDropped:
		dropped("record_limit")
	case flow.CountSpansDropped:
		dropped("span_limit")
	}
}

// Damaged is told by the tail of lines that are not as they should be.
func (t *telemetry) Damaged(what tail.Damage, n int64) {
	t.ReceiverZtunnelEntriesDamaged.Add(context.Background(), n, with(attrReason, string(what)))
}

// ClockOutlier implements replay.Report.
func (t *telemetry) ClockOutlier(kind replay.Kind, _ string, n int) {
	t.ReceiverZtunnelClockOutliers.Add(context.Background(), int64(n), with(attrSource, sourceOf(kind)))
}

// Unreadable implements replay.Report.
func (t *telemetry) Unreadable(kind replay.Kind, name string, final bool, err error) {
	fields := []zap.Field{zap.Stringer("kind", kind), zap.String("name", name), zap.Error(err)}
	if final {
		t.ReceiverZtunnelItemsDropped.Add(context.Background(), 1, with(attrReason, reasonFile))
		t.log.Warn("A file of the recording cannot be read, or not to its end", fields...)
		return
	}
	t.ReceiverZtunnelItemsDropped.Add(context.Background(), 1, with(attrReason, reasonPart))
	t.warn("A part of the recording cannot be read", fields...)
}

// UnknownFiles implements replay.Report.
func (t *telemetry) UnknownFiles(directory string, names []string) {
	t.log.Warn("The recording has files of names that replay does not know; they are left out",
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
	case replay.KindEntry:
	}
	return semconv.SourceAccessLog
}
