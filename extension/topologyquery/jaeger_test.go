package topologyquery

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// The requests are those of Grafana's Jaeger data source, of Kiali and of Jaeger's UI.
func TestJaegerAPI(t *testing.T) {
	e, base := start(t, nil)
	play(t, e, "policy-deny")
	first, last := e.stores.Sources.Clock()

	var services struct {
		Data   []string
		Total  int
		Errors any
	}
	getJSON(t, base+"/api/services", http.StatusOK, &services)
	assert.Contains(t, services.Data, "checkout")
	assert.Len(t, services.Data, services.Total)
	assert.Nil(t, services.Errors)
	for _, name := range services.Data {
		assert.NotRegexp(t, `-[0-9a-f]{4}-`, name, "a pod's name is no service")
	}

	var names struct{ Data []string }
	getJSON(t, base+"/api/services/checkout/operations", http.StatusOK, &names)
	assert.NotEmpty(t, names.Data)
	var operations struct {
		Data []struct{ Name, SpanKind string }
	}
	getJSON(t, base+"/api/operations?service=checkout", http.StatusOK, &operations)
	assert.GreaterOrEqual(t, len(operations.Data), len(names.Data))
	kinds := map[string]string{}
	for _, operation := range operations.Data {
		kinds[operation.Name] += operation.SpanKind
	}
	assert.Equal(t, "server", kinds["POST /orders"])
	assert.Equal(t, "client", kinds["POST /charges"])
	getJSON(t, base+"/api/operations?service=checkout&spanKind=client", http.StatusOK, &operations)
	assert.Less(t, len(operations.Data), len(names.Data))

	type jaegerTrace struct {
		TraceID string
		Spans   []struct {
			TraceID, SpanID, ProcessID, OperationName string
			StartTime, Duration                       int64
			References                                []struct{ RefType, TraceID, SpanID string }
			Tags                                      []struct {
				Key, Type string
				Value     any
			}
		}
		Processes map[string]struct{ ServiceName string }
	}
	var found struct{ Data []jaegerTrace }
	span := fmt.Sprintf("&start=%d&end=%d", first*1000, (last+60_000)*1000)
	getJSON(t, base+"/api/traces?service=checkout&limit=5&lookback=custom&tags="+url.QueryEscape(`{"error":"true"}`)+span, http.StatusOK, &found)
	require.NotEmpty(t, found.Data)
	assert.LessOrEqual(t, len(found.Data), 5)
	failed := 0
	for _, one := range found.Data {
		for _, s := range one.Spans {
			assert.Equal(t, one.TraceID, s.TraceID)
			assert.Contains(t, one.Processes, s.ProcessID)
			for _, tag := range s.Tags {
				if tag.Key == "error" {
					assert.Equal(t, "bool", tag.Type)
					failed++
				}
			}
		}
	}
	assert.Positive(t, failed)
	id := found.Data[0].TraceID
	var one struct{ Data []jaegerTrace }
	getJSON(t, base+"/api/traces/"+id+fmt.Sprintf("?start=%d&end=%d", first, last), http.StatusOK, &one)
	assert.Equal(t, found.Data[:1], one.Data)

	var failure struct {
		Data   any
		Errors []struct {
			Code int
			Msg  string
		}
	}
	getJSON(t, base+"/api/traces", http.StatusBadRequest, &failure)
	assert.Equal(t, "parameter 'service' is required", failure.Errors[0].Msg)
	getJSON(t, base+"/api/traces/ffffffffffffffffffffffffffffffff", http.StatusNotFound, &failure)
	assert.Nil(t, failure.Data)
	assert.Equal(t, 404, failure.Errors[0].Code)
	assert.Equal(t, "trace not found", failure.Errors[0].Msg)
	getJSON(t, base+"/api/traces?service=nobody"+span, http.StatusOK, &found)
	assert.Equal(t, []jaegerTrace{}, found.Data)
	for _, query := range []string{"&limit=x", "&minDuration=3", "&start=then", "&tags=%7B", "&minDuration=2s&maxDuration=1s"} {
		getJSON(t, base+"/api/traces?service=checkout"+query, http.StatusBadRequest, &failure)
	}

	var result struct{ Result json.RawMessage }
	getJSON(t, base+"/api/v3/traces/"+id, http.StatusOK, &result)
	spans, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(result.Result)
	require.NoError(t, err)
	assert.Equal(t, len(one.Data[0].Spans), spans.SpanCount())
	from, to := e.stores.Sources.Clock()
	range3 := fmt.Sprintf("&query.%%s=%s&query.%%s=%s", rfc3339(from), rfc3339(to+60_000))
	getJSON(t, base+"/api/v3/traces?query.service_name=checkout&query.search_depth=3"+fmt.Sprintf(range3, "start_time_min", "start_time_max"), http.StatusOK, &result)
	getJSON(t, base+"/api/v3/traces?query.service_name=nobody"+fmt.Sprintf(range3, "start_time_min", "start_time_max"), http.StatusNotFound, nil)
	var summaries struct {
		Summaries []struct {
			TraceID, RootServiceName, MinStartTimeUnixNano, MaxEndTimeUnixNano string
			SpanCount, ErrorSpanCount, OrphanSpanCount                         int
			Services                                                           []struct{ SpanCount int }
		}
	}
	getJSON(t, base+"/api/v3/trace-summaries?query.serviceName=checkout&query.searchDepth=3&query.attributes={}"+fmt.Sprintf(range3, "startTimeMin", "startTimeMax"),
		http.StatusOK, &summaries)
	require.Len(t, summaries.Summaries, 3)
	for _, s := range summaries.Summaries {
		total := 0
		for _, service := range s.Services {
			total += service.SpanCount
		}
		assert.Equal(t, s.SpanCount, total)
		assert.Less(t, s.MinStartTimeUnixNano, s.MaxEndTimeUnixNano)
	}
	var listed struct{ Services []string }
	getJSON(t, base+"/api/v3/services", http.StatusOK, &listed)
	assert.Equal(t, services.Data, listed.Services)
	getJSON(t, base+"/api/v3/operations", http.StatusBadRequest, nil)
}

func rfc3339(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano) }

// The requests are those of Jaeger's monitor page, where policy denies what checkout asks of payment.
func TestJaegerMonitor(t *testing.T) {
	e, base := start(t, nil)
	play(t, e, "policy-deny")
	_, last := e.stores.Sources.Clock()
	type family struct {
		Name, Type, Help string
		Metrics          []struct {
			Labels       []struct{ Name, Value string }
			MetricPoints []struct {
				GaugeValue struct{ DoubleValue float64 }
				Timestamp  time.Time
			}
		}
	}
	window := fmt.Sprintf("&endTs=%d&lookback=60000&step=60000&ratePer=240000", last)
	ask := func(path, service string) family {
		var f family
		getJSON(t, base+path+"?service="+service+window+"&quantile=0.95", http.StatusOK, &f)
		assert.Equal(t, "GAUGE", f.Type)
		return f
	}
	newest := func(f family) float64 {
		require.Len(t, f.Metrics, 1)
		points := f.Metrics[0].MetricPoints
		require.NotEmpty(t, points)
		assert.Equal(t, time.UnixMilli(last).UTC(), points[len(points)-1].Timestamp)
		return points[len(points)-1].GaugeValue.DoubleValue
	}
	calls := ask("/api/metrics/calls", "payment")
	assert.Equal(t, "service_call_rate", calls.Name)
	assert.Equal(t, "service_name", calls.Metrics[0].Labels[0].Name)
	// 114 requests were answered, and 65 connections denied.
	assert.InDelta(t, 179.0/240, newest(calls), 1e-9)
	assert.InDelta(t, 65.0/179, newest(ask("/api/metrics/errors", "payment")), 1e-9)
	assert.Zero(t, newest(ask("/api/metrics/errors", "catalog")))
	assert.Positive(t, newest(ask("/api/metrics/latencies", "catalog")))
	assert.Empty(t, ask("/api/metrics/calls", "nobody").Metrics)
	byOperation := ask("/api/metrics/calls", "checkout&groupByOperation=true&spanKind=server")
	assert.Equal(t, "service_operation_call_rate", byOperation.Name)
	require.NotEmpty(t, byOperation.Metrics)
	assert.Equal(t, "operation", byOperation.Metrics[0].Labels[1].Name)
	assert.Less(t, newest(ask("/api/metrics/calls", "payment&spanKind=server")), newest(ask("/api/metrics/calls", "checkout&spanKind=client")))
	assert.Empty(t, ask("/api/metrics/calls", "payment&spanKind=producer").Metrics)
	var failure struct{ Errors []struct{ Msg string } }
	for path, message := range map[string]string{
		"calls?":                                       "unable to parse param 'service': please provide at least one service name",
		"calls?service=a&step=x":                       "unable to parse param 'step': \"x\"",
		"calls?service=a&endTs=-1":                     "unable to parse param 'endTs': \"-1\"",
		"calls?service=a&spanKind=fast":                "unable to parse param 'spanKind': unsupported span kind: 'fast'",
		"calls?service=a&groupByOperation=":            "",
		"latencies?service=a":                          "unable to parse param 'quantile': \"\"",
		"latencies?service=a&quantile=NaN":             "unable to parse param 'quantile': \"NaN\"",
		"calls?service=a&lookback=999999999999&step=1": "unable to parse param 'step': more than 11000 points",
	} {
		if message == "" {
			getJSON(t, base+"/api/metrics/"+path, http.StatusOK, nil)
			continue
		}
		getJSON(t, base+"/api/metrics/"+path, http.StatusBadRequest, &failure)
		assert.Equal(t, message, failure.Errors[0].Msg)
	}
}
