package outagedetector

import (
	"context"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// arbitrary reads values out of bytes, zeros once they are used up.
type arbitrary struct{ data []byte }

func (a *arbitrary) number() uint64 {
	var raw [8]byte
	a.data = a.data[copy(raw[:], a.data):]
	return binary.LittleEndian.Uint64(raw[:])
}

func (a *arbitrary) pick(list []string) string {
	if len(a.data) == 0 {
		return list[0]
	}
	one := list[int(a.data[0])%len(list)]
	a.data = a.data[1:]
	return one
}

var (
	hostileMetrics = []string{
		semconv.MetricEdgeClosed, semconv.MetricEdgeOpened, semconv.MetricEdgeFailed, semconv.MetricEdgeActive, semconv.MetricEdgeIO,
		semconv.MetricEdgeRequests, semconv.MetricEdgeRequestsFailed, semconv.MetricEdgeRequestDuration, semconv.MetricEndpointClosed,
		semconv.MetricEndpointFailed, semconv.MetricEndpointRequests, semconv.MetricEndpointRequestsFailed, "traces_service_graph_request_total",
		"traces_service_graph_request_failed_total", "traces_service_graph_request_server_seconds", semconv.MetricSourceUp, semconv.MetricUp,
		semconv.MetricSourceLastSeen, semconv.MetricGraphTime, semconv.MetricReplayPosition, "istio_xds_connection_terminations_total",
	}
	hostileTypes  = []string{"sum", "delta", "gauge", "histogram", "exponential"}
	hostileEvents = []string{semconv.EventAccess, semconv.EventZtunnelLog, semconv.EventChange, "entity"}
	hostileText   = []string{"a", "b", "", "\xff", semconv.SourceAccessLog, semconv.ErrorTypePolicyDenied, "10.0.0.1"}
)

// batches are metrics and logs of any time and value, among ordinary names.
func (a *arbitrary) batches() (pmetric.Metrics, plog.Logs) {
	md, ld := pmetric.NewMetrics(), plog.NewLogs()
	for range 8 {
		resource := md.ResourceMetrics().AppendEmpty()
		resource.Resource().Attributes().PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
		resource.Resource().Attributes().PutStr(semconv.AttrNodeName, a.pick(hostileText))
		m := resource.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		m.SetName(a.pick(hostileMetrics))
		a.points(m)
		logs := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
		record := logs.LogRecords().AppendEmpty()
		record.SetEventName(a.pick(hostileEvents))
		if record.EventName() == "entity" {
			mesh.MarkEntityScope(logs.Scope())
		}
		record.SetTimestamp(pcommon.Timestamp(a.number()))
		record.Body().SetStr(a.pick(hostileText))
		for _, name := range []string{
			semconv.AttrSourceAddress, semconv.AttrDestinationPod, semconv.AttrDestinationHBONE, semconv.AttrErrorType, semconv.AttrDirection, semconv.AttrScope,
		} {
			record.Attributes().PutStr(name, a.pick(hostileText))
		}
	}
	return md, ld
}

func (a *arbitrary) points(m pmetric.Metric) {
	switch kind := a.pick(hostileTypes); kind {
	case "sum", "delta", "gauge":
		points := pmetric.NewNumberDataPointSlice()
		p := points.AppendEmpty()
		p.SetStartTimestamp(pcommon.Timestamp(a.number()))
		p.SetTimestamp(pcommon.Timestamp(a.number()))
		p.SetDoubleValue(math.Float64frombits(a.number()))
		a.labels(p.Attributes())
		if kind == "gauge" {
			points.CopyTo(m.SetEmptyGauge().DataPoints())
			return
		}
		points.CopyTo(m.SetEmptySum().DataPoints())
		m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		if kind == "delta" {
			m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		}
	case "histogram":
		p := m.SetEmptyHistogram().DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.Timestamp(a.number()))
		p.SetCount(a.number())
		p.ExplicitBounds().Append(math.Float64frombits(a.number()))
		p.BucketCounts().Append(a.number(), a.number(), a.number())
		a.labels(p.Attributes())
	default:
		p := m.SetEmptyExponentialHistogram().DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.Timestamp(a.number()))
		p.SetCount(a.number())
		p.SetScale(int32(a.number()))
		p.SetZeroCount(a.number())
		p.Positive().SetOffset(int32(a.number()))
		p.Positive().BucketCounts().Append(a.number(), a.number())
		a.labels(p.Attributes())
	}
}

func (a *arbitrary) labels(attrs pcommon.Map) {
	for _, name := range []string{
		semconv.LabelSourceCanonicalService, semconv.LabelDestinationCanonicalService, semconv.LabelDestinationPod, semconv.LabelErrorType,
		semconv.LabelSource, semconv.LabelState, "client", "server", "reason",
	} {
		attrs.PutStr(name, a.pick(hostileText))
	}
}

// FuzzConsume holds the detector to survive metrics and logs of any time and value, and to judge what is ordinary afterwards.
func FuzzConsume(f *testing.F) {
	future := binary.LittleEndian.AppendUint64([]byte{0, byte(len(hostileMetrics)), 0}, 0)
	f.Add(binary.LittleEndian.AppendUint64(future, 1<<63+1_000_000_000_000_000_000))
	f.Add([]byte{})
	f.Add([]byte("any bytes, many of them: these are enough for a batch or two, and the rest of the batches is zeros"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t, nil)
		w.node("node-a")
		e := w.edge("shop/web", "shop/api")
		a := &arbitrary{data: data}
		for range 4 {
			md, ld := a.batches()
			require.NoError(t, w.logsIn.ConsumeLogs(context.Background(), ld))
			require.NoError(t, w.metrics.ConsumeMetrics(context.Background(), md))
			e.ok(5)
			w.tick()
		}
	})
}

// TestImplausibleTimes sends points and records of times at which none can have been made: they are dropped, and what comes at
// ordinary times is judged as if nothing had been.
func TestImplausibleTimes(t *testing.T) {
	times := []uint64{0, 1, 1 << 62, 1<<63 - 1, 1 << 63, 1<<63 + 1_000_000_000_000_000_000, math.MaxUint64}
	w := newWorld(t, nil)
	w.node("node-a")
	e := w.edge("shop/web", "shop/api")
	w.run(5*time.Minute, func() { e.ok(10) })
	for _, at := range times {
		for _, name := range hostileMetrics {
			md := pmetric.NewMetrics()
			resource := md.ResourceMetrics().AppendEmpty()
			resource.Resource().Attributes().PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
			m := resource.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
			m.SetName(name)
			m.SetEmptySum()
			list := m.Sum().DataPoints()
			if name == semconv.MetricSourceUp {
				list = m.SetEmptyGauge().DataPoints()
			}
			p := list.AppendEmpty()
			p.SetTimestamp(pcommon.Timestamp(at))
			p.SetIntValue(1)
			e.key.PutAttributes(p.Attributes())
			p.Attributes().PutStr("client", "web")
			require.NoError(t, w.metrics.ConsumeMetrics(context.Background(), md))
		}
	}
	w.run(time.Minute, func() { e.fail(10, semconv.ErrorTypeConnectionRefused, "") })
	require.Len(t, w.outages(), 1)
	assert.Equal(t, rules.KindConnectionRefused, w.outages()[0].Kind)
	// A replay's position says what it does by its state; a histogram that is a sum, and a newest record without a heartbeat, say nothing.
	const timeless = 3
	assert.EqualValues(t, len(times)*(len(hostileMetrics)-timeless), w.metrics.(*metricsProcessor).Component().store.Drops.Implausible)
}
