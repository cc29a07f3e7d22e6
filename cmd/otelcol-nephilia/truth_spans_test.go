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
	for i := range spans {
		server := &spans[i]
		if server.Kind != kindServer {
			continue
		}
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
}
