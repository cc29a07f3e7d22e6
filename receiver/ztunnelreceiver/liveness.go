package ztunnelreceiver

import (
	"cmp"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

// maxSources bounds the pairs of source and node that have a heartbeat.
const maxSources = 50_000

// sourceKey names a source of telemetry; node is empty for those that are not of one node.
type sourceKey struct{ node, source string }

type sourceState struct {
	up       bool
	lastSeen time.Time
}

// liveness knows of each source whether it delivers and how new its newest record is.
type liveness struct {
	states map[sourceKey]*sourceState // bounded by maxSources
	// order is by node, then by source, so that the same sources give the same output.
	order []sourceKey
}

func newLiveness() *liveness { return &liveness{states: map[sourceKey]*sourceState{}} }

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

// remove forgets all sources of a node.
func (l *liveness) remove(node string) {
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
	stamp := pcommon.NewTimestampFromTime(at)
	for from := 0; from < len(l.order); {
		node := l.order[from].node
		to := from
		for to < len(l.order) && l.order[to].node == node {
			to++
		}
		scope := newScope(md, node, cluster)
		up := newGauge(scope, semconv.MetricSourceUp, "Whether a source of telemetry delivers (1) or fails (0)", "1")
		var lastSeen pmetric.NumberDataPointSlice
		anySeen := false
		for _, key := range l.order[from:to] {
			state := l.states[key]
			value := int64(0)
			if state.up {
				value = 1
			}
			newPoint(up, stamp, key.source).SetIntValue(value)
			if state.lastSeen.IsZero() {
				continue
			}
			if !anySeen {
				anySeen = true
				lastSeen = newGauge(scope, semconv.MetricSourceLastSeen, "Unix time of a source's newest record", "s")
			}
			newPoint(lastSeen, stamp, key.source).SetDoubleValue(unixSeconds(state.lastSeen))
		}
		from = to
	}
}

// appendPosition writes how far a replay is; reason says why one failed.
func appendPosition(md pmetric.Metrics, at time.Time, state, reason, cluster string) {
	scope := newScope(md, "", cluster)
	position := newGauge(scope, semconv.MetricReplayPosition, "Data time that the replay has reached", "s")
	point := position.AppendEmpty()
	point.SetTimestamp(pcommon.NewTimestampFromTime(at))
	point.SetDoubleValue(unixSeconds(at))
	point.Attributes().PutStr(semconv.LabelState, state)
	if reason != "" {
		point.Attributes().PutStr(semconv.LabelReason, reason)
	}
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

func newGauge(scope pmetric.ScopeMetrics, name, description, unit string) pmetric.NumberDataPointSlice {
	metric := scope.Metrics().AppendEmpty()
	metric.SetName(name)
	metric.SetDescription(description)
	metric.SetUnit(unit)
	return metric.SetEmptyGauge().DataPoints()
}

func newPoint(points pmetric.NumberDataPointSlice, at pcommon.Timestamp, source string) pmetric.NumberDataPoint {
	point := points.AppendEmpty()
	point.SetTimestamp(at)
	point.Attributes().PutStr(semconv.LabelSource, source)
	return point
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
