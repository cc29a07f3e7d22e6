package naming

import (
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
)

// Identity is who somebody is by the mesh's state.
type Identity struct {
	Party edge.Party
	// Workload is the pod, or, unless Exact, one of the party's pods; nil if the mesh's state does not name the party.
	Workload *mesh.Workload
	Exact    bool
}

// IdentityOf is that of a pod.
func IdentityOf(w *mesh.Workload) Identity { return Identity{PartyOf(w), w, true} }

// Spoken finds workloads and services by the names that people use for them, which are not always whole. What is deleted is
// remembered for a while, since spans come late. Bounded by the entities of the mesh's state and maxGone.
type Spoken struct {
	names    *Directory
	pods     map[string][]*mesh.Workload           // by pod name
	crews    map[string]map[edge.Party]*crew       // by the owner's name and by the app's
	services map[string]map[string]*mesh.Service   // by short name and namespace
	gone     *expiry.Table[string, *mesh.Workload] // by UID
	events   uint64
}

// crew are the pods of a party.
type crew struct {
	here, gone int
	last       *mesh.Workload
}

func newSpoken(names *Directory) *Spoken {
	s := &Spoken{
		names: names,
		pods:  map[string][]*mesh.Workload{}, crews: map[string]map[edge.Party]*crew{}, services: map[string]map[string]*mesh.Service{},
	}
	s.gone = expiry.New(maxGone, func(_ string, w *mesh.Workload) { s.forget(w, func(c *crew) *int { return &c.gone }) })
	return s
}

// take follows a change of the mesh's state.
func (s *Spoken) take(previous mesh.Entity, event mesh.Event) {
	switch entity := event.Entity.(type) {
	case *mesh.Workload:
		s.takeWorkload(previous, entity, event.Deleted)
	case *mesh.Service:
		if old, ok := previous.(*mesh.Service); ok && old != nil {
			s.dropService(old)
		}
		if !event.Deleted {
			s.addService(entity)
		}
	}
}

func (s *Spoken) takeWorkload(previous mesh.Entity, w *mesh.Workload, deleted bool) {
	here := func(c *crew) *int { return &c.here }
	gone := func(c *crew) *int { return &c.gone }
	if old, ok := previous.(*mesh.Workload); ok && old != nil {
		s.forget(old, here)
		if deleted {
			s.remember(old, gone)
			s.events++
			s.gone.Put(old.UID, old, pcommon.Timestamp(s.events))
		}
	}
	if deleted {
		return
	}
	if old, ok := s.gone.Get(w.UID); ok {
		s.gone.Delete(w.UID)
		s.forget(old, gone)
	}
	s.remember(w, here)
}

// labels are what a workload is called besides its pod's name.
func labels(w *mesh.Workload) []string {
	if w.App() == w.Owner() {
		return []string{w.Owner()}
	}
	return []string{w.Owner(), w.App()}
}

func (s *Spoken) remember(w *mesh.Workload, count func(*crew) *int) {
	s.pods[w.Name] = append(s.pods[w.Name], w)
	party := PartyOf(w)
	for _, label := range labels(w) {
		if s.crews[label] == nil {
			s.crews[label] = map[edge.Party]*crew{}
		}
		c := s.crews[label][party]
		if c == nil {
			c = &crew{}
			s.crews[label][party] = c
		}
		c.last = w
		*count(c)++
	}
}

func (s *Spoken) forget(w *mesh.Workload, count func(*crew) *int) {
	pods := s.pods[w.Name]
	for i, pod := range pods {
		if pod == w {
			pods = append(pods[:i], pods[i+1:]...)
			break
		}
	}
	if s.pods[w.Name] = pods; len(pods) == 0 {
		delete(s.pods, w.Name)
	}
	party := PartyOf(w)
	for _, label := range labels(w) {
		c := s.crews[label][party]
		if c == nil {
			continue
		}
		if *count(c)--; c.here+c.gone <= 0 {
			delete(s.crews[label], party)
		}
		if len(s.crews[label]) == 0 {
			delete(s.crews, label)
		}
	}
}

func (s *Spoken) addService(service *mesh.Service) {
	if !strings.HasPrefix(service.Hostname, service.Name+"."+service.Namespace+".svc") {
		return // a ServiceEntry's is called by its host name only
	}
	if s.services[service.Name] == nil {
		s.services[service.Name] = map[string]*mesh.Service{}
	}
	s.services[service.Name][service.Namespace] = service
}

func (s *Spoken) dropService(service *mesh.Service) {
	if s.services[service.Name][service.Namespace] != service {
		return
	}
	if delete(s.services[service.Name], service.Namespace); len(s.services[service.Name]) == 0 {
		delete(s.services, service.Name)
	}
}

// Whole tells whether so much time passed since the first data that the mesh's state, if there is any, is whole.
func (s *Spoken) Whole(now pcommon.Timestamp) bool {
	return s.names.begun > 0 && moment.Since(s.names.begun, now, s.names.cfg.Hold)
}

// Pod finds a pod by its name alone, nil if it is not known or several pods have it.
func (s *Spoken) Pod(name string) *mesh.Workload {
	var found *mesh.Workload
	for _, w := range s.pods[name] {
		if found != nil && (w.Namespace != found.Namespace || w.ClusterID != found.ClusterID) {
			return nil
		}
		found = w
	}
	return found
}

// Named finds the party that an application's name for itself means: an owner's name or an app's. Namespace, version and cluster
// choose among several if they are given. The party has no version, or no cluster, if it is not clear which.
func (s *Spoken) Named(name, namespace, version, cluster string) (Identity, bool) {
	var all []Identity
	pods := 0
	for here := range 2 { // those that are gone only where there are no others
		for party, c := range s.crews[name] {
			if (c.here > 0) == (here == 0) && (namespace == "" || party.Namespace == namespace) {
				all = append(all, Identity{Party: party, Workload: c.last})
				pods += c.here + c.gone
			}
		}
		if len(all) > 0 {
			break
		}
	}
	if len(all) == 0 {
		return s.behindName(name, namespace)
	}
	all = prefer(all, func(p *edge.Party) bool { return p.Cluster == cluster })
	all = prefer(all, func(p *edge.Party) bool { return p.Version == version })
	all = prefer(all, func(p *edge.Party) bool { return p.Workload == name })
	slices.SortFunc(all, func(a, b Identity) int { return strings.Compare(a.Workload.UID, b.Workload.UID) })
	found := all[0]
	for _, other := range all[1:] {
		if other.Party.Namespace != found.Party.Namespace {
			return Identity{}, false
		}
		found.Party = common(found.Party, other.Party)
	}
	found.Exact = pods == 1
	return found, true
}

// prefer keeps those of which something is true, or all if it is of none.
func prefer(all []Identity, is func(*edge.Party) bool) []Identity {
	not := func(i Identity) bool { return !is(&i.Party) }
	if !slices.ContainsFunc(all, func(i Identity) bool { return !not(i) }) {
		return all
	}
	return slices.DeleteFunc(all, not)
}

// common is what two parties of a namespace have in common.
func common(a, b edge.Party) edge.Party {
	if a.Workload != b.Workload {
		a.Workload, a.Version = a.App, ""
	}
	if a.App != b.App {
		a.App = a.Workload
	}
	if a.Version != b.Version {
		a.Version = ""
	}
	if a.Cluster != b.Cluster {
		a.Cluster = ""
	}
	return a
}

// behindName finds the only party behind the service of a name.
func (s *Spoken) behindName(name, namespace string) (Identity, bool) {
	if service := s.serviceOf(name, namespace); service != nil {
		if behind := s.names.behind(service.Hostname, ""); len(behind) == 1 {
			return Identity{Party: PartyOf(behind[0]), Workload: behind[0]}, true
		}
	}
	return Identity{}, false
}

// serviceOf finds a service by its short name; without a namespace only if there is one of the name.
func (s *Spoken) serviceOf(name, namespace string) *mesh.Service {
	of := s.services[name]
	if namespace != "" {
		return of[namespace]
	}
	if len(of) == 1 {
		for _, service := range of {
			return service
		}
	}
	return nil
}

// Called finds the service that a host name means to a client in a namespace, which may be unknown: a short name, name.namespace,
// or the whole one. A name below a service's is that of one of its pods.
func (s *Spoken) Called(host, namespace string) (*mesh.Service, *mesh.Workload) {
	if service := s.names.Service(host); service != nil {
		return service, nil
	}
	short, _, whole := strings.Cut(host+".", ".svc.")
	if !whole {
		short = host
	}
	parts := strings.SplitN(short, ".", 4)
	switch {
	case len(parts) == 1:
		return s.serviceOf(parts[0], namespace), nil
	case len(parts) == 2:
		if service := s.serviceOf(parts[0], parts[1]); service != nil {
			return service, nil
		}
		if service := s.serviceOf(parts[1], namespace); service != nil && !whole {
			return service, s.names.Pod(service.Namespace, parts[0])
		}
	case len(parts) == 3:
		if service := s.serviceOf(parts[1], parts[2]); service != nil {
			return service, s.names.Pod(service.Namespace, parts[0])
		}
	}
	return nil, nil
}

// Backend is one of the workloads behind a service, nil if there is none.
func (s *Spoken) Backend(service *mesh.Service) *mesh.Workload {
	if behind := s.names.behind(service.Hostname, ""); len(behind) > 0 {
		return behind[0]
	}
	return nil
}
