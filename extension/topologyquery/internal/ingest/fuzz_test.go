package ingest

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
)

// FuzzDoors holds the stores to survive any metrics, logs and spans. The first byte says which the others are.
func FuzzDoors(f *testing.F) {
	encoded, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(point("g", "a", origin, origin+1000, 3))
	require.NoError(f, err)
	f.Add(append([]byte{0}, encoded...))
	logs := plog.NewLogs()
	record := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName(semconv.EventAccess)
	record.SetTimestamp(1 << 63)
	record.Attributes().PutStr(semconv.AttrErrorType, "connection_refused")
	encoded, err = (&plog.ProtoMarshaler{}).MarshalLogs(logs)
	require.NoError(f, err)
	f.Add(append([]byte{1}, encoded...))
	spans := ptrace.NewTraces()
	span := spans.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	span.SetEndTimestamp(1 << 63)
	encoded, err = (&ptrace.ProtoMarshaler{}).MarshalTraces(spans)
	require.NoError(f, err)
	f.Add(append([]byte{2}, encoded...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		in := newIngester(nil)
		switch data[0] % 3 {
		case 0:
			if md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(data[1:]); err == nil {
				require.NoError(t, in.Metrics(t.Context(), md))
			}
		case 1:
			if ld, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(data[1:]); err == nil {
				require.NoError(t, in.Logs(t.Context(), ld))
			}
		case 2:
			if td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(data[1:]); err == nil && in.Spans != nil {
				require.NoError(t, in.Traces(t.Context(), td))
			}
		}
		require.NoError(t, in.Metrics(t.Context(), point("g", "a", origin, origin+5000, 3)))
		require.NoError(t, in.Final(t.Context()))
	})
}
