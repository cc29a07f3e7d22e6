package observe

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// scan are failed flow records of that many addresses outside the mesh.
func scan(at time.Time, addresses int) plog.Logs {
	logs := plog.NewLogs()
	records := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	for i := range addresses {
		r := records.AppendEmpty()
		r.SetEventName(semconv.EventAccess)
		r.SetTimestamp(pcommon.NewTimestampFromTime(at))
		r.Attributes().PutStr(semconv.AttrSourceAddress, fmt.Sprintf("198.51.100.%d", i))
		r.Attributes().PutStr(semconv.AttrDestinationPod, "api-1")
		r.Attributes().PutStr(semconv.AttrDestinationNamespace, "shop")
		r.Attributes().PutStr(semconv.AttrErrorType, semconv.ErrorTypePolicyDenied)
		r.Attributes().PutStr(semconv.AttrDirection, semconv.DirectionInbound)
	}
	return logs
}

// TestEdgesOfFlowRecords holds edges that only failed flow records told of to be bounded where they are addresses outside the mesh, and
// to be forgotten like any other.
func TestEdgesOfFlowRecords(t *testing.T) {
	s := NewStore(rules.NewCatalogue(nil, nil), Limits{Edges: 100, Endpoints: 100, Nodes: 10, Entities: 100, External: 10}, nil)
	now := time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC)
	s.Advance(now.UnixNano())
	s.Logs(scan(now, 200), now)
	assert.Equal(t, 11, s.Edges.Len(), "ten addresses, and all others as one")
	assert.EqualValues(t, 190, s.Drops.External)
	assert.NotNil(t, s.Edges.Find(outage.Name{Name: otherExternal}, outage.Name{Namespace: "shop", Name: "api"}))
	assert.Zero(t, s.Drops.Edges)

	now = now.Add(50 * time.Minute)
	s.Advance(now.UnixNano())
	s.Logs(scan(now, 1), now)
	now = now.Add(50 * time.Minute)
	s.Advance(now.UnixNano())
	s.Sweep()
	require.Equal(t, 1, s.Edges.Len(), "the one that was told of again")
	now = now.Add(time.Hour)
	s.Advance(now.UnixNano())
	s.Sweep()
	assert.Zero(t, s.Edges.Len())
	assert.Empty(t, s.Edges.Apps)
	assert.Zero(t, s.Edges.externals)
}

// TestWindowOfAnyTime holds a window to take whatever time it is handed.
func TestWindowOfAnyTime(t *testing.T) {
	var w Window
	for _, at := range []int64{1, int64(time.Hour), 1 << 62, 1 << 40, 1<<63 - 1} {
		w.reset(MinSlot, at)
		for _, then := range []int64{1<<63 - 1, 1, int64(time.Hour), 1 << 62} {
			w.Add(then, Failed, 1)
			w.Slot(then, Failed)
			w.Until(then, Failed, 5)
			w.MarkBad(then)
			w.Forgive(Failed, then)
			w.Since(Failed)
		}
	}
}
