package flow

import (
	"cmp"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

// FlushMetrics returns the series that changed since the last flush, all of them when refresh is set, as
// cumulative points at the boundary at; one ResourceMetrics per node. The points hold every entry that was
// given before the call and not held (see Advance). Series that were quiet for longer than Expiry are dropped;
// one that comes back starts anew at the boundary before its first record.
func (p *Processor) FlushMetrics(at time.Time, refresh bool) pmetric.Metrics {
	defer p.report()
	md := pmetric.NewMetrics()
	t := &p.series
	boundary := at.UnixNano()
	if p.held.horizon != 0 && p.held.horizon < boundary {
		// A boundary was left out: what was held for it belongs to this one.
		p.Advance(at)
	}
	t.startUnstarted(boundary)

	slots := t.changed
	if refresh {
		slots = slots[:0]
		for slot, s := range t.slots {
			if s != nil {
				slots = append(slots, uint32(slot))
			}
		}
	}
	// By node, then by slot: the same entries give the same output.
	slices.SortFunc(slots, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(t.slots[a].node(), t.slots[b].node()), cmp.Compare(a, b))
	})
	w := metricsWriter{at: pcommon.Timestamp(boundary), scale: t.layout.Scale}
	current := -1
	for _, slot := range slots {
		s := t.slots[slot]
		if s.node() != current {
			current = s.node()
			w.begin(md.ResourceMetrics().AppendEmpty(), p.nodes.all[current].name, p.cfg.Cluster)
		}
		w.write(s)
		s.changed = false
	}
	t.changed = slots[:0]
	p.lookups.flush(md, p, boundary, refresh)

	// A clock that was set back is followed; series keep their starts.
	t.boundary = boundary
	if p.cfg.Expiry > 0 {
		before := boundary - int64(p.cfg.Expiry)
		p.counts[CountExpired] += t.expire(before)
		p.forgetNodes(before)
	}
	return md
}

// startUnstarted gives a start to the series that came before any boundary was known: just before the first
// record of all.
func (t *seriesTable) startUnstarted(boundary int64) {
	if t.boundary != 0 || t.first == 0 {
		return
	}
	start := min(t.first-t.first%int64(time.Second), boundary)
	for slot, s := range t.slots {
		if s != nil && s.start == 0 {
			s.start = start
			t.dirty[slot/chunkSize] = true
		}
	}
}

// metricsWriter writes series into the five metrics of one node at a time.
type metricsWriter struct {
	at    pcommon.Timestamp
	scale int32

	metrics              pmetric.MetricSlice
	closed, failed, io   pmetric.NumberDataPointSlice
	unanswered           pmetric.NumberDataPointSlice
	duration             pmetric.ExponentialHistogramDataPointSlice
	hasFailed, hasLength bool
	hasUnanswered        bool
}

func (w *metricsWriter) begin(rm pmetric.ResourceMetrics, node, cluster string) {
	putResource(rm.Resource().Attributes(), node, cluster)
	sm := rm.ScopeMetrics().AppendEmpty()
	sm.Scope().SetName(semconv.ScopeReceiver)
	w.metrics = sm.Metrics()
	w.hasFailed, w.hasLength, w.hasUnanswered = false, false, false
	w.closed = w.newSum(semconv.MetricConnectionsClosed, "Connections that ended, well or not", "{connection}")
	w.io = w.newSum(semconv.MetricIO, "Bytes carried, in the client's sense", "By")
}

func (w *metricsWriter) newSum(name, description, unit string) pmetric.NumberDataPointSlice {
	m := w.metrics.AppendEmpty()
	m.SetName(name)
	m.SetDescription(description)
	m.SetUnit(unit)
	sum := m.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return sum.DataPoints()
}

func (w *metricsWriter) write(s *series) {
	w.newPoint(w.closed, s, s.closed)
	w.newPoint(w.io, s, s.sent).Attributes().PutStr(semconv.LabelDirection, semconv.DirectionSent)
	w.newPoint(w.io, s, s.received).Attributes().PutStr(semconv.LabelDirection, semconv.DirectionReceived)

	if len(s.failures) > 0 && !w.hasFailed {
		w.hasFailed = true
		w.failed = w.newSum(semconv.MetricConnectionsFailed, "Connections that failed, by reason", "{connection}")
	}
	for i := range s.failures {
		f := &s.failures[i]
		attrs := w.newPoint(w.failed, s, f.count).Attributes()
		attrs.PutStr(semconv.LabelErrorType, f.errorType)
		putNonEmpty(attrs, semconv.LabelPolicy, f.policy)
	}
	if s.unanswered > 0 {
		if !w.hasUnanswered {
			w.hasUnanswered = true
			w.unanswered = w.newSum(semconv.MetricConnectionsUnanswered, "Connections that carried bytes to the server and none back", "{connection}")
		}
		w.newPoint(w.unanswered, s, s.unanswered)
	}
	if s.duration.Count > 0 {
		w.writeDuration(s)
	}
}

func (w *metricsWriter) newPoint(points pmetric.NumberDataPointSlice, s *series, value uint64) pmetric.NumberDataPoint {
	point := points.AppendEmpty()
	point.SetStartTimestamp(pcommon.Timestamp(s.start))
	point.SetTimestamp(w.at)
	point.SetIntValue(int64(value))
	s.putAttributes(point.Attributes())
	return point
}

func (w *metricsWriter) writeDuration(s *series) {
	if !w.hasLength {
		w.hasLength = true
		m := w.metrics.AppendEmpty()
		m.SetName(semconv.MetricConnectionDuration)
		m.SetDescription("How long connections lived, as this reporter saw it")
		m.SetUnit("s")
		hist := m.SetEmptyExponentialHistogram()
		hist.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		w.duration = hist.DataPoints()
	}
	h := &s.duration
	point := w.duration.AppendEmpty()
	point.SetStartTimestamp(pcommon.Timestamp(s.start))
	point.SetTimestamp(w.at)
	s.putAttributes(point.Attributes())
	point.SetCount(h.Count)
	point.SetZeroCount(h.Zero)
	point.SetSum(h.Sum)
	if len(h.Counts) == 0 {
		point.SetScale(w.scale)
		return
	}
	point.SetScale(h.Scale)
	point.Positive().SetOffset(h.Offset)
	point.Positive().BucketCounts().FromRaw(h.Counts)
}

// textLabels are the labels of a flow key's texts, in their order.
var textLabels = [keyTexts + 1]string{
	semconv.LabelSourcePod, semconv.LabelSourceNamespace, semconv.LabelSourceAddress, semconv.LabelSourceCluster,
	semconv.LabelDestinationPod, semconv.LabelDestinationNamespace, semconv.LabelDestinationAddress,
	semconv.LabelDestinationService, semconv.LabelDestinationCluster,
	semconv.LabelSourcePrincipal,
}

// putAttributes writes the flow key; what is not known is left out.
func (s *series) putAttributes(attrs pcommon.Map) {
	reporter := semconv.ReporterSource
	if s.reporter() == reporterDestination {
		reporter = semconv.ReporterDestination
	}
	if s.overflow() {
		attrs.PutBool(semconv.LabelOverflow, true)
		attrs.PutStr(semconv.LabelReporter, reporter)
		return
	}
	attrs.EnsureCapacity(keyTexts + 6)
	attrs.PutStr(semconv.LabelReporter, reporter)
	rest := s.key[keyHead:]
	for _, label := range textLabels {
		if rest == "" {
			break
		}
		n := int(rest[0])
		putNonEmpty(attrs, label, rest[1:1+n])
		rest = rest[1+n:]
	}
	if port := s.port(); port != 0 {
		attrs.PutInt(semconv.LabelDestinationPort, int64(port))
	}
	attrs.PutStr(semconv.LabelSecurityPolicy, securityNames[s.security()])
}

func putResource(attrs pcommon.Map, node, cluster string) {
	attrs.PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
	attrs.PutStr(semconv.AttrNodeName, node)
	putNonEmpty(attrs, semconv.AttrClusterName, cluster)
}

func putNonEmpty(attrs pcommon.Map, name, value string) {
	if value != "" {
		attrs.PutStr(name, value)
	}
}
