package edges

import (
	"slices"
	"sort"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metricbatch"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/records"
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

	connectionMessaging = "messaging_system"
	connectionDatabase  = "database"
	connectionTCP       = "tcp"
)

// maxRecordBounds bounds the buckets of one histogram that are read from a journal.
const maxRecordBounds = 1 << 10

// ServiceKey identifies an edge between two services as Grafana knows them.
type ServiceKey struct {
	client, clientNamespace, server, serverNamespace string
	connection                                       string // the type of the connection: empty for HTTP and gRPC
}

func (k ServiceKey) compare(other ServiceKey) int { return slices.Compare(k.texts(), other.texts()) }

func (k ServiceKey) texts() []string {
	return []string{k.client, k.clientNamespace, k.server, k.serverNamespace, k.connection}
}

// ServiceKeyOf is the key of the edge between the services of two parties.
func ServiceKeyOf(client, server edge.Party) ServiceKey {
	return ServiceKey{serviceName(client), client.Namespace, serviceName(server), server.Namespace, ""}
}

// For is the key of the edge that requests of a protocol, as spans tell it, count on.
func (k ServiceKey) For(protocol string) ServiceKey {
	switch protocol {
	case semconv.ProtocolMessaging:
		k.connection = connectionMessaging
	case semconv.ProtocolTCP:
		k.connection = connectionDatabase
	}
	return k
}

func serviceName(p edge.Party) string {
	if p.App != "" {
		return p.App
	}
	return p.Workload
}

// Service holds the cumulative requests between two services.
type Service struct {
	key            ServiceKey
	start          pcommon.Timestamp
	total, failed  uint64
	server, client explicitHistogram
	seen, emitted  pcommon.Timestamp
	dirty          bool
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

// Services holds the edges between services, bounded by max.
type Services struct {
	max     int
	bounds  []float64
	byKey   map[ServiceKey]*Service
	dirty   []*Service
	changed changes[ServiceKey]
}

func newServices(limit int, buckets []time.Duration) *Services {
	bounds := make([]float64, len(buckets))
	for i, bound := range buckets {
		bounds[i] = bound.Seconds()
	}
	return &Services{max: limit, bounds: bounds, byKey: map[ServiceKey]*Service{}}
}

// Find returns the edge of a key, counting from start if it is new; nil if the bound is reached.
func (t *Services) Find(key ServiceKey, start pcommon.Timestamp) *Service {
	if s, ok := t.byKey[key]; ok {
		return s
	}
	if len(t.byKey) >= t.max {
		return nil
	}
	s := &Service{key: key, start: start}
	t.byKey[key] = s
	return s
}

// Add counts requests.
func (t *Services) Add(s *Service, total, failed uint64, now pcommon.Timestamp) {
	s.total += total
	s.failed += failed
	t.touch(s, now)
}

// ObserveServer adds what the server measured of n requests.
func (t *Services) ObserveServer(s *Service, seconds float64, n uint64) {
	s.server.observe(t.bounds, seconds, n)
}

// ObserveClient adds what the client measured of a request.
func (t *Services) ObserveClient(s *Service, seconds float64, now pcommon.Timestamp) {
	s.client.observe(t.bounds, seconds, 1)
	t.touch(s, now)
}

// addConnections counts what an edge's connections tell: of a service whose requests are seen those that failed, so that no request came
// of them, and all of any other. The hop from a waypoint is part of its clients' requests.
func (t *Services) addConnections(e *Edge) {
	if e.overflow || e.Key.BehindWaypoint() {
		return
	}
	told, failed := &e.shown.between, FailedTotal(e.shown.failed)
	key := ServiceKeyOf(e.Key.Source, e.Key.Destination)
	total := told.total + beyond(failed, told.failed)
	switch {
	case !e.HasRoutes():
		total = max(total, e.shown.closed)
		if e.Key.Protocol == semconv.ProtocolTCP {
			key.connection = connectionTCP
		}
	case t.byKey[key.For(e.Key.Protocol)] != nil:
		key = key.For(e.Key.Protocol)
	}
	now := connections{total, max(failed, told.failed)}
	if now == *told {
		return
	}
	if s := t.Find(key, e.start); s != nil {
		t.Add(s, now.total-told.total, now.failed-told.failed, e.seen)
		*told = now
	}
}

func (t *Services) touch(s *Service, now pcommon.Timestamp) {
	s.seen = max(s.seen, now)
	if !s.dirty {
		s.dirty = true
		t.dirty = append(t.dirty, s)
	}
}

func (t *Services) emit(m *emission, now pcommon.Timestamp) {
	for _, s := range t.dirty {
		s.dirty = false
		s.appendTo(m, t.bounds, now)
		t.changed.add(s.key)
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
}

// refresh repeats those that did not change, and forgets those that are silent for long.
func (t *Services) refresh(m *emission, now, refresh pcommon.Timestamp, expiry time.Duration) {
	var due []*Service
	for key, s := range t.byKey {
		switch {
		case moment.Since(s.seen, now, expiry):
			delete(t.byKey, key)
			t.changed.add(key)
		case s.emitted <= refresh && s.emitted > 0:
			due = append(due, s)
		}
	}
	slices.SortFunc(due, func(a, b *Service) int { return a.key.compare(b.key) })
	for _, s := range due {
		s.appendTo(m, t.bounds, now)
	}
}

func (s *Service) appendTo(m *emission, bounds []float64, now pcommon.Timestamp) {
	s.emitted = now
	if s.total > 0 {
		s.putAttributes(metricbatch.Append(m.services.requests, s.start, now, s.total).Attributes())
		s.putAttributes(metricbatch.Append(m.services.failed, s.start, now, s.failed).Attributes())
	}
	s.histogram(m.services.server, bounds, now, &s.server)
	s.histogram(m.services.client, bounds, now, &s.client)
}

func (s *Service) histogram(to pmetric.HistogramDataPointSlice, bounds []float64, now pcommon.Timestamp, h *explicitHistogram) {
	if h.count == 0 {
		return
	}
	p := to.AppendEmpty()
	p.SetStartTimestamp(s.start)
	p.SetTimestamp(now)
	p.SetCount(h.count)
	p.SetSum(h.sum)
	p.ExplicitBounds().FromRaw(bounds)
	p.BucketCounts().FromRaw(h.counts)
	s.putAttributes(p.Attributes())
}

// The labels of a series are the same whether a value is empty or not: Grafana groups by all of them.
func (s *Service) putAttributes(attrs pcommon.Map) {
	attrs.EnsureCapacity(5)
	attrs.PutStr(labelClient, s.key.client)
	attrs.PutStr(labelServer, s.key.server)
	attrs.PutStr(labelClientNamespace, s.key.clientNamespace)
	attrs.PutStr(labelServerNamespace, s.key.serverNamespace)
	attrs.PutStr(labelConnectionType, s.key.connection)
}

func (k *ServiceKey) code(c *journal.Coder) {
	k.codeUntyped(c)
	c.Text(&k.connection)
}

func (k *ServiceKey) codeUntyped(c *journal.Coder) {
	records.Texts(c, &k.client, &k.clientNamespace, &k.server, &k.serverNamespace)
}

func (s *Service) code(c *journal.Coder) {
	records.Time(c, &s.start)
	records.Time(c, &s.seen)
	records.Time(c, &s.emitted)
	records.Count(c, &s.total)
	records.Count(c, &s.failed)
	for _, h := range [...]*explicitHistogram{&s.server, &s.client} {
		journal.Slice(c, &h.counts, maxRecordBounds, c.Uint)
		records.Count(c, &h.count)
		c.Float(&h.sum)
	}
}

// fits tells whether the histograms have so many buckets: what was stored with other bounds than today's begins anew.
func (s *Service) fits(buckets int) bool {
	return !slices.ContainsFunc([]explicitHistogram{s.server, s.client}, func(h explicitHistogram) bool {
		return h.counts != nil && len(h.counts) != buckets
	})
}
