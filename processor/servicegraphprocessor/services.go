package servicegraphprocessor

import (
	"sort"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
)

// Names that Grafana's service graph reads, as Tempo and the servicegraph connector write them.
const (
	graphRequestTotal       = "traces_service_graph_request_total"
	graphRequestFailedTotal = "traces_service_graph_request_failed_total"
	graphServerSeconds      = "traces_service_graph_request_server_seconds"
	graphClientSeconds      = "traces_service_graph_request_client_seconds"

	labelClient          = "client"
	labelServer          = "server"
	labelClientNamespace = "client_service_namespace"
	labelServerNamespace = "server_service_namespace"
	labelConnectionType  = "connection_type"
)

// serviceKey identifies an edge between two services as Grafana knows them.
type serviceKey struct {
	client, clientNamespace, server, serverNamespace string
}

// serviceEdge holds the cumulative requests between two services.
type serviceEdge struct {
	key           serviceKey
	start         pcommon.Timestamp
	total, failed uint64
	server        explicitHistogram
	client        explicitHistogram
	seen, emitted pcommon.Timestamp
	dirty         bool
}

// explicitHistogram has one bucket more than there are bounds.
type explicitHistogram struct {
	counts []uint64
	count  uint64
	sum    float64
}

func (h *explicitHistogram) observe(bounds []float64, value float64, n uint64) {
	if h.counts == nil {
		h.counts = make([]uint64, len(bounds)+1)
	}
	h.counts[sort.SearchFloat64s(bounds, value)] += n
	h.count += n
	h.sum += value * float64(n)
}

// serviceTable holds the edges between services, bounded.
type serviceTable struct {
	max    int
	bounds []float64
	byKey  map[serviceKey]*serviceEdge
	dirty  []*serviceEdge
}

func newServiceTable(cfg *Config) *serviceTable {
	bounds := make([]float64, len(cfg.Requests.LatencyBuckets))
	for i, bound := range cfg.Requests.LatencyBuckets {
		bounds[i] = bound.Seconds()
	}
	return &serviceTable{max: cfg.MaxEdges, bounds: bounds, byKey: map[serviceKey]*serviceEdge{}}
}

func serviceKeyOf(client, server edge.Party) serviceKey {
	return serviceKey{serviceName(client), client.Namespace, serviceName(server), server.Namespace}
}

func serviceName(p edge.Party) string {
	if p.App != "" {
		return p.App
	}
	return p.Workload
}

// find returns the edge of a key, counting from start if it is new; nil if the bound is reached.
func (t *serviceTable) find(key serviceKey, start pcommon.Timestamp) *serviceEdge {
	if s, ok := t.byKey[key]; ok {
		return s
	}
	if len(t.byKey) >= t.max {
		return nil
	}
	s := &serviceEdge{key: key, start: start}
	t.byKey[key] = s
	return s
}

func (t *serviceTable) touch(s *serviceEdge, now pcommon.Timestamp) {
	s.seen = max(s.seen, now)
	if !s.dirty {
		s.dirty = true
		t.dirty = append(t.dirty, s)
	}
}

func (s *serviceEdge) appendTo(m *edgeMetrics, bounds []float64, now pcommon.Timestamp) {
	if s.total > 0 {
		s.point(m.graphRequests, now, s.total)
		s.point(m.graphFailed, now, s.failed)
	}
	s.histogram(m.graphServer, bounds, now, &s.server)
	s.histogram(m.graphClient, bounds, now, &s.client)
}

func (s *serviceEdge) point(points pmetric.NumberDataPointSlice, now pcommon.Timestamp, value uint64) {
	p := points.AppendEmpty()
	p.SetStartTimestamp(s.start)
	p.SetTimestamp(now)
	p.SetIntValue(int64(value))
	s.putAttributes(p.Attributes())
}

func (s *serviceEdge) histogram(points pmetric.HistogramDataPointSlice, bounds []float64, now pcommon.Timestamp, h *explicitHistogram) {
	if h.count == 0 {
		return
	}
	p := points.AppendEmpty()
	p.SetStartTimestamp(s.start)
	p.SetTimestamp(now)
	p.SetCount(h.count)
	p.SetSum(h.sum)
	p.ExplicitBounds().FromRaw(bounds)
	p.BucketCounts().FromRaw(h.counts)
	s.putAttributes(p.Attributes())
}

// The labels of a series are the same whether a value is empty or not: Grafana groups by all of them.
func (s *serviceEdge) putAttributes(attrs pcommon.Map) {
	attrs.EnsureCapacity(5)
	attrs.PutStr(labelClient, s.key.client)
	attrs.PutStr(labelServer, s.key.server)
	attrs.PutStr(labelClientNamespace, s.key.clientNamespace)
	attrs.PutStr(labelServerNamespace, s.key.serverNamespace)
	attrs.PutStr(labelConnectionType, "")
}

// observeClient adds what a client measured.
func (t *serviceTable) observeClient(s *serviceEdge, duration time.Duration, now pcommon.Timestamp) {
	s.client.observe(t.bounds, duration.Seconds(), 1)
	t.touch(s, now)
}
