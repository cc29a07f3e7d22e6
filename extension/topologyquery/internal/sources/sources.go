// Package sources keeps which telemetry is arriving: the data's clock, what each source of each node last delivered,
// and a replay's position. It never looks at the wall clock.
package sources

import (
	"cmp"
	"slices"
	"sync"
)

// Limits on what outside names can make grow.
const (
	maxNodes       = 20_000
	maxSources     = 16
	maxTransitions = 128
)

// Source is one source of telemetry of a node at a moment.
type Source struct {
	Name string
	Up   bool
	// LastSeen is the time of the newest record, 0 before the first; Heartbeat that of the newest statement about
	// the source. Both in unix milliseconds.
	LastSeen  int64
	Heartbeat int64
}

// Node is a node whose ztunnel sends telemetry; a waypoint counts as one.
type Node struct {
	Name    string
	Sources []Source
}

// Replay is where a replay stands: its state, its position in unix milliseconds, and why it failed.
type Replay struct {
	State    string
	Position int64
	Reason   string
}

// Tracker keeps the state of all sources. All methods may be called from several goroutines.
type Tracker struct {
	mu       sync.RWMutex
	nodes    map[string]map[string]*source
	first    int64
	clock    int64
	replay   Replay
	rejected uint64
}

type source struct {
	Source
	transitions []transition
}

type transition struct {
	time int64
	up   bool
}

// New returns an empty tracker.
func New() *Tracker { return &Tracker{nodes: map[string]map[string]*source{}} }

// Advance moves the data's clock; it never goes back.
func (t *Tracker) Advance(now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advance(now)
}

func (t *Tracker) advance(now int64) {
	if t.first == 0 && now > 0 {
		t.first = now
	}
	t.clock = max(t.clock, now)
}

// Clock returns the data's clock, and the first time it showed; 0 before any data.
func (t *Tracker) Clock() (first, now int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.first, t.clock
}

// Restore sets the clock of data that was stored before a restart.
func (t *Tracker) Restore(first, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.first, t.clock = first, now
}

// SetUp takes over a heartbeat.
func (t *Tracker) SetUp(node, name string, at int64, up bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advance(at)
	s := t.source(node, name)
	if s == nil || at < s.Heartbeat {
		return
	}
	if len(s.transitions) == 0 || s.Up != up {
		if len(s.transitions) == maxTransitions {
			s.transitions = append(s.transitions[:0], s.transitions[1:]...)
		}
		s.transitions = append(s.transitions, transition{at, up})
	}
	s.Up, s.Heartbeat = up, at
}

// SetLastSeen takes over the time of a source's newest record.
func (t *Tracker) SetLastSeen(node, name string, lastSeen int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.source(node, name); s != nil {
		s.LastSeen = max(s.LastSeen, lastSeen)
	}
}

func (t *Tracker) source(node, name string) *source {
	all, ok := t.nodes[node]
	if !ok {
		if len(t.nodes) >= maxNodes {
			t.rejected++
			return nil
		}
		all = map[string]*source{}
		t.nodes[node] = all
	}
	s, ok := all[name]
	if !ok {
		if len(all) >= maxSources {
			t.rejected++
			return nil
		}
		s = &source{Source: Source{Name: name}}
		all[name] = s
	}
	return s
}

// SetReplay takes over a replay's position. A recording that begins again starts at running again.
func (t *Tracker) SetReplay(replay Replay) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replay = replay
}

// Replay returns where the replay stands; ok is false without one.
func (t *Tracker) Replay() (r Replay, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.replay, t.replay.State != ""
}

// Nodes returns all nodes by name, with their sources by name.
func (t *Tracker) Nodes() []Node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]Node, 0, len(t.nodes))
	for name, all := range t.nodes {
		node := Node{Name: name, Sources: make([]Source, 0, len(all))}
		for _, s := range all {
			node.Sources = append(node.Sources, s.Source)
		}
		slices.SortFunc(node.Sources, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
		out = append(out, node)
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Delivering tells, for each node that ever sent telemetry, whether its traffic was reported at a time: the access log
// and the metrics, as far as the node has them, were up, and a heartbeat came within patience (milliseconds) of the
// data's clock.
func (t *Tracker) Delivering(at, patience int64) map[string]bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make(map[string]bool, len(t.nodes))
	for name, all := range t.nodes {
		delivering, known := true, false
		for _, s := range all {
			if s.Name != "access_log" && s.Name != "metrics" {
				continue
			}
			known = true
			if at-s.Heartbeat > patience || !s.upAt(at) {
				delivering = false
			}
		}
		if known {
			out[name] = delivering
		}
	}
	return out
}

func (s *source) upAt(at int64) bool {
	for i := len(s.transitions) - 1; i >= 0; i-- {
		if s.transitions[i].time <= at {
			return s.transitions[i].up
		}
	}
	// Before the first statement nothing is known against it.
	return true
}

// Rejected is the number of statements that the bounds kept out.
func (t *Tracker) Rejected() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.rejected
}
