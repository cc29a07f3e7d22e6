package flow

import (
	"bytes"
	"cmp"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// maxLookups bounds the names that are told apart, by who asks and what came of it; the others are one, without a name.
const maxLookups = 10_000

// lookup is what a pod asked the DNS proxy of its node for, and what came of it.
type lookup struct {
	node                                 int
	pod, namespace, name, query, outcome string
}

func (l *lookup) compare(other *lookup) int {
	return cmp.Or(cmp.Compare(l.node, other.node), cmp.Compare(l.namespace, other.namespace), cmp.Compare(l.pod, other.pod),
		cmp.Compare(l.name, other.name), cmp.Compare(l.query, other.query), cmp.Compare(l.outcome, other.outcome))
}

// lookupCount counts how often a lookup was made.
type lookupCount struct {
	count       uint64
	start, last int64
	changed     bool
}

// lookups counts the queries that the DNS proxies log at level debug. It begins anew with the process, as its series' start says.
type lookups struct {
	counts map[lookup]*lookupCount // bounded by maxLookups and one for each query and outcome of each pod beyond
	texts  textCache
}

// outcomes are the beginnings of a line's result and what they mean, in the order in which they are looked for.
var outcomes = [...]struct {
	text    []byte
	outcome string
}{
	{[]byte("success"), semconv.LookupAnswered},
	{[]byte("no records"), semconv.LookupEmpty},
	{[]byte("service does not support this record type"), semconv.LookupEmpty},
	{[]byte("forwarded"), semconv.LookupForwarded},
}

// lookupFailures are what the result of a query says that was forwarded in vain.
var lookupFailures = [...]struct {
	text    []byte
	outcome string
}{
	{[]byte("no records found"), semconv.LookupNoRecords},
	{[]byte("Server Failure"), semconv.LookupServerFailure},
	{[]byte("Query Refused"), semconv.LookupRefused},
	{[]byte("timed out"), semconv.LookupTimeout},
}

func outcomeOf(result []byte) string {
	for i := range outcomes {
		if bytes.HasPrefix(result, outcomes[i].text) {
			return outcomes[i].outcome
		}
	}
	for i := range lookupFailures {
		if bytes.Contains(result, lookupFailures[i].text) {
			return lookupFailures[i].outcome
		}
	}
	return semconv.LookupOther
}

// read is the lookup that a line of the DNS proxy tells of; without an outcome it tells of none.
func (t *lookups) read(n *node, rec *accesslog.Record) (l lookup) {
	l.node = n.id
	for i := range rec.Fields {
		f := &rec.Fields[i]
		switch string(f.Key) {
		case "src.workload":
			l.pod = t.texts.get(f.Value)
		case "src.namespace":
			l.namespace = t.texts.get(f.Value)
		case "query":
			l.query = t.texts.get(f.Value)
		case "domain":
			l.name = t.texts.get(bytes.TrimSuffix(f.Value, []byte{'.'}))
		case "result":
			l.outcome = outcomeOf(f.Value)
		}
	}
	return l
}

// add counts a lookup that a line of a time tells of; start is the boundary before it.
func (t *lookups) add(l lookup, at, start int64) {
	if l.outcome == "" {
		return
	}
	c := t.counts[l]
	if c == nil && len(t.counts) >= maxLookups {
		l.name = ""
		c = t.counts[l]
	}
	if c == nil {
		if t.counts == nil {
			t.counts = map[lookup]*lookupCount{}
		}
		if len(t.counts) >= 2*maxLookups {
			return
		}
		c = &lookupCount{start: start}
		t.counts[l] = c
	}
	c.count++
	c.last, c.changed = max(c.last, at), true
}

// flush appends the counts that changed, or all of them, and forgets those that expired.
func (t *lookups) flush(md pmetric.Metrics, p *Processor, at int64, all bool) {
	var changed []lookup
	for l, c := range t.counts {
		switch {
		case c.changed || all:
			changed = append(changed, l)
		case p.cfg.Expiry > 0 && c.last < at-int64(p.cfg.Expiry):
			delete(t.counts, l)
		}
	}
	slices.SortFunc(changed, func(a, b lookup) int { return a.compare(&b) })
	var points pmetric.NumberDataPointSlice
	for i := range changed {
		l := &changed[i]
		if i == 0 || changed[i-1].node != l.node {
			w := metricsWriter{}
			rm := md.ResourceMetrics().AppendEmpty()
			putResource(rm.Resource().Attributes(), p.nodes.all[l.node].name, p.cfg.Cluster)
			sm := rm.ScopeMetrics().AppendEmpty()
			sm.Scope().SetName(semconv.ScopeReceiver)
			w.metrics = sm.Metrics()
			points = w.newSum(semconv.MetricLookups, "Names that were looked up, and what came of it", "{query}")
		}
		c := t.counts[*l]
		c.changed = false
		if c.start == 0 {
			c.start = at - 1
		}
		point := points.AppendEmpty()
		point.SetStartTimestamp(pcommon.Timestamp(min(c.start, at)))
		point.SetTimestamp(pcommon.Timestamp(at))
		point.SetIntValue(int64(c.count))
		attrs := point.Attributes()
		putNonEmpty(attrs, semconv.LabelSourcePod, l.pod)
		putNonEmpty(attrs, semconv.LabelSourceNamespace, l.namespace)
		putNonEmpty(attrs, semconv.LabelQuestionName, l.name)
		putNonEmpty(attrs, semconv.LabelQueryType, l.query)
		attrs.PutStr(semconv.LabelResult, l.outcome)
	}
}
