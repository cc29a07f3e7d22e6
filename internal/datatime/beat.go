package datatime

import (
	"iter"
	"math"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/semconv"
)

// maxSources bounds the sources that are read of one heartbeat.
const maxSources = 64

// maxDetail bounds a problem's sentence, in bytes.
const maxDetail = 256

// Beat is a node's heartbeat: everything that the node had to say of before Time has been sent.
type Beat struct {
	// Node is the Kubernetes node; empty for what belongs to none (istiod's stream, applications' spans).
	Node string
	// Time is the boundary.
	Time pcommon.Timestamp
	// Start is when the sender began, and Sequence the number of its heartbeats for this node since, 1 for the first. A
	// Sequence of 0 is not stated.
	Start    pcommon.Timestamp
	Sequence uint64
	Sources  []Source
}

// Source is the state of one source of telemetry.
type Source struct {
	// Name is one of semconv's Source constants.
	Name string
	Up   bool
	// LastSeen is the time of the newest record; 0 before the first.
	LastSeen pcommon.Timestamp
	// Problem is one of semconv's Problem constants if what the source says is not all that there is; empty if all is well. Detail says
	// it in a sentence.
	Problem, Detail string
}

// Write appends a heartbeat's metrics to a scope. The scope's resource names the node.
func Write(scope pmetric.ScopeMetrics, beat *Beat) {
	if len(beat.Sources) == 0 {
		return
	}
	up := gauge(scope, semconv.MetricSourceUp, "Whether a source of telemetry delivers (1) or fails (0)", "1")
	var lastSeen, problems pmetric.NumberDataPointSlice
	seen, ill := false, false
	for i := range beat.Sources {
		source := &beat.Sources[i]
		value := int64(0)
		if source.Up {
			value = 1
		}
		sourcePoint(up, beat.Time, source.Name).SetIntValue(value)
		if source.Problem != "" {
			if !ill {
				ill = true
				problems = gauge(scope, semconv.MetricSourceProblem, "1 while what a source says is not all that there is", "1")
			}
			point := sourcePoint(problems, beat.Time, source.Name)
			point.SetIntValue(1)
			point.Attributes().PutStr(semconv.LabelProblem, source.Problem)
			point.Attributes().PutStr(semconv.LabelDetail, source.Detail)
		}
		if source.LastSeen == 0 {
			continue
		}
		if !seen {
			seen = true
			lastSeen = gauge(scope, semconv.MetricSourceLastSeen, "Unix time of a source's newest record", "s")
		}
		sourcePoint(lastSeen, beat.Time, source.Name).SetDoubleValue(seconds(source.LastSeen))
	}
	if beat.Sequence == 0 {
		return
	}
	metric := scope.Metrics().AppendEmpty()
	metric.SetName(semconv.MetricHeartbeats)
	metric.SetDescription("Heartbeats of this node since the receiver started; tells consumers when batches are missing or out of order")
	metric.SetUnit("{heartbeat}")
	sum := metric.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	point := sum.DataPoints().AppendEmpty()
	point.SetStartTimestamp(beat.Start)
	point.SetTimestamp(beat.Time)
	point.SetIntValue(int64(beat.Sequence))
}

// Read goes through the heartbeats of a batch in its order. A beat's Sources are valid until the next one is read.
func Read(metrics pmetric.Metrics) iter.Seq[Beat] {
	return func(yield func(Beat) bool) {
		var r reader
		for _, resource := range metrics.ResourceMetrics().All() {
			for _, scope := range resource.ScopeMetrics().All() {
				if !r.read(resource, scope, yield) {
					return
				}
			}
		}
	}
}

// Reader reads heartbeats scope by scope, for those to whom their place among a batch's metrics matters. It keeps its memory.
type Reader struct{ reader }

// Scope hands out the heartbeats of a scope until yield is false. A beat's Sources are valid until the next one is read.
func (r *Reader) Scope(resource pmetric.ResourceMetrics, scope pmetric.ScopeMetrics, yield func(Beat) bool) {
	r.read(resource, scope, yield)
}

// reader reads the heartbeats of one scope.
type reader struct {
	up, lastSeen, problems, count  pmetric.NumberDataPointSlice
	hasSeen, hasProblems, hasCount bool
	sources                        []Source
}

// read yields the heartbeats of a scope, and tells whether to go on.
func (r *reader) read(resource pmetric.ResourceMetrics, scope pmetric.ScopeMetrics, yield func(Beat) bool) bool {
	if !r.find(scope) {
		return true
	}
	node, _ := resource.Resource().Attributes().Get(semconv.AttrNodeName)
	return r.each(node.Str(), yield)
}

// find looks for a scope's heartbeat metrics.
func (r *reader) find(scope pmetric.ScopeMetrics) (found bool) {
	r.hasSeen, r.hasProblems, r.hasCount = false, false, false
	for _, metric := range scope.Metrics().All() {
		switch metric.Name() {
		case semconv.MetricSourceUp:
			if metric.Type() == pmetric.MetricTypeGauge && !found {
				r.up, found = metric.Gauge().DataPoints(), true
			}
		case semconv.MetricSourceLastSeen:
			if metric.Type() == pmetric.MetricTypeGauge {
				r.lastSeen, r.hasSeen = metric.Gauge().DataPoints(), true
			}
		case semconv.MetricSourceProblem:
			if metric.Type() == pmetric.MetricTypeGauge {
				r.problems, r.hasProblems = metric.Gauge().DataPoints(), true
			}
		case semconv.MetricHeartbeats:
			if metric.Type() == pmetric.MetricTypeSum && metric.Sum().AggregationTemporality() == pmetric.AggregationTemporalityCumulative {
				r.count, r.hasCount = metric.Sum().DataPoints(), true
			}
		}
	}
	return found
}

// each yields a beat for each run of points of one time.
func (r *reader) each(node string, yield func(Beat) bool) bool {
	seen, ill, count := 0, 0, 0
	for i := 0; i < r.up.Len(); {
		beat := Beat{Node: node, Time: r.up.At(i).Timestamp()}
		r.sources = r.sources[:0]
		for ; i < r.up.Len() && r.up.At(i).Timestamp() == beat.Time; i++ {
			point := r.up.At(i)
			if point.Flags().NoRecordedValue() || len(r.sources) == maxSources {
				continue
			}
			name, _ := point.Attributes().Get(semconv.LabelSource)
			source := Source{Name: name.Str(), Up: cumulative.Number(point) > 0}
			source.LastSeen, seen = r.lastSeenOf(source.Name, beat.Time, seen)
			ill = r.readProblem(&source, beat.Time, ill)
			r.sources = append(r.sources, source)
		}
		if r.hasCount && count < r.count.Len() && r.count.At(count).Timestamp() == beat.Time {
			point := r.count.At(count)
			count++
			beat.Start = point.StartTimestamp()
			if n := cumulative.Number(point); n > 0 && n < math.MaxInt64 {
				beat.Sequence = uint64(n)
			}
		}
		beat.Sources = r.sources
		if !yield(beat) {
			return false
		}
	}
	return true
}

// lastSeenOf finds a source's newest record among the points from a cursor on; they have the order of the heartbeat's.
func (r *reader) lastSeenOf(source string, at pcommon.Timestamp, cursor int) (lastSeen pcommon.Timestamp, next int) {
	if !r.hasSeen {
		return 0, cursor
	}
	for i := cursor; i < min(r.lastSeen.Len(), cursor+maxSources); i++ {
		point := r.lastSeen.At(i)
		if name, _ := point.Attributes().Get(semconv.LabelSource); name.Str() == source && point.Timestamp() == at {
			if point.Flags().NoRecordedValue() {
				return 0, i + 1
			}
			return timestamp(cumulative.Number(point)), i + 1
		}
	}
	return 0, cursor
}

// readProblem finds a source's problem among the points from a cursor on; they have the order of the heartbeat's.
func (r *reader) readProblem(source *Source, at pcommon.Timestamp, cursor int) (next int) {
	if !r.hasProblems {
		return cursor
	}
	for i := cursor; i < min(r.problems.Len(), cursor+maxSources); i++ {
		point := r.problems.At(i)
		if name, _ := point.Attributes().Get(semconv.LabelSource); name.Str() != source.Name || point.Timestamp() != at {
			continue
		}
		if cumulative.Number(point) > 0 && !point.Flags().NoRecordedValue() {
			problem, _ := point.Attributes().Get(semconv.LabelProblem)
			detail, _ := point.Attributes().Get(semconv.LabelDetail)
			source.Problem, source.Detail = bounded(problem.Str()), bounded(detail.Str())
		}
		return i + 1
	}
	return cursor
}

func bounded(text string) string {
	if len(text) > maxDetail {
		return strings.ToValidUTF8(text[:maxDetail], "")
	}
	return text
}

// Replay is where a replay stands.
type Replay struct {
	// State is one of semconv's Replay constants.
	State string
	// Position is the data time that the replay has reached.
	Position pcommon.Timestamp
	// Reason says why a replay failed; else empty.
	Reason string
}

// Ended tells that the replay gives nothing more.
func (r Replay) Ended() bool { return semconv.ReplayEnded(r.State) }

// WriteReplay appends the marker of a replay to a scope.
func WriteReplay(scope pmetric.ScopeMetrics, replay Replay) {
	position := gauge(scope, semconv.MetricReplayPosition, "Data time that the replay has reached", "s")
	point := position.AppendEmpty()
	point.SetTimestamp(replay.Position)
	point.SetDoubleValue(seconds(replay.Position))
	point.Attributes().PutStr(semconv.LabelState, replay.State)
	if replay.Reason != "" {
		point.Attributes().PutStr(semconv.LabelReason, replay.Reason)
	}
}

// ReplayOf reads the newest marker of a metric; false if it is none.
func ReplayOf(metric pmetric.Metric) (replay Replay, ok bool) {
	if metric.Name() != semconv.MetricReplayPosition || metric.Type() != pmetric.MetricTypeGauge {
		return Replay{}, false
	}
	for _, point := range metric.Gauge().DataPoints().All() {
		state, _ := point.Attributes().Get(semconv.LabelState)
		reason, _ := point.Attributes().Get(semconv.LabelReason)
		replay = Replay{State: state.Str(), Position: timestamp(cumulative.Number(point)), Reason: reason.Str()}
		ok = true
		if replay.Ended() {
			break
		}
	}
	return replay, ok
}

// ReadReplay reads the newest marker of a batch; false if there is none. One that says that the replay has ended comes first.
func ReadReplay(metrics pmetric.Metrics) (replay Replay, ok bool) {
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if found, is := ReplayOf(metric); is && (!ok || !replay.Ended()) {
					replay, ok = found, true
				}
			}
		}
	}
	return replay, ok
}

func gauge(scope pmetric.ScopeMetrics, name, description, unit string) pmetric.NumberDataPointSlice {
	metric := scope.Metrics().AppendEmpty()
	metric.SetName(name)
	metric.SetDescription(description)
	metric.SetUnit(unit)
	return metric.SetEmptyGauge().DataPoints()
}

func sourcePoint(points pmetric.NumberDataPointSlice, at pcommon.Timestamp, source string) pmetric.NumberDataPoint {
	point := points.AppendEmpty()
	point.SetTimestamp(at)
	point.Attributes().PutStr(semconv.LabelSource, source)
	return point
}

// seconds is a time as a gauge holds it, to the microsecond.
func seconds(t pcommon.Timestamp) float64 { return float64(t/1000) / 1e6 }

// timestamp reads such a gauge; what is no time gives 0.
func timestamp(seconds float64) pcommon.Timestamp {
	if !(seconds > 0) || seconds > maxTime.Sub(time.Unix(0, 0)).Seconds() {
		return 0
	}
	return pcommon.Timestamp(math.Round(seconds*1e6)) * 1000
}
