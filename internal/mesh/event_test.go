package mesh

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

var entities = []Entity{
	&Workload{
		UID: "Kubernetes//Pod/shop/catalog-v1-abc", Name: "catalog-v1-abc", Namespace: "shop", Node: "node-a", ClusterID: "Kubernetes",
		Identity: Identity{"catalog", "cluster.local"}, Naming: Naming{"catalog-v1", "deployment", "catalog", "v1"}, Locality: Locality{"net", true, "eu", "a"},
		Addresses: []string{"10.0.0.1", "::1"}, Hostname: "h", TunnelProtocol: "HBONE", Policies: []string{"shop/p"}, Waypoint: "shop/w", Healthy: true,
		Services: map[string][]Port{"shop/catalog.shop.svc.cluster.local": {{80, 8080, "http"}, {443, 8443, ""}}, "shop/none": {}},
	},
	&Workload{UID: "bare"},
	&Service{Name: "s", Namespace: "shop", Hostname: "s.shop", Addresses: []string{"10.1.0.1"}, Ports: []Port{{80, 8080, "http"}}, Waypoint: "shop/w"},
	&Policy{Name: "p", Namespace: "shop", Scope: "NAMESPACE", Action: "DENY", DryRun: true, Rules: `[{"a":1}]`},
	&Ztunnel{
		Node: "node-a", Name: "ztunnel-a", Namespace: "istio-system", Version: "1.29", ClusterID: "Kubernetes", XDSAddress: "istiod:15012",
		Workloads: map[string]string{"shop/catalog": "Up"},
		Certificates: []Certificate{{
			Identity: "spiffe://x", State: "Available", SerialNumber: "7",
			NotBefore: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), NotAfter: time.Date(2026, 1, 3, 3, 4, 5, 0, time.UTC),
		}},
	},
}

func record(t testing.TB, entity Entity) plog.LogRecord {
	records := plog.NewLogRecordSlice()
	require.NoError(t, Event{Time: 7, Entity: entity}.AppendTo(records))
	return records.At(0)
}

func TestEventsSurviveTheWire(t *testing.T) {
	for _, entity := range entities {
		for _, deleted := range []bool{false, true} {
			records := plog.NewLogRecordSlice()
			want := Event{Time: 7, Entity: entity, Deleted: deleted}
			require.NoError(t, want.AppendTo(records))
			got, err := ParseEvent(records.At(0))
			require.NoError(t, err)
			assert.Equal(t, want, got)
		}
	}
}

func TestEventsThatMakeNoSense(t *testing.T) {
	for name, change := range map[string]func(record plog.LogRecord, entity pcommon.Map){
		"no type":               func(r plog.LogRecord, _ pcommon.Map) { r.Attributes().Remove(AttrEntityType) },
		"another type":          func(r plog.LogRecord, _ pcommon.Map) { r.Attributes().PutStr(AttrEntityType, "x") },
		"no attributes":         func(r plog.LogRecord, _ pcommon.Map) { r.Attributes().PutStr(AttrEntityAttributes, "x") },
		"no event":              func(r plog.LogRecord, _ pcommon.Map) { r.Attributes().PutStr(AttrEventType, "x") },
		"no identity":           func(_ plog.LogRecord, e pcommon.Map) { e.Remove("uid") },
		"a number for a text":   func(_ plog.LogRecord, e pcommon.Map) { e.PutInt("name", 1) },
		"a text for a truth":    func(_ plog.LogRecord, e pcommon.Map) { e.PutStr("healthy", "yes") },
		"a truth for a text":    func(_ plog.LogRecord, e pcommon.Map) { e.PutBool("name", true) },
		"a map for a list":      func(_ plog.LogRecord, e pcommon.Map) { e.PutEmptyMap("addresses") },
		"a list for a map":      func(_ plog.LogRecord, e pcommon.Map) { e.PutEmptySlice("services") },
		"a list of numbers":     func(_ plog.LogRecord, e pcommon.Map) { e.PutEmptySlice("addresses").AppendEmpty().SetInt(1) },
		"bytes":                 func(_ plog.LogRecord, e pcommon.Map) { e.PutEmptyBytes("name") },
		"a port that is none":   func(_ plog.LogRecord, e pcommon.Map) { port(e).PutStr("service_port", "x") },
		"a port below zero":     func(_ plog.LogRecord, e pcommon.Map) { port(e).PutInt("service_port", -1) },
		"a port beyond 32 bits": func(_ plog.LogRecord, e pcommon.Map) { port(e).PutInt("service_port", 1<<32) },
		"half a port":           func(_ plog.LogRecord, e pcommon.Map) { port(e).PutDouble("service_port", 80.5) },
		"not a number":          func(_ plog.LogRecord, e pcommon.Map) { port(e).PutDouble("service_port", math.NaN()) },
	} {
		t.Run(name, func(t *testing.T) {
			r := record(t, entities[0])
			attributes, _ := r.Attributes().Get(AttrEntityAttributes)
			change(r, attributes.Map())
			_, err := ParseEvent(r)
			require.Error(t, err)
		})
	}
	r := record(t, &Ztunnel{Node: "n"})
	attributes, _ := r.Attributes().Get(AttrEntityAttributes)
	attributes.Map().PutEmpty("name")
	attributes.Map().PutStr("unknown", "x")
	attributes.Map().PutStr("version", "\xff")
	event, err := ParseEvent(r)
	require.NoError(t, err)
	assert.Equal(t, &Ztunnel{Node: "n", Version: "\uFFFD"}, event.Entity)
	attributes.Map().PutEmptySlice("certificates").AppendEmpty().SetEmptyMap().PutStr("not_after", "tomorrow")
	_, err = ParseEvent(r)
	require.Error(t, err)
}

// port is a workload's only port.
func port(workload pcommon.Map) pcommon.Map {
	return workload.PutEmptyMap("services").PutEmptySlice("x").AppendEmpty().SetEmptyMap()
}

func FuzzParseEvent(f *testing.F) {
	for _, entity := range entities {
		logs := plog.NewLogs()
		record(f, entity).CopyTo(logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty())
		seed, err := (&plog.ProtoMarshaler{}).MarshalLogs(logs)
		require.NoError(f, err)
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		logs, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(data)
		if err != nil {
			return
		}
		state := NewState(10)
		for _, resource := range logs.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, r := range scope.LogRecords().All() {
					event, err := ParseEvent(r)
					if err != nil {
						continue
					}
					state.Apply(event)
					// What was understood can be sent on.
					if err := event.AppendTo(plog.NewLogRecordSlice()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

func BenchmarkParseEvent(b *testing.B) {
	r := record(b, entities[0])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseEvent(r); err != nil {
			b.Fatal(err)
		}
	}
}
