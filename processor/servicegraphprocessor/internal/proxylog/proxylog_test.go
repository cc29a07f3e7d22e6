package proxylog

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

const second = pcommon.Timestamp(time.Second)

// bench is a table over a mesh: till and the gateway front call oven, which has two versions behind a waypoint; exit is the waypoint of a
// host outside.
type bench struct {
	*Table
	t     *testing.T
	store *edges.Store
}

func newBench(t *testing.T, limit int) *bench {
	t.Helper()
	builder, err := telemetry.New(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	t.Cleanup(builder.Shutdown)
	names := naming.NewDirectory(naming.Config{MaxEntities: 100, MaxExternal: 10, MaxWeights: 10, Hold: time.Second})
	port := func(n uint32) []mesh.Port { return []mesh.Port{{ServicePort: n, TargetPort: n}} }
	workload := func(name, app, address string, services map[string][]mesh.Port) *mesh.Workload {
		return &mesh.Workload{
			UID: name, Name: name + "-1", Namespace: "bakery", Addresses: []string{address}, TunnelProtocol: "HBONE", Services: services, Healthy: true,
			Naming: mesh.Naming{WorkloadName: name, CanonicalName: app},
		}
	}
	oven := map[string][]mesh.Port{"bakery/oven.bakery.svc": port(8080)}
	for _, entity := range []mesh.Entity{
		workload("till", "till", "10.0.0.1", nil), workload("front", "front", "10.0.0.2", nil),
		workload("oven-v1", "oven", "10.0.0.3", oven), workload("oven-v2", "oven", "10.0.0.4", oven),
		workload("waypoint", "waypoint", "10.0.0.5", map[string][]mesh.Port{"bakery/waypoint.bakery.svc": port(15008)}),
		workload("exit", "exit", "10.0.0.6", map[string][]mesh.Port{"bakery/exit.bakery.svc": port(15008)}),
		&mesh.Service{Name: "oven", Namespace: "bakery", Hostname: "oven.bakery.svc", Addresses: []string{"10.1.0.3"}, Ports: port(8080), Waypoint: "bakery/waypoint.bakery.svc"},
		&mesh.Service{Name: "rates", Namespace: "bakery", Hostname: "rates.example", Addresses: []string{"240.0.0.1"}, Ports: port(443), Waypoint: "bakery/exit.bakery.svc"},
	} {
		require.True(t, names.Apply(mesh.Event{Time: second, Entity: entity}))
	}
	store := edges.NewStore(edges.Config{MaxEdges: 100, MaxRoutes: 3, MaxPorts: 8, MaxEndpoints: 10, Refresh: time.Minute, Expiry: time.Hour}, names.Externals, builder)
	table := NewTable(Config{MaxRequests: limit, Wait: 10 * time.Second, ResolveHold: time.Second, Expiry: time.Hour}, names, store, builder)
	return &bench{table, t, store}
}

// line is a record of a request.
type line struct {
	gateway, proxy, client, upstream, called, service, id, flags string
	code                                                         int64
	at                                                           pcommon.Timestamp
	failed                                                       bool
}

// logged brings a line.
func (b *bench) logged(l line) {
	resource := pcommon.NewResource()
	if l.gateway != "" {
		resource.Attributes().PutStr(semconv.AttrGateway, l.gateway)
	} else {
		resource.Attributes().PutStr(semconv.AttrWaypoint, l.proxy)
	}
	record := plog.NewLogRecord()
	record.SetEventName(semconv.EventRequest)
	record.SetTimestamp(l.at)
	if l.failed {
		record.SetSeverityNumber(plog.SeverityNumberError)
	}
	attrs := record.Attributes()
	for name, value := range map[string]string{
		semconv.AttrSourceAddress: l.client, semconv.AttrDestinationAddress: l.upstream, semconv.AttrDownstreamLocal: l.called,
		semconv.AttrDestinationService: l.service, semconv.AttrRequestID: l.id, semconv.AttrResponseFlags: l.flags,
	} {
		if value != "" {
			attrs.PutStr(name, value)
		}
	}
	attrs.PutInt(semconv.AttrServicePort, 8080)
	attrs.PutInt(semconv.AttrDestinationPort, 8080)
	if l.upstream == "10.0.0.5" {
		attrs.PutInt(semconv.AttrDestinationPort, hbonePort)
	}
	attrs.PutInt(semconv.AttrResponseStatusCode, l.code)
	attrs.PutInt(semconv.AttrRequestDuration, int64(5*time.Millisecond))
	proxy := ProxyOf(resource)
	b.Apply(&proxy, record, moment.Arrival{Now: l.at, Latest: l.at + second})
}

// settled are the records that leave at a time, as "caller → called (waypoint)".
func (b *bench) settled(now pcommon.Timestamp, final bool) (left []string) {
	for _, rl := range b.Settle(moment.Moment{Now: now, Final: final}).ResourceLogs().All() {
		for _, record := range rl.ScopeLogs().At(0).LogRecords().All() {
			text := func(name string) string {
				if v, ok := record.Attributes().Get(name); ok {
					return v.AsString()
				}
				return ""
			}
			s := fmt.Sprintf("%s → %s %s (%s)", text(semconv.LabelSourceWorkload), text(semconv.LabelDestinationWorkload), text(semconv.AttrDestinationPod), text(semconv.LabelWaypoint))
			if text(semconv.AttrRepeated) == "true" {
				s += " repeated"
			}
			left = append(left, s)
		}
	}
	return left
}

// counted are the requests that left, by both ends, code, flags and source.
func (b *bench) counted(now pcommon.Timestamp) map[string]int {
	counts := map[string]int{}
	for _, rm := range b.store.Emit(now).ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if m.Name() != semconv.MetricEdgeResponses {
					continue
				}
				for _, p := range m.Sum().DataPoints().All() {
					a := p.Attributes().AsRaw()
					counts[fmt.Sprint(a[semconv.LabelSourceWorkload], " ", a[semconv.LabelDestinationWorkload], " ", a[semconv.LabelResponseCode], " ", a[semconv.LabelResponseFlags], " ", a[semconv.LabelRequestSource])] += int(p.IntValue())
				}
			}
		}
	}
	return counts
}

func TestRequestsOfAWaypoint(t *testing.T) {
	b := newBench(t, 100)
	b.logged(line{proxy: "bakery-waypoint", client: "10.0.0.1", upstream: "10.0.0.3", service: "oven.bakery.svc", called: "10.1.0.3:8080", code: 200, at: 10 * second})
	b.logged(line{proxy: "bakery/waypoint", client: "10.0.0.1", upstream: "10.0.0.4", service: "oven.bakery.svc;", called: "10.1.0.3:8080", code: 500, at: 10 * second, failed: true})
	b.logged(line{proxy: "bakery/waypoint", client: "10.0.0.1", called: "10.1.0.3:8080", code: 403, at: 10 * second}) // nobody was chosen, no cluster either
	b.logged(line{proxy: "bakery/waypoint", client: "192.0.2.1", service: "oven.bakery.svc", code: 503, flags: "UH", at: 11 * second, failed: true})
	assert.Empty(t, b.settled(10*second, false), "none has ended")
	assert.Equal(t, []string{"till → oven-v1 oven-v1-1 (bakery/waypoint)", "till → oven-v2 oven-v2-1 (bakery/waypoint)", "till → oven  (bakery/waypoint)"}, b.settled(11*second, false))
	assert.Equal(t, []string{"192.0.2.1 → oven  (bakery/waypoint)"}, b.settled(12*second, false))
	assert.Equal(t, map[string]int{
		"till oven-v1 200 <nil> waypoint_log": 1, "till oven-v2 500 <nil> waypoint_log": 1, "till oven 403 <nil> waypoint_log": 1,
		"192.0.2.1 oven 503 UH waypoint_log": 1,
	}, b.counted(12*second))
}

func TestRequestsOfGateways(t *testing.T) {
	b := newBench(t, 100)
	toWaypoint := line{gateway: "bakery/front", client: "203.0.113.7", upstream: "10.0.0.5", service: "oven.bakery.svc", code: 200, at: 10 * second}
	both := toWaypoint
	both.id = "one"
	b.logged(both)
	alone := toWaypoint
	alone.id, alone.code, alone.flags, alone.failed = "two", 503, "UF", true
	b.logged(alone)
	b.logged(line{gateway: "bakery/front", client: "203.0.113.7", code: 404, flags: "NR", at: 10 * second})
	b.logged(line{gateway: "bakery/exit", client: "10.0.0.1", upstream: "198.51.100.20", service: "rates.example", called: "240.0.0.1:443", code: 200, at: 10 * second})
	b.logged(line{proxy: "bakery/waypoint", client: "10.0.0.2", upstream: "10.0.0.3", service: "oven.bakery.svc", id: "one", code: 200, at: 10 * second})
	assert.Equal(t, []string{
		"front → oven-v1 oven-v1-1 (bakery/waypoint)",
		"front → oven  (bakery/waypoint) repeated",
		" →   ()",
		"till → exit  ()",
	}, b.settled(11*second, false))
	assert.Equal(t, 1, b.Len(), "the waypoint may log it yet")
	assert.Equal(t, []string{"front → oven  (bakery/waypoint)"}, b.settled(20*second, false))
	assert.Equal(t, map[string]int{
		"front oven-v1 200 <nil> waypoint_log": 1, "front oven 503 UF gateway_log": 1, "till exit 200 <nil> waypoint_log": 1,
	}, b.counted(20*second))
}

// TestBeyond lets others tell what the log told, and what it did not.
func TestBeyond(t *testing.T) {
	b := newBench(t, 100)
	for range 3 {
		b.logged(line{proxy: "bakery/waypoint", client: "10.0.0.1", upstream: "10.0.0.3", service: "oven.bakery.svc", code: 200, at: 10 * second})
	}
	b.logged(line{proxy: "bakery/waypoint", client: "10.0.0.1", upstream: "10.0.0.3", service: "oven.bakery.svc", code: 0, at: 10 * second})
	b.settled(11*second, false)
	e := b.store.Edges.Changed()[0]
	require.True(t, b.Tells(e))
	of := func(code uint16, n uint64) responses.Counts {
		return responses.Counts{{Response: responses.Response{Code: code, Source: semconv.RequestSourceSpans}, N: n}}
	}
	beyond := func(now pcommon.Timestamp, n uint64, code uint16) uint64 {
		total, failed, durations := b.Beyond(e, now, n, n, n, of(code, n))
		assert.Equal(t, total, failed)
		assert.Equal(t, total, durations)
		return total
	}
	assert.Zero(t, beyond(12*second, 2, 200), "the log told them")
	assert.Zero(t, beyond(12*second, 2, 200), "and one that the client did not wait for")
	assert.EqualValues(t, 5, beyond(12*second, 5, 500), "the log is filtered")
	b.logged(line{proxy: "bakery/waypoint", client: "10.0.0.1", upstream: "10.0.0.3", service: "oven.bakery.svc", code: 200, at: 20 * second})
	b.settled(21*second, false)
	assert.EqualValues(t, 1, beyond(21*second+pcommon.Timestamp(remember), 1, 200), "too late to be that one")
	assert.Equal(t, map[string]int{
		"till oven-v1 200 <nil> waypoint_log": 4, "till oven-v1 0 <nil> waypoint_log": 1, "till oven-v1 500 <nil> spans": 5, "till oven-v1 200 <nil> spans": 1,
	}, b.counted(300*second))
	b.logged(line{proxy: "bakery/waypoint", client: "10.0.0.2", upstream: "10.0.0.3", service: "oven.bakery.svc", code: 200, at: 400 * second})
	b.settled(401*second, false)
	assert.True(t, b.Hears("bakery/waypoint"))
	assert.False(t, b.Claim(e.Key.Source, "bakery/waypoint", 200, 401*second), "nobody asked that one")
	assert.True(t, b.Claim(e.Key.Destination, "bakery/waypoint", 200, 401*second), "of whichever client")
	assert.False(t, b.Claim(e.Key.Destination, "bakery/waypoint", 200, 401*second), "it was the only one")
	b.Sweep(2 * 3600 * second)
	assert.False(t, b.Tells(e))
	assert.False(t, b.Claim(e.Key.Destination, "bakery/waypoint", 200, 2*3600*second))
}

func TestForeignUnknownAndTooMany(t *testing.T) {
	b := newBench(t, 4)
	b.logged(line{proxy: "elsewhere/waypoint", client: "10.0.0.1", upstream: "10.0.0.3", service: "oven.bakery.svc", code: 500, at: 10 * second, failed: true})
	b.logged(line{proxy: "elsewhere/waypoint", client: "10.0.0.1", upstream: "10.0.0.3", code: 500, at: 10 * second, failed: true}) // names no service
	b.logged(line{proxy: "bakery/waypoint", upstream: "10.0.0.3", service: "oven.bakery.svc", code: 200, at: 10 * second})          // names no client
	b.logged(line{proxy: "bakery/waypoint", client: "10.0.0.1", code: 200, at: 10 * second})
	b.logged(line{proxy: "bakery/waypoint", client: "10.0.0.1", upstream: "10.0.0.4", service: "oven.bakery.svc", code: 201, at: 10 * second})
	assert.Equal(t, 4, b.Len())
	assert.Equal(t, 1, b.Passed().LogRecordCount(), "there is no room to wait")
	assert.Len(t, b.settled(11*second, true), 4)
	assert.Equal(t, map[string]int{"unknown oven-v1 200 <nil> waypoint_log": 1, "till oven-v2 201 <nil> waypoint_log": 1}, b.counted(12*second),
		"a waypoint of another namespace speaks for nobody here")
	b.Rewind(second)
	other := plog.NewLogRecord()
	other.SetEventName(semconv.EventAccess)
	others := plog.NewLogs()
	scope := others.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	other.CopyTo(scope.LogRecords().AppendEmpty())
	assert.Equal(t, others, b.Take(others, moment.Arrival{}))
}

// TestWhatIsOldDoesNotWait reads what ended before the last emission, as after an interruption.
func TestWhatIsOldDoesNotWait(t *testing.T) {
	b := newBench(t, 100)
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	resource.Resource().Attributes().PutStr(semconv.AttrGateway, "bakery/front")
	scope := resource.ScopeLogs().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	for _, to := range []string{"10.0.0.3", "10.0.0.5"} {
		record := scope.LogRecords().AppendEmpty()
		record.SetEventName(semconv.EventRequest)
		record.SetTimestamp(10 * second)
		record.Attributes().PutStr(semconv.AttrDestinationAddress, to)
		record.Attributes().PutInt(semconv.AttrDestinationPort, hbonePort)
		record.Attributes().PutStr(semconv.AttrDestinationService, "oven.bakery.svc")
		record.Attributes().PutStr(semconv.AttrRequestID, "one")
		record.Attributes().PutInt(semconv.AttrResponseStatusCode, 200)
	}
	logs.MarkReadOnly()
	assert.Zero(t, b.Take(logs, moment.Arrival{Now: 11 * second, Latest: 12 * second}).LogRecordCount())
	assert.Equal(t, 1, b.Passed().LogRecordCount())
	assert.Equal(t, 1, b.Len(), "the waypoint may log it yet")
	assert.Len(t, b.settled(30*second, false), 1)
	assert.Equal(t, map[string]int{"front oven-v1 200 <nil> gateway_log": 1, "front oven 200 <nil> gateway_log": 1}, b.counted(30*second))
}

func TestPacked(t *testing.T) {
	record := plog.NewLogRecord()
	record.SetTimestamp(10 * second)
	record.SetObservedTimestamp(11 * second)
	record.SetEventName(semconv.EventRequest)
	record.SetSeverityNumber(plog.SeverityNumberError)
	record.SetSeverityText("Error")
	record.SetTraceID([16]byte{1, 2})
	record.SetSpanID([8]byte{3})
	record.Attributes().PutStr("text", "a")
	record.Attributes().PutStr("empty", "")
	record.Attributes().PutInt("number", -7)
	record.Attributes().PutBool("yes", true)
	record.Attributes().PutBool("no", false)
	other := plog.NewLogRecord()
	record.CopyTo(other)
	other.Body().SetStr("body")
	other.Attributes().PutEmptySlice("list").AppendEmpty().SetDouble(1.5)
	var p packer
	for range 2 {
		assert.Equal(t, record, p.unpack(p.pack(record)))
		assert.Equal(t, other, p.unpack(p.pack(other)))
	}
	many := plog.NewLogRecord()
	for i := range maxNames + 5 {
		many.Attributes().PutInt(fmt.Sprint(i), int64(i))
	}
	assert.Equal(t, many.Attributes().AsRaw(), p.unpack(p.pack(many)).Attributes().AsRaw())
	assert.Len(t, p.names, maxNames)
}

func TestTakeLeavesLogsAsTheyAre(t *testing.T) {
	b := newBench(t, 10)
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	resource.Resource().Attributes().PutStr(semconv.AttrWaypoint, "shop/waypoint")
	scope := resource.ScopeLogs().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	scope.LogRecords().AppendEmpty().SetEventName(semconv.EventAccess)
	logs.MarkReadOnly()
	assert.Equal(t, logs, b.Take(logs, moment.Arrival{}))

	both := plog.NewLogs()
	logs.CopyTo(both)
	both.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().AppendEmpty().SetEventName(semconv.EventRequest)
	both.MarkReadOnly()
	left := b.Take(both, moment.Arrival{})
	require.Equal(t, 1, left.LogRecordCount())
	assert.Equal(t, semconv.EventAccess, left.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).EventName())
	assert.Equal(t, 2, both.LogRecordCount())
	assert.Equal(t, 1, b.Len())
}
