package dns

import (
	"cmp"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Emit adds to an emission what changed since the last one or, once in the refresh interval, all.
func (t *Table) Emit(scope pmetric.ScopeMetrics, now pcommon.Timestamp) {
	all := now-min(now, t.told) >= pcommon.Timestamp(t.cfg.Refresh)
	t.emitAskers(scope, now, all)
	t.emitQuestions(scope, now, all)
	if all {
		t.told = now
	}
	t.now = now
}

func (t *Table) emitAskers(scope pmetric.ScopeMetrics, now pcommon.Timestamp, all bool) {
	var keys []asker
	for key, a := range t.askers.All() {
		if a.dirty || all {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.SortFunc(keys, asker.compare)
	var sums [duration]pmetric.NumberDataPointSlice
	for c, m := range [duration]struct{ name, description string }{
		queries:   {semconv.MetricDNSQueries, "Names that a workload asked its node's ztunnel for."},
		forwarded: {semconv.MetricDNSForwarded, "Those of them that the ztunnel asked its resolver for."},
		failed:    {semconv.MetricDNSFailed, "Those of them for which the resolver gave no address."},
	} {
		sums[c] = sum(scope, m.name, m.description)
	}
	metric := scope.Metrics().AppendEmpty()
	metric.SetName(semconv.MetricDNSDuration)
	metric.SetDescription("How long the resolver took, as far as the proxy's buckets tell.")
	metric.SetUnit("s")
	histogram := metric.SetEmptyExponentialHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for _, key := range keys {
		a, _ := t.askers.Get(key)
		a.dirty = false
		for c, points := range sums {
			point := points.AppendEmpty()
			put(point.Attributes(), &key)
			point.SetStartTimestamp(a.start)
			point.SetTimestamp(now)
			point.SetIntValue(int64(a.counts[c]))
		}
		if a.took.Count > 0 {
			point := histogram.DataPoints().AppendEmpty()
			put(point.Attributes(), &key)
			point.SetStartTimestamp(a.start)
			point.SetTimestamp(now)
			a.took.CopyTo(point)
		}
	}
}

func (t *Table) emitQuestions(scope pmetric.ScopeMetrics, now pcommon.Timestamp, all bool) {
	var keys []question
	for key, a := range t.questions.All() {
		if a.dirty || all {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.SortFunc(keys, func(a, b question) int {
		return cmp.Or(a.compare(b.asker), strings.Compare(a.name, b.name), strings.Compare(a.result, b.result))
	})
	points := sum(scope, semconv.MetricDNSLookups, "Names that a workload asked for, and what came of it.")
	for i := range keys {
		key := &keys[i]
		a, _ := t.questions.Get(*key)
		a.dirty = false
		point := points.AppendEmpty()
		put(point.Attributes(), &key.asker)
		putText(point.Attributes(), semconv.LabelQuestionName, key.name)
		putText(point.Attributes(), semconv.LabelResult, key.result)
		point.SetStartTimestamp(a.start)
		point.SetTimestamp(now)
		point.SetIntValue(int64(a.count))
	}
}

func sum(scope pmetric.ScopeMetrics, name, description string) pmetric.NumberDataPointSlice {
	metric := scope.Metrics().AppendEmpty()
	metric.SetName(name)
	metric.SetDescription(description)
	metric.SetUnit("{query}")
	s := metric.SetEmptySum()
	s.SetIsMonotonic(true)
	s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return s.DataPoints()
}

func put(attrs pcommon.Map, a *asker) {
	putText(attrs, semconv.LabelNode, a.node)
	putText(attrs, semconv.LabelSourceWorkload, a.party.Workload)
	putText(attrs, semconv.LabelSourceNamespace, a.party.Namespace)
	putText(attrs, semconv.LabelSourceCanonicalService, a.party.App)
	putText(attrs, semconv.LabelSourceCanonicalRevision, a.party.Version)
	putText(attrs, semconv.LabelSourceCluster, a.party.Cluster)
	putText(attrs, semconv.LabelQueryType, a.query)
}

func putText(attrs pcommon.Map, name, value string) {
	if value != "" {
		attrs.PutStr(name, value)
	}
}

func (a asker) compare(other asker) int {
	return cmp.Or(strings.Compare(a.node, other.node), compareParties(a.party, other.party), strings.Compare(a.query, other.query))
}

func compareParties(a, b edge.Party) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Workload, b.Workload), strings.Compare(a.App, b.App),
		strings.Compare(a.Version, b.Version), strings.Compare(a.Cluster, b.Cluster))
}
