// Package observe keeps what the telemetry says about a mesh in the shape in which it is judged: edges between apps with
// sliding windows in data time, serving pods, nodes with their sources, and the mesh's state with its newest changes. Each of
// them takes over what is told of it and forgets what is not told any more. A Store is not safe for concurrent use.
package observe

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/nodeload"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// Limits bound what is kept; what exceeds them is counted in Drops.
type Limits struct {
	Edges     int
	Endpoints int
	Nodes     int
	Entities  int
	// External bounds the addresses outside the mesh that flow records tell apart; the others are one.
	External int
}

// Drops counts what was not taken.
type Drops struct {
	Edges, Endpoints, Nodes, Entities, External, Late, Malformed uint64
	// Implausible are points and records of a time at which none can have been made.
	Implausible uint64
}

// Store is everything that was observed and not yet forgotten.
type Store struct {
	Clock
	Catalogue *rules.Catalogue
	Mesh      *Mesh
	Edges     *Edges
	Endpoints *Endpoints
	Nodes     *Nodes
	DNS       *DNS
	Drops     Drops

	heartbeat datatime.Reader
	onBeat    func(datatime.Beat) bool

	series  *seriesTable
	generic *genericTable
	swept   int64
}

// NewStore returns an empty store.
func NewStore(catalogue *rules.Catalogue, limits Limits, slos []SLO) *Store {
	s := &Store{Catalogue: catalogue}
	s.Clock = newClock(&s.Drops)
	s.Mesh = newMesh(&s.Clock, limits)
	s.Edges = newEdges(&s.Clock, catalogue, limits, slos)
	s.Endpoints = newEndpoints(&s.Clock, s.Edges, s.Mesh, limits.Endpoints)
	s.Nodes = newNodes(&s.Clock, limits.Nodes)
	s.DNS = newDNS(&s.Clock, limits.Edges)
	s.onBeat = s.Nodes.hear
	s.series = newSeriesTable(&s.Clock, s.Edges, s.Mesh, 4*limits.Edges)
	s.generic = newGenericTable(&s.Clock, s.Edges, limits.Edges)
	return s
}

// Metrics takes over a batch that arrives at a time of the wall clock. Boundary is the time that the service graph has reached;
// where it does not say, the newest heartbeat so far or, where there are no heartbeats, the batch's newest edge point; 0 if there
// is none. Edges tells whether the batch brings that boundary's edges: they come after its heartbeats.
func (s *Store) Metrics(batch pmetric.Metrics, wall time.Time) (boundary int64, edges bool) {
	s.arrive(wall)
	before := s.reached
	s.control(batch)
	for _, resource := range batch.ResourceMetrics().All() {
		attrs := resource.Resource().Attributes()
		node, ztunnel := attr(attrs, semconv.AttrNodeName), attr(attrs, semconv.AttrServiceName) == semconv.ServiceNameZtunnel
		for _, scope := range resource.ScopeMetrics().All() {
			graph := scope.Scope().Name() == semconv.ScopeServiceGraph
			s.heartbeat.Scope(resource, scope, s.onBeat)
			for _, metric := range scope.Metrics().All() {
				name := metric.Name()
				switch {
				case strings.HasPrefix(name, "mesh.edge."):
					boundary = max(boundary, s.series.take(name, metric))
				case strings.HasPrefix(name, "mesh.endpoint."):
					boundary = max(boundary, s.Endpoints.take(name, metric))
				case strings.HasPrefix(name, "mesh.dns."):
					s.DNS.take(name, metric)
				case ztunnel && (name == semconv.MetricUp || strings.HasPrefix(name, "istio_xds_") || nodeload.Is(name)):
					s.Nodes.take(name, metric, node)
				case !graph && strings.HasPrefix(name, "traces_service_graph_request_"):
					boundary = max(boundary, s.generic.take(name, metric))
				}
			}
		}
	}
	edges = boundary > 0
	switch newest := int64(s.heartbeats.Newest()); {
	case s.reached > 0:
		return s.reached, s.reached > before
	case newest > 0:
		boundary = newest
	}
	return boundary, edges
}

// control takes over what a batch says about its time: it holds for all of the batch, wherever it stands.
func (s *Store) control(batch pmetric.Metrics) {
	for _, resource := range batch.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				switch metric.Name() {
				case semconv.MetricReplayPosition:
					s.replay(metric)
				case semconv.MetricGraphTime:
					s.graphTime(metric)
				}
			}
		}
	}
}

// Logs takes over a batch that arrives at a time of the wall clock: mesh state, failed flow records and the ztunnels' own messages.
func (s *Store) Logs(batch plog.Logs, wall time.Time) {
	s.arrive(wall)
	for _, resource := range batch.ResourceLogs().All() {
		node := attr(resource.Resource().Attributes(), semconv.AttrNodeName)
		for _, scope := range resource.ScopeLogs().All() {
			entities := mesh.IsEntityScope(scope.Scope())
			for _, record := range scope.LogRecords().All() {
				switch {
				case entities:
					s.entity(record)
				case record.EventName() == semconv.EventAccess:
					s.flow(record, node)
				case record.EventName() == semconv.EventRequest:
					s.request(record)
				case record.EventName() == semconv.EventZtunnelLog:
					s.Nodes.message(s.Mesh, record, node)
				case record.EventName() == semconv.EventCNILog:
					s.Nodes.agent(record, node)
				case record.EventName() == semconv.EventChange:
					s.Mesh.changed(record)
				}
			}
		}
	}
}

func (s *Store) entity(record plog.LogRecord) {
	event, err := mesh.ParseEvent(record)
	if err != nil {
		s.Drops.Malformed++
		return
	}
	if z, ok := event.Entity.(*mesh.Ztunnel); ok && event.Deleted {
		s.Nodes.left(z.Node)
	}
	s.Mesh.take(event)
}

const (
	sweepEvery = int64(10 * time.Minute)
	forgetting = int64(time.Hour)
)

// Sweep forgets, now and then, what has not been told of for long.
func (s *Store) Sweep() {
	if s.Now-s.swept < sweepEvery {
		return
	}
	s.swept = s.Now
	s.series.sweep()
	s.generic.sweep()
	s.Endpoints.sweep()
	s.Edges.sweep()
	s.Nodes.sweep()
	s.DNS.sweep()
	s.Mesh.sweep()
}

// Touches tells whether an app has pods on a node, by what serves there and by the mesh's state.
func (s *Store) Touches(app *App, node string) bool {
	for _, e := range app.Endpoints {
		if e.Node == node {
			return true
		}
	}
	for _, w := range s.Mesh.Pods(app.Name) {
		if w.Node == node {
			return true
		}
	}
	return false
}

// FailuresOnly tells whether of the connections of an edge only those that failed are told, so that nobody knows their share: by all
// ztunnels of its ends, or by some while the others never told of one that went well.
func (s *Store) FailuresOnly(p *Pair) bool {
	some, all := false, true
	for _, app := range [...]*App{p.Source, p.Destination} {
		for _, w := range s.Mesh.Pods(app.Name) {
			if !w.InMesh() {
				continue
			}
			only := s.Nodes.FailuresOnly(w.Node)
			some, all = some || only, all && only
		}
	}
	return some && (all || p.LastSuccess == 0)
}

// Logged tells whether the access logs of all nodes on which the callers of an edge run, or all on which its servers do, have gone on since a time.
func (s *Store) Logged(p *Pair, since int64) bool {
	for _, app := range [...]*App{p.Source, p.Destination} {
		some, all := false, true
		for _, w := range s.Mesh.Pods(app.Name) {
			if !w.InMesh() {
				continue
			}
			n := s.Nodes.ByName[w.Node]
			some, all = true, all && n != nil && n.Sources[semconv.SourceAccessLog] != nil && n.Sources[semconv.SourceAccessLog].Up && n.LastRecord >= since
		}
		if some && all {
			return true
		}
	}
	return false
}

// Removed tells whether an app served as pods of the mesh and has none any more.
func (s *Store) Removed(app *App) bool {
	return len(app.Endpoints) > 0 && s.Mesh.known && len(s.Mesh.Pods(app.Name)) == 0
}

// points returns a metric's number points and whether they are increments already.
func points(metric pmetric.Metric) (pmetric.NumberDataPointSlice, bool) {
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		return metric.Sum().DataPoints(), metric.Sum().AggregationTemporality() == pmetric.AggregationTemporalityDelta
	case pmetric.MetricTypeGauge:
		return metric.Gauge().DataPoints(), false
	}
	return pmetric.NewNumberDataPointSlice(), false
}

func attr(attrs pcommon.Map, name string) string {
	v, _ := attrs.Get(name)
	return v.Str()
}

func number(attrs pcommon.Map, name string) int64 {
	v, _ := attrs.Get(name)
	return v.Int()
}
