// Package changes keeps the newest changes of what the mesh is and runs on: those that Kubernetes tells of, and those
// that show in the mesh's state.
package changes

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nephilia/nephilia/internal/mesh"
)

// maxText bounds a change's texts in bytes; the store's memory is bounded by its size times these.
const maxText = 512

// Sources of changes.
const (
	SourceKubernetes = "kubernetes"
	SourceMesh       = "mesh"
)

// Change is something that became different at a time.
type Change struct {
	Time     time.Time `json:"time"`
	Observed time.Time `json:"observed_at"`
	// Source is kubernetes or mesh, Severity info or warning.
	Source   string `json:"source"`
	Severity string `json:"severity"`
	// Reason is a word (docs/data-model.md, section 2.4), Text a sentence for people.
	Reason string `json:"reason"`
	Text   string `json:"text"`
	// Kind, Namespace and Name are the object's.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Workload and App are what the object belongs to, Node is where it runs or what it is; each where known.
	Workload string `json:"workload,omitempty"`
	App      string `json:"app,omitempty"`
	Node     string `json:"node,omitempty"`
	Cluster  string `json:"cluster,omitempty"`
}

// FromKubernetes is what a k8s.change record says. workload is the owner of a pod, empty where it is not known.
func FromKubernetes(c mesh.Change, cluster, workload string) Change {
	out := Change{
		Time: c.Time.AsTime(), Observed: c.Observed.AsTime(), Source: SourceKubernetes, Severity: "info",
		Reason: bound(string(c.Reason)), Text: bound(c.Text), Kind: bound(c.Kind), Namespace: bound(c.Namespace), Name: bound(c.Name),
		Workload: workload, App: bound(c.App), Node: bound(c.Node), Cluster: bound(cluster),
	}
	if c.Warning {
		out.Severity = "warning"
	}
	if c.Time == 0 {
		out.Time = out.Observed
	}
	if c.Observed == 0 {
		out.Observed = out.Time
	}
	switch c.Kind {
	case "Deployment", "StatefulSet", "DaemonSet":
		out.Workload = out.Name
	}
	return out
}

func bound(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}

// Store keeps the newest changes. All methods may be called from several goroutines.
type Store struct {
	limit int

	mu      sync.RWMutex
	changes []entry               // by time, then in the order of arrival
	known   map[identity]struct{} // those of changes; bounded by limit
	next    uint64
	dropped uint64
	version uint64
}

type entry struct {
	Change
	number uint64
}

// New returns a store of at most limit changes; beyond it the oldest leave.
func New(limit int) *Store { return &Store{limit: limit, known: map[identity]struct{}{}} }

// identity is what makes two changes the same.
type identity struct {
	time                                                   int64
	kind, namespace, name, cluster, reason, workload, text string
}

func identityOf(c *Change) identity {
	return identity{c.Time.UnixNano(), c.Kind, c.Namespace, c.Name, c.Cluster, c.Reason, c.Workload, c.Text}
}

// Add takes over a change. It is false for one that is there already: a restarted source tells again.
func (s *Store) Add(c Change) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := identityOf(&c)
	if _, known := s.known[id]; known {
		return false
	}
	at, _ := slices.BinarySearchFunc(s.changes, c.Time, func(e entry, t time.Time) int {
		if e.Time.After(t) {
			return 1
		}
		return -1
	})
	s.next++
	s.version++
	s.known[id] = struct{}{}
	s.changes = slices.Insert(s.changes, at, entry{c, s.next})
	if len(s.changes) > s.limit {
		delete(s.known, identityOf(&s.changes[0].Change))
		s.changes[0] = entry{}
		s.changes = s.changes[1:]
		s.dropped++
	}
	return true
}

// Filter selects changes; an empty field selects all.
type Filter struct {
	Namespace string
	// Name is the object's, its workload's or its app's; without a namespace also its node's.
	Name string
	// Start and End bound the time, End exclusive.
	Start, End time.Time
}

func (f *Filter) match(c *Change) bool {
	return (f.Start.IsZero() || !c.Time.Before(f.Start)) && (f.End.IsZero() || c.Time.Before(f.End)) &&
		(f.Namespace == "" || c.Namespace == f.Namespace) && (f.Name == "" || f.named(c))
}

func (f *Filter) named(c *Change) bool {
	switch f.Name {
	case c.Name, c.Workload, c.App:
		return true
	case c.Node:
		return f.Namespace == ""
	}
	// The mesh never knew a pod that could not start; its name still begins with its workload's.
	return c.Kind == "Pod" && c.Workload == "" && strings.HasPrefix(c.Name, f.Name+"-")
}

// Cursor is a change's place in a list.
type Cursor struct {
	Time   time.Time
	Number uint64
}

// List returns at most limit changes that the filter selects, newest first, from after a cursor on (nil for the
// newest); how many it selects in all; and the last one's cursor, nil if none follow.
func (s *Store) List(filter Filter, after *Cursor, limit int) (list []Change, total int, next *Cursor) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list = []Change{}
	var last *entry
	for _, e := range slices.Backward(s.changes) {
		if !filter.match(&e.Change) {
			continue
		}
		total++
		if after != nil && cmp.Or(e.Time.Compare(after.Time), cmp.Compare(e.number, after.Number)) >= 0 {
			continue
		}
		if len(list) < limit {
			list = append(list, e.Change)
			last = &e
		} else if next == nil {
			next = &Cursor{last.Time, last.number}
		}
	}
	return list, total, next
}

// Stats are a store's counts.
type Stats struct {
	Changes int
	// Dropped is how many had to leave for newer ones.
	Dropped uint64
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Stats{len(s.changes), s.dropped}
}

// Version grows with every change.
func (s *Store) Version() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version
}

// Snapshot returns the content, oldest first.
func (s *Store) Snapshot() []Change {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Change, len(s.changes))
	for i := range s.changes {
		out[i] = s.changes[i].Change
	}
	return out
}
