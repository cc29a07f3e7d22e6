package edges

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

const second = pcommon.Timestamp(time.Second)

func newTestStore(t *testing.T, configure func(*Config)) *Store {
	t.Helper()
	builder, err := telemetry.New(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	t.Cleanup(builder.Shutdown)
	cfg := Config{
		MaxEdges: 100, MaxRoutes: 3, MaxPorts: 8, MaxEndpoints: 10,
		Buckets: []time.Duration{time.Millisecond, time.Second}, Refresh: time.Minute, Expiry: 10 * time.Minute,
	}
	if configure != nil {
		configure(&cfg)
	}
	return NewStore(cfg, naming.NewDirectory(naming.Config{MaxExternal: 5}).Externals, builder)
}

func keyOf(port uint16) edge.Key {
	return edge.Key{
		Source: edge.Party{Workload: "client"}, Destination: edge.Party{Workload: "server"}, Port: port, Security: semconv.SecurityMutualTLS,
	}
}

func TestFamilyIsInTheOrderOfPorts(t *testing.T) {
	s := newTestStore(t, func(c *Config) { c.MaxPorts = 1000 })
	random := rand.New(rand.NewPCG(1, 2))
	var added []*Edge
	for _, port := range random.Perm(60) {
		key := keyOf(uint16(port / 2))
		key.Waypoint = [2]string{"", "waypoint"}[port%2] // two of each port
		added = append(added, s.Edges.Find(key, "", second))
	}
	family := s.Edges.Family(flowOf(keyOf(1)))
	check := func(n int) {
		require.Len(t, family.Edges(), n)
		require.True(t, slices.IsSortedFunc(family.Edges(), func(a, b *Edge) int { return int(a.Key.Port) - int(b.Key.Port) }))
	}
	check(60)
	for i, e := range added[:59] {
		s.Edges.remove(e)
		require.NotContains(t, family.Edges(), e)
		check(59 - i)
	}
	require.Same(t, family, s.Edges.Family(flowOf(keyOf(1))))
	s.Edges.remove(added[59])
	require.Nil(t, s.Edges.Family(flowOf(keyOf(1))))
	require.Empty(t, s.Edges.protocols)
}

func TestEdgeThatNothingLeadsTo(t *testing.T) {
	s := newTestStore(t, nil)
	never := s.Edges.Find(keyOf(1), "", second)
	s.Edges.Use(never)
	s.Edges.Release(never)
	assert.Zero(t, s.Edges.Len(), "it never left, nothing will let it expire")

	e := s.Edges.Find(keyOf(2), "", second)
	var target Target
	s.Edges.Point(&target, e)
	s.Edges.Add(e, &Connections{Closed: 1}, second, 2*second)
	s.Emit(2 * second)
	assert.Equal(t, 1, points(s.Emit(1000*second), semconv.MetricEdgeClosed), "in use, it does not expire")
	s.Edges.Clear(&target)
	s.Emit(1100 * second)
	assert.Zero(t, s.Edges.Len())
}

// TestRestored has everything leave from the journal as it would have left from memory.
func TestRestored(t *testing.T) {
	s := newTestStore(t, nil)
	s.Journal()
	client := &memoryClient{values: map[string][]byte{}}
	j, err := journal.Open(t.Context(), client, naming.Intern)
	require.NoError(t, err)
	j.Restart()
	gone := s.Edges.Find(keyOf(1), "", second)
	s.Edges.Add(gone, &Connections{Closed: 1}, second, second)
	c := Connections{Closed: 3, Sent: 4, Received: 5, Failed: []FailedCount{{reconcile.Reason{Type: "a", Policy: "b"}, 2}}}
	c.Duration.Add(exphist.Default, 0.5, 3)
	e := s.Edges.Find(keyOf(2), semconv.ProtocolHTTP, second)
	s.Edges.Add(e, &c, second, second)
	s.Edges.AddRequests(e, "/", 2, 1, second, second).Add(exphist.Default, 0.1, 2)
	pod := s.Endpoints.OfPod(naming.Pod{Namespace: "shop", Name: "server-1"}, edge.Party{Workload: "server"}, "node-a")
	s.Endpoints.Add(pod, &c, second, second)
	s.Endpoints.AddRequest(pod, true, second, second)
	between := s.Services.Find(ServiceKeyOf(e.Key.Source, e.Key.Destination), second)
	s.Services.Add(between, 2, 1, second)
	s.Services.ObserveServer(between, 0.1, 2)
	s.Services.ObserveClient(between, 0.2, second)
	s.Emit(second)
	require.True(t, s.HasChanges())
	s.Record(j, false)
	s.Edges.remove(gone)
	s.Record(j, false)
	require.False(t, s.HasChanges())
	require.NoError(t, j.Commit(t.Context(), j.Take()))

	j, err = journal.Open(t.Context(), client, naming.Intern)
	require.NoError(t, err)
	r := NewRestored()
	require.NoError(t, j.Replay(t.Context(), func(kind uint64, c *journal.Coder) { require.True(t, r.Read(kind, c)) }))
	again := newTestStore(t, nil)
	r.Into(again, s.Emitted())
	require.Equal(t, 1, again.Edges.Len())
	require.Equal(t, e.ID, r.Edge(e.ID).ID)
	require.Nil(t, r.Edge(gone.ID))

	want, got := s.Emit(100*second), again.Emit(100*second)
	require.Equal(t, text(t, want), text(t, got))
	assert.Equal(t, gone.ID+2, again.Edges.Find(keyOf(3), "", second).ID, "no ID is given twice")
}

func points(metrics pmetric.Metrics, name string) (n int) {
	for _, r := range metrics.ResourceMetrics().All() {
		for _, s := range r.ScopeMetrics().All() {
			for _, m := range s.Metrics().All() {
				if m.Name() == name {
					n += m.Sum().DataPoints().Len()
				}
			}
		}
	}
	return n
}

func text(t *testing.T, metrics pmetric.Metrics) string {
	t.Helper()
	raw, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics)
	require.NoError(t, err)
	return string(raw)
}

type memoryClient struct{ values map[string][]byte }

func (c *memoryClient) Get(_ context.Context, key string) ([]byte, error) { return c.values[key], nil }

func (c *memoryClient) Batch(_ context.Context, ops ...*storage.Operation) error {
	for _, op := range ops {
		if op.Type == storage.Set {
			c.values[op.Key] = slices.Clone(op.Value)
		}
	}
	return nil
}

// TestConnectionsBetweenServices follows what Grafana's service graph is told of two services' connections.
func TestConnectionsBetweenServices(t *testing.T) {
	s := newTestStore(t, nil)
	now := second
	tell := func(e *Edge, closed, failed uint64) map[string][2]int64 {
		c := Connections{Closed: closed}
		if failed > 0 {
			c.Failed = []FailedCount{{reconcile.Reason{Type: semconv.ErrorTypePolicyDenied}, failed}}
		}
		now += second
		s.Edges.Add(e, &c, second, now)
		got := map[string][2]int64{}
		for _, metric := range s.Emit(now).ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
			which := slices.Index([]string{graphRequestTotal, graphRequestFailedTotal}, metric.Name())
			if which < 0 {
				continue
			}
			for _, point := range metric.Sum().DataPoints().All() {
				kind, _ := point.Attributes().Get(labelConnectionType)
				values := got[kind.Str()]
				values[which] = point.IntValue()
				got[kind.Str()] = values
			}
		}
		return got
	}
	key := keyOf(80)
	tcp := s.Edges.Find(key, semconv.ProtocolTCP, second)
	assert.Equal(t, map[string][2]int64{"tcp": {3, 0}}, tell(tcp, 3, 0), "all connections of a service whose requests nobody sees")
	assert.Equal(t, map[string][2]int64{"tcp": {5, 2}}, tell(tcp, 2, 2))

	between := s.Services.Find(ServiceKeyOf(key.Source, key.Destination).For(semconv.ProtocolTCP), second)
	s.Services.Add(between, 10, 0, now)
	s.Edges.AddRequests(tcp, "SELECT", 10, 0, second, now)
	assert.Equal(t, map[string][2]int64{"database": {11, 1}}, tell(tcp, 4, 1), "of one whose requests are seen, those that failed")

	key.Port = 8080
	http := s.Edges.Find(key, semconv.ProtocolHTTP, second)
	assert.Equal(t, map[string][2]int64{"": {7, 1}}, tell(http, 7, 1))
	hop := key
	hop.Source.Workload, hop.Waypoint = "waypoint", "/waypoint"
	assert.Empty(t, tell(s.Edges.Find(hop, semconv.ProtocolHTTP, second), 5, 5), "a waypoint's own connections")
}
