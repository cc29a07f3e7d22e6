// Package inventory is the mesh as the API shows it: pods rolled up to workloads, services, policies and ztunnels.
// Pods that are gone are remembered for a while, so that older windows still know what they were.
package inventory

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
)

// Name identifies a workload: an owner, not a pod.
type Name struct{ Namespace, Name string }

// Workload is an owner with its pods.
type Workload struct {
	Name
	App     string
	Version string
	Cluster string
	Kind    string
	InMesh  bool
	// Pods are ordered by name; Gone ones only show where no pod is left.
	Pods []*mesh.Workload
	Gone bool
}

// Inventory keeps the mesh's state. All methods may be called from several goroutines. What is handed out must not be
// modified.
type Inventory struct {
	state *mesh.State
	limit int

	mu     sync.RWMutex
	owners map[Name]map[string]*mesh.Workload
	gone   map[Name]*mesh.Workload
	goneAt map[Name]pcommon.Timestamp
	// gonePolicies are policies that no longer exist, by key; at most limit.
	gonePolicies map[string]*mesh.Policy
	version      uint64
	// view is the workloads as of viewVersion, made when asked for.
	view        []*Workload
	viewByName  map[Name]*Workload
	viewVersion uint64
}

// New returns an empty inventory of at most limit entities of each type.
func New(limit int) *Inventory {
	return &Inventory{
		state:  mesh.NewState(limit),
		limit:  limit,
		owners: map[Name]map[string]*mesh.Workload{},
		gone:   map[Name]*mesh.Workload{},
		goneAt: map[Name]pcommon.Timestamp{},

		gonePolicies: map[string]*mesh.Policy{},
	}
}

// Apply takes over an event and returns the entity's former state, nil where there was none. taken is false where the
// bound on entities keeps it out.
func (inv *Inventory) Apply(event mesh.Event) (previous mesh.Entity, taken bool) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	previous, taken = inv.state.Apply(event)
	if !taken {
		return nil, false
	}
	inv.version++
	if old, ok := previous.(*mesh.Workload); ok && old != nil {
		name := Name{old.Namespace, old.Owner()}
		delete(inv.owners[name], old.UID)
		if len(inv.owners[name]) == 0 {
			delete(inv.owners, name)
			inv.remember(name, old, event.Time)
		}
	}
	if policy, ok := previous.(*mesh.Policy); ok && event.Deleted && len(inv.gonePolicies) < inv.limit {
		inv.gonePolicies[policy.Key()] = policy
	}
	if w, ok := event.Entity.(*mesh.Workload); ok && !event.Deleted {
		name := Name{w.Namespace, w.Owner()}
		pods := inv.owners[name]
		if pods == nil {
			pods = map[string]*mesh.Workload{}
			inv.owners[name] = pods
		}
		pods[w.UID] = w
		delete(inv.gone, name)
		delete(inv.goneAt, name)
	}
	return previous, true
}

func (inv *Inventory) remember(name Name, w *mesh.Workload, at pcommon.Timestamp) {
	if len(inv.gone) >= inv.limit {
		var oldest Name
		first := true
		for n, t := range inv.goneAt {
			if first || t < inv.goneAt[oldest] {
				oldest, first = n, false
			}
		}
		delete(inv.gone, oldest)
		delete(inv.goneAt, oldest)
	}
	inv.gone[name], inv.goneAt[name] = w, at
}

// Version grows with every change.
func (inv *Inventory) Version() uint64 {
	inv.mu.RLock()
	defer inv.mu.RUnlock()
	return inv.version
}

// Workloads returns the workloads that exist, by namespace and name.
func (inv *Inventory) Workloads() []*Workload {
	list, _ := inv.workloads()
	return list
}

// ByName returns all workloads, those that are gone included.
func (inv *Inventory) ByName() map[Name]*Workload {
	_, byName := inv.workloads()
	return byName
}

func (inv *Inventory) workloads() ([]*Workload, map[Name]*Workload) {
	inv.mu.RLock()
	list, byName, fresh := inv.view, inv.viewByName, inv.viewVersion == inv.version && inv.viewByName != nil
	inv.mu.RUnlock()
	if fresh {
		return list, byName
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	list = make([]*Workload, 0, len(inv.owners))
	byName = make(map[Name]*Workload, len(inv.owners)+len(inv.gone))
	for name, pods := range inv.owners {
		w := newWorkload(name, pods)
		list = append(list, w)
		byName[name] = w
	}
	for name, pod := range inv.gone {
		w := newWorkload(name, map[string]*mesh.Workload{pod.UID: pod})
		w.Gone, w.Pods = true, nil
		byName[name] = w
	}
	slices.SortFunc(list, func(a, b *Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name.Name, b.Name.Name))
	})
	inv.view, inv.viewByName, inv.viewVersion = list, byName, inv.version
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
	}
	return w
}

// Services returns the services by namespace and host name.
func (inv *Inventory) Services() []*mesh.Service {
	return sorted(inv.state.Services())
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

// Hostname returns the service with that host name, nil if unknown.
func (inv *Inventory) Hostname(hostname string) *mesh.Service { return inv.state.Hostname(hostname) }

// Policies returns the policies by namespace and name.
func (inv *Inventory) Policies() []*mesh.Policy { return sorted(inv.state.Policies()) }

// Policy returns a policy by "namespace/name", nil if unknown; present is false for one that is gone.
func (inv *Inventory) Policy(key string) (policy *mesh.Policy, present bool) {
	if policy := inv.state.Policy(key); policy != nil {
		return policy, true
	}
	inv.mu.RLock()
	defer inv.mu.RUnlock()
	return inv.gonePolicies[key], false
}

// Ztunnels returns the ztunnels by node.
func (inv *Inventory) Ztunnels() []*mesh.Ztunnel { return sorted(inv.state.Ztunnels()) }

// Ztunnel returns a node's ztunnel, nil if unknown.
func (inv *Inventory) Ztunnel(node string) *mesh.Ztunnel { return inv.state.Ztunnel(node) }

// Pod returns a pod, nil if unknown.
func (inv *Inventory) Pod(namespace, name string) *mesh.Workload {
	return inv.state.Pod(namespace, name)
}

func sorted[E mesh.Entity](list []E) []E {
	slices.SortFunc(list, func(a, b E) int { return strings.Compare(a.Key(), b.Key()) })
	return list
}

// Snapshot is an inventory's content, for Restore.
type Snapshot struct {
	Workloads []*mesh.Workload `json:"workloads,omitempty"`
	Gone      []*mesh.Workload `json:"gone,omitempty"`
	Services  []*mesh.Service  `json:"services,omitempty"`
	Policies  []*mesh.Policy   `json:"policies,omitempty"`
	// GonePolicies no longer exist, as Gone workloads do not.
	GonePolicies []*mesh.Policy  `json:"gone_policies,omitempty"`
	Ztunnels     []*mesh.Ztunnel `json:"ztunnels,omitempty"`
}

// Snapshot returns the content.
func (inv *Inventory) Snapshot() Snapshot {
	s := Snapshot{
		Workloads: sorted(inv.state.Workloads()),
		Services:  inv.Services(),
		Policies:  inv.Policies(),
		Ztunnels:  inv.Ztunnels(),
	}
	inv.mu.RLock()
	defer inv.mu.RUnlock()
	for _, w := range inv.gone {
		s.Gone = append(s.Gone, w)
	}
	s.Gone = sorted(s.Gone)
	for _, policy := range inv.gonePolicies {
		s.GonePolicies = append(s.GonePolicies, policy)
	}
	s.GonePolicies = sorted(s.GonePolicies)
	return s
}

// Restore takes over a snapshot.
func (inv *Inventory) Restore(s Snapshot) {
	for _, w := range s.Gone {
		inv.Apply(mesh.Event{Entity: w})
		inv.Apply(mesh.Event{Entity: w, Deleted: true})
	}
	for _, policy := range s.GonePolicies {
		inv.Apply(mesh.Event{Entity: policy})
		inv.Apply(mesh.Event{Entity: policy, Deleted: true})
	}
	restore(inv, s.Workloads)
	restore(inv, s.Services)
	restore(inv, s.Policies)
	restore(inv, s.Ztunnels)
}

func restore[E mesh.Entity](inv *Inventory, list []E) {
	for _, entity := range list {
		inv.Apply(mesh.Event{Entity: entity})
	}
}
