package flows

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/semconv"
)

func requests(t *testing.T) *Store {
	t.Helper()
	s := newStore(t)
	var r Batch
	resource := pcommon.NewMap()
	resource.PutStr(semconv.AttrWaypoint, "shop/waypoint")
	at := time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	r.AddRequest(resource, record(at, map[string]any{
		semconv.AttrRequestMethod: "GET", semconv.AttrURLPath: "/products/4711", semconv.AttrResponseStatusCode: int64(503),
		semconv.AttrResponseFlags: "UF,URX", semconv.AttrResponseDetails: "upstream_reset", semconv.AttrTransportFailure: "TLS_error",
		semconv.AttrRouteName: "shop.catalog.0", semconv.AttrRequestID: "one", semconv.AttrErrorType: semconv.ErrorTypeTLSFailure,
		semconv.AttrRequestDuration: int64(12e6), semconv.AttrUpstreamTime: int64(9e6), semconv.AttrRequestBodySize: int64(7), semconv.AttrResponseBodySize: int64(9),
		semconv.LabelDestinationService: "catalog.shop.svc.cluster.local", semconv.LabelSecurityPolicy: semconv.SecurityMutualTLS,
		semconv.AttrSourceAddress: "10.0.0.1", semconv.AttrSourcePod: "web-1", semconv.AttrSourceNamespace: "shop",
	}))
	r.AddRequest(pcommon.NewMap(), record(at, map[string]any{
		semconv.AttrRequestMethod: "POST", semconv.AttrURLPath: "/shop.Cart/Add", semconv.AttrResponseStatusCode: int64(200),
		semconv.AttrGRPCStatusCode: int64(14), semconv.AttrRequestID: "two",
	}))
	r.AddRequest(pcommon.NewMap(), record(at, map[string]any{
		semconv.AttrURLPath: "/products", semconv.AttrResponseStatusCode: int64(0), semconv.AttrErrorType: semconv.ErrorTypeClientAborted,
	}))
	r.AddRequest(pcommon.NewMap(), record(at, nil))
	r.Add("node-a", record(at, map[string]any{semconv.AttrDirection: semconv.DirectionOutbound}))
	s.Add(r)
	return s
}

func TestRequests(t *testing.T) {
	list, _, err := requests(t).List(t.Context(), Filter{RequestFilter: RequestFilter{RequestID: "one"}}, 0, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	f := list[0]
	assert.Equal(t, &Request{
		Method: "GET", Path: "/products/4711", Status: 503, Flags: "UF,URX", Details: "upstream_reset; TLS_error",
		Route: "shop.catalog.0", ID: "one", Waypoint: "shop/waypoint", UpstreamMS: milliseconds(9e6),
	}, f.Request)
	assert.Equal(t, "http", f.Protocol)
	assert.Equal(t, "catalog.shop.svc.cluster.local", f.Service)
	assert.Equal(t, Party{Namespace: "shop", Pod: "web-1", Address: "10.0.0.1"}, f.Source)
	assert.Equal(t, "mutual_tls", f.Security)
	assert.Equal(t, Outcome{Verdict: VerdictFailed, Reason: semconv.ErrorTypeTLSFailure}, f.Outcome)
	assert.EqualValues(t, 7, f.BytesSent)
	assert.EqualValues(t, 9, f.BytesRecv)
	assert.InDelta(t, 12, f.DurationMS, 1e-9)
}

func TestRequestFilters(t *testing.T) {
	r := requests(t)
	for _, c := range []struct {
		filter RequestFilter
		want   int
	}{
		{RequestFilter{}, 5},
		{RequestFilter{Protocol: "tcp"}, 1},
		{RequestFilter{Protocol: "http"}, 4},
		{RequestFilter{Protocol: "grpc"}, 1},
		{RequestFilter{Status: "5xx"}, 1},
		{RequestFilter{Status: "200, 5XX"}, 2},
		{RequestFilter{Status: "0"}, 2},
		{RequestFilter{Status: "0xx"}, 2},
		{RequestFilter{Status: "x"}, 0},
		{RequestFilter{Method: "get"}, 1},
		{RequestFilter{Path: "/products"}, 1},
		{RequestFilter{Path: "/products/{id}"}, 1},
		{RequestFilter{Path: "/products/*"}, 1},
		{RequestFilter{Path: "roduct"}, 2},
	} {
		list, _, err := r.List(t.Context(), Filter{RequestFilter: c.filter}, 0, 10)
		require.NoError(t, err)
		assert.Len(t, list, c.want, "%+v", c.filter)
	}
}
