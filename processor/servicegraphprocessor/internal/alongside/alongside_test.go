package alongside

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

const second = pcommon.Timestamp(time.Second)

func newTestTable(t *testing.T, limit int) *Table {
	tel, err := telemetry.New(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	t.Cleanup(tel.Shutdown)
	names := naming.NewDirectory(naming.Config{MaxEntities: 10, MaxExternal: 10, MaxWeights: 10})
	for _, w := range []*mesh.Workload{
		{
			UID: "a", Name: "cart-1", Namespace: "shop", Addresses: []string{"10.0.0.1"}, TunnelProtocol: "HBONE",
			Naming: mesh.Naming{WorkloadName: "cart", CanonicalName: "cart", CanonicalRevision: "v1"},
		},
		{UID: "b", Name: "batch-1", Namespace: "old", Addresses: []string{"10.0.0.2"}, Naming: mesh.Naming{WorkloadName: "batch", CanonicalName: "batch"}},
	} {
		require.True(t, names.Apply(mesh.Event{Time: second, Entity: w}))
	}
	return NewTable(Config{MaxEdges: limit, MaxSeries: 100, Refresh: time.Minute, Expiry: time.Hour}, names, tel)
}

// counter is a cumulative metric, told at a time.
func counter(t *Table, scope, name string, at pcommon.Timestamp, value float64, attrs ...string) {
	m := pmetric.NewMetric()
	m.SetName(name)
	sum := m.SetEmptySum()
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := sum.DataPoints().AppendEmpty()
	p.SetStartTimestamp(1)
	p.SetTimestamp(at)
	p.SetDoubleValue(value)
	for i := 0; i < len(attrs); i += 2 {
		p.Attributes().PutStr(attrs[i], attrs[i+1])
	}
	t.Apply(pcommon.NewResource(), scope, m)
}

// told is what is emitted, by edge and metric.
func told(t *Table, now pcommon.Timestamp) map[string]int64 {
	scope := pmetric.NewScopeMetrics()
	t.Emit(scope, now)
	out := map[string]int64{}
	for _, m := range scope.Metrics().All() {
		for _, p := range m.Sum().DataPoints().All() {
			key := edge.KeyOf(p.Attributes())
			name := fmt.Sprintf("%s %s/%s>%s/%s:%d %s", key.Teller, key.Source.Namespace, key.Source.Workload, key.Destination.Namespace, key.Destination.Workload, key.Port, m.Name())
			for _, label := range []string{semconv.LabelDirection, semconv.LabelErrorType} {
				if value, ok := p.Attributes().Get(label); ok {
					name += " " + value.Str()
				}
			}
			out[name] = p.IntValue()
		}
	}
	return out
}

func TestNetworkFlows(t *testing.T) {
	table := newTestTable(t, 10)
	flow := func(at pcommon.Timestamp, bytes float64, attrs ...string) {
		counter(table, "obi", "obi.network.flow.bytes", at, bytes, attrs...)
	}
	web := []string{"k8s.src.owner.name", "web", "k8s.src.namespace", "old", "src.port", "40000", "k8s.dst.owner.name", "db", "k8s.dst.namespace", "old", "dst.port", "5432"}
	flow(second, 10, web...)
	flow(2*second, 30, web...)
	flow(2*second, 500, "k8s.dst.owner.name", "web", "k8s.dst.namespace", "old", "dst.port", "40000", "k8s.src.owner.name", "db", "k8s.src.namespace", "old", "src.port", "5432")
	// By address, and in Prometheus's spelling, without ports.
	counter(table, "", "beyla_network_flow_bytes_total", second, 7, "src_address", "10.0.0.2", "dst_address", "192.0.2.7")
	counter(table, "", "beyla_network_flow_bytes_total", second, 9, "dst_address", "10.0.0.2", "src_address", "192.0.2.7")
	// What a ztunnel carries, itself, nobody.
	flow(second, 1, "k8s.src.owner.name", "cart", "k8s.src.namespace", "shop", "k8s.dst.owner.name", "db", "k8s.dst.namespace", "old")
	flow(second, 1, "src.address", "10.0.0.2", "dst.address", "10.0.0.1")
	flow(second, 1, "k8s.src.owner.name", "db", "k8s.src.namespace", "old", "k8s.dst.owner.name", "db", "k8s.dst.namespace", "old")
	flow(second, 1)
	want := map[string]int64{
		"obi old/web>old/db:5432 mesh.edge.io sent": 30, "obi old/web>old/db:5432 mesh.edge.io received": 500,
		"obi old/batch>/192.0.2.7:0 mesh.edge.io sent": 7, "obi old/batch>/192.0.2.7:0 mesh.edge.io received": 9,
	}
	assert.Equal(t, want, told(table, 3*second))
	assert.Empty(t, told(table, 4*second), "nothing new")
	assert.Equal(t, want, told(table, 64*second), "all, now and then")
	// What joins the mesh is the ztunnels' from then on.
	require.True(t, table.names.Apply(mesh.Event{Time: 65 * second, Entity: &mesh.Workload{
		UID: "c", Name: "db-0", Namespace: "old", TunnelProtocol: "HBONE", Naming: mesh.Naming{WorkloadName: "db"},
	}}))
	assert.Len(t, told(table, 130*second), 2)
	assert.Empty(t, told(table, 2*3600*second), "forgotten")
}

func TestForeignServiceGraphs(t *testing.T) {
	table := newTestTable(t, 1)
	for i, name := range []string{"traces_service_graph_request_total", "traces_service_graph_request_failed_total"} {
		counter(table, "", name, second, float64(9-7*i), "client", "web", "server", "api")
		counter(table, "", name, second, 9, "client", "web", "server", "beyond the bound")
		counter(table, "", name, second, 9, "client", "cart", "server", "api")
		counter(table, semconv.ScopeServiceGraph, name, second, 9, "client", "a", "server", "b")
	}
	assert.Equal(t, map[string]int64{
		"service_graph /web>/api:0 mesh.edge.requests": 9, "service_graph /web>/api:0 mesh.edge.request.failed": 2,
	}, told(table, 2*second))
}

func TestHubble(t *testing.T) {
	table := newTestTable(t, 10)
	logs := plog.NewLogs()
	records := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	const ends = `"IP":{"source":"10.1.0.1","destination":"10.1.0.2"},"source":{"namespace":"old","pod_name":"web-1","workloads":[{"name":"web","kind":"Deployment"}]},` +
		`"destination":{"namespace":"old","pod_name":"db-0","workloads":[{"name":"db","kind":"StatefulSet"}]}`
	for _, flow := range []string{
		`{"verdict":"FORWARDED","traffic_direction":"EGRESS","l4":{"TCP":{"source_port":40000,"destination_port":5432,"flags":{"SYN":true}}},"is_reply":false,` + ends + `}`,
		`{"verdict":"FORWARDED","traffic_direction":"INGRESS","l4":{"TCP":{"destination_port":5432,"flags":{"SYN":true}}},` + ends + `}`, // the same, at the server
		`{"verdict":"FORWARDED","traffic_direction":"EGRESS","l4":{"TCP":{"destination_port":5432,"flags":{"ACK":true}}},` + ends + `}`,
		`{"verdict":"FORWARDED","traffic_direction":"EGRESS","l4":{"UDP":{"destination_port":53}},` + ends + `}`,
		`{"verdict":"FORWARDED","traffic_direction":"EGRESS","l4":{"TCP":{"destination_port":5432,"flags":{"SYN":true}}},` + ends + `}`,
		`{"verdict":"DROPPED","drop_reason_desc":"POLICY_DENIED","traffic_direction":"INGRESS","l4":{"TCP":{"destination_port":5432,"flags":{"SYN":true}}},` + ends + `}`,
		`{"verdict":"DROPPED","drop_reason_desc":"STALE_OR_UNROUTABLE_IP","traffic_direction":"EGRESS","l4":{"TCP":{"destination_port":5432,"flags":{"SYN":true}}},` + ends + `}`,
		`{"verdict":"FORWARDED","l4":"odd"}`,
	} {
		records.AppendEmpty().Body().SetStr(`{"flow":` + flow + `,"node_name":"n","time":"2026-11-23T21:24:35Z"}`)
	}
	body := records.AppendEmpty().Body().SetEmptyMap().PutEmptyMap("flow")
	require.NoError(t, body.FromRaw(map[string]any{
		"verdict": "FORWARDED", "traffic_direction": "INGRESS", "l4": map[string]any{"TCP": map[string]any{"destination_port": 443, "flags": map[string]any{"SYN": true}}},
		"IP":          map[string]any{"source": "192.0.2.9", "destination": "10.1.0.1"},
		"destination": map[string]any{"namespace": "old", "pod_name": "web-1", "workloads": []any{map[string]any{"name": "web"}}},
	}))
	records.AppendEmpty().Body().SetStr("not a flow")
	before := plog.NewLogs()
	logs.CopyTo(before)
	table.Take(logs)
	assert.Equal(t, before, logs)
	assert.Equal(t, map[string]int64{
		"hubble old/web>old/db:5432 mesh.edge.connections.opened": 3, "hubble old/web>old/db:5432 mesh.edge.connections.closed": 3,
		"hubble old/web>old/db:5432 mesh.edge.connections.failed policy_denied": 1, "hubble old/web>old/db:5432 mesh.edge.connections.failed " + semconv.ErrorTypeOther: 1,
		"hubble /192.0.2.9>old/web:443 mesh.edge.connections.opened": 1, "hubble /192.0.2.9>old/web:443 mesh.edge.connections.closed": 1,
	}, told(table, 2*second))
}
