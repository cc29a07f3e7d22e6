// Package inventory is the mesh as the API shows it: pods rolled up to workloads, services, policies and ztunnels.
// Pods that are gone are remembered for a while, so that older windows still know what they were.
package inventory

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/mesh"
)

// Name identifies a workload: an owner, not a pod.
type Name struct{ Namespace, Name string }

// Workload is an owner with its pods.
type Workload struct {
	Name
	App     string
	Version string
	// Cluster is empty where several clusters have the workload, which Spread tells.
	Cluster string
	Spread  bool
	Kind    string
	InMesh  bool
	// Pods are ordered by name; Gone ones only show where no pod is left.
	Pods []*mesh.Workload
	Gone bool
}

// Selected tells whether a policy applies to the workload.
func (w *Workload) Selected(policy *mesh.Policy) bool {
	return policy.AppliesTo(w.Namespace, w.InMesh, w.Pods)
}

// Inventory keeps the mesh's state. All methods may be called from several goroutines. What is handed out must not be
// modified.
type Inventory struct {
	*mesh.State

	mu sync.RWMutex
	// owners are the pods of each workload by UID, bounded by the state's limit.
	owners map[Name]map[string]*mesh.Workload
	// gone are workloads that have no pod left, by one of their pods, and gonePolicies policies that no longer exist.
	gone         *expiry.Table[Name, *mesh.Workload]
	gonePolicies *expiry.Table[string, *mesh.Policy]
	// view is the workloads as of viewVersion, made when asked for.
	view        []*Workload
	viewByName  map[Name]*Workload // bounded by owners and gone
	viewSpread  map[string]bool    // namespaces, bounded by the same
	viewVersion uint64
}

// New returns an empty inventory of at most limit entities of each type, and as many that are gone.
func New(limit int) *Inventory {
	return &Inventory{
		State:        mesh.NewState(limit),
		owners:       map[Name]map[string]*mesh.Workload{},
		gone:         expiry.New[Name, *mesh.Workload](limit, nil),
		gonePolicies: expiry.New[string, *mesh.Policy](limit, nil),
	}
}

// Apply takes over an event and returns the entity's former state, nil where there was none. taken is false where the
// bound on entities keeps it out.
func (inv *Inventory) Apply(event mesh.Event) (previous mesh.Entity, taken bool) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	previous, taken = inv.State.Apply(event)
	if !taken {
		return nil, false
	}
	if old, ok := previous.(*mesh.Workload); ok && old != nil {
		name := Name{old.Namespace, old.Owner()}
		delete(inv.owners[name], old.UID)
		if len(inv.owners[name]) == 0 {
			delete(inv.owners, name)
			inv.gone.Put(name, old, event.Time)
		}
	}
	if policy, ok := previous.(*mesh.Policy); ok && event.Deleted {
		inv.gonePolicies.Put(policy.Key(), policy, event.Time)
	}
	if w, ok := event.Entity.(*mesh.Workload); ok && !event.Deleted {
		name := Name{w.Namespace, w.Owner()}
		pods := inv.owners[name]
		if pods == nil {
			pods = map[string]*mesh.Workload{}
			inv.owners[name] = pods
		}
		pods[w.UID] = w
		inv.gone.Delete(name)
	}
	return previous, true
}

// Workloads returns the workloads that exist, by namespace and name.
func (inv *Inventory) Workloads() []*Workload {
	list, _ := inv.workloads()
	return list
}

// Spread tells whether workloads of a namespace are in several clusters: a namespace and a name mean the same in all of them.
func (inv *Inventory) Spread(namespace string) bool {
	inv.workloads()
	inv.mu.RLock()
	defer inv.mu.RUnlock()
	return inv.viewSpread[namespace]
}

// ByName returns all workloads, those that are gone included.
func (inv *Inventory) ByName() map[Name]*Workload {
	_, byName := inv.workloads()
	return byName
}

func (inv *Inventory) workloads() ([]*Workload, map[Name]*Workload) {
	inv.mu.RLock()
	list, byName, fresh := inv.view, inv.viewByName, inv.viewVersion == inv.Version() && inv.viewByName != nil
	inv.mu.RUnlock()
	if fresh {
		return list, byName
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	list = make([]*Workload, 0, len(inv.owners))
	byName = make(map[Name]*Workload, len(inv.owners)+inv.gone.Len())
	for name, pods := range inv.owners {
		w := newWorkload(name, pods)
		list = append(list, w)
		byName[name] = w
	}
	for name, pod := range inv.gone.All() {
		w := newWorkload(name, map[string]*mesh.Workload{pod.UID: pod})
		w.Gone, w.Pods = true, nil
		byName[name] = w
	}
	spread := spreadNamespaces(byName)
	slices.SortFunc(list, func(a, b *Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name.Name, b.Name.Name))
	})
	inv.view, inv.viewByName, inv.viewSpread, inv.viewVersion = list, byName, spread, inv.Version()
	return list, byName
}

func newWorkload(name Name, pods map[string]*mesh.Workload) *Workload {
	w := &Workload{Name: name, Pods: make([]*mesh.Workload, 0, len(pods))}
	for _, pod := range pods {
		w.Pods = append(w.Pods, pod)
	}
	slices.SortFunc(w.Pods, func(a, b *mesh.Workload) int { return cmp.Compare(a.Name, b.Name) })
	first := w.Pods[0]
	w.App, w.Version, w.Cluster, w.Kind = first.App(), first.CanonicalRevision, first.ClusterID, first.WorkloadType
	for _, pod := range w.Pods {
		w.InMesh = w.InMesh || pod.InMesh()
		w.Spread = w.Spread || pod.ClusterID != first.ClusterID
	}
	if w.Spread {
		w.Cluster = ""
	}
	return w
}

// spreadNamespaces are the namespaces of which several clusters have workloads.
func spreadNamespaces(byName map[Name]*Workload) map[string]bool {
	clusters, spread := map[string]string{}, map[string]bool{}
	for name, w := range byName {
		if cluster, known := clusters[name.Namespace]; w.Spread || known && cluster != w.Cluster {
			spread[name.Namespace] = true
		}
		clusters[name.Namespace] = w.Cluster
	}
	return spread
}

// Services returns the services by namespace and host name.
func (inv *Inventory) Services() []*mesh.Service {
	return sorted(inv.State.Services())
}

// Service returns a service by its namespace and its name or host name, nil if unknown.
func (inv *Inventory) Service(namespace, name string) *mesh.Service {
	for _, s := range inv.Services() {
		if s.Namespace == namespace && (s.Name == name || s.Hostname == name) {
			return s
		}
	}
	return nil
}

// Policies returns the policies by namespace and name.
func (inv *Inventory) Policies() []*mesh.Policy { return sorted(inv.State.Policies()) }

// Policy returns a policy by "namespace/name", nil if unknown; present is false for one that is gone.
func (inv *Inventory) Policy(key string) (policy *mesh.Policy, present bool) {
	if policy := inv.State.Policy(key); policy != nil {
		return policy, true
	}
	inv.mu.RLock()
	defer inv.mu.RUnlock()
	gone, _ := inv.gonePolicies.Get(key)
	return gone, false
}

// Ztunnels returns the ztunnels by node.
func (inv *Inventory) Ztunnels() []*mesh.Ztunnel { return sorted(inv.State.Ztunnels()) }

func sorted[E mesh.Entity](list []E) []E {
	slices.SortFunc(list, func(a, b E) int { return strings.Compare(a.Key(), b.Key()) })
	return list
}

// Events calls f with the events that make an empty inventory the same, those of what is gone first.
func (inv *Inventory) Events(f func(mesh.Event)) {
	inv.mu.RLock()
	defer inv.mu.RUnlock()
	for _, w := range inv.gone.All() {
		f(mesh.Event{Entity: w})
		f(mesh.Event{Entity: w, Deleted: true})
	}
	for _, policy := range inv.gonePolicies.All() {
		f(mesh.Event{Entity: policy})
		f(mesh.Event{Entity: policy, Deleted: true})
	}
	events(inv.State.Workloads(), f)
	events(inv.State.Services(), f)
	events(inv.State.Policies(), f)
	events(inv.State.Ztunnels(), f)
}

func events[E mesh.Entity](list []E, f func(mesh.Event)) {
	for _, entity := range sorted(list) {
		f(mesh.Event{Entity: entity})
	}
}
