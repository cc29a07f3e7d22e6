package servicegraphprocessor

import (
	"context"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
)

// consumeTraces implements the traces processor.
func (g *graph) consumeTraces(ctx context.Context, traces ptrace.Traces) error {
	g.applyTraces(traces)
	if traces.ResourceSpans().Len() == 0 {
		return nil
	}
	return g.nextTraces.ConsumeTraces(ctx, traces)
}

// applyTraces takes over a batch of spans and removes the flow spans that have to wait.
func (g *graph) applyTraces(traces ptrace.Traces) {
	g.mu.Lock()
	defer g.mu.Unlock()
	traces.ResourceSpans().RemoveIf(func(resource ptrace.ResourceSpans) bool {
		var writer origin
		known := false
		resource.ScopeSpans().RemoveIf(func(scope ptrace.ScopeSpans) bool {
			if scope.Scope().Name() == semconv.ScopeReceiver {
				g.applyFlowSpans(resource.Resource(), scope)
				return scope.Spans().Len() == 0
			}
			if !known {
				writer, known = originOf(resource.Resource()), true
			}
			for _, span := range scope.Spans().All() {
				g.applySpan(writer, span)
			}
			return false
		})
		return resource.ScopeSpans().Len() == 0
	})
}

// drainTraces sends the spans that are held before the traces pipeline ends.
func (g *graph) drainTraces(ctx context.Context) error {
	g.mu.Lock()
	traces := g.flowSpans.flush(g, max(g.clock.time, pcommon.Timestamp(1)), true)
	g.mu.Unlock()
	if traces.ResourceSpans().Len() == 0 {
		return nil
	}
	return g.nextTraces.ConsumeTraces(ctx, traces)
}
