package topologyquery

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/metadata"
)

// report registers the extension's own metrics.
func (t *topologyQuery) report() error {
	builder, err := metadata.NewTelemetryBuilder(t.settings.TelemetrySettings)
	if err != nil {
		return fmt.Errorf("making the extension's own metrics: %w", err)
	}
	t.telemetry = builder
	ingester, stores, spans := t.ingester, t.stores, t.stores.Spans
	byReason := func(o metric.Int64Observer, counts map[string]uint64) {
		for reason, n := range counts {
			o.Observe(int64(n), metric.WithAttributes(attribute.String("reason", reason)))
		}
	}
	for _, register := range []func() error{
		func() error {
			return builder.RegisterTopologyQueryEdgesCallback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(int64(stores.Live.Stats().Edges))
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQueryLiveBytesCallback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(int64(stores.Live.Stats().Bytes))
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQuerySeriesCallback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(int64(ingester.Stats().Series))
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQuerySpansCallback(func(_ context.Context, o metric.Int64Observer) error {
				if spans != nil {
					o.Observe(int64(spans.Stats().Spans))
				}
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQueryDroppedCallback(func(_ context.Context, o metric.Int64Observer) error {
				byReason(o, ingester.Stats().Dropped)
				byReason(o, map[string]uint64{"change_limit": stores.Changes.Stats().Dropped})
				if spans != nil {
					byReason(o, map[string]uint64{"span_limit": spans.Stats().Dropped})
				}
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQueryHistorySamplesCallback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(int64(ingester.Stats().Stored))
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQueryHistoryRefusedCallback(func(_ context.Context, o metric.Int64Observer) error {
				byReason(o, ingester.Stats().Refused)
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQueryEventClientsCallback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(int64(stores.Events.Clients()))
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQueryEventResyncsCallback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(int64(stores.Events.Resyncs()))
				return nil
			})
		},
	} {
		if err := register(); err != nil {
			return fmt.Errorf("making the extension's own metrics: %w", err)
		}
	}
	return nil
}

func (t *topologyQuery) observe(ctx context.Context, route string, status int, took time.Duration) {
	t.telemetry.TopologyQueryHTTPDuration.Record(ctx, took.Seconds(),
		metric.WithAttributes(attribute.String("route", route), attribute.Int("status", status)))
}
