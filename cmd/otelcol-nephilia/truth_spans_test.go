package main

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	kindServer = 2
	kindClient = 3

	statusError = 2
)

// otlpSpan is a span as OTLP JSON writes it.
type otlpSpan struct {
	TraceID           string        `json:"traceId"`
	SpanID            string        `json:"spanId"`
	ParentSpanID      string        `json:"parentSpanId"`
	Kind              int           `json:"kind"`
	StartTimeUnixNano string        `json:"startTimeUnixNano"`
	EndTimeUnixNano   string        `json:"endTimeUnixNano"`
	Attributes        []otlpKeyAttr `json:"attributes"`
	Status            struct {
		Code int `json:"code"`
	} `json:"status"`
	pod party
}

type otlpKeyAttr struct {
	Key   string `json:"key"`
	Value struct {
		StringValue string `json:"stringValue"`
		IntValue    string `json:"intValue"`
	} `json:"value"`
}

func (s *otlpSpan) attribute(name string) string {
	for _, attribute := range s.Attributes {
		if attribute.Key == name {
			return attribute.Value.StringValue + attribute.Value.IntValue
		}
	}
	return ""
}

func (s *otlpSpan) times(t testing.TB) (start, end time.Time) {
	t.Helper()
	from, err := strconv.ParseInt(s.StartTimeUnixNano, 10, 64)
	require.NoError(t, err)
	to, err := strconv.ParseInt(s.EndTimeUnixNano, 10, 64)
	require.NoError(t, err)
	return time.Unix(0, from), time.Unix(0, to)
}

func (tr *truth) readSpans(t testing.TB, folder string) {
	t.Helper()
	var spans []otlpSpan
	eachLine(t, filepath.Join(folder, "otlp-traces.jsonl.gz"), func(line []byte) {
		var request struct {
			ResourceSpans []struct {
				Resource   struct{ Attributes []otlpKeyAttr }
				ScopeSpans []struct{ Spans []otlpSpan }
			}
		}
		require.NoError(t, json.Unmarshal(line, &request))
		for _, resource := range request.ResourceSpans {
			owner := otlpSpan{Attributes: resource.Resource.Attributes}
			pod := party{owner.attribute("k8s.namespace.name"), owner.attribute("k8s.pod.name")}
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					span.pod = pod
					spans = append(spans, span)
				}
			}
		}
	})
	clients := map[string]*otlpSpan{}
	for i := range spans {
		if spans[i].Kind == kindClient {
			clients[spans[i].TraceID+spans[i].SpanID] = &spans[i]
		}
	}
	answered := map[string]bool{}
	for i := range spans {
		server := &spans[i]
		if server.Kind != kindServer {
			continue
		}
		answered[server.TraceID+server.ParentSpanID] = true
		addr, err := netip.ParseAddrPort(server.attribute("client.address"))
		require.NoError(t, err)
		pair := [2]party{tr.byIP[addr.Addr()], tr.pods[server.pod]}
		counted := tr.spans[pair]
		counted.requests++
		status, _ := strconv.Atoi(server.attribute("http.response.status_code"))
		failed := status >= 500
		require.Equal(t, failed, server.Status.Code == statusError, "a recording's spans say twice whether they failed")
		if failed {
			counted.errors++
		}
		tr.spans[pair] = counted
		client := clients[server.TraceID+server.ParentSpanID]
		if client == nil {
			continue
		}
		c := call{clientPod: client.pod, serverPod: server.pod, traceID: strings.ToLower(server.TraceID), clientSpan: client.SpanID}
		c.clientStart, c.clientEnd = client.times(t)
		c.serverStart, c.serverEnd = server.times(t)
		tr.calls = append(tr.calls, c)
	}
	tr.countUnserved(t, spans, answered)
}

// countUnserved counts the client spans whose peers write no spans at all, such as databases.
func (tr *truth) countUnserved(t testing.TB, spans []otlpSpan, answered map[string]bool) {
	t.Helper()
	serves := map[party]bool{}
	for pair := range tr.spans {
		serves[pair[1]] = true
	}
	for i := range spans {
		client := &spans[i]
		if client.Kind != kindClient || answered[client.TraceID+client.SpanID] {
			continue
		}
		var peer party
		for _, workload := range tr.pods {
			// A service of the recordings has the name of its workload, without the version.
			if name, _, _ := strings.Cut(workload.name, "-v"); name == client.attribute("server.address") {
				peer = workload
			}
		}
		if peer == (party{}) || serves[peer] {
			continue
		}
		if client.Status.Code == statusError {
			require.Empty(t, client.attribute("http.response.status_code"), "databases speak no HTTP")
			continue // The connection failed, of which the ztunnels tell.
		}
		pair := [2]party{tr.pods[client.pod], peer}
		counted := tr.spans[pair]
		counted.requests++
		tr.spans[pair] = counted
	}
}
