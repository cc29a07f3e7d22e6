package flows

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/semconv"
)

func record(at time.Time, attributes map[string]any) plog.LogRecord {
	r := plog.NewLogRecord()
	r.SetTimestamp(pcommon.NewTimestampFromTime(at))
	_ = r.Attributes().FromRaw(attributes)
	return r
}

func TestRecordsInTheClientsSense(t *testing.T) {
	r := New(10)
	at := time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	for _, direction := range []string{semconv.DirectionOutbound, semconv.DirectionInbound} {
		sent, received := int64(100), int64(4000)
		if direction == semconv.DirectionInbound {
			sent, received = received, sent
		}
		r.Add("node-a", record(at, map[string]any{
			semconv.AttrDirection: direction, semconv.AttrBytesSent: sent, semconv.AttrBytesRecv: received, semconv.AttrDuration: int64(12e6),
			semconv.AttrDestinationHBONE: "10.1.0.7:8080", semconv.AttrDestinationAddress: "10.1.0.7", semconv.AttrDestinationPort: int64(15008),
			semconv.AttrErrorType: semconv.ErrorTypePolicyDenied, semconv.AttrPolicy: "a/b",
		}))
	}
	list, next := r.List(Filter{}, 0, 10)
	require.Len(t, list, 2)
	assert.Zero(t, next)
	for _, f := range list {
		assert.EqualValues(t, 100, f.BytesSent)
		assert.EqualValues(t, 4000, f.BytesRecv)
		assert.EqualValues(t, 8080, f.Dest.Port, "the application's port, not the tunnel's")
		assert.Equal(t, VerdictDenied, f.Verdict)
		assert.InDelta(t, 12, f.DurationMS, 1e-9)
	}
}

func TestPagesOfARingThatTurns(t *testing.T) {
	r := New(100)
	at := time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	for i := range 250 {
		r.Add("n", record(at.Add(time.Duration(i)*time.Second), map[string]any{
			semconv.AttrSourceNamespace: fmt.Sprint("ns", i%2), semconv.AttrSourcePod: "pod", semconv.AttrDirection: "outbound",
			semconv.AttrDestinationAddress: 7, // a wrong type is no address
		}))
	}
	assert.Equal(t, at.Add(150*time.Second), r.KeptSince())
	assert.Zero(t, New(10).KeptSince())
	var seen []uint64
	for cursor := uint64(0); ; {
		list, next := r.List(Filter{Namespace: "ns1"}, cursor, 7)
		for _, f := range list {
			seen = append(seen, f.Cursor)
			assert.Equal(t, "ns1", f.Source.Namespace)
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	assert.Len(t, seen, 50)
	assert.EqualValues(t, 250, seen[0])
	assert.EqualValues(t, 152, seen[49])
	list, newest := r.After(Filter{}, 248, 10)
	assert.Len(t, list, 2)
	assert.EqualValues(t, 250, newest)
	list, newest = r.After(Filter{}, 0, 10)
	assert.Len(t, list, 10)
	assert.EqualValues(t, 160, newest)
	for _, none := range []Filter{{Verdict: VerdictDenied}, {Reason: "x"}, {Source: "other"}, {Since: at.Add(time.Hour)}, {Until: at}, {Direction: "inbound"}} {
		list, _ := r.List(none, 0, 10)
		assert.Empty(t, list)
	}
}

func TestLongTextIsCut(t *testing.T) {
	r := New(1)
	r.Add("n", record(time.Unix(1, 0), map[string]any{semconv.AttrErrorMessage: strings.Repeat("\xff", 1<<20)}))
	list, _ := r.List(Filter{}, 0, 1)
	assert.LessOrEqual(t, len(list[0].Message), maxText)
}
