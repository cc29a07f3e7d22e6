package topologyquery

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/metadata"
	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
)

// start starts an extension on a free port and returns it with its base URL.
func start(t *testing.T, change func(*Config)) (*topologyQuery, string) {
	t.Helper()
	config := createDefaultConfig().(*Config)
	config.HTTP.NetAddr.Endpoint = "127.0.0.1:0"
	config.Directory = t.TempDir()
	if change != nil {
		change(config)
	}
	require.NoError(t, config.Validate())
	e, err := newExtension(extensiontest.NewNopSettings(metadata.Type), config)
	require.NoError(t, err)
	require.NoError(t, e.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { require.NoError(t, e.Shutdown(context.Background())) })
	return e, "http://" + e.listener.Addr().String()
}

func newSettings() extension.Settings { return extensiontest.NewNopSettings(metadata.Type) }

func newHost() component.Host { return componenttest.NewNopHost() }

// getJSON asks for a URL and decodes the answer.
func getJSON(t *testing.T, url string, status int, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, status, response.StatusCode, "%s: %s", url, body)
	if into != nil {
		require.NoError(t, json.Unmarshal(body, into), "%s", body)
	}
}

type testGraph struct {
	From  string
	Nodes []struct{ ID, Type, Namespace, Name, App, Health string }
	Edges []struct {
		ID, Source, Destination, Service, Protocol, Security, Health string
		Connections                                                  struct{ Opened, Closed, Failed, Active int }
		Failures                                                     map[string]int
		DeniedBy                                                     map[string]int `json:"denied_by"`
		Bytes                                                        struct{ Sent, Received int }
		Requests                                                     struct{ Total, Errors int }
		DurationMS                                                   struct{ P50, P99 *float64 } `json:"duration_ms"`
	}
}

// feed is a source of cumulative metrics on a clock of its own.
type feed struct {
	md      pmetric.Metrics
	scope   pmetric.ScopeMetrics
	origin  time.Time
	at      time.Time
	metrics map[string]pmetric.Metric
}

func newFeed(origin, at time.Time) *feed {
	f := &feed{md: pmetric.NewMetrics(), origin: origin, at: at, metrics: map[string]pmetric.Metric{}}
	f.scope = f.md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	f.scope.Scope().SetName(semconv.ScopeServiceGraph)
	return f
}

func (f *feed) sum(key edge.Key, name, unit string, value int64, extra ...string) {
	metric, ok := f.metrics[name]
	if !ok {
		metric = f.scope.Metrics().AppendEmpty()
		metric.SetName(name)
		metric.SetUnit(unit)
		sum := metric.SetEmptySum()
		sum.SetIsMonotonic(true)
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		f.metrics[name] = metric
	}
	point := metric.Sum().DataPoints().AppendEmpty()
	point.SetStartTimestamp(pcommon.NewTimestampFromTime(f.origin))
	point.SetTimestamp(pcommon.NewTimestampFromTime(f.at))
	point.SetIntValue(value)
	key.PutAttributes(point.Attributes())
	for i := 0; i+1 < len(extra); i += 2 {
		point.Attributes().PutStr(extra[i], extra[i+1])
	}
}

func testKey(source, destination string) edge.Key {
	return edge.Key{
		Source:      edge.Party{Workload: source + "-v1", Namespace: "shop", App: source, Version: "v1", Cluster: "Kubernetes"},
		Destination: edge.Party{Workload: destination + "-v1", Namespace: "shop", App: destination, Version: "v1", Cluster: "Kubernetes"},
		Service:     destination + ".shop.svc.cluster.local",
		Port:        8080,
		Protocol:    semconv.ProtocolTCP,
		Security:    semconv.SecurityMutualTLS,
	}
}

func TestGraphCountsWindowsExactly(t *testing.T) {
	e, base := start(t, nil)
	origin := time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	key := testKey("frontend", "catalog")
	for i := 1; i <= 12; i++ {
		f := newFeed(origin, origin.Add(time.Duration(i)*5*time.Second))
		f.sum(key, semconv.MetricEdgeOpened, "{connection}", int64(10*i))
		f.sum(key, semconv.MetricEdgeClosed, "{connection}", int64(10*i))
		f.sum(key, semconv.MetricEdgeFailed, "{connection}", int64(i), semconv.LabelErrorType, semconv.ErrorTypePolicyDenied, semconv.LabelPolicy, "shop/none")
		require.NoError(t, e.WriteMetrics(t.Context(), f.md))
	}
	for _, test := range []struct {
		start, end     time.Duration
		closed, failed int
	}{
		{0, time.Minute, 120, 12},
		{-time.Hour, time.Hour, 120, 12},
		{5 * time.Second, 10 * time.Second, 10, 1},
		{4 * time.Second, 11 * time.Second, 20, 2},
		{30 * time.Second, time.Minute, 60, 6},
	} {
		var g testGraph
		getJSON(t, base+"/api/v1/graph?start="+origin.Add(test.start).Format(time.RFC3339)+"&end="+origin.Add(test.end).Format(time.RFC3339), http.StatusOK, &g)
		require.Len(t, g.Edges, 1)
		one := g.Edges[0]
		assert.Equal(t, test.closed, one.Connections.Closed, "%v", test)
		assert.Equal(t, test.failed, one.Connections.Failed, "%v", test)
		assert.Equal(t, map[string]int{"policy_denied": test.failed}, one.Failures)
		assert.Equal(t, map[string]int{"shop/none": test.failed}, one.DeniedBy)
		want := "healthy"
		if test.failed >= 6 {
			want = "degraded"
		}
		assert.Equal(t, want, one.Health, "%v", test)
	}
	var g testGraph
	getJSON(t, base+"/api/v1/graph?start=1&end=2", http.StatusOK, &g)
	assert.Empty(t, g.Edges)
	getJSON(t, base+"/api/v1/graph?start=2&end=1", http.StatusBadRequest, nil)
	getJSON(t, base+"/api/v1/graph?group_by=pod", http.StatusBadRequest, nil)
	getJSON(t, base+"/api/v1/status", http.StatusOK, nil)
	getJSON(t, base+"/api/v1/outages", http.StatusOK, nil)
}

func TestTheStatusListsWhatWasDropped(t *testing.T) {
	e, base := start(t, nil)
	dropped := func() (list []drops.Total) {
		var status struct{ Dropped []drops.Total }
		getJSON(t, base+"/api/v1/status", http.StatusOK, &status)
		return status.Dropped
	}
	assert.Empty(t, dropped())
	counter := drops.NewCounter("service_graph")
	counter.Add("duplicate_span", 7)
	md := pmetric.NewMetrics()
	scope := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	counter.Append(scope, pcommon.NewTimestampFromTime(time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)))
	delta := scope.Metrics().AppendEmpty()
	delta.SetName(semconv.MetricEdgeClosed)
	delta.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	delta.Sum().DataPoints().AppendEmpty()
	require.NoError(t, e.WriteMetrics(t.Context(), md))
	assert.Equal(t, []drops.Total{
		{Component: "service_graph", Reason: "duplicate_span", Count: 7},
		{Component: "topology_query", Reason: "temporality", Count: 1},
	}, dropped())
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(content)
}
