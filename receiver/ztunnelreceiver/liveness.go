package ztunnelreceiver

import (
	"cmp"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/semconv"
)

// maxSources bounds the pairs of source and node that have a heartbeat.
const maxSources = 50_000

// sourceKey names a source of telemetry; node is empty for those that are not of one node.
type sourceKey struct{ node, source string }

type sourceState struct {
	up       bool
	lastSeen time.Time
	// problem and detail say what is wrong with what a source says, besides that it fails.
	problem, detail string
	// total and lately are how much was left out of what it says, and how much of that since the last boundary; droppedAt is the
	// last boundary before which there was any.
	total, lately uint64
	droppedAt     time.Time
}

// dropping is how long it is a problem that something was left out.
const dropping = time.Minute

// liveness knows of each source whether it delivers and how new its newest record is.
type liveness struct {
	states map[sourceKey]*sourceState // bounded by maxSources
	// order is by node, then by source, so that the same sources give the same output.
	order []sourceKey
	// beats count each node's heartbeats; bounded by maxSources.
	beats map[string]*beats
}

// beats are those of a node: how many there were since when.
type beats struct {
	start pcommon.Timestamp
	count uint64
}

func newLiveness() *liveness {
	return &liveness{states: map[sourceKey]*sourceState{}, beats: map[string]*beats{}}
}

// set states that a source delivers or fails. A zero seen leaves the newest record as it was.
func (l *liveness) set(source, node string, up bool, seen time.Time) {
	key := sourceKey{node: node, source: source}
	state := l.states[key]
	if state == nil {
		if len(l.states) >= maxSources {
			return
		}
		state = &sourceState{}
		l.states[key] = state
		at, _ := slices.BinarySearchFunc(l.order, key, compareSources)
		l.order = slices.Insert(l.order, at, key)
	}
	state.up = up
	if seen.After(state.lastSeen) {
		state.lastSeen = seen
	}
}

// seen states how new a source's newest record is, if the source is known.
func (l *liveness) seen(source, node string, at time.Time) {
	if state := l.states[sourceKey{node: node, source: source}]; state != nil && at.After(state.lastSeen) {
		state.lastSeen = at
	}
}

// ails states what is wrong with what a source says, nothing if all is well, if the source is known.
func (l *liveness) ails(source, node, problem, detail string) {
	if state := l.states[sourceKey{node: node, source: source}]; state != nil {
		state.problem, state.detail = problem, detail
	}
}

// left notes that n items of what a source says were left out beyond a bound.
func (l *liveness) left(source, node string, n int) {
	if state := l.states[sourceKey{node: node, source: source}]; state != nil && n > 0 {
		state.lately += uint64(n)
	}
}

// leftTotal notes how many items of what a source says were left out in all.
func (l *liveness) leftTotal(source, node string, total uint64) {
	if state := l.states[sourceKey{node: node, source: source}]; state != nil {
		state.lately += total - min(state.total, total)
		state.total = total
	}
}

// up tells whether a source delivers.
func (l *liveness) up(source, node string) bool {
	state := l.states[sourceKey{node: node, source: source}]
	return state != nil && state.up
}

// remove forgets all sources of a node.
func (l *liveness) remove(node string) {
	delete(l.beats, node)
	l.order = slices.DeleteFunc(l.order, func(key sourceKey) bool {
		if key.node != node {
			return false
		}
		delete(l.states, key)
		return true
	})
}

// nodes lists the nodes that have that source.
func (l *liveness) nodes(source string) []string {
	var nodes []string
	for _, key := range l.order {
		if key.source == source {
			nodes = append(nodes, key.node)
		}
	}
	return nodes
}

func compareSources(a, b sourceKey) int {
	return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.source, b.source))
}

// appendTo writes the heartbeats of a boundary, one resource per node.
func (l *liveness) appendTo(md pmetric.Metrics, at time.Time, cluster string) {
	beat := datatime.Beat{Time: pcommon.NewTimestampFromTime(at)}
	for from := 0; from < len(l.order); {
		beat.Node, beat.Sources = l.order[from].node, beat.Sources[:0]
		for ; from < len(l.order) && l.order[from].node == beat.Node; from++ {
			state := l.states[l.order[from]]
			source := datatime.Source{Name: l.order[from].source, Up: state.up, Problem: state.problem, Detail: state.detail}
			if state.lately > 0 {
				state.droppedAt, state.lately = at, 0
			}
			switch {
			case !state.up:
				source.Problem, source.Detail = failure(source.Name)
			case source.Problem == "" && !state.droppedAt.IsZero() && at.Sub(state.droppedAt) < dropping:
				source.Problem, source.Detail = semconv.ProblemDropped, "Some of what it says was left out in the last minute, beyond a bound on the receiver's memory."
			}
			if !state.lastSeen.IsZero() {
				source.LastSeen = pcommon.NewTimestampFromTime(state.lastSeen)
			}
			beat.Sources = append(beat.Sources, source)
		}
		sent := l.beats[beat.Node]
		if sent == nil {
			sent = &beats{start: beat.Time}
			l.beats[beat.Node] = sent
		}
		sent.count++
		beat.Start, beat.Sequence = sent.start, sent.count
		datatime.Write(newScope(md, beat.Node, cluster), &beat)
	}
}

// failure says what is wrong with a source that fails.
func failure(source string) (problem, detail string) {
	switch source {
	case semconv.SourceAccessLog:
		return semconv.ProblemSilent, "The log cannot be read."
	case semconv.SourceMetrics:
		return semconv.ProblemRefused, "The last scrape failed."
	case semconv.SourceConfigDump:
		return semconv.ProblemRefused, "The last config dump failed."
	}
	return semconv.ProblemRefused, "It cannot be reached, or turns down who asks."
}

// appendPosition writes how far a replay is; reason says why one failed.
func appendPosition(md pmetric.Metrics, at time.Time, state, reason, cluster string) {
	datatime.WriteReplay(newScope(md, "", cluster), datatime.Replay{
		State: state, Position: pcommon.NewTimestampFromTime(at), Reason: reason,
	})
}

// putResource writes the attributes of a ztunnel's resource; node is empty for what is not one node's.
func putResource(attrs pcommon.Map, node, cluster string) {
	attrs.PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
	if node != "" {
		attrs.PutStr(semconv.AttrNodeName, node)
	}
	if cluster != "" {
		attrs.PutStr(semconv.AttrClusterName, cluster)
	}
}

func newScope(md pmetric.Metrics, node, cluster string) pmetric.ScopeMetrics {
	resource := md.ResourceMetrics().AppendEmpty()
	putResource(resource.Resource().Attributes(), node, cluster)
	scope := resource.ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeReceiver)
	return scope
}
