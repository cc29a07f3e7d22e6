// Package alongside makes edges of what others tell of workloads that no ztunnel carries: OBI's (Beyla's) network flows, Hubble's flows, and service
// graphs of other producers. They say who told them. An edge with an end in the mesh is left to the ztunnels.
package alongside

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metricbatch"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// maxValue bounds a single value so that sums of many cannot overflow.
const maxValue = 1 << 53

// fresh is how old a counter may be at its first point to count from zero: it began while somebody looked.
const fresh = pcommon.Timestamp(10 * time.Minute)

// Config bounds what is held and says how long.
type Config struct {
	MaxEdges, MaxSeries int
	Refresh, Expiry     time.Duration
}

// Table holds the edges.
type Table struct {
	cfg       Config
	names     *naming.Directory
	telemetry *telemetry.Telemetry
	seed      maphash.Seed
	edges     *expiry.Table[edge.Key, *counts]
	series    *expiry.Table[uint64, *cumulative.Counter[float64]]
	now, told pcommon.Timestamp
}

// counts are what was told of an edge since start.
type counts struct {
	start                    pcommon.Timestamp
	sent, received           float64
	connections, denied      float64 // those that were denied are connections, too
	dropped                  float64 // for other reasons
	requests, failedRequests float64
	dirty                    bool
}

// NewTable returns an empty table.
func NewTable(cfg Config, names *naming.Directory, t *telemetry.Telemetry) *Table {
	return &Table{
		cfg: cfg, names: names, telemetry: t, seed: maphash.MakeSeed(),
		edges:  expiry.New[edge.Key, *counts](cfg.MaxEdges, nil),
		series: expiry.New[uint64, *cumulative.Counter[float64]](cfg.MaxSeries, nil),
	}
}

// Apply takes over a metric, which stays as it is. scope is the name of the one that it is of.
func (t *Table) Apply(resource pcommon.Resource, scope string, metric pmetric.Metric) {
	var each func(attrs pcommon.Map, added float64)
	switch metric.Name() {
	case "obi.network.flow.bytes", "obi_network_flow_bytes", "obi_network_flow_bytes_total",
		"beyla.network.flow.bytes", "beyla_network_flow_bytes", "beyla_network_flow_bytes_total":
		each = t.networkFlow
	case "traces_service_graph_request", "traces_service_graph_request_total":
		each = func(attrs pcommon.Map, added float64) { t.foreignRequests(attrs, added, 0) }
	case "traces_service_graph_request_failed", "traces_service_graph_request_failed_total":
		each = func(attrs pcommon.Map, added float64) { t.foreignRequests(attrs, 0, added) }
	default:
		return
	}
	if scope == semconv.ScopeServiceGraph || metric.Type() != pmetric.MetricTypeSum {
		return
	}
	from := t.hash(resource.Attributes()) + maphash.String(t.seed, metric.Name())
	delta := metric.Sum().AggregationTemporality() == pmetric.AggregationTemporalityDelta
	for _, p := range metric.Sum().DataPoints().All() {
		value := cumulative.Number(p)
		if p.Flags().NoRecordedValue() || !(value >= 0 && value <= maxValue) {
			continue
		}
		if !delta {
			value = t.grown(from, p, value)
		}
		if value > 0 {
			each(p.Attributes(), value)
		}
	}
}

// grown is by how much a counter grew.
func (t *Table) grown(from uint64, p pmetric.NumberDataPoint, value float64) float64 {
	id := from ^ t.hash(p.Attributes())*0x9e3779b97f4a7c15
	counter, known := t.series.Use(id, t.now)
	if !known {
		counter = &cumulative.Counter[float64]{}
		if start := p.StartTimestamp(); start == 0 || start+fresh < p.Timestamp() {
			counter.First = cumulative.Baseline
		}
		if !t.series.Add(id, counter, t.now) {
			t.telemetry.Overflowed(telemetry.BoundEdges)
			return 0
		}
	}
	added, _ := counter.Advance(p.StartTimestamp(), p.Timestamp(), value)
	return added
}

func (t *Table) hash(attrs pcommon.Map) (sum uint64) {
	for name, value := range attrs.All() {
		sum += maphash.String(t.seed, name) * (maphash.String(t.seed, value.AsString()) | 1)
	}
	return sum
}

// edge finds or creates an edge, nil if it is not to be told or there is no room.
func (t *Table) edge(key edge.Key) *counts {
	if key.Source.Workload == "" || key.Destination.Workload == "" || key.Source == key.Destination || t.carried(&key) {
		return nil
	}
	if found, ok := t.edges.Use(key, t.now); ok {
		return found
	}
	for _, text := range []*string{
		&key.Source.Workload, &key.Source.Namespace, &key.Source.App, &key.Source.Version, &key.Source.Cluster,
		&key.Destination.Workload, &key.Destination.Namespace, &key.Destination.App, &key.Destination.Version, &key.Destination.Cluster,
	} {
		*text = naming.Intern(*text)
	}
	found := &counts{start: t.now}
	if !t.edges.Add(key, found, t.now) {
		t.telemetry.Overflowed(telemetry.BoundEdges)
		return nil
	}
	return found
}

// carried tells whether ztunnels tell of an edge: they carry the traffic of one of its ends.
func (t *Table) carried(key *edge.Key) bool {
	return naming.Carried(t.names, &key.Source) || naming.Carried(t.names, &key.Destination)
}

// party is an end as the mesh's state knows it, else as it is told. Pods without an owner, and hosts, are known by their name or address.
func (t *Table) party(namespace, owner, pod, address, cluster string) edge.Party {
	if w := t.names.Pod(namespace, pod); w != nil {
		return naming.PartyOf(w)
	}
	if w := t.names.Holder(naming.ParseAddr(address)); w != nil && !w.HostNetwork {
		return naming.PartyOf(w)
	}
	name := cmp.Or(owner, pod)
	if name == "" {
		return edge.Party{Workload: address}
	}
	return edge.Party{Workload: name, Namespace: namespace, App: name, Cluster: cluster}
}

// networkFlow takes the bytes that OBI saw on their way from one party to another.
func (t *Table) networkFlow(attrs pcommon.Map, bytes float64) {
	var text [len(flowNames)]string
	for name, value := range attrs.All() {
		if at := slices.Index(flowNames[:], strings.ReplaceAll(name, "_", ".")); at >= 0 {
			text[at] = value.AsString()
		}
	}
	cluster := text[flowCluster]
	source := t.party(text[flowSourceNamespace], text[flowSourceOwner], text[flowSourceName], text[flowSourceAddress], cluster)
	destination := t.party(text[flowDestinationNamespace], text[flowDestinationOwner], text[flowDestinationName], text[flowDestinationAddress], cluster)
	from, to := portOf(text[flowSourcePort]), portOf(text[flowDestinationPort])
	server := cmp.Or(portOf(text[flowServerPort]), min(from, to))
	key := edge.Key{Source: source, Destination: destination, Port: to, Protocol: semconv.ProtocolTCP, Security: semconv.SecurityUnknown, Teller: semconv.EdgeSourceOBI}
	// Who serves is told by the port, or else by who was seen first to be spoken to.
	back := server != 0 && from == server && to != server
	if server == 0 {
		opposite := key
		opposite.Source, opposite.Destination = destination, source
		_, back = t.edges.Get(opposite)
	}
	if back {
		key.Source, key.Destination, key.Port = destination, source, from
	} else if server == 0 || to != server {
		key.Port = server
	}
	e := t.edge(key)
	if e == nil {
		return
	}
	if e.dirty = true; back {
		e.received += bytes
	} else {
		e.sent += bytes
	}
}

// What OBI's attributes say, by its names.
const (
	flowSourceNamespace = iota
	flowSourceOwner
	flowSourceName
	flowSourceAddress
	flowSourcePort
	flowDestinationNamespace
	flowDestinationOwner
	flowDestinationName
	flowDestinationAddress
	flowDestinationPort
	flowServerPort
	flowCluster
)

var flowNames = [...]string{
	"k8s.src.namespace", "k8s.src.owner.name", "k8s.src.name", "src.address", "src.port",
	"k8s.dst.namespace", "k8s.dst.owner.name", "k8s.dst.name", "dst.address", "dst.port", "server.port", "k8s.cluster.name",
}

// foreignRequests takes requests of another service graph's edge.
func (t *Table) foreignRequests(attrs pcommon.Map, total, failed float64) {
	text := func(name string) string {
		if value, ok := attrs.Get(name); ok {
			return value.AsString()
		}
		return ""
	}
	end := func(name string) edge.Party {
		service := text(name)
		return edge.Party{Workload: service, Namespace: text(name + "_service_namespace"), App: service}
	}
	protocol := semconv.ProtocolHTTP
	switch text("connection_type") {
	case "messaging_system":
		protocol = semconv.ProtocolMessaging
	case "database":
		protocol = semconv.ProtocolTCP
	}
	e := t.edge(edge.Key{
		Source: end("client"), Destination: end("server"), Protocol: protocol, Security: semconv.SecurityUnknown, Teller: semconv.EdgeSourceServiceGraph,
	})
	if e != nil {
		e.requests += total
		e.failedRequests += failed
		e.dirty = true
	}
}

// Emit adds to an emission what changed since the last one or, once in the refresh interval, all. What turned out to be carried by a ztunnel is told no
// more.
func (t *Table) Emit(scope pmetric.ScopeMetrics, now pcommon.Timestamp) {
	all := now-min(now, t.told) >= pcommon.Timestamp(t.cfg.Refresh)
	t.now = now
	if all {
		t.told = now
		t.edges.Sweep(now - min(now, pcommon.Timestamp(t.cfg.Expiry)))
		t.series.Sweep(now - min(now, pcommon.Timestamp(t.cfg.Expiry)))
	}
	var keys []edge.Key
	for key, e := range t.edges.All() {
		if (e.dirty || all) && !t.carried(&key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.SortFunc(keys, compare)
	batch := metricbatch.NewBatch("", "")
	io := batch.Sum(semconv.MetricEdgeIO, "Bytes between the client and the server, as the client sees them.", "By")
	opened := batch.Sum(semconv.MetricEdgeOpened, "Connections that were opened.", "{connection}")
	closed := batch.Sum(semconv.MetricEdgeClosed, "Connections that ended.", "{connection}")
	failed := batch.Sum(semconv.MetricEdgeFailed, "Connections that failed, by reason.", "{connection}")
	requests := batch.Sum(semconv.MetricEdgeRequests, "Requests that were answered.", "{request}")
	failedRequests := batch.Sum(semconv.MetricEdgeRequestsFailed, "Requests that failed.", "{request}")
	for i := range keys {
		key := &keys[i]
		e, _ := t.edges.Get(*key)
		e.dirty = false
		add := func(to pmetric.NumberDataPointSlice, value float64, label, is string) {
			if value == 0 {
				return
			}
			attrs := metricbatch.Append(to, e.start, now, uint64(value)).Attributes()
			key.PutAttributes(attrs)
			if label != "" {
				attrs.PutStr(label, is)
			}
		}
		add(io, e.sent, semconv.LabelDirection, semconv.DirectionSent)
		add(io, e.received, semconv.LabelDirection, semconv.DirectionReceived)
		add(opened, e.connections, "", "")
		add(closed, e.connections, "", "")
		add(failed, e.denied, semconv.LabelErrorType, semconv.ErrorTypePolicyDenied)
		add(failed, e.dropped, semconv.LabelErrorType, semconv.ErrorTypeOther)
		add(requests, e.requests, "", "")
		add(failedRequests, e.failedRequests, "", "")
	}
	batch.Trimmed().ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().MoveAndAppendTo(scope.Metrics())
}

func compare(a, b edge.Key) int {
	return cmp.Or(compareParties(a.Source, b.Source), compareParties(a.Destination, b.Destination), cmp.Compare(a.Port, b.Port),
		strings.Compare(a.Protocol, b.Protocol), strings.Compare(a.Teller, b.Teller))
}

func compareParties(a, b edge.Party) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Workload, b.Workload), strings.Compare(a.App, b.App),
		strings.Compare(a.Version, b.Version), strings.Compare(a.Cluster, b.Cluster))
}

// Rewind takes note that the graph's clock went back to a time.
func (t *Table) Rewind(now pcommon.Timestamp) {
	t.now, t.told = min(t.now, now), min(t.told, now)
	t.edges.Rewind(now)
	t.series.Rewind(now)
}
