package servicegraphprocessor

import (
	"context"
	"errors"
	"net/netip"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/shared"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/appspan"
)

type member = shared.Member[*graph]

type logsProcessor struct {
	*member
	next consumer.Logs
	// first tells that the records of requests leave here; in further logs pipelines they would be counted again.
	first bool
}

func newLogsProcessor(m *member, next consumer.Logs) *logsProcessor {
	g := m.Component()
	g.mu.Lock()
	defer g.mu.Unlock()
	first := g.next.logs == nil
	if first {
		g.next.logs = next
	}
	return &logsProcessor{m, next, first}
}

// Capabilities implements consumer.Logs. Who offers logs again after a refusal need not copy them for this processor.
func (*logsProcessor) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

// ConsumeLogs learns the mesh's state and passes everything on; records of requests leave with the names of both ends, most of them later. They are
// counted then: whoever sent them must not send them again because what comes next refuses them.
func (p *logsProcessor) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	others, passed := p.Component().learn(logs, p.first, p.Component().sender(ctx))
	err := p.send(ctx, others)
	if lost := p.send(ctx, passed); lost != nil {
		p.Component().logger.Warn("sending records of requests failed", zap.Error(lost))
	}
	return err
}

func (p *logsProcessor) send(ctx context.Context, logs plog.Logs) error {
	if logs.ResourceLogs().Len() == 0 {
		return nil
	}
	return p.next.ConsumeLogs(ctx, logs)
}

// Shutdown sends the records that are held before the pipeline ends.
func (p *logsProcessor) Shutdown(ctx context.Context) error {
	var err error
	if p.first && p.Running() {
		err = p.send(ctx, held(p.Component(), p.Component().proxied.Settle))
	}
	return errors.Join(err, p.member.Shutdown(ctx))
}

type metricsProcessor struct{ *member }

func newMetricsProcessor(m *member, next consumer.Metrics) (*metricsProcessor, error) {
	g := m.Component()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next.metrics != nil {
		return nil, errors.New("a service_graph component belongs into one metrics pipeline; name a second one service_graph/<name>")
	}
	g.next.metrics = next
	return &metricsProcessor{m}, nil
}

func (*metricsProcessor) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

// ConsumeMetrics consumes the flow aggregates, passes all else on and adds the edges that a heartbeat makes due.
func (p *metricsProcessor) ConsumeMetrics(ctx context.Context, metrics pmetric.Metrics) error {
	return p.Component().consumeMetrics(ctx, metrics)
}

// Shutdown sends what is held and what changed before the pipeline ends.
func (p *metricsProcessor) Shutdown(ctx context.Context) error {
	var err error
	if p.Running() {
		err = p.Component().drainMetrics(ctx)
	}
	return errors.Join(err, p.member.Shutdown(ctx))
}

type tracesProcessor struct {
	*member
	next consumer.Traces
}

func newTracesProcessor(m *member, next consumer.Traces) (*tracesProcessor, error) {
	g := m.Component()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next.traces != nil {
		return nil, errors.New("a service_graph component belongs into one traces pipeline; name a second one service_graph/<name>")
	}
	g.next.traces = next
	return &tracesProcessor{m, next}, nil
}

func (*tracesProcessor) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

// ConsumeTraces counts the applications' requests and joins flow spans; flow spans that wait for their counterpart leave
// later.
func (p *tracesProcessor) ConsumeTraces(ctx context.Context, traces ptrace.Traces) error {
	p.Component().applyTraces(traces, p.Component().sender(ctx))
	return p.send(ctx, traces)
}

// sender is the address that spans or logs came from, as far as it matters.
func (g *graph) sender(ctx context.Context) netip.Addr {
	if addr := client.FromContext(ctx).Addr; addr != nil && g.cfg.Requests.VerifySenders {
		return appspan.Address(addr.String())
	}
	return netip.Addr{}
}

func (p *tracesProcessor) send(ctx context.Context, traces ptrace.Traces) error {
	if traces.ResourceSpans().Len() == 0 {
		return nil
	}
	return p.next.ConsumeTraces(ctx, traces)
}

// Shutdown sends the spans that are held before the pipeline ends.
func (p *tracesProcessor) Shutdown(ctx context.Context) error {
	var err error
	if p.Running() {
		err = p.send(ctx, held(p.Component(), p.Component().spans.Settle))
	}
	return errors.Join(err, p.member.Shutdown(ctx))
}
