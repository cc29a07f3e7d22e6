package servicegraphprocessor

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

// awaitTurn lets a batch wait, after an interruption, until all nodes have sent what is older: each comes back at a moment of its
// own with all that it kept, and an emission must hold what was before its timestamp and nothing else. Whoever sends a batch
// is thereby slowed down to the slowest; nothing is held here beyond that one batch of each.
func (g *graph) awaitTurn(ctx context.Context, metrics pmetric.Metrics) (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.clock.reuniting(g.now()) {
		return nil
	}
	newest := pcommon.Timestamp(0)
	nodes := heartbeatsOf(metrics)
	for node, at := range nodes {
		g.clock.knock(node, at, g.now())
		newest = max(newest, at)
	}
	defer func() {
		for node := range nodes {
			delete(g.clock.waiting, node)
		}
		if err != nil {
			g.admit()
		}
	}()
	g.admit()
	for newest > g.clock.time && newest > g.admitted {
		left := g.clock.until.Sub(g.now())
		if left <= 0 {
			return nil
		}
		if err := g.sleep(ctx, left); err != nil {
			return fmt.Errorf("waiting for other nodes: %w", err)
		}
	}
	return nil
}

// sleep waits, without mu, until admitted has moved or a while has passed.
func (g *graph) sleep(ctx context.Context, while time.Duration) error {
	moved := g.moved
	g.mu.Unlock()
	defer g.mu.Lock()
	timer := time.NewTimer(while)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-moved:
	case <-timer.C:
	}
	return nil
}

// admit wakes those that wait if there is more to be taken now.
func (g *graph) admit() {
	if !g.clock.reuniting(g.now()) {
		return
	}
	if admitted := g.clock.admitted(); admitted != g.admitted {
		g.admitted = admitted
		close(g.moved)
		g.moved = make(chan struct{})
	}
}

// heartbeatsOf are the newest heartbeats of the nodes in a batch.
func heartbeatsOf(metrics pmetric.Metrics) map[string]pcommon.Timestamp {
	nodes := map[string]pcommon.Timestamp{}
	for _, resource := range metrics.ResourceMetrics().All() {
		source := sourceOf(resource.Resource())
		if source.node == "" {
			continue
		}
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Name() != semconv.MetricSourceUp || metric.Type() != pmetric.MetricTypeGauge {
					continue
				}
				for _, point := range metric.Gauge().DataPoints().All() {
					nodes[source.node] = max(nodes[source.node], point.Timestamp())
				}
			}
		}
	}
	return nodes
}
