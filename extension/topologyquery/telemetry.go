package topologyquery

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/ingest"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/metadata"
	"github.com/nephilia/nephilia/internal/drops"
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
					o.Observe(int64(spans.Spans()))
				}
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQueryRecordsCallback(func(_ context.Context, o metric.Int64Observer) error {
				for _, kept := range stores.Records.Status() {
					o.Observe(int64(kept.Records), metric.WithAttributes(attribute.String("kind", kept.Kind)))
				}
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQueryRecordsSizeCallback(func(_ context.Context, o metric.Int64Observer) error {
				for _, kept := range stores.Records.Status() {
					o.Observe(kept.Bytes, metric.WithAttributes(attribute.String("kind", kept.Kind)))
				}
				return nil
			})
		},
		func() error {
			return builder.RegisterTopologyQueryFindingsCallback(func(ctx context.Context, o metric.Int64Observer) error {
				if t.api == nil {
					return nil
				}
				counts, err := t.api.Findings(ctx)
				for kind, n := range counts {
					o.Observe(int64(n), metric.WithAttributes(attribute.String("kind", kind)))
				}
				return err
			})
		},
		func() error {
			return builder.RegisterTopologyQueryDroppedCallback(func(_ context.Context, o metric.Int64Observer) error {
				byReason(o, t.droppedHere())
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
			return builder.RegisterTopologyQueryQueryMemoryCallback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(t.storage.memory.Used())
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

func (t *topologyQuery) rejected(ctx context.Context, reason string) {
	t.telemetry.TopologyQueryHTTPRejected.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}

// droppedHere is what the extension itself did not take over, by reason.
func (t *topologyQuery) droppedHere() map[string]uint64 {
	dropped := t.ingester.Stats().Dropped
	dropped["change_limit"] += t.stores.Changes.Stats().Dropped
	dropped["chronic_limit"] += t.stores.Outages.Chronic.Dropped()
	dropped["request"] += t.stores.Endpoints.Dropped()
	dropped["node_limit"] += t.stores.Sources.Rejected()
	for _, kept := range t.stores.Records.Status() {
		for reason, n := range kept.Dropped {
			dropped[kept.Kind+"_"+reason] += n
		}
	}
	return dropped
}

// dropped is what was not taken over, here and by the components before.
func (t *topologyQuery) dropped() []drops.Total {
	totals := t.stores.Drops.Totals()
	for reason, n := range t.droppedHere() {
		if n > 0 && reason != ingest.NotStored {
			totals = append(totals, drops.Total{Component: metadata.Type.String(), Reason: reason, Count: n})
		}
	}
	drops.Sort(totals)
	return totals
}
