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
	assert.Len(t, operations.Data, len(names.Data))

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
