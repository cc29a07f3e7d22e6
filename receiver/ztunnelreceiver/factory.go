package ztunnelreceiver

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/nephilia/nephilia/internal/shared"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
)

// NewFactory returns the factory of the ztunnel receiver.
func NewFactory() receiver.Factory {
	var receivers shared.Components[*ztunnelReceiver]
	get := func(set receiver.Settings, cfg component.Config, wants func(*consumers)) (*shared.Member[*ztunnelReceiver], error) {
		member, err := receivers.Get(set.ID, func() (*ztunnelReceiver, error) { return newReceiver(cfg.(*Config), set) })
		if err == nil {
			wants(&member.Component().next)
		}
		return member, err
	}
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithLogs(func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
			return get(set, cfg, func(c *consumers) { c.logs = next })
		}, metadata.LogsStability),
		receiver.WithMetrics(func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Metrics) (receiver.Metrics, error) {
			return get(set, cfg, func(c *consumers) { c.metrics = next })
		}, metadata.MetricsStability),
		receiver.WithTraces(func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Traces) (receiver.Traces, error) {
			return get(set, cfg, func(c *consumers) { c.traces = next })
		}, metadata.TracesStability),
	)
}
