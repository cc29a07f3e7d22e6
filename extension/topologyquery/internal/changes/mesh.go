package changes

import (
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
)

// settling is how long after the first of the mesh's state what is new may have been there before.
const settling = 15 * time.Second

// Mesh tells changes from the mesh's state. Its methods may be called from several goroutines.
type Mesh struct {
	mu    sync.Mutex
	first pcommon.Timestamp
}

// Compare returns what an event changes; previous is the entity's former state, nil where there was none.
func (m *Mesh) Compare(previous mesh.Entity, event mesh.Event) []Change {
	m.mu.Lock()
	if m.first == 0 || event.Time < m.first {
		m.first = event.Time
	}
	initial := event.Time.AsTime().Sub(m.first.AsTime()) <= settling
	m.mu.Unlock()
	switch entity := event.Entity.(type) {
	case *mesh.Policy:
		old, _ := previous.(*mesh.Policy)
		return policyChange(old, entity, event, initial)
	case *mesh.Workload:
		old, _ := previous.(*mesh.Workload)
		return podChanges(old, entity, event, initial)
	}
	return nil
}

func policyChange(old, now *mesh.Policy, event mesh.Event, initial bool) []Change {
	var reason string
	switch {
	case event.Deleted && old == nil, !event.Deleted && old == nil && initial:
		return nil
	case event.Deleted:
		reason = "deleted"
	case old == nil:
		reason = "created"
	case old.Rules != now.Rules || old.Action != now.Action || old.Scope != now.Scope || old.DryRun != now.DryRun:
		reason = "changed"
	default:
		return nil
	}
	return []Change{fromMesh(event, Change{
		Reason: reason, Kind: "AuthorizationPolicy", Namespace: now.Namespace, Name: now.Name, Text: "AuthorizationPolicy " + now.Key() + " was " + reason,
	})}
}

func podChanges(old, now *mesh.Workload, event mesh.Event, initial bool) []Change {
	known := now
	if event.Deleted {
		known = old
	}
	if known == nil || old == nil && initial {
		return nil
	}
	pod := func(reason, text string) Change {
		return Change{Reason: reason, Kind: "Pod", Namespace: known.Namespace, Name: known.Name, Node: known.Node, Text: "pod " + known.Namespace + "/" + known.Name + " " + text}
	}
	var out []Change
	switch {
	case event.Deleted:
		out = append(out, pod("deleted", "of "+known.Owner()+" went"))
	case old == nil:
		out = append(out, pod("created", "of "+known.Owner()+" came"))
	case old.Healthy && !now.Healthy:
		change := pod("not_ready", "is no longer ready")
		change.Severity = "warning"
		out = append(out, change)
	case !old.Healthy && now.Healthy:
		out = append(out, pod("ready", "is ready"))
	}
	if old != nil && !event.Deleted {
		out = append(out, selection(known, now.Policies, old.Policies, "applied", " applies to ")...)
		out = append(out, selection(known, old.Policies, now.Policies, "lifted", " no longer applies to ")...)
	}
	for i := range out {
		out[i].Workload, out[i].App, out[i].Cluster = known.Owner(), known.App(), known.ClusterID
		out[i] = fromMesh(event, out[i])
	}
	return out
}

// selection is one change for each policy that selects a workload in one list and not in the other; the workload's pods
// all tell the same.
func selection(w *mesh.Workload, in, notIn []string, reason, text string) []Change {
	var out []Change
	for _, key := range in {
		if slices.Contains(notIn, key) {
			continue
		}
		namespace, name, _ := strings.Cut(key, "/")
		out = append(out, Change{
			Reason: reason, Kind: "AuthorizationPolicy", Namespace: namespace, Name: name, Text: "AuthorizationPolicy " + key + text + w.Namespace + "/" + w.Owner(),
		})
	}
	return out
}

func fromMesh(event mesh.Event, c Change) Change {
	c.Source, c.Time, c.Observed = SourceMesh, event.Time.AsTime(), event.Time.AsTime()
	if c.Severity == "" {
		c.Severity = "info"
	}
	return c
}
