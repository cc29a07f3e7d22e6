package servicegraphprocessor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/semconv"
)

// emission is what leaves at once: edges, spans, records of requests, and the marker of a replay's end, which must leave last. Before it does,
// what was recorded of it is committed.
type emission struct {
	edges    pmetric.Metrics
	traces   ptrace.Traces
	logs     plog.Logs
	marker   pmetric.Metrics
	recorded journal.Batch
}

func nothing() emission {
	return emission{edges: pmetric.NewMetrics(), traces: ptrace.NewTraces(), logs: plog.NewLogs(), marker: pmetric.NewMetrics()}
}

// emission is what is due now; with final, everything that is held.
func (g *graph) emission(final bool) emission {
	e := nothing()
	e.edges, e.traces, e.logs = g.flush(final)
	e.recorded = g.saved.record(g)
	return e
}

// emitLocked applies something and sends what that makes due, with the rest of the batch that it came in, if any. What leaves
// keeps the order in which it was applied, and while it does, the next batch can be applied.
func (g *graph) emitLocked(ctx context.Context, apply func() emission, rest pmetric.Metrics) error {
	g.applying.Lock()
	e := apply()
	g.sending.Lock()
	g.applying.Unlock()
	defer g.sending.Unlock()
	g.commit(ctx, e.recorded)
	var errs error
	if e.traces.ResourceSpans().Len() > 0 && g.next.traces != nil {
		errs = g.next.traces.ConsumeTraces(ctx, e.traces)
	}
	if e.logs.ResourceLogs().Len() > 0 && g.next.logs != nil {
		errs = errors.Join(errs, g.next.logs.ConsumeLogs(ctx, e.logs))
	}
	e.edges.ResourceMetrics().MoveAndAppendTo(rest.ResourceMetrics())
	if g.next.metrics == nil {
		return errs
	}
	if rest.ResourceMetrics().Len() > 0 {
		errs = errors.Join(errs, g.next.metrics.ConsumeMetrics(ctx, rest))
	}
	if e.marker.ResourceMetrics().Len() > 0 {
		errs = errors.Join(errs, g.next.metrics.ConsumeMetrics(ctx, e.marker))
	}
	return errs
}

// extractMarker moves the marker of a replay's end, if there is one, into a batch of its own.
func extractMarker(metrics pmetric.Metrics) pmetric.Metrics {
	marker := pmetric.NewMetrics()
	if replay, ok := datatime.ReadReplay(metrics); !ok || !semconv.ReplayEnded(replay.State) {
		return marker
	}
	metrics.ResourceMetrics().RemoveIf(func(resource pmetric.ResourceMetrics) bool {
		resource.ScopeMetrics().RemoveIf(func(scope pmetric.ScopeMetrics) bool {
			scope.Metrics().RemoveIf(func(metric pmetric.Metric) bool {
				if replay, ok := datatime.ReplayOf(metric); !ok || !semconv.ReplayEnded(replay.State) {
					return false
				}
				r := marker.ResourceMetrics().AppendEmpty()
				resource.Resource().CopyTo(r.Resource())
				s := r.ScopeMetrics().AppendEmpty()
				scope.Scope().CopyTo(s.Scope())
				metric.CopyTo(s.Metrics().AppendEmpty())
				return true
			})
			return scope.Metrics().Len() == 0
		})
		return resource.ScopeMetrics().Len() == 0
	})
	return marker
}

// catchUp is where nodes wait for each other after an interruption.
type catchUp struct {
	// admitted is up to when what nodes send is taken; moved is closed when that changes.
	admitted pcommon.Timestamp
	moved    chan struct{}
}

// waitForSlowerNodes lets a batch wait, after an interruption, until all nodes have sent what is older: each comes back at a moment
// of its own with all that it kept, and an emission must hold what was before its timestamp and nothing else. Whoever sends a batch
// is thereby slowed down to the slowest; nothing is held here beyond that one batch of each.
func (g *graph) waitForSlowerNodes(ctx context.Context, metrics pmetric.Metrics) (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.clock.CatchingUp(g.wall.now()) {
		return nil
	}
	newest := pcommon.Timestamp(0)
	var announced []string
	for beat := range datatime.Read(metrics) {
		if beat.Node == "" || !g.clock.Announce(beat.Node, beat.Time, g.wall.now()) {
			continue
		}
		announced = append(announced, beat.Node)
		newest = max(newest, beat.Time)
	}
	defer func() {
		for _, node := range announced {
			g.clock.Withdraw(node)
		}
		if err != nil {
			g.admit()
		}
	}()
	g.admit()
	for newest > g.clock.Now() && newest > g.catchUp.admitted {
		left := g.clock.CatchUpEnds().Sub(g.wall.now())
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
	moved := g.catchUp.moved
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
	if !g.clock.CatchingUp(g.wall.now()) {
		return
	}
	if admitted := g.clock.Admitted(); admitted != g.catchUp.admitted {
		g.catchUp.admitted = admitted
		close(g.catchUp.moved)
		g.catchUp.moved = make(chan struct{})
	}
}
