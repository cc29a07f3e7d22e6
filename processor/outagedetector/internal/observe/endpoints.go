package observe

import (
	"cmp"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Endpoint is one pod that serves.
type Endpoint struct {
	App  *App
	Pod  string
	Node string
	Win  Window
	// Reason is the newest error type, as exactly as it is known.
	Reason string
	// Fault is what is wrong with the pod's connections, Errors with its answers.
	Fault, Errors Fault

	closed   counter
	requests counter
	failed   []reasonCounter
	errors   counter
	dirty    bool
}

// Endpoints are the serving pods, bounded by Limits.Endpoints.
type Endpoints struct {
	byPod map[endpointKey]*Endpoint
	// dirty are those that changed since they were last taken.
	dirty []*Endpoint

	clock *Clock
	edges *Edges
	mesh  *Mesh
	limit int
}

type endpointKey struct{ namespace, pod string }

func newEndpoints(clock *Clock, edges *Edges, mesh *Mesh, limit int) *Endpoints {
	return &Endpoints{byPod: map[endpointKey]*Endpoint{}, clock: clock, edges: edges, mesh: mesh, limit: limit}
}

// TakeDirty hands out the pods that changed, and forgets that they did.
func (s *Endpoints) TakeDirty(buffer []*Endpoint) []*Endpoint {
	buffer = append(buffer[:0], s.dirty...)
	s.dirty = s.dirty[:0]
	for _, e := range buffer {
		e.dirty = false
	}
	return buffer
}

// Gone tells whether a pod is no longer part of the mesh, while others serve its app.
func (s *Store) Gone(e *Endpoint) bool {
	pods := s.Mesh.Pods(e.App.Name)
	return len(pods) > 0 && !slices.ContainsFunc(pods, func(w *mesh.Workload) bool { return w.Name == e.Pod })
}

// On are the serving pods of a node, in a stable order.
func (s *Endpoints) On(node string) []*Endpoint {
	var found []*Endpoint
	for _, e := range s.byPod {
		if e.Node == node {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b *Endpoint) int {
		return cmp.Or(CompareNames(a.App.Name, b.App.Name), cmp.Compare(a.Pod, b.Pod))
	})
	return found
}

// take takes over points of a mesh.endpoint metric. It returns the newest time of one.
func (s *Endpoints) take(name string, metric pmetric.Metric) (boundary int64) {
	list, delta := points(metric)
	return each(s.clock, list.All(), func(point pmetric.NumberDataPoint, t int64) {
		if e := s.of(point, t); e != nil {
			s.count(name, e, point, t, delta)
		}
	})
}

// of is the pod that a point tells of; nil if there is none, or too many are.
func (s *Endpoints) of(point pmetric.NumberDataPoint, t int64) *Endpoint {
	attrs := point.Attributes()
	namespace, pod := attr(attrs, semconv.LabelDestinationNamespace), attr(attrs, semconv.LabelDestinationPod)
	if pod == "" {
		return nil
	}
	if e, ok := s.byPod[endpointKey{namespace, pod}]; ok {
		return e
	}
	if len(s.byPod) >= s.limit {
		s.clock.drops.Endpoints++
		return nil
	}
	app := attr(attrs, semconv.LabelDestinationCanonicalService)
	if app == "" {
		app = attr(attrs, semconv.LabelDestinationWorkload)
	}
	name := outage.Name{Namespace: namespace, Name: app}
	if app == "" || app == pod {
		name = s.mesh.podName(namespace, pod)
	}
	node := attr(attrs, semconv.LabelNode)
	if node == "" {
		if w := s.mesh.state.Pod(namespace, pod); w != nil {
			node = w.Node
		}
	}
	e := &Endpoint{App: s.edges.app(name), Pod: strings.Clone(pod), Node: strings.Clone(node)}
	e.Win.reset(s.clock.slotLength(), t)
	e.App.Endpoints = append(e.App.Endpoints, e)
	s.byPod[endpointKey{strings.Clone(namespace), e.Pod}] = e
	return e
}

func (s *Endpoints) count(name string, e *Endpoint, point pmetric.NumberDataPoint, t int64, delta bool) {
	zero := s.clock.fromZero(point.StartTimestamp(), t)
	var lane Lane
	var n uint64
	switch name {
	case semconv.MetricEndpointClosed:
		lane, n = Closed, e.closed.increment(point, delta, zero)
	case semconv.MetricEndpointRequests:
		lane, n = Requests, e.requests.increment(point, delta, zero)
	case semconv.MetricEndpointRequestsFailed:
		lane, n = RequestsFailed, e.errors.increment(point, delta, zero)
	case semconv.MetricEndpointFailed:
		c := counterOf(&e.failed, attr(point.Attributes(), semconv.LabelErrorType), "")
		if c == nil {
			s.clock.drops.Malformed++
			return
		}
		if lane, n = Failed, c.increment(point, delta, zero); !counts(c.errorType) {
			return
		}
		if n > 0 && (e.Reason == "" || c.errorType != semconv.ErrorTypeConnectFailed) {
			e.Reason = c.errorType
		}
	default:
		return
	}
	if n > 0 && e.Win.Add(t, lane, n) && !e.dirty {
		e.dirty = true
		s.dirty = append(s.dirty, e)
	}
}

func (s *Endpoints) sweep() {
	for key, e := range s.byPod {
		if s.clock.Now-(e.Win.newest+1)*e.Win.length > forgetting {
			delete(s.byPod, key)
			e.App.Endpoints = slices.DeleteFunc(e.App.Endpoints, func(other *Endpoint) bool { return other == e })
		}
	}
}
