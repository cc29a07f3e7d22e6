package ingest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/endpoints"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/outages"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/proxies"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/records"
	"github.com/nephilia/nephilia/internal/semconv"
)

const origin = int64(1_790_000_000_000)

func newIngester(change func(*Settings)) *Ingester {
	settings := Settings{MaxSeries: 1000, SeriesExpiry: 900_000, Keep: func(string) bool { return false }}
	if change != nil {
		change(&settings)
	}
	tracker := sources.New()
	wall := time.UnixMilli(origin).AddDate(1, 0, 0)
	tracker.Wall = func() time.Time { return wall }
	return New(&stores.Stores{
		Live:    live.New(live.Settings{Window: 900_000, Resolution: 1000, MaxEdges: 100}),
		Sources: tracker, Inventory: inventory.New(100), Changes: changes.New(10), Outages: outages.New(10, nil),
		Drops: drops.NewTable(), Proxies: proxies.New(),
		Endpoints: endpoints.New(endpoints.Settings{
			MaxServices: 10, MaxTemplates: 10, MaxBytes: 1 << 20, Retention: 900_000, Now: func() int64 { return 0 },
		}),
	}, settings)
}

func stamp(ms int64) pcommon.Timestamp { return pcommon.Timestamp(ms * 1e6) }

// point is a batch of one cumulative point of an edge.
func point(resource, workload string, start, at int64, value float64) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr(semconv.AttrServiceInstanceID, resource)
	metric := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	metric.SetName(semconv.MetricEdgeClosed)
	sum := metric.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := sum.DataPoints().AppendEmpty()
	p.SetStartTimestamp(stamp(start))
	p.SetTimestamp(stamp(at))
	p.SetDoubleValue(value)
	key := edge.Key{Source: edge.Party{Workload: workload}, Destination: edge.Party{Workload: "b"}}
	key.PutAttributes(p.Attributes())
	return md
}

func closed(in *Ingester, start, end int64) (n uint64) {
	s := in.Live.Window(start, end, false)
	defer s.Release()
	for i := range s.Counts {
		n += s.Counts[i].Fields[live.Closed]
	}
	return n
}

func TestWhatAPointCounts(t *testing.T) {
	const s = int64(1000)
	type p struct {
		resource  string
		start, at int64
		value     float64
	}
	for name, test := range map[string]struct {
		points []p
		want   uint64
	}{
		"a series that begins now counts whole":                {[]p{{"a", 0, 5 * s, 7}}, 7},
		"growth":                                               {[]p{{"a", 0, 5 * s, 7}, {"a", 0, 10 * s, 9}}, 9},
		"the same point again counts once":                     {[]p{{"a", 0, 5 * s, 7}, {"a", 0, 5 * s, 7}}, 7},
		"a late point of the same series is passed over":       {[]p{{"a", 0, 10 * s, 7}, {"a", 0, 5 * s, 3}}, 7},
		"two producers of one edge add up":                     {[]p{{"a", 0, 5 * s, 7}, {"b", 0, 5 * s, 3}}, 10},
		"a restart counts from zero":                           {[]p{{"a", 0, 5 * s, 7}, {"a", 6 * s, 10 * s, 3}}, 10},
		"a restart to a higher value counts from zero":         {[]p{{"a", 0, 5 * s, 7}, {"a", 6 * s, 10 * s, 30}}, 37},
		"a drop without a new start is a restart":              {[]p{{"a", 0, 5 * s, 7}, {"a", 0, 10 * s, 3}}, 10},
		"an older start is a producer that began anew":         {[]p{{"a", 2 * s, 5 * s, 7}, {"a", 1 * s, 10 * s, 30}}, 37},
		"a series of unknown past counts what it grows":        {[]p{{"a", -3600 * s, 5 * s, 1000}, {"a", -3600 * s, 10 * s, 1004}}, 4},
		"what shows up late is new, however old it says it is": {[]p{{"a", 0, 5 * s, 1}, {"c", -3600 * s, 200 * s, 40}}, 41},
		"no number": {[]p{{"a", 0, 5 * s, math.NaN()}, {"a", 0, 6 * s, math.Inf(1)}, {"a", 0, 7 * s, -4}, {"a", 0, 8 * s, 2}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			in := newIngester(nil)
			for _, one := range test.points {
				require.NoError(t, in.Metrics(t.Context(), point(one.resource, "a", origin+one.start, origin+one.at, one.value)))
			}
			assert.Equal(t, test.want, closed(in, origin-1, origin+3_600_000))
		})
	}
}

func TestExplosionOfLabels(t *testing.T) {
	in := newIngester(nil)
	for i := range 5000 {
		require.NoError(t, in.Metrics(t.Context(), point("a", fmt.Sprint(i), origin, origin+int64(i), 1)))
	}
	stats := in.Stats()
	assert.LessOrEqual(t, stats.Series, 1000)
	assert.Equal(t, 100, in.Live.Stats().Edges)
	assert.EqualValues(t, 4900, stats.Dropped["edge_limit"])
	// Once the old ones are forgotten there is room again.
	require.NoError(t, in.Metrics(t.Context(), point("a", "0", origin, origin+2_000_000, 1)))
	require.NoError(t, in.Metrics(t.Context(), point("a", "new", origin, origin+2_000_001, 1)))
	assert.EqualValues(t, 4900, in.Stats().Dropped["edge_limit"])
}

func TestHostileMetrics(t *testing.T) {
	in := newIngester(nil)
	md := pmetric.NewMetrics()
	metrics := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	for _, name := range []string{semconv.MetricEdgeClosed, semconv.MetricEdgeRequestDuration, semconv.MetricSourceUp, semconv.MetricReplayPosition, semconv.MetricEdgeActive} {
		metrics.AppendEmpty().SetName(name)
		m := metrics.AppendEmpty()
		m.SetName(name)
		m.SetEmptyHistogram().DataPoints().AppendEmpty()
		m = metrics.AppendEmpty()
		m.SetName(name)
		m.SetEmptySum().DataPoints().AppendEmpty()
		m = metrics.AppendEmpty()
		m.SetName(name)
		m.SetEmptyGauge().DataPoints().AppendEmpty().SetDoubleValue(math.Inf(-1))
		for _, scale := range []int32{math.MinInt32, -11, 0, 20, math.MaxInt32} {
			m = metrics.AppendEmpty()
			m.SetName(name)
			h := m.SetEmptyExponentialHistogram()
			h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			p := h.DataPoints().AppendEmpty()
			p.SetTimestamp(stamp(origin))
			p.SetScale(scale)
			p.Positive().SetOffset(math.MaxInt32 - 3)
			p.Positive().BucketCounts().FromRaw([]uint64{math.MaxUint64, 1, 2})
			p = h.DataPoints().AppendEmpty()
			p.SetScale(scale)
			p.Positive().SetOffset(math.MinInt32)
			p.Positive().BucketCounts().FromRaw(make([]uint64, 100_000))
		}
	}
	require.NoError(t, in.Metrics(t.Context(), md))
	require.NoError(t, in.Metrics(t.Context(), md))
}

func TestHostileLogs(t *testing.T) {
	in := newIngester(nil)
	kept, err := records.Open(records.Settings{Directory: t.TempDir(), MaxBytes: 1 << 20, Now: time.Now, Logger: zap.NewNop()}, flows.Kind)
	require.NoError(t, err)
	defer func() { require.NoError(t, kept.Close()) }()
	in.Flows = flows.NewStore(kept.Table(flows.KindName), nil)
	ld := plog.NewLogs()
	sl := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	sl.LogRecords().AppendEmpty().SetEventName(semconv.EventAccess)
	sl.LogRecords().AppendEmpty().SetEventName(semconv.EventOutage)
	r := sl.LogRecords().AppendEmpty()
	r.SetEventName(semconv.EventOutage)
	r.Body().SetEmptyMap().PutStr("id", "a")
	r.Body().Map().PutStr("started_at", "never")
	entities := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	mesh.MarkEntityScope(entities.Scope())
	entities.LogRecords().AppendEmpty()
	require.NoError(t, in.Logs(t.Context(), ld))
	dropped := in.Stats().Dropped
	assert.EqualValues(t, 2, dropped["outage"])
	assert.EqualValues(t, 1, dropped["entity"])
}

func BenchmarkPoint(b *testing.B) {
	in := newIngester(nil)
	batches := make([]pmetric.Metrics, 64)
	for i := range batches {
		batches[i] = point("a", "w", origin, origin+int64(i+1)*1000, float64(i+1))
	}
	for i := range batches {
		require.NoError(b, in.Metrics(b.Context(), batches[i]))
	}
	p := batches[0].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		p.SetTimestamp(stamp(origin + 100_000 + int64(i)))
		p.SetDoubleValue(float64(100 + i))
		if err := in.Metrics(b.Context(), batches[0]); err != nil {
			b.Fatal(err)
		}
	}
}

func TestChanges(t *testing.T) {
	in := newIngester(nil)
	require.True(t, func() bool {
		_, taken := in.Inventory.Apply(mesh.Event{Entity: &mesh.Workload{UID: "a", Name: "catalog-v1-a", Namespace: "shop", Naming: mesh.Naming{WorkloadName: "catalog-v1"}}})
		return taken
	}())
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	rl.Resource().Attributes().PutStr(semconv.AttrClusterName, "east")
	records := rl.ScopeLogs().AppendEmpty().LogRecords()
	mesh.Change{Time: stamp(origin), Observed: stamp(origin), Reason: mesh.ChangeOOMKilled, Kind: "Pod", Namespace: "shop", Name: "catalog-v1-a", Warning: true}.AppendTo(records)
	mesh.Change{Time: stamp(origin), Reason: mesh.ChangeCordoned, Name: "of no kind"}.AppendTo(records)
	require.NoError(t, in.Logs(t.Context(), ld))
	list, _, _ := in.Changes.List(changes.Filter{Namespace: "shop", Name: "catalog-v1"}, nil, 10)
	require.Len(t, list, 1)
	assert.Equal(t, "oom_killed", list[0].Reason)
	assert.Equal(t, "east", list[0].Cluster)
	assert.Equal(t, map[string]uint64{"change": 1}, in.Stats().Dropped)
}

// heartbeats is a batch in which nodes say at a time that they are alive.
func heartbeats(at int64, nodes ...string) pmetric.Metrics {
	md := pmetric.NewMetrics()
	for _, node := range nodes {
		rm := md.ResourceMetrics().AppendEmpty()
		rm.Resource().Attributes().PutStr(semconv.AttrNodeName, node)
		datatime.Write(rm.ScopeMetrics().AppendEmpty(), &datatime.Beat{
			Node: node, Time: stamp(at), Sources: []datatime.Source{{Name: semconv.SourceAccessLog, Up: true}},
		})
	}
	return md
}

// TestNodeThatLeft has the receiver delete a node's ztunnel: the node is not silent, it is gone.
func TestNodeThatLeft(t *testing.T) {
	in := newIngester(nil)
	event := func(deleted bool) {
		logs := plog.NewLogs()
		scope := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
		mesh.MarkEntityScope(scope.Scope())
		require.NoError(t, mesh.Event{Entity: &mesh.Ztunnel{Node: "node-a"}, Deleted: deleted}.AppendTo(scope.LogRecords()))
		require.NoError(t, in.Logs(t.Context(), logs))
	}
	event(false)
	require.NoError(t, in.Metrics(t.Context(), heartbeats(origin, "node-a", "node-b")))
	event(true)
	const week = 7 * 24 * 3_600_000
	require.NoError(t, in.Metrics(t.Context(), heartbeats(origin+week, "node-b")))
	assert.Equal(t, map[string]bool{"node-b": true}, in.Sources.Delivering(origin+week, 30_000))
	assert.Len(t, in.Sources.Nodes(), 1)
}

// TestTimesThatCannotBe has points and heartbeats of times far from the wall clock: they count nothing and move nothing.
func TestTimesThatCannotBe(t *testing.T) {
	in := newIngester(nil)
	in.Sources.Wall = func() time.Time { return time.UnixMilli(origin) }
	require.NoError(t, in.Metrics(t.Context(), point("a", "a", origin-1000, origin, 1)))
	const year = 365 * 24 * 3_600_000
	for _, at := range []int64{1, origin - 20*year, origin + 600_000, origin + 100*year} {
		require.NoError(t, in.Metrics(t.Context(), point("a", "a", at-1, at, 100)))
		require.NoError(t, in.Metrics(t.Context(), heartbeats(at, "a")))
	}
	require.NoError(t, in.Metrics(t.Context(), point("a", "a", origin-1000, origin+1000, 3)))
	assert.EqualValues(t, 3, closed(in, origin-3_600_000, origin+3_600_000))
	first, now := in.Sources.Clock()
	assert.Equal(t, [2]int64{origin, origin + 1000}, [2]int64{first, now})
	assert.Equal(t, map[string]uint64{"implausible_time": 7, "clock_ahead": 1}, in.Stats().Dropped)
}
