package promapi_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/goleak"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/promapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// began is when the stored series begin, in unix seconds; they have a sample every 15 seconds for ten minutes.
const began = 1_790_000_000

func serve(t *testing.T, memory *budget.Budget) *httptest.Server {
	embedded, err := history.OpenEmbedded(nil, history.EmbeddedSettings{
		Directory: t.TempDir(), Retention: time.Hour, Lookback: time.Minute, QueryTimeout: time.Minute, MaxSamples: 1000, Memory: memory,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, embedded.Close()) })
	appender := embedded.Appender(context.Background())
	for i := range 41 {
		for _, destination := range []string{"payment", "cart"} {
			_, err := appender.Append(0, labels.FromStrings("__name__", "mesh_edge_requests_total", "destination_workload", destination),
				(began+15*int64(i))*1000, float64(30*i))
			require.NoError(t, err)
		}
	}
	// Native histograms: one with Prometheus's own buckets, one with others.
	const seconds = "mesh_edge_request_duration_seconds"
	for i := range 3 {
		at, n := (began+15*int64(i))*1000, uint64(i)
		_, err := appender.AppendHistogram(0, labels.FromStrings("__name__", seconds, "http_route", "/"), at, &histogram.Histogram{
			Schema: 1, ZeroThreshold: 1e-128, ZeroCount: n, Count: 4 * n, Sum: float64(n),
			// Up to 2^-0.5, 1 and 2^0.5 seconds.
			PositiveSpans: []histogram.Span{{Offset: -1, Length: 3}}, PositiveBuckets: []int64{int64(n), 0, 0},
		}, nil)
		require.NoError(t, err)
		_, err = appender.AppendHistogram(0, labels.FromStrings("__name__", "traces_service_graph_request_server_seconds"), at, &histogram.Histogram{
			Schema: histogram.CustomBucketsSchema, Count: 3 * n, Sum: float64(n), CustomValues: []float64{0.1, 0.5},
			PositiveSpans: []histogram.Span{{Length: 3}}, PositiveBuckets: []int64{int64(n), 0, 0},
		}, nil)
		require.NoError(t, err)
	}
	require.NoError(t, appender.Commit())
	namer := history.NewNamer()
	namer.Catalog = embedded.Catalog
	requests := pmetric.NewMetric()
	requests.SetName("mesh.edge.requests")
	requests.SetDescription("Requests")
	requests.SetEmptySum().SetIsMonotonic(true)
	_, err = namer.Labels(pcommon.NewMap(), requests, pcommon.NewMap())
	require.NoError(t, err)
	stored := embedded.PromQL()
	server := httptest.NewServer(promapi.New(promapi.Settings{
		Engine: stored, Storage: stored, Lookback: time.Minute, Metadata: embedded.Catalog,
		Now: func() time.Time { return time.Unix(began+600, 0) },
	}))
	t.Cleanup(server.Close)
	return server
}

func ask(t *testing.T, server *httptest.Server, method, path, form string) (status int, body string) {
	request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(form))
	require.NoError(t, err)
	request.Header.Set("Origin", "http://grafana.example")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := server.Client().Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
	return response.StatusCode, string(content)
}

// The requests are those that Grafana, Jaeger and Argo Rollouts send.
func TestRequests(t *testing.T) {
	server := serve(t, nil)
	for name, c := range map[string]struct {
		method, path, form string
		status             int
		answer             string // JSON; "" for any
	}{
		"the version": {
			path: "/prometheus/api/v1/status/buildinfo", status: 200,
			answer: `{"status":"success","data":{"version":"3.12.0","revision":"","branch":"","buildUser":"","buildDate":"","goVersion":""}}`,
		},
		"a vector at the data's own time": {
			path: "/prometheus/api/v1/query?query=sum(mesh_edge_requests_total)", status: 200,
			answer: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1790000600,"2400"]}]}}`,
		},
		"a vector, posted": {
			method: http.MethodPost, path: "/prometheus/api/v1/query",
			form: "query=mesh_edge_requests_total%7Bdestination_workload%3D%22cart%22%7D&time=1790000030", status: 200,
			answer: `{"status":"success","data":{"resultType":"vector","result":[
				{"metric":{"__name__":"mesh_edge_requests_total","destination_workload":"cart"},"value":[1790000030,"60"]}]}}`,
		},
		"a matrix, posted": {
			method: http.MethodPost, path: "/prometheus/api/v1/query_range",
			form: "query=sum(mesh_edge_requests_total)&start=1790000000&end=1790000030&step=15", status: 200,
			answer: `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1790000000,"0"],[1790000015,"60"],[1790000030,"120"]]}]}}`,
		},
		"a scalar":     {path: "/prometheus/api/v1/query?query=1%2B1&time=4", status: 200, answer: `{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}`},
		"labels":       {path: "/prometheus/api/v1/labels", status: 200, answer: `{"status":"success","data":["__name__","destination_workload","http_route"]}`},
		"label values": {path: "/prometheus/api/v1/label/destination_workload/values", status: 200, answer: `{"status":"success","data":["cart","payment"]}`},
		"metric names": {path: "/prometheus/api/v1/label/__name__/values?match[]=%7Bdestination_workload%3D%22cart%22%7D", status: 200, answer: `{"status":"success","data":["mesh_edge_requests_total"]}`},
		"series": {
			method: http.MethodPost, path: "/prometheus/api/v1/series", form: "match[]=%7B__name__%3D~%22mesh.*%22%2Cdestination_workload%3D%22cart%22%7D", status: 200,
			answer: `{"status":"success","data":[{"__name__":"mesh_edge_requests_total","destination_workload":"cart"}]}`,
		},
		"metadata": {
			path: "/prometheus/api/v1/metadata", status: 200,
			answer: `{"status":"success","data":{"mesh_edge_requests_total":[{"type":"counter","help":"Requests","unit":""}]}}`,
		},
		"metadata of another metric": {path: "/prometheus/api/v1/metadata?metric=up", status: 200, answer: `{"status":"success","data":{}}`},
		"classic buckets": {
			path: "/prometheus/api/v1/query?query=sum+by+(le)(mesh_edge_request_duration_seconds_bucket{le=~%220.5|1|2|.Inf%22})&time=1790000030", status: 200,
			answer: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"le":"0.5"},"value":[1790000030,"2"]},{"metric":{"le":"1"},"value":[1790000030,"6"]},
				{"metric":{"le":"2"},"value":[1790000030,"8"]},{"metric":{"le":"+Inf"},"value":[1790000030,"8"]}]}}`,
		},
		"classic buckets with bounds of their own": {
			path: "/prometheus/api/v1/query?query=traces_service_graph_request_server_seconds_bucket&time=1790000030", status: 200,
			answer: `{"status":"success","data":{"resultType":"vector","result":[
				{"metric":{"__name__":"traces_service_graph_request_server_seconds_bucket","le":"0.1"},"value":[1790000030,"2"]},
				{"metric":{"__name__":"traces_service_graph_request_server_seconds_bucket","le":"0.5"},"value":[1790000030,"4"]},
				{"metric":{"__name__":"traces_service_graph_request_server_seconds_bucket","le":"+Inf"},"value":[1790000030,"6"]}]}}`,
		},
		"a quantile of classic buckets": {
			path: "/prometheus/api/v1/query?query=round(100*histogram_quantile(0.25,sum+by+(le)(rate(traces_service_graph_request_server_seconds_bucket[30s]))),0.5)&time=1790000030", status: 200,
			answer: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1790000030,"7.5"]}]}}`,
		},
		"a mean": {
			path: "/prometheus/api/v1/query?query=mesh_edge_request_duration_seconds_sum/mesh_edge_request_duration_seconds_count&time=1790000030", status: 200,
			answer: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"http_route":"/"},"value":[1790000030,"0.25"]}]}}`,
		},
		"no buckets of a counter": {
			path: "/prometheus/api/v1/series?match[]=mesh_edge_requests_total_bucket", status: 200, answer: `{"status":"success","data":[]}`,
		},
		"values of a label of buckets": {
			path: "/prometheus/api/v1/label/le/values?match[]=traces_service_graph_request_server_seconds_bucket", status: 200,
			answer: `{"status":"success","data":["+Inf","0.1","0.5"]}`,
		},
		"rules":          {path: "/prometheus/api/v1/rules", status: 200, answer: `{"status":"success","data":{"groups":[]}}`},
		"alerts":         {path: "/prometheus/api/v1/alerts", status: 200, answer: `{"status":"success","data":{"alerts":[]}}`},
		"exemplars":      {path: "/prometheus/api/v1/query_exemplars?query=mesh_edge_requests_total&start=1790000000&end=1790000600", status: 200, answer: `{"status":"success","data":[]}`},
		"no expression":  {path: "/prometheus/api/v1/query?query=sum(&time=1", status: 400},
		"too many":       {path: "/prometheus/api/v1/query_range?query=mesh_edge_requests_total&start=1790000000&end=1790006000&step=1", status: 422},
		"writing":        {method: http.MethodPost, path: "/prometheus/api/v1/write", status: 404},
		"remote reading": {method: http.MethodPost, path: "/prometheus/api/v1/read", status: 404},
		"administration": {method: http.MethodPost, path: "/prometheus/api/v1/admin/tsdb/delete_series?match[]=up", status: 404},
		"configuration":  {path: "/prometheus/api/v1/status/config", status: 404},
		"another path":   {path: "/prometheus/graph", status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			if c.method == "" {
				c.method = http.MethodGet
			}
			status, body := ask(t, server, c.method, c.path, c.form)
			require.Equal(t, c.status, status, body)
			if c.answer != "" {
				assert.JSONEq(t, c.answer, body)
			}
		})
	}
	t.Run("an error", func(t *testing.T) {
		_, body := ask(t, server, http.MethodGet, "/prometheus/api/v1/query?query=sum(", "")
		var problem struct{ Status, ErrorType, Error string }
		require.NoError(t, json.Unmarshal([]byte(body), &problem))
		assert.Equal(t, "error", problem.Status)
		assert.Equal(t, "bad_data", problem.ErrorType)
		assert.Contains(t, problem.Error, "unclosed left parenthesis")
	})
	t.Run("a form beyond the bound", func(t *testing.T) {
		status, _ := ask(t, server, http.MethodPost, "/prometheus/api/v1/query", "query="+strings.Repeat("x", 2<<20))
		assert.Equal(t, http.StatusBadRequest, status)
	})
}

// A query needs its part of the memory that all have together, and gives it back.
func TestMemory(t *testing.T) {
	memory := budget.New(1000 * history.SampleBytes)
	server := serve(t, memory)
	const query = "/prometheus/api/v1/query_range?query=mesh_edge_requests_total&start=1790000000&end=1790000600&step=3"
	status, body := ask(t, server, http.MethodGet, query, "")
	require.Equal(t, http.StatusOK, status, body)
	assert.Zero(t, memory.Used())
	memory.Charge(500 * history.SampleBytes)
	status, body = ask(t, server, http.MethodGet, query, "")
	assert.Equal(t, http.StatusServiceUnavailable, status, body)
	assert.Contains(t, body, budget.ErrExceeded.Error())
}
