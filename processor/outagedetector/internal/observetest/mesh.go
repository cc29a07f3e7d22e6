// Package observetest lets tests of what judges a mesh make one up: edges between apps whose counters grow, serving pods, nodes
// that are scraped. All of it reaches the store as it would from the service graph.
package observetest

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// Interval is what passes between two boundaries.
const Interval = 5 * time.Second

var begin = time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC)

// Mesh is a store and what fills it.
type Mesh struct {
	*observe.Store
	now   time.Time
	edges map[string]*Edge
	pods  map[string]*Pod
	// Nodes maps those that are scraped to whether that works.
	Scraped map[string]bool
}

// Edge counts what happens between two apps.
type Edge struct {
	key                              edge.Key
	opened, closed, requests, errors uint64
	failed                           map[[2]string]uint64
}

// Pod serves an app's connections.
type Pod struct {
	app, node      string
	closed, failed uint64
	reason         string
}

// New returns an empty mesh that is judged by the catalogue.
func New() *Mesh {
	limits := observe.Limits{Edges: 1000, Endpoints: 1000, Nodes: 100, Entities: 1000, External: 100}
	return &Mesh{
		Store: observe.NewStore(rules.NewCatalogue(nil, nil), limits, nil), now: begin,
		edges: map[string]*Edge{}, pods: map[string]*Pod{}, Scraped: map[string]bool{},
	}
}

// Name is that of "namespace/app".
func Name(text string) outage.Name {
	namespace, app, _ := strings.Cut(text, "/")
	return outage.Name{Namespace: namespace, Name: app}
}

// Edge from "namespace/app" to "namespace/app".
func (m *Mesh) Edge(source, destination string) *Edge {
	e, ok := m.edges[source+">"+destination]
	if !ok {
		from, to := Name(source), Name(destination)
		e = &Edge{failed: map[[2]string]uint64{}, key: edge.Key{
			Source:      edge.Party{Workload: from.Name, Namespace: from.Namespace, App: from.Name},
			Destination: edge.Party{Workload: to.Name, Namespace: to.Namespace, App: to.Name},
			Protocol:    semconv.ProtocolHTTP, Security: semconv.SecurityMutualTLS,
		}}
		m.edges[source+">"+destination] = e
	}
	return e
}

// Through lets an edge's connections pass a waypoint, "namespace/name".
func (e *Edge) Through(waypoint string) *Edge {
	e.key.Waypoint = waypoint
	return e
}

// Pair is the edge as the store has it.
func (m *Mesh) Pair(source, destination string) *observe.Pair {
	return m.Edges.Find(Name(source), Name(destination))
}

// Pod of "namespace/app" on a node.
func (m *Mesh) Pod(app, pod, node string) *Pod {
	p, ok := m.pods[pod]
	if !ok {
		p = &Pod{app: app, node: node}
		m.pods[pod] = p
	}
	return p
}

// OK are connections that went well, each with a request.
func (e *Edge) OK(n uint64, pods ...*Pod) {
	e.opened, e.closed, e.requests = e.opened+n, e.closed+n, e.requests+n
	for _, p := range pods {
		p.closed += n / uint64(len(pods))
	}
}

// Fail are connections that failed for a reason, by a policy or none.
func (e *Edge) Fail(n uint64, errorType, policy string, pods ...*Pod) {
	e.opened, e.closed = e.opened+n, e.closed+n
	e.failed[[2]string{errorType, policy}] += n
	for _, p := range pods {
		p.closed, p.failed, p.reason = p.closed+n/uint64(len(pods)), p.failed+n/uint64(len(pods)), errorType
	}
}

// Err are connections that went well whose requests failed.
func (e *Edge) Err(n uint64, pods ...*Pod) {
	e.OK(n, pods...)
	e.errors += n
}

// Tick lets an interval pass and brings the store to its end.
func (m *Mesh) Tick() {
	m.now = m.now.Add(Interval)
	md := pmetric.NewMetrics()
	for _, node := range slices.Sorted(maps.Keys(m.Scraped)) {
		m.beat(md, node, m.Scraped[node])
	}
	scope := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeServiceGraph)
	for _, name := range slices.Sorted(maps.Keys(m.edges)) {
		e := m.edges[name]
		e.key.PutAttributes(m.point(scope, semconv.MetricEdgeOpened, e.opened))
		e.key.PutAttributes(m.point(scope, semconv.MetricEdgeClosed, e.closed))
		for reason, n := range e.failed {
			attrs := m.point(scope, semconv.MetricEdgeFailed, n)
			e.key.PutAttributes(attrs)
			attrs.PutStr(semconv.LabelErrorType, reason[0])
			if reason[1] != "" {
				attrs.PutStr(semconv.LabelPolicy, reason[1])
			}
		}
		if e.requests > 0 {
			e.key.PutAttributes(m.point(scope, semconv.MetricEdgeRequests, e.requests))
			e.key.PutAttributes(m.point(scope, semconv.MetricEdgeRequestsFailed, e.errors))
		}
	}
	for _, pod := range slices.Sorted(maps.Keys(m.pods)) {
		m.podPoints(scope, pod, m.pods[pod])
	}
	boundary, _ := m.Metrics(md, m.now)
	m.Advance(boundary)
}

func (m *Mesh) beat(md pmetric.Metrics, node string, works bool) {
	resource := md.ResourceMetrics().AppendEmpty()
	resource.Resource().Attributes().PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
	resource.Resource().Attributes().PutStr(semconv.AttrNodeName, node)
	scope := resource.ScopeMetrics().AppendEmpty()
	for _, name := range [...]string{semconv.MetricUp, semconv.MetricSourceUp} {
		metric := scope.Metrics().AppendEmpty()
		metric.SetName(name)
		p := metric.SetEmptyGauge().DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(m.now))
		if works {
			p.SetIntValue(1)
		}
		if name == semconv.MetricSourceUp {
			p.Attributes().PutStr(semconv.LabelSource, semconv.SourceMetrics)
		}
	}
}

func (m *Mesh) podPoints(scope pmetric.ScopeMetrics, name string, p *Pod) {
	app := Name(p.app)
	put := func(attrs pcommon.Map) pcommon.Map {
		attrs.PutStr(semconv.LabelDestinationPod, name)
		attrs.PutStr(semconv.LabelDestinationNamespace, app.Namespace)
		attrs.PutStr(semconv.LabelDestinationCanonicalService, app.Name)
		attrs.PutStr(semconv.LabelNode, p.node)
		return attrs
	}
	put(m.point(scope, semconv.MetricEndpointClosed, p.closed))
	if p.reason != "" {
		put(m.point(scope, semconv.MetricEndpointFailed, p.failed)).PutStr(semconv.LabelErrorType, p.reason)
	}
}

func (m *Mesh) point(scope pmetric.ScopeMetrics, name string, value uint64) pcommon.Map {
	metric := scope.Metrics().AppendEmpty()
	metric.SetName(name)
	sum := metric.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := sum.DataPoints().AppendEmpty()
	p.SetStartTimestamp(pcommon.NewTimestampFromTime(begin))
	p.SetTimestamp(pcommon.NewTimestampFromTime(m.now))
	p.SetIntValue(int64(value))
	return p.Attributes()
}
