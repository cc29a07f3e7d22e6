package flows

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/records"
	"github.com/nephilia/nephilia/internal/semconv"
)

func record(at time.Time, attributes map[string]any) plog.LogRecord {
	r := plog.NewLogRecord()
	r.SetTimestamp(pcommon.NewTimestampFromTime(at))
	_ = r.Attributes().FromRaw(attributes)
	return r
}

func TestRecordsInTheClientsSense(t *testing.T) {
	s := newStore(t)
	var r Batch
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
	s.Add(r)
	list, next, err := s.List(t.Context(), Filter{}, 0, 10)
	require.NoError(t, err)
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

// newStore returns a store over records in a directory of the test.
func newStore(t *testing.T) *Store {
	t.Helper()
	kept, err := records.Open(records.Settings{
		Directory: t.TempDir(), MaxBytes: 1 << 30, Retention: time.Hour, Now: time.Now, Logger: zap.NewNop(),
	}, Kind, SampleKind)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, kept.Close()) })
	return NewStore(kept.Table(KindName), kept.Table(SampleKind.Name))
}

func TestPages(t *testing.T) {
	s := newStore(t)
	at := time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	var b Batch
	for i := range 250 {
		b.Add("n", record(at.Add(time.Duration(i)*time.Second), map[string]any{
			semconv.AttrSourceNamespace: fmt.Sprint("ns", i%2), semconv.AttrSourcePod: "pod", semconv.AttrDirection: "outbound",
			semconv.AttrRecordUID: fmt.Sprint(i), semconv.AttrDestinationAddress: 7, // a wrong type is no address
		}))
	}
	s.Add(b)
	s.Add(b[:10]) // lines that are read again
	assert.Zero(t, s.KeptSince())
	var seen []uint64
	for cursor := uint64(0); ; {
		list, next, err := s.List(t.Context(), Filter{Namespace: "ns1"}, cursor, 7)
		require.NoError(t, err)
		for _, f := range list {
			seen = append(seen, f.Cursor)
			assert.Equal(t, "ns1", f.Source.Namespace)
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	assert.Len(t, seen, 125)
	assert.EqualValues(t, 250, seen[0])
	assert.EqualValues(t, 2, seen[124])
	list, newest, err := s.After(t.Context(), Filter{}, 248, 10)
	require.NoError(t, err)
	assert.Len(t, list, 2)
	assert.EqualValues(t, 250, newest)
	list, newest, err = s.After(t.Context(), Filter{}, 0, 10)
	require.NoError(t, err)
	assert.Len(t, list, 10)
	assert.EqualValues(t, 10, newest)
	for _, none := range []Filter{{Verdict: VerdictDenied}, {Reason: "x"}, {Source: "other"}, {Since: at.Add(time.Hour)}, {Until: at}, {Direction: "inbound"}, {Text: "other"}} {
		list, _, err := s.List(t.Context(), none, 0, 10)
		require.NoError(t, err)
		assert.Empty(t, list)
	}
	list, _, err = s.List(t.Context(), Filter{Text: "OUTB"}, 0, 10)
	require.NoError(t, err)
	assert.Len(t, list, 10)
}

func TestCountsOfGroups(t *testing.T) {
	s := newStore(t)
	var b Batch
	for i := range 10 {
		attributes := map[string]any{semconv.AttrSourceAddress: fmt.Sprint("10.0.0.", i%3), semconv.AttrSourceNamespace: "shop"}
		if i%3 == 0 {
			attributes[semconv.AttrErrorType], attributes[semconv.AttrSourcePod] = semconv.ErrorTypePolicyDenied, "web-1"
		}
		b.Add("n", record(time.Unix(1, 0), attributes))
	}
	s.Add(b)
	groups, others, total, err := s.Count(t.Context(), Filter{}, []string{"source", "reason"})
	require.NoError(t, err)
	assert.Zero(t, others)
	assert.EqualValues(t, 10, total)
	assert.Equal(t, []Group{
		{map[string]string{"source": "shop/web-1", "reason": "policy_denied"}, 4, 4},
		{map[string]string{"source": "10.0.0.1", "reason": ""}, 3, 0},
		{map[string]string{"source": "10.0.0.2", "reason": ""}, 3, 0},
	}, groups)
}

// TestAllFieldsReturn stores a flow with a value in every field.
func TestAllFieldsReturn(t *testing.T) {
	s := newStore(t)
	var want Flow
	n := 0
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		n++
		switch v.Kind() {
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[time.Time]() {
				v.Set(reflect.ValueOf(time.Unix(1, 5).UTC()))
				return
			}
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		case reflect.String:
			v.SetString(fmt.Sprint("text ", n))
		case reflect.Float64:
			v.SetFloat(float64(n))
		case reflect.Uint16, reflect.Uint64:
			v.SetUint(uint64(n))
		default:
			v.SetInt(int64(n))
		}
	}
	fill(reflect.ValueOf(&want).Elem())
	lookup := want
	want.Lookup, lookup.Request = nil, nil
	lookup.UID, lookup.Protocol = "another", semconv.ProtocolDNS
	want.Cursor, lookup.Cursor = 1, 2
	s.Add(Batch{encode(&want), encode(&lookup)})
	list, _, err := s.List(t.Context(), Filter{}, 0, 2)
	require.NoError(t, err)
	assert.Equal(t, []*Flow{&want}, list, "names asked for are not listed beside connections")
	list, _, err = s.List(t.Context(), Filter{RequestFilter: RequestFilter{Protocol: semconv.ProtocolDNS}}, 0, 2)
	require.NoError(t, err)
	assert.Equal(t, []*Flow{&lookup}, list)
}

// TestSamplesOfAnOutage finds what failed on an outage's edge after the flows have left.
func TestSamplesOfAnOutage(t *testing.T) {
	s, at := newStore(t), time.Unix(1000, 0)
	var b Batch
	for i, failed := range []bool{true, false, true, true} {
		attributes := map[string]any{
			semconv.AttrRecordUID: fmt.Sprint(i), semconv.AttrSourceNamespace: "shop", semconv.AttrSourcePod: "web-1", semconv.AttrDestinationService: "cart",
		}
		if failed {
			attributes[semconv.AttrErrorType] = semconv.ErrorTypePolicyDenied
		}
		b.Add("n", record(at.Add(time.Duration(i)*time.Second), attributes))
	}
	s.Add(b)
	o := &outage.Outage{StartedAt: at, Edges: []outage.Edge{{Source: outage.Name{Name: "web"}, Destination: outage.Name{Name: "cart"}}}}
	require.NoError(t, s.KeepSamples(t.Context(), o, at.Add(3*time.Second), 0, 100))
	want, _, err := s.List(t.Context(), Filter{Verdict: VerdictDenied, Until: at.Add(3 * time.Second)}, 0, 10)
	require.NoError(t, err)
	require.Len(t, want, 2)
	left := NewStore(s.samples, nil)
	for _, store := range []*Store{left, {table: newStore(t).table, samples: s.samples}} {
		list, next, err := store.List(t.Context(), Filter{}, 0, 10)
		require.NoError(t, err)
		assert.Zero(t, next)
		require.Len(t, list, 2)
		for i := range list {
			want[i].Cursor = list[i].Cursor
		}
		assert.Equal(t, want, list)
	}
}

func TestLongTextIsCut(t *testing.T) {
	s := newStore(t)
	var b Batch
	b.Add("n", record(time.Unix(1, 0), map[string]any{semconv.AttrErrorMessage: strings.Repeat("\xff", 1<<20)}))
	s.Add(b)
	list, _, err := s.List(t.Context(), Filter{}, 0, 1)
	require.NoError(t, err)
	assert.LessOrEqual(t, len(list[0].Message), maxText)
}
