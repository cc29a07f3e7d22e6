package topologyquery

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/metadata"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

const (
	benchWorkloads = 2_000
	benchEdges     = 20_000
)

func benchKey(i int) edge.Key {
	party := func(n int) edge.Party {
		return edge.Party{
			Workload: fmt.Sprintf("workload-%04d-v1", n), Namespace: fmt.Sprintf("team-%02d", n%40),
			App: fmt.Sprintf("workload-%04d", n), Version: "v1", Cluster: "Kubernetes",
		}
	}
	source, destination := i%benchWorkloads, (i*7+i/benchWorkloads+1)%benchWorkloads
	k := edge.Key{Source: party(source), Destination: party(destination), Port: 8080, Protocol: semconv.ProtocolHTTP, Security: semconv.SecurityMutualTLS}
	k.Service = fmt.Sprintf("workload-%04d.%s.svc.cluster.local", destination, k.Destination.Namespace)
	return k
}

// benchBatch is every edge's state after some intervals: each edge has all of its series, and all have changed.
func benchBatch(origin time.Time, interval int) pmetric.Metrics {
	f := newFeed(origin, origin.Add(time.Duration(interval)*5*time.Second))
	histogram := f.scope.Metrics().AppendEmpty()
	histogram.SetName(semconv.MetricEdgeRequestDuration)
	histogram.SetUnit("s")
	histogram.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for i := range benchEdges {
		key, n := benchKey(i), int64(interval)*int64(10+i%7)
		f.sum(key, semconv.MetricEdgeOpened, "{connection}", n)
		f.sum(key, semconv.MetricEdgeClosed, "{connection}", n)
		f.sum(key, semconv.MetricEdgeIO, "By", n*900, semconv.LabelDirection, semconv.DirectionSent)
		f.sum(key, semconv.MetricEdgeIO, "By", n*4100, semconv.LabelDirection, semconv.DirectionReceived)
		f.sum(key, semconv.MetricEdgeRequests, "{request}", n)
		if i%10 == 0 {
			f.sum(key, semconv.MetricEdgeFailed, "{connection}", int64(interval), semconv.LabelErrorType, semconv.ErrorTypeConnectionRefused)
		}
		point := histogram.ExponentialHistogram().DataPoints().AppendEmpty()
		point.SetStartTimestamp(pcommon.NewTimestampFromTime(f.origin))
		point.SetTimestamp(pcommon.NewTimestampFromTime(f.at))
		point.SetScale(4)
		point.Positive().SetOffset(int32(-110 + i%9))
		counts := make([]uint64, 24)
		for j := range counts {
			counts[j] = uint64(n) / 24
		}
		counts[7] += uint64(n) % 24
		point.Positive().BucketCounts().FromRaw(counts)
		point.SetCount(uint64(n))
		key.PutAttributes(point.Attributes())
	}
	return f.md
}

func benchExtension(b *testing.B, intervals int, change func(*Config)) (*topologyQuery, time.Time) {
	config := createDefaultConfig().(*Config)
	config.HTTP.NetAddr.Endpoint = "127.0.0.1:0"
	config.Directory = b.TempDir()
	if change != nil {
		change(config)
	}
	e, err := newExtension(extensiontest.NewNopSettings(metadata.Type), config)
	require.NoError(b, err)
	require.NoError(b, e.Start(b.Context(), componenttest.NewNopHost()))
	b.Cleanup(func() { require.NoError(b, e.Shutdown(context.Background())) })
	for i := range benchWorkloads {
		key := benchKey(i)
		e.stores.Inventory.Apply(mesh.Event{Entity: &mesh.Workload{
			UID: fmt.Sprint(i), Name: key.Source.Workload + "-x", Namespace: key.Source.Namespace, Naming: mesh.Naming{WorkloadName: key.Source.Workload, CanonicalName: key.Source.App, CanonicalRevision: "v1"},
			ClusterID: "Kubernetes", Node: fmt.Sprintf("node-%d", i%50),
			Addresses: []string{fmt.Sprintf("10.1.%d.%d", i/250, i%250)}, TunnelProtocol: "HBONE", Healthy: true,
		}})
	}
	origin := time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	for i := 1; i <= intervals; i++ {
		require.NoError(b, e.WriteMetrics(b.Context(), benchBatch(origin, i)))
	}
	return e, origin.Add(time.Duration(intervals) * 5 * time.Second)
}

// BenchmarkGraph asks for the last five minutes of 2,000 workloads and 20,000 edges, all of which change every five
// seconds: from the request to the body. cold never finds an answer in the cache, cached always does.
func BenchmarkGraph(b *testing.B) {
	e, end := benchExtension(b, 70, func(c *Config) { c.History.Metrics = nil })
	handler := e.api.Handler()
	for _, group := range []string{"workload", "namespace"} {
		ask := func(b *testing.B, offset time.Duration) {
			request := httptest.NewRequest(http.MethodGet, "/api/v1/graph?group_by="+group+
				"&start="+end.Add(offset-5*time.Minute).Format(time.RFC3339Nano)+"&end="+end.Add(offset).Format(time.RFC3339Nano), nil)
			request.Host = "localhost"
			response := &discard{header: http.Header{}}
			handler.ServeHTTP(response, request)
			if response.status != http.StatusOK && response.status != 0 || response.bytes == 0 {
				b.Fatal(response.status)
			}
		}
		b.Run(group+"/cold", func(b *testing.B) {
			b.ReportAllocs()
			var took []time.Duration
			for i := range b.N {
				started := time.Now()
				ask(b, -time.Duration(i%100_000)*time.Millisecond)
				took = append(took, time.Since(started))
			}
			slices.Sort(took)
			b.ReportMetric(float64(e.stores.Live.Stats().Bytes)/benchEdges, "live-B/edge")
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
		b.Run(group+"/cached", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				ask(b, time.Hour)
			}
		})
	}
}

type discard struct {
	header http.Header
	status int
	bytes  int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { d.bytes += len(p); return io.Discard.Write(p) }

// BenchmarkIngest takes over a batch of all 20,000 edges, 142,000 points, all changed; with the history on disk.
func BenchmarkIngest(b *testing.B) {
	e, end := benchExtension(b, 2, nil)
	origin := end.Add(-10 * time.Second)
	batches := make([]pmetric.Metrics, 20)
	for i := range batches {
		batches[i] = benchBatch(origin, 3+i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	points := 0
	for i := range b.N {
		if i > 0 && i%len(batches) == 0 {
			b.StopTimer()
			for j := range batches {
				batches[j] = benchBatch(origin, 3+i+j)
			}
			b.StartTimer()
		}
		require.NoError(b, e.WriteMetrics(b.Context(), batches[i%len(batches)]))
		points += 142_000
	}
	b.ReportMetric(float64(points)/b.Elapsed().Seconds(), "points/s")
	b.ReportMetric(float64(e.stores.Live.Stats().Bytes)/benchEdges, "live-B/edge")
}
