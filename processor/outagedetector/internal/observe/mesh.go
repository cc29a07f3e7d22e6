package observe

import (
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

// Mesh is the mesh's state as istiod told it, what changed in it, and what it runs on.
type Mesh struct {
	// Changes are the newest ones, oldest first.
	Changes []Change

	state *mesh.State
	// known tells that the state told of any workload.
	known bool
	// policies are when policies were last added, changed or deleted.
	policies *expiry.Table[string, int64]
	// serviceApps are the apps behind services, by the service's key, also while they have no pods.
	serviceApps *expiry.Table[string, outage.Name]
	byApp       workloads
	clock       *Clock
}

// workloads are the state's, by their apps and by their identities; both are bounded by the state itself.
type workloads struct {
	stale  bool
	pods   map[outage.Name][]*mesh.Workload
	owners map[identity]string
}

type identity struct{ namespace, account string }

// Change is a change of the mesh's state, after what was there when observation began.
type Change struct {
	Time int64
	Text string
	// Policy is "namespace/name" of the policy, App the workload, that changed.
	Policy string
	App    outage.Name
	Node   string
	Gone   bool
	// Pods tells that pods of the app came, went, or became ready or unready.
	Pods bool
	// Source says who told it: istiod, or Kubernetes.
	Source string
}

// The sources of changes.
const (
	fromIstiod     = "istiod"
	fromKubernetes = "kubernetes"
)

const (
	maxChanges = 256
	// settling is how long after the beginning entities may arrive that were there before.
	settling = int64(15 * time.Second)
)

func newMesh(clock *Clock, limits Limits) *Mesh {
	return &Mesh{
		state:       mesh.NewState(limits.Entities),
		policies:    expiry.New[string, int64](limits.Entities, nil),
		serviceApps: expiry.New[string, outage.Name](limits.Entities, nil),
		clock:       clock,
	}
}

// take takes over an entity event.
func (m *Mesh) take(event mesh.Event) {
	t, ok := m.clock.at(event.Time)
	if !ok {
		return
	}
	previous, taken := m.state.Apply(event)
	if !taken {
		m.clock.drops.Entities++
		return
	}
	initial := t-m.clock.Begin <= settling
	switch e := event.Entity.(type) {
	case *mesh.Policy:
		m.policyChange(e, previous, event.Deleted, t, initial)
	case *mesh.Workload:
		m.byApp.stale, m.known = true, true
		if !event.Deleted {
			for service := range e.Services {
				m.serviceApps.Put(service, outage.Name{Namespace: e.Namespace, Name: e.App()}, pcommon.Timestamp(t))
			}
		}
		if !initial {
			m.workloadChange(e, previous, event.Deleted, t)
		}
	}
}

func (m *Mesh) policyChange(p *mesh.Policy, previous mesh.Entity, deleted bool, t int64, initial bool) {
	var what string
	old, known := previous.(*mesh.Policy)
	switch {
	case deleted:
		what = "deleted"
	case initial && !known:
		return
	case !known:
		what = "added"
	case old.Rules != p.Rules || old.Action != p.Action || old.Scope != p.Scope || old.DryRun != p.DryRun:
		what = "changed"
	default:
		return
	}
	key := p.Key()
	m.policies.Put(key, t, pcommon.Timestamp(t))
	m.add(Change{Time: t, Source: fromIstiod, Policy: key, Gone: deleted, Text: "AuthorizationPolicy " + key + " " + what})
}

func (m *Mesh) workloadChange(w *mesh.Workload, previous mesh.Entity, deleted bool, t int64) {
	old, known := previous.(*mesh.Workload)
	var what string
	switch {
	case deleted:
		what = "removed"
	case !known:
		what = "added"
	case old.Healthy && !w.Healthy:
		what = "unhealthy"
	case !old.Healthy && w.Healthy:
		what = "healthy again"
	default:
		return
	}
	app := w
	if deleted && known {
		app = old
	}
	m.add(Change{
		Time: t, Source: fromIstiod, Pods: true, App: outage.Name{Namespace: app.Namespace, Name: app.App()}, Node: app.Node,
		Gone: deleted || what == "unhealthy", Text: "pod " + app.Namespace + "/" + app.Name + " " + what,
	})
}

// changed takes over a change of what the mesh runs on. It is evidence, no sign: what fails shows on the edges.
func (m *Mesh) changed(record plog.LogRecord) {
	c, err := mesh.ParseChange(record)
	if err != nil {
		m.clock.drops.Malformed++
		return
	}
	t, ok := m.clock.at(c.Time)
	if !ok {
		return
	}
	app := c.App
	if app == "" && c.Kind == "Pod" {
		if w := m.state.Pod(c.Namespace, c.Name); w != nil {
			app = w.App()
		}
	}
	if app == "" && c.Node == "" {
		return
	}
	change := Change{Time: t, Source: fromKubernetes, Node: strings.Clone(c.Node), Text: bounded(c.Text)}
	if app != "" {
		change.App = outage.Name{Namespace: strings.Clone(c.Namespace), Name: strings.Clone(app)}
	}
	m.add(change)
}

func (m *Mesh) add(c Change) {
	if len(m.Changes) >= maxChanges {
		m.Changes = slices.Delete(m.Changes, 0, maxChanges/4)
	}
	m.Changes = append(m.Changes, c)
}

// PolicyChanged is when a policy was last added, changed or deleted under observation; 0 if never.
func (m *Mesh) PolicyChanged(key string) int64 {
	t, _ := m.policies.Get(key)
	return t
}

// AdmissionChanged is when the policies that admit to an app's pods changed last under observation; 0 if never. They are who denies where no
// policy is named: what none of them admits does not pass.
func (m *Mesh) AdmissionChanged(app outage.Name) (changed int64) {
	pods := m.Pods(app)
	for key, at := range m.policies.All() {
		p := m.state.Policy(key)
		// What a ztunnel denies is in the mesh.
		if at > changed && p != nil && p.Action == "ALLOW" && p.AppliesTo(app.Namespace, true, pods) {
			changed = at
		}
	}
	return changed
}

// Policy is one of the state's, by "namespace/name"; nil if there is none.
func (m *Mesh) Policy(key string) *mesh.Policy { return m.state.Policy(key) }

// Ztunnels are the ztunnels whose configuration is known.
func (m *Mesh) Ztunnels() []*mesh.Ztunnel { return m.state.Ztunnels() }

// Pods are the pods of an app.
func (m *Mesh) Pods(name outage.Name) []*mesh.Workload {
	m.refresh()
	return m.byApp.pods[name]
}

// Owner is the app that runs with a service account, the first by name if there are several, or else the account itself.
func (m *Mesh) Owner(namespace, account string) outage.Name {
	m.refresh()
	if app, ok := m.byApp.owners[identity{namespace, account}]; ok {
		account = app
	}
	return outage.Name{Namespace: namespace, Name: account}
}

func (m *Mesh) refresh() {
	if !m.byApp.stale {
		return
	}
	m.byApp = workloads{pods: map[outage.Name][]*mesh.Workload{}, owners: map[identity]string{}}
	for _, w := range m.state.Workloads() {
		app := outage.Name{Namespace: w.Namespace, Name: w.App()}
		m.byApp.pods[app] = append(m.byApp.pods[app], w)
		id := identity{w.Namespace, w.ServiceAccount}
		if owner, ok := m.byApp.owners[id]; !ok || app.Name < owner {
			m.byApp.owners[id] = app.Name
		}
	}
}

// AppsOn are the apps all of whose pods run on a node, in a stable order.
func (m *Mesh) AppsOn(node string) []outage.Name {
	m.refresh()
	var on []outage.Name
	for name, pods := range m.byApp.pods {
		if !slices.ContainsFunc(pods, func(w *mesh.Workload) bool { return w.Node != node }) {
			on = append(on, name)
		}
	}
	slices.SortFunc(on, CompareNames)
	return on
}

func (m *Mesh) sweep() {
	for key, at := range m.policies.All() {
		if m.clock.Now-at > 24*forgetting && m.state.Policy(key) == nil {
			m.policies.Delete(key)
		}
	}
}
