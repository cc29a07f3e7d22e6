// Package sources keeps which telemetry is arriving: the data's clock, what each source of each node last delivered,
// and a replay's position. In live mode the wall clock bounds what is believed of the nodes' clocks.
package sources

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Limits on what outside names can make grow.
const (
	maxSources     = 16
	maxTransitions = 128
)

const (
	// forgotten is after how much silence, in the data's time, a node is no longer listed, unless it was known to have left before.
	forgotten  = pcommon.Timestamp(24 * time.Hour)
	sweepEvery = pcommon.Timestamp(time.Minute)
	// leastGap is how long a source must be silent for that to be remembered, in milliseconds.
	leastGap = 10_000
	// lateness is by how much nodes' clocks may differ beyond what datatime believes anyway.
	lateness = 5 * time.Second
)

// Source is one source of telemetry of a node at a moment.
type Source struct {
	Name string
	Up   bool
	// LastSeen is the time of the newest record, 0 before the first; Heartbeat that of the newest statement about
	// the source. Both in unix milliseconds.
	LastSeen  int64
	Heartbeat int64
	// Problem is one of semconv's Problem constants if what the source says is not all that there is, and Detail a sentence; empty if all is well.
	Problem, Detail string
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
	// Wall is the wall clock. It must not be set once the tracker is in use.
	Wall func() time.Time
	// SilentAfter is how long a source must be silent, in the data's time, until that is a problem. It must not be set once in use.
	SilentAfter time.Duration

	mu    sync.RWMutex
	clock *datatime.Clock
	first pcommon.Timestamp
	swept pcommon.Timestamp
	// nodes are the sources of each node by name, forgotten when silent for long.
	nodes    *expiry.Table[string, map[string]*source]
	replay   Replay
	rejected uint64
}

type source struct {
	Source
	transitions []transition
	gaps        []gap
}

type transition struct {
	time int64
	up   bool
}

// gap is a time between two heartbeats that is longer than usual.
type gap struct{ from, to int64 }

// New returns an empty tracker.
func New() *Tracker {
	return &Tracker{
		Wall:        time.Now,
		SilentAfter: 30 * time.Second,

		clock: datatime.NewClock(lateness),
		nodes: expiry.New[string, map[string]*source](datatime.MaxNodes, nil),
	}
}

// Advance moves the data's clock to a time, in unix milliseconds, that no heartbeat gave. It is false, and nothing happens, if the
// time is too far ahead of the wall clock.
func (t *Tracker) Advance(now int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := pcommon.Timestamp(max(now, 0)) * 1e6
	wall := t.Wall()
	if t.clock.Believed(at, wall) != at {
		return false
	}
	t.clock.Set(at)
	t.advance(wall)
	return true
}

// advance brings the clock to the newest time that is known.
func (t *Tracker) advance(wall time.Time) {
	if t.clock.Heal(wall) {
		t.nodes.Rewind(t.clock.Now())
		t.swept = min(t.swept, t.clock.Now())
	}
	t.clock.SkipToNewest()
	now := t.clock.Now()
	if t.first == 0 || t.first > now {
		t.first = now
	}
	if now > forgotten && now-t.swept > sweepEvery {
		t.swept = now
		t.clock.Advance(wall)
		t.nodes.Sweep(now - forgotten)
	}
}

// Clock returns the data's clock, and the first time it showed, in unix milliseconds; 0 before any data.
func (t *Tracker) Clock() (first, now int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return millis(t.first), millis(t.clock.Now())
}

// Restore sets the clock of data that was stored before a restart. What was stored ahead of the wall clock is brought back to it.
func (t *Tracker) Restore(first, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.first = pcommon.Timestamp(max(first, 0)) * 1e6
	t.clock.RestoreTime(pcommon.Timestamp(max(now, 0)) * 1e6)
	t.advance(t.Wall())
}

// SetReplaying tells that the data comes from a recording, so that the wall clock has no say.
func (t *Tracker) SetReplaying() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clock.SetReplay()
}

// Bounds are the first and the last time that is believed of a point.
func (t *Tracker) Bounds() (first, last pcommon.Timestamp) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.clock.Bounds(t.Wall())
}

// Heartbeat takes over a heartbeat. name is the node's, or stands for what belongs to none. A node whose clock is wrong is alive:
// what it says of its sources is taken as said now.
func (t *Tracker) Heartbeat(name string, beat datatime.Beat) datatime.Verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	wall := t.Wall()
	verdict := t.clock.Hear(beat, wall)
	t.advance(wall)
	switch verdict {
	case datatime.NodeLimit:
		t.rejected++
		return verdict
	case datatime.Ahead, datatime.Implausible:
		beat.Time = t.clock.Now()
	default:
		beat.Time = t.clock.Believed(beat.Time, wall)
	}
	for i := range beat.Sources {
		t.state(name, &beat.Sources[i], millis(beat.Time), wall)
	}
	return verdict
}

// Scraped takes over that a target of scrapes answered or not, at a time. Nothing waits for it: it moves no clock.
func (t *Tracker) Scraped(target string, up bool, at pcommon.Timestamp) {
	t.mu.Lock()
	defer t.mu.Unlock()
	said := datatime.Source{Name: semconv.SourceMetrics, Up: up}
	if up {
		said.LastSeen = at
	}
	t.state(target, &said, millis(at), t.Wall())
}

func (t *Tracker) state(node string, said *datatime.Source, at int64, wall time.Time) {
	s := t.source(node, said.Name)
	if s == nil {
		return
	}
	if said.LastSeen > 0 {
		s.LastSeen = max(s.LastSeen, millis(t.clock.Believed(said.LastSeen, wall)))
	}
	if at < s.Heartbeat {
		if at+leastGap < s.Heartbeat && s.Heartbeat > millis(t.clock.Now()) {
			s.Heartbeat = at // the data's clock went back
		}
		return
	}
	delivers := said.Up && said.Problem != semconv.ProblemNotUnderstood
	if n := len(s.transitions); n == 0 || s.transitions[n-1].up != delivers {
		s.transitions = push(s.transitions, transition{at, delivers})
	}
	s.Problem, s.Detail = strings.Clone(said.Problem), strings.Clone(said.Detail)
	if s.Heartbeat > 0 && at-s.Heartbeat > leastGap {
		s.gaps = push(s.gaps, gap{s.Heartbeat, at})
	}
	s.Up, s.Heartbeat = said.Up, at
}

// push appends to a list that keeps the newest maxTransitions.
func push[T any](list []T, one T) []T {
	if len(list) == maxTransitions {
		list = append(list[:0], list[1:]...)
	}
	return append(list, one)
}

func (t *Tracker) source(node, name string) *source {
	all, ok := t.nodes.Use(node, t.clock.Now())
	if !ok {
		all = map[string]*source{}
		if !t.nodes.Add(strings.Clone(node), all, t.clock.Now()) {
			t.rejected++
			return nil
		}
	}
	s, ok := all[name]
	if !ok {
		if len(all) >= maxSources {
			t.rejected++
			return nil
		}
		name = strings.Clone(name)
		s = &source{Source: Source{Name: name}}
		all[name] = s
	}
	return s
}

// Forget takes note that a node has left the cluster.
func (t *Tracker) Forget(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nodes.Delete(node)
	t.clock.Forget(node)
}

// Problems are the nodes whose clocks are wrong, by name.
func (t *Tracker) Problems() []datatime.Problem {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.clock.Problems(t.Wall())
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

// Nodes returns all nodes by name, with their sources by name. One that is silent, or whose node's
// clock is wrong, has that as its problem.
func (t *Tracker) Nodes() []Node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	now := millis(t.clock.Now())
	clocks := map[string]datatime.Problem{}
	for _, problem := range t.clock.Problems(t.Wall()) {
		clocks[cmp.Or(problem.Node, semconv.ServiceNameZtunnel)] = problem
	}
	out := make([]Node, 0, t.nodes.Len())
	for name, all := range t.nodes.All() {
		node := Node{Name: name, Sources: make([]Source, 0, len(all))}
		for _, s := range all {
			one := s.Source
			clock, wrong := clocks[name]
			switch {
			case one.Problem != "":
			case wrong:
				one.Problem, one.Detail = clock.Kind, clock.Sentence()
			case now-one.Heartbeat > t.SilentAfter.Milliseconds() && t.replay.State == "":
				one.Problem, one.Detail = semconv.ProblemSilent, "Nothing was heard of it lately."
			}
			node.Sources = append(node.Sources, one)
		}
		slices.SortFunc(node.Sources, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
		out = append(out, node)
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Delivering tells, for each node that ever sent telemetry, whether its traffic was reported at a time: the access log
// and the metrics, as far as the node has them, were up, and the last heartbeat before was not older than patience. Both are in
// milliseconds of the data's clock.
func (t *Tracker) Delivering(at, patience int64) map[string]bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make(map[string]bool, t.nodes.Len())
	for name, all := range t.nodes.All() {
		delivering, known := true, false
		for _, s := range all {
			if s.Name != semconv.SourceAccessLog && s.Name != semconv.SourceMetrics {
				continue
			}
			known = true
			delivering = delivering && at-s.lastBefore(at) <= patience && s.upAt(at)
		}
		if known {
			out[name] = delivering
		}
	}
	return out
}

// Partial are the nodes of which only what failed is told, because their ztunnels log nothing else and their metrics do not make
// up for it.
func (t *Tracker) Partial() map[string]bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := map[string]bool{}
	for name, all := range t.nodes.All() {
		if log := all[semconv.SourceAccessLog]; log != nil && log.Problem == semconv.ProblemLevelTooLow {
			if metrics := all[semconv.SourceMetrics]; metrics == nil || !metrics.Up {
				out[name] = true
			}
		}
	}
	return out
}

// lastBefore is the time of the last heartbeat up to a time, or of one less than leastGap before that.
func (s *source) lastBefore(at int64) int64 {
	if at >= s.Heartbeat {
		return s.Heartbeat
	}
	for i := len(s.gaps) - 1; i >= 0 && at < s.gaps[i].to; i-- {
		if at >= s.gaps[i].from {
			return s.gaps[i].from
		}
	}
	return at
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

func millis(t pcommon.Timestamp) int64 { return int64(t / 1e6) }
