package servicegraphprocessor

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
)

// FuzzDoors holds the graph to survive any metrics, logs with entity events, and spans, and to go on afterwards. The first byte says
// which the others are.
func FuzzDoors(f *testing.F) {
	b := newBatch(second0(3))
	b.flow(testRow(semconv.ReporterSource), values(3))
	b.tcp(2.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 5, closed: 4, failed: 1, flags: "CONNECT"})
	b.istioRequests(2.5, 0.5, "", "503", 7)
	b.heartbeat("node-a")
	encoded, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(b.metrics)
	require.NoError(f, err)
	f.Add(append([]byte{0}, encoded...))
	encoded, err = (&plog.ProtoMarshaler{}).MarshalLogs(entityEvents(f, epoch, false, clientPod, serverPod, waypointPod, waypointSvc, frontedSvc))
	require.NoError(f, err)
	f.Add(append([]byte{1}, encoded...))
	spans := ptrace.NewTraces()
	s := newSpan(spans, "server-1", map[string]any{"http.route": "/a", "client.address": "10.0.1.1", "node_id": "waypoint~10.0.2.9~w~"})
	s.SetEndTimestamp(1 << 63)
	encoded, err = (&ptrace.ProtoMarshaler{}).MarshalTraces(spans)
	require.NoError(f, err)
	f.Add(append([]byte{2}, encoded...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		p := newPipelines(t, nil)
		p.learn(epoch, clientPod, serverPod, serverSvc)
		p.step(1, func(b *batch) { b.flow(testRow(semconv.ReporterSource), values(1)) })
		switch data[0] % 3 {
		case 0:
			if metrics, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(data[1:]); err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond) // it may have to wait for other nodes
				defer cancel()
				_ = p.metrics.ConsumeMetrics(ctx, metrics)
			}
		case 1:
			if logs, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(data[1:]); err == nil {
				require.NoError(t, p.logs.ConsumeLogs(t.Context(), logs))
			}
		case 2:
			if traces, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(data[1:]); err == nil {
				require.NoError(t, p.traces.ConsumeTraces(t.Context(), traces))
			}
		}
		for at := 2.0; at < 30; at += 7 {
			b := newBatch(second0(at))
			b.flow(testRow(semconv.ReporterSource), values(uint64(at)))
			b.heartbeat("node-a")
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			_ = p.metrics.ConsumeMetrics(ctx, b.metrics)
			cancel()
		}
	})
}
