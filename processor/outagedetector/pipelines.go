package outagedetector

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/shared"
)

// metricsProcessor is a detector's place in a metrics pipeline.
type metricsProcessor struct {
	*shared.Member[*detector]
	next consumer.Metrics
}

func newMetricsProcessor(m *shared.Member[*detector], next consumer.Metrics) (*metricsProcessor, error) {
	emitter := &m.Component().emitter
	if emitter.nextMetrics != nil {
		return nil, errors.New("an outage_detector belongs into one metrics pipeline; name a second one outage_detector/<name>")
	}
	emitter.nextMetrics = next
	return &metricsProcessor{m, next}, nil
}

// Capabilities implements processor.Metrics: outages are added to the batch.
func (*metricsProcessor) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

// ConsumeMetrics judges what the batch says. The outage events it causes are handed on before the batch itself, so that
// whoever sees the batch (the end of a replay in it) has seen the events.
func (p *metricsProcessor) ConsumeMetrics(ctx context.Context, metrics pmetric.Metrics) error {
	p.Component().consumeMetrics(ctx, metrics)
	return p.next.ConsumeMetrics(ctx, metrics)
}

// logsProcessor is a detector's place in a logs pipeline.
type logsProcessor struct {
	*shared.Member[*detector]
	next consumer.Logs
}

func newLogsProcessor(m *shared.Member[*detector], next consumer.Logs) (*logsProcessor, error) {
	emitter := &m.Component().emitter
	if emitter.nextLogs != nil {
		return nil, errors.New("an outage_detector belongs into one logs pipeline; name a second one outage_detector/<name>")
	}
	emitter.nextLogs = next
	return &logsProcessor{m, next}, nil
}

// Capabilities implements processor.Logs.
func (*logsProcessor) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

// ConsumeLogs learns from the batch and passes it on.
func (p *logsProcessor) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	p.Component().consumeLogs(logs)
	return p.next.ConsumeLogs(ctx, logs)
}
