package ztunnelreceiver

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
)

// format is what the collector's own telemetry calls the receiver's data.
const format = "ztunnel"

// consumers are the next consumers of each signal, nil for those that no pipeline wants.
type consumers struct {
	logs    consumer.Logs
	metrics consumer.Metrics
	traces  consumer.Traces
}

// outlets are the ways out of the receiver, one for each signal.
type outlets struct {
	logs    outbox[plog.Logs]
	metrics outbox[pmetric.Metrics]
	traces  outbox[ptrace.Traces]
	wants   consumers
}

// newOutlets returns the ways to the next consumers; refused is told what they do not take.
func newOutlets(set receiver.Settings, next consumers, refused func(pipeline.Signal) func(context.Context, int, bool, error)) (*outlets, error) {
	obs, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: set.ID, Transport: format, ReceiverCreateSettings: set,
	})
	if err != nil {
		return nil, fmt.Errorf("observing the receiver: %w", err)
	}
	return &outlets{
		wants: next,
		logs: outbox[plog.Logs]{
			size:    plog.Logs.LogRecordCount,
			refused: refused(pipeline.SignalLogs),
			send: func(ctx context.Context, data plog.Logs) error {
				n := data.LogRecordCount()
				ctx = obs.StartLogsOp(ctx)
				if next.logs.Capabilities().MutatesData {
					data = copied(data, plog.NewLogs)
				}
				err := next.logs.ConsumeLogs(ctx, data)
				obs.EndLogsOp(ctx, format, n, err)
				return err
			},
		},
		metrics: outbox[pmetric.Metrics]{
			size:    pmetric.Metrics.DataPointCount,
			refused: refused(pipeline.SignalMetrics),
			send: func(ctx context.Context, data pmetric.Metrics) error {
				n := data.DataPointCount()
				ctx = obs.StartMetricsOp(ctx)
				if next.metrics.Capabilities().MutatesData {
					data = copied(data, pmetric.NewMetrics)
				}
				err := next.metrics.ConsumeMetrics(ctx, data)
				obs.EndMetricsOp(ctx, format, n, err)
				return err
			},
		},
		traces: outbox[ptrace.Traces]{
			size:    ptrace.Traces.SpanCount,
			refused: refused(pipeline.SignalTraces),
			send: func(ctx context.Context, data ptrace.Traces) error {
				n := data.SpanCount()
				ctx = obs.StartTracesOp(ctx)
				if next.traces.Capabilities().MutatesData {
					data = copied(data, ptrace.NewTraces)
				}
				err := next.traces.ConsumeTraces(ctx, data)
				obs.EndTracesOp(ctx, format, n, err)
				return err
			},
		},
	}, nil
}

// copied is for consumers that change what they get: what they refuse must be whole for the next attempt.
func copied[T interface{ CopyTo(T) }](data T, create func() T) T {
	whole := create()
	data.CopyTo(whole)
	return whole
}

// records sends logs and spans, in this order, so that who is talked about is known first.
func (o *outlets) records(ctx context.Context) {
	o.logs.flush(ctx)
	o.traces.flush(ctx)
}

// backlog is how many records wait, of the signal that has more.
func (o *outlets) backlog() int { return max(o.logs.waiting(), o.traces.waiting()) }

// empty tells whether nothing waits.
func (o *outlets) empty() bool { return o.backlog() == 0 && o.metrics.waiting() == 0 }
