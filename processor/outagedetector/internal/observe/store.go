// Package observe keeps what the telemetry says about a mesh in the shape in which it is judged: edges between apps with
// sliding windows in data time, serving pods, nodes with their sources, and the newest changes of the mesh's state.
// A Store is not safe for concurrent use.
package observe

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// Limits bound what is kept; what exceeds them is counted in Drops.
type Limits struct {
	Edges     int
	Endpoints int
	Nodes     int
	Entities  int
}

// Drops counts what was not taken.
type Drops struct {
	Edges, Endpoints, Nodes, Entities, Late, Malformed uint64
	// Implausible are points and records of a time at which none can have been made.
	Implausible uint64
}

// Store is everything that was observed and not yet forgotten.
type Store struct {
	catalogue *rules.Catalogue
	limits    Limits
	slos      []SLO
	// State is the mesh's state as istiod told it.
	State *mesh.State
	// Now is the newest boundary; Interval is the distance between boundaries. Both in ns.
	Now, Interval int64
	// Begin is the time of the first observation.
	Begin int64
	Apps  map[outage.Name]*App
	Nodes map[string]*Node
	// Changes are the newest changes of the mesh's state, oldest first.
	Changes []Change
	// Dirty are the edges and pods that changed since they were last taken.
	Dirty          []*Pair
	DirtyEndpoints []*Endpoint
	// Judged are the edges with something wrong, which are judged at every boundary.
	Judged map[*Pair]struct{}
	Drops  Drops
	// ReplayDone tells that a replay has delivered everything; Replaying that one was seen.
	Replaying, ReplayDone bool

	pairs     map[pairKey]*Pair
	series    map[edge.Key]*series
	generic   map[genericKey]*series
	endpoints map[endpointKey]*Endpoint
	policies  map[string]int64
	pods      map[outage.Name][]*mesh.Workload
	podsStale bool
	// stateKnown tells that the mesh's state told of any workload.
	stateKnown bool
	// serviceApps are the apps behind services, by the service's key, also while they have no pods.
	serviceApps map[string]outage.Name
	beats       [4]int64
	// newestBeat is the newest heartbeat; 0 where none ever came.
	newestBeat int64
	// reached is the time before which the service graph is complete; 0 where it does not say.
	reached int64
	quiet   silenceQueue
	swept   int64
}

type pairKey struct{ source, destination outage.Name }

type endpointKey struct{ namespace, pod string }

type genericKey struct{ client, clientNamespace, server, serverNamespace string }

// NewStore returns an empty store.
func NewStore(catalogue *rules.Catalogue, limits Limits, slos []SLO) *Store {
	return &Store{
		catalogue: catalogue, limits: limits, slos: slos,
		State:       mesh.NewState(limits.Entities),
		Apps:        map[outage.Name]*App{},
		Nodes:       map[string]*Node{},
		Judged:      map[*Pair]struct{}{},
		pairs:       map[pairKey]*Pair{},
		series:      map[edge.Key]*series{},
		generic:     map[genericKey]*series{},
		endpoints:   map[endpointKey]*Endpoint{},
		policies:    map[string]int64{},
		serviceApps: map[string]outage.Name{},
	}
}

// Catalogue is the rules that apply.
func (s *Store) Catalogue() *rules.Catalogue { return s.catalogue }

// Edges is the number of edges that are kept.
func (s *Store) Edges() int { return len(s.pairs) }

func (s *Store) app(name outage.Name) *App {
	a, ok := s.Apps[name]
	if !ok {
		a = &App{Name: outage.Name{Namespace: strings.Clone(name.Namespace), Name: strings.Clone(name.Name)}}
		for i := range s.slos {
			if s.slos[i].matches(a.Name) {
				a.Budgets = append(a.Budgets, newBudget(&s.slos[i]))
			}
		}
		s.Apps[a.Name] = a
	}
	return a
}

// Pair returns an edge by its names, nil if it is unknown.
func (s *Store) Pair(source, destination outage.Name) *Pair {
	return s.pairs[pairKey{source, destination}]
}

// pair returns an edge, a new one if need be; nil once the limit is reached.
func (s *Store) pair(source, destination outage.Name, t int64, length time.Duration) *Pair {
	if p, ok := s.pairs[pairKey{source, destination}]; ok {
		return p
	}
	if len(s.pairs) >= s.limits.Edges {
		s.Drops.Edges++
		return nil
	}
	src, dst := s.app(source), s.app(destination)
	p := &Pair{
		Source: src, Destination: dst, FirstSeen: t,
		Rules: s.catalogue.For(src.Name.Namespace, src.Name.Name, dst.Name.Namespace, dst.Name.Name),
	}
	p.Win.reset(length, t)
	src.Out = append(src.Out, p)
	dst.In = append(dst.In, p)
	s.pairs[pairKey{src.Name, dst.Name}] = p
	return p
}

func (s *Store) slotLength() time.Duration { return max(MinSlot, time.Duration(s.Interval)) }

func (s *Store) touch(p *Pair) {
	if !p.dirty {
		p.dirty = true
		s.Dirty = append(s.Dirty, p)
	}
}

// TakeDirty hands out the edges that changed or have something wrong, in a stable order, and forgets that they changed.
func (s *Store) TakeDirty(buffer []*Pair) []*Pair {
	buffer = append(buffer[:0], s.Dirty...)
	s.Dirty = s.Dirty[:0]
	for p := range s.Judged {
		if !p.dirty {
			buffer = append(buffer, p)
		}
	}
	for _, p := range buffer {
		p.dirty = false
	}
	return buffer
}

// TakeDirtyEndpoints is the same for pods.
func (s *Store) TakeDirtyEndpoints(buffer []*Endpoint) []*Endpoint {
	buffer = append(buffer[:0], s.DirtyEndpoints...)
	s.DirtyEndpoints = s.DirtyEndpoints[:0]
	for _, e := range buffer {
		e.dirty = false
	}
	return buffer
}

// Watch keeps an edge in the set that is judged at every boundary for as long as something is wrong with it.
func (s *Store) Watch(p *Pair) {
	switch wrong := p.Wrong(); {
	case wrong && !p.judged:
		p.judged = true
		s.Judged[p] = struct{}{}
	case !wrong && p.judged:
		p.judged = false
		delete(s.Judged, p)
	}
}

func (s *Store) endpoint(namespace, pod string, app *App, node string, t int64) *Endpoint {
	key := endpointKey{namespace, pod}
	if e, ok := s.endpoints[key]; ok {
		if node != "" && e.Node != node {
			e.Node = strings.Clone(node)
		}
		return e
	}
	if len(s.endpoints) >= s.limits.Endpoints {
		s.Drops.Endpoints++
		return nil
	}
	if node == "" {
		if w := s.State.Pod(namespace, pod); w != nil {
			node = w.Node
		}
	}
	e := &Endpoint{App: app, Pod: strings.Clone(pod), Node: strings.Clone(node)}
	e.Win.reset(s.slotLength(), t)
	app.Endpoints = append(app.Endpoints, e)
	s.endpoints[endpointKey{strings.Clone(namespace), e.Pod}] = e
	return e
}

func (s *Store) touchEndpoint(e *Endpoint) {
	if !e.dirty {
		e.dirty = true
		s.DirtyEndpoints = append(s.DirtyEndpoints, e)
	}
}

// EndpointsOn are the serving pods of a node, in a stable order.
func (s *Store) EndpointsOn(node string) []*Endpoint {
	var found []*Endpoint
	for _, e := range s.endpoints {
		if e.Node == node {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b *Endpoint) int {
		return cmp.Or(CompareNames(a.App.Name, b.App.Name), cmp.Compare(a.Pod, b.Pod))
	})
	return found
}

// CompareNames orders names by namespace and name.
func CompareNames(a, b outage.Name) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// Pods are the pods of an app by the mesh's state.
func (s *Store) Pods(name outage.Name) []*mesh.Workload {
	if s.podsStale {
		s.pods = map[outage.Name][]*mesh.Workload{}
		for _, w := range s.State.Workloads() {
			app := outage.Name{Namespace: w.Namespace, Name: w.App()}
			s.pods[app] = append(s.pods[app], w)
		}
		s.podsStale = false
	}
	return s.pods[name]
}

// Beat advances data time to a boundary and learns the distance between boundaries.
func (s *Store) Beat(t int64) {
	if t <= s.Now {
		return
	}
	s.Now = t
	copy(s.beats[:], s.beats[1:])
	s.beats[len(s.beats)-1] = t
	shortest := int64(0)
	for i := 1; i < len(s.beats); i++ {
		if s.beats[i-1] > 0 {
			if d := s.beats[i] - s.beats[i-1]; shortest == 0 || d < shortest {
				shortest = d
			}
		}
	}
	if shortest > 0 {
		s.Interval = shortest
	}
}

const (
	sweepEvery = int64(10 * time.Minute)
	forgetting = int64(time.Hour)
)

// Sweep forgets, now and then, what has not been reported for long.
func (s *Store) Sweep() {
	if s.Now-s.swept < sweepEvery {
		return
	}
	s.swept = s.Now
	for key, series := range s.series {
		if s.Now-series.last > forgetting {
			delete(s.series, key)
			s.release(series.pair)
		}
	}
	for key, series := range s.generic {
		if s.Now-series.last > max(forgetting, 12*series.pair.Win.length) {
			delete(s.generic, key)
			s.release(series.pair)
		}
	}
	for key, e := range s.endpoints {
		if s.Now-(e.Win.newest+1)*e.Win.length > forgetting {
			delete(s.endpoints, key)
			e.App.Endpoints = slices.DeleteFunc(e.App.Endpoints, func(other *Endpoint) bool { return other == e })
		}
	}
	for name, n := range s.Nodes {
		if s.Now-n.LastBeat > forgetting {
			delete(s.Nodes, name)
		}
	}
	for name, a := range s.Apps {
		if len(a.In) == 0 && len(a.Out) == 0 && len(a.Endpoints) == 0 {
			delete(s.Apps, name)
		}
	}
	for key, at := range s.policies {
		if s.Now-at > 24*forgetting && s.State.Policy(key) == nil {
			delete(s.policies, key)
		}
	}
}

func (s *Store) release(p *Pair) {
	p.keys--
	if p.keys > 0 || p.judged {
		return
	}
	delete(s.pairs, pairKey{p.Source.Name, p.Destination.Name})
	same := func(other *Pair) bool { return other == p }
	p.Source.Out = slices.DeleteFunc(p.Source.Out, same)
	p.Destination.In = slices.DeleteFunc(p.Destination.In, same)
}

// HadPods tells whether an app ever had pods in the mesh's state or served as one.
func (s *Store) HadPods(name outage.Name) bool {
	if a, ok := s.Apps[name]; ok && len(a.Endpoints) > 0 && s.stateKnown {
		return true
	}
	return false
}
