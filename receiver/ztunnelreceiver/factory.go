package ztunnelreceiver

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
)

// NewFactory returns the factory of the ztunnel receiver.
func NewFactory() receiver.Factory {
	receivers := newInstances()
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithLogs(func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
			r, err := receivers.get(cfg.(*Config), set)
			if err != nil {
				return nil, err
			}
			r.next.logs = next
			return r, nil
		}, metadata.LogsStability),
		receiver.WithMetrics(func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Metrics) (receiver.Metrics, error) {
			r, err := receivers.get(cfg.(*Config), set)
			if err != nil {
				return nil, err
			}
			r.next.metrics = next
			return r, nil
		}, metadata.MetricsStability),
		receiver.WithTraces(func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Traces) (receiver.Traces, error) {
			r, err := receivers.get(cfg.(*Config), set)
			if err != nil {
				return nil, err
			}
			r.next.traces = next
			return r, nil
		}, metadata.TracesStability),
	)
}
