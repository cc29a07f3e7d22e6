package servicegraphprocessor

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver"
)

// doneSink tells when a replay's end arrives, and that nothing comes after it.
type doneSink struct {
	consumertest.MetricsSink
	once  sync.Once
	done  chan struct{}
	after int
}

func (s *doneSink) ConsumeMetrics(ctx context.Context, metrics pmetric.Metrics) error {
	select {
	case <-s.done:
		s.after++
	default:
	}
	err := s.MetricsSink.ConsumeMetrics(ctx, metrics)
	if replayEnded(metrics) {
		s.once.Do(func() { close(s.done) })
	}
	return err
}

func replayEnded(metrics pmetric.Metrics) bool {
	replay, ok := datatime.ReadReplay(metrics)
	return ok && semconv.ReplayEnded(replay.State)
}

// replay plays a recording through the real receiver into the processors.
func replay(t *testing.T, p *pipelines, name string) {
	t.Helper()
	factory := ztunnelreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	require.NoError(t, confmap.NewFromStringMap(map[string]any{
		"spans":  map[string]any{"ratio": 1},
		"replay": map[string]any{"directory": filepath.Join("..", "..", "recordings", name), "speed": "max"},
	}).Unmarshal(cfg))
	set := receivertest.NewNopSettings(factory.Type())
	ctx := context.Background()
	logs, err := factory.CreateLogs(ctx, set, cfg, p.logs)
	require.NoError(t, err)
	metrics, err := factory.CreateMetrics(ctx, set, cfg, p.metrics)
	require.NoError(t, err)
	traces, err := factory.CreateTraces(ctx, set, cfg, p.traces)
	require.NoError(t, err)
	host := componenttest.NewNopHost()
	require.NoError(t, logs.Start(ctx, host))
	require.NoError(t, metrics.Start(ctx, host))
	require.NoError(t, traces.Start(ctx, host))
	defer func() {
		require.NoError(t, traces.Shutdown(ctx))
		require.NoError(t, metrics.Shutdown(ctx))
		require.NoError(t, logs.Shutdown(ctx))
	}()
	select {
	case <-p.outMetrics.done:
	case <-time.After(time.Minute):
		t.Fatal("the replay does not end")
	}
}

// TestReplay plays the recordings through the real receiver and compares with counts from the raw files.
func TestReplay(t *testing.T) {
	for _, name := range recordingNames {
		t.Run(name, func(t *testing.T) {
			r := readRecording(t, name)
			p := newPipelines(t, nil)
			replay(t, p, name)
			edges := readEdges(t, p.outMetrics.AllMetrics())
			want := r.count()
			for key := range edges {
				assert.Contains(t, want, key, "made up: %+v", *edges[key])
			}
			for key, w := range want {
				got := edges[key]
				if !assert.NotNil(t, got, "missing: %+v", key) {
					continue
				}
				assert.InDelta(t, w.Closed, got.Closed, 1, "closed of %+v", key)
				assert.InDelta(t, w.failures(), got.failures(), 1, "failed of %+v", key)
				if got.Active == 0 {
					assert.InEpsilon(t, w.Sent+1, got.Sent+1, 0.01, "sent of %+v", key)
					assert.InEpsilon(t, w.Received+1, got.Received+1, 0.01, "received of %+v", key)
				}
			}
			requests, errors := r.requests()
			for pair, n := range requests {
				var sum, failed uint64
				for key, v := range edges {
					if key.Source.App == pair.src && key.Destination.App == pair.dst {
						sum += total(v.Requests)
						failed += total(v.RequestsFailed)
					}
				}
				assert.Equal(t, n, sum, "requests %v", pair)
				assert.Equal(t, errors[pair], failed, "errors %v", pair)
			}
			flows, joined := 0, 0
			for _, traces := range p.outTraces.AllTraces() {
				for _, rs := range traces.ResourceSpans().All() {
					for _, ss := range rs.ScopeSpans().All() {
						if ss.Scope().Name() != semconv.ScopeReceiver {
							continue
						}
						for _, span := range ss.Spans().All() {
							flows++
							if direction, _ := span.Attributes().Get(semconv.AttrDirection); direction.Str() == semconv.DirectionInbound && !span.ParentSpanID().IsEmpty() {
								joined++
							}
						}
					}
				}
			}
			expected := 0
			for number, other := range r.counterparts() {
				if other >= 0 && r.connections[number].outbound {
					expected++
				}
			}
			t.Logf("%d flow spans, %d of %d connections paired", flows, joined, expected)
			assert.Equal(t, len(r.connections), flows)
			assert.GreaterOrEqual(t, float64(joined), 0.99*float64(expected))
			assert.LessOrEqual(t, joined, expected)
			assert.Zero(t, p.outMetrics.after, "nothing follows the end of the replay")
			assert.Zero(t, p.graph().clock.Count(datatime.OutOfOrder))
			assert.NotZero(t, p.graph().clock.Count(datatime.Taken))
		})
	}
}
