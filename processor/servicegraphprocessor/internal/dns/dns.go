// Package dns tells which workloads ask ztunnels' DNS proxies for names, how many of their queries are forwarded and fail, and how
// long those take: from the proxies' own counters, which name a canonical service and no namespace, and from what they log of
// single queries at level debug.
package dns

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/exposition"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// Config bounds what is followed.
type Config struct {
	// MaxSeries bounds the series of proxies, those that are emitted, and the names.
	MaxSeries int
	// Refresh is the longest time between two emissions of what does not change, Expiry the life of what has no news.
	Refresh, Expiry time.Duration
}

// counter is what one of the proxies' series counts.
type counter uint8

const (
	queries counter = iota
	forwarded
	failed
	duration
	counters
)

var counterNames = map[string]counter{
	"istio_dns_requests": queries, "istio_dns_upstream_requests": forwarded, "istio_dns_upstream_failures": failed,
	"istio_dns_upstream_request_duration_seconds": duration,
}

// asker is who asks for names of a type, on a node.
type asker struct {
	node, query string
	party       edge.Party
}

// asked is what one asked since a start.
type asked struct {
	start  pcommon.Timestamp
	counts [duration]uint64
	took   exphist.Histogram
	dirty  bool
}

// question is a name that was asked for, and what came of it.
type question struct {
	asker
	name, result string
}

// answered counts a question.
type answered struct {
	start pcommon.Timestamp
	count uint64
	dirty bool
}

// series is one of a proxy's.
type series struct {
	cumulative.Counter[uint64]
	buckets []uint64
}

// Table follows the proxies' series.
type Table struct {
	cfg       Config
	names     *naming.Directory
	telemetry *telemetry.Telemetry
	targets   *exposition.Targets[series]
	askers    *expiry.Table[asker, *asked]
	questions *expiry.Table[question, *answered]
	now       pcommon.Timestamp
	told      pcommon.Timestamp
}

// NewTable returns an empty table.
func NewTable(cfg Config, names *naming.Directory, t *telemetry.Telemetry) *Table {
	return &Table{
		cfg: cfg, names: names, telemetry: t, targets: exposition.NewTargets[series](cfg.MaxSeries),
		askers: expiry.New[asker, *asked](cfg.MaxSeries, nil), questions: expiry.New[question, *answered](cfg.MaxSeries, nil),
	}
}

// Apply takes over a metric and tells whether it is consumed. What scrapes give is left.
func (t *Table) Apply(source *exposition.Source, metric pmetric.Metric, arrival moment.Arrival) (consumed bool) {
	name := metric.Name()
	if name == semconv.MetricLookups {
		t.lookups(source, metric, arrival)
		return true
	}
	if name == semconv.MetricUp && source.Waypoint == "" {
		if up, at, ok := exposition.Up(metric); ok && up {
			if to := t.targets.Of(source); to != nil {
				to.Scrape(arrival.End(at))
			}
		}
		return false
	}
	if !strings.HasPrefix(name, "istio_dns_") {
		return false
	}
	c, ok := counterNames[strings.TrimSuffix(name, "_total")]
	if !ok {
		return false
	}
	to := t.targets.Of(source)
	if to == nil {
		t.telemetry.Dropped(telemetry.DroppedFlowLimit, 1)
		return false
	}
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		for _, point := range metric.Sum().DataPoints().All() {
			if value, ok := exposition.Value(point); ok && c != duration {
				if s := t.of(to, c, point.Attributes()); s != nil {
					at := arrival.End(point.Timestamp())
					if added, _ := follow(s, to, point.StartTimestamp(), at, value); added > 0 {
						if a := t.asked(source.Node, point.Attributes(), at); a != nil {
							a.counts[c] += added
						}
					}
				}
			}
		}
	case pmetric.MetricTypeHistogram:
		for _, point := range metric.Histogram().DataPoints().All() {
			if c == duration && point.BucketCounts().Len() == point.ExplicitBounds().Len()+1 && point.Count() < 1<<53 {
				if s := t.of(to, c, point.Attributes()); s != nil {
					t.took(source.Node, to, s, point, arrival.End(point.Timestamp()))
				}
			}
		}
	}
	return false
}

// of is the series of a point, nil if there are too many.
func (t *Table) of(to *exposition.Target[series], c counter, attrs pcommon.Map) *series {
	id := t.targets.Hash(uint64(c), attrs)
	s, ok := to.Series[id]
	if !ok {
		if t.targets.Full() {
			t.telemetry.Dropped(telemetry.DroppedFlowLimit, 1)
			return nil
		}
		s = &series{}
		t.targets.Add(to, id, s)
	}
	return s
}

// follow is what a value adds. What a series had when its target was first seen is not known to have come since.
func follow(s *series, to *exposition.Target[series], start, at pcommon.Timestamp, value uint64) (uint64, cumulative.Change) {
	to.Scrape(at)
	if !s.Known && (start == 0 || start < to.First || start >= at) {
		s.First = cumulative.Baseline
	}
	return s.Advance(start, at, value)
}

// took takes over how long forwarded queries took. Of a bucket's values the middle is taken.
func (t *Table) took(node string, to *exposition.Target[series], s *series, point pmetric.HistogramDataPoint, at pcommon.Timestamp) {
	_, change := follow(s, to, point.StartTimestamp(), at, point.Count())
	if change == cumulative.Late || change == cumulative.Invalid {
		return
	}
	counts, bounds := point.BucketCounts(), point.ExplicitBounds()
	anew := change == cumulative.Reset || len(s.buckets) != counts.Len()
	var a *asked
	lower := 0.0
	for i := range counts.Len() {
		n := counts.At(i)
		if !anew {
			n -= min(n, s.buckets[i])
		}
		upper := 2 * lower
		if i < bounds.Len() {
			upper = bounds.At(i)
		}
		if n > 0 && (change != cumulative.First || s.First != cumulative.Baseline) {
			if a == nil {
				if a = t.asked(node, point.Attributes(), at); a == nil {
					return
				}
			}
			a.took.Add(exphist.NativeLayout, (lower+upper)/2, n)
		}
		lower = upper
	}
	s.buckets = s.buckets[:0]
	for i := range counts.Len() {
		s.buckets = append(s.buckets, counts.At(i))
	}
}

// asked is what who asks by a point's labels asked, nil if there are too many of them.
func (t *Table) asked(node string, attrs pcommon.Map, at pcommon.Timestamp) *asked {
	var app, version, query string
	for name, value := range attrs.All() {
		switch name {
		case semconv.LabelSourceCanonicalService:
			app = value.Str()
		case semconv.LabelSourceCanonicalRevision:
			version = value.Str()
		case semconv.LabelQueryType:
			query = value.Str()
		}
	}
	party := naming.AskerOf(t.names, node, app, version)
	key := asker{node: naming.Intern(node), query: naming.Intern(query), party: party}
	if party.Namespace == "" {
		key.party.App, key.party.Version = naming.Intern(app), naming.Intern(version)
	}
	a, ok := t.askers.Use(key, at)
	if !ok {
		a = &asked{start: t.began(at)}
		if !t.askers.Add(key, a, at) {
			t.telemetry.Dropped(telemetry.DroppedFlowLimit, 1)
			return nil
		}
	}
	a.dirty = true
	return a
}

// began is the start of a series whose first increment is told at a time: before it, and after what was emitted so far.
func (t *Table) began(at pcommon.Timestamp) pcommon.Timestamp {
	if t.now > 0 {
		return t.now
	}
	return at - 1
}

// lookups takes over the names that a node's pods asked for.
func (t *Table) lookups(source *exposition.Source, metric pmetric.Metric, arrival moment.Arrival) {
	if metric.Type() != pmetric.MetricTypeSum {
		return
	}
	to := t.targets.Of(source)
	if to == nil {
		return
	}
	for _, point := range metric.Sum().DataPoints().All() {
		value, ok := exposition.Value(point)
		s := t.of(to, counters, point.Attributes())
		if !ok || s == nil {
			continue
		}
		at := arrival.End(point.Timestamp())
		// The receiver's counts begin at their start.
		if added, _ := s.Advance(point.StartTimestamp(), at, value); added > 0 {
			t.count(source.Node, point.Attributes(), at, added)
		}
	}
}

func (t *Table) count(node string, attrs pcommon.Map, at pcommon.Timestamp, n uint64) {
	q := question{asker: asker{node: naming.Intern(node)}}
	var namespace, pod string
	for name, value := range attrs.All() {
		switch name {
		case semconv.LabelSourceNamespace:
			namespace = value.Str()
		case semconv.LabelSourcePod:
			pod = value.Str()
		case semconv.LabelQuestionName:
			q.name = naming.Intern(value.Str())
		case semconv.LabelQueryType:
			q.query = naming.Intern(strings.ToLower(value.Str()))
		case semconv.LabelResult:
			q.result = naming.Intern(value.Str())
		}
	}
	if w := t.names.Pod(namespace, pod); w != nil {
		q.party = naming.PartyOf(w)
	} else {
		q.party = edge.Party{Workload: naming.Intern(pod), Namespace: naming.Intern(namespace)}
	}
	a, ok := t.questions.Use(q, at)
	if !ok {
		a = &answered{start: t.began(at)}
		if !t.questions.Add(q, a, at) {
			t.telemetry.Dropped(telemetry.DroppedFlowLimit, int(min(n, 1<<30)))
			return
		}
	}
	a.count += n
	a.dirty = true
}

// Rewind takes note that the graph's clock went back to a time.
func (t *Table) Rewind(now pcommon.Timestamp) {
	t.targets.Rewind(now, func(s *series) { s.Time = min(s.Time, now) })
	t.now, t.told = min(t.now, now), min(t.told, now)
	t.askers.Rewind(now)
	t.questions.Rewind(now)
}

// Sweep forgets what is silent for long.
func (t *Table) Sweep(now pcommon.Timestamp) {
	t.targets.Sweep(now, t.cfg.Expiry, func(to *exposition.Target[series], id uint64, s *series) {
		if moment.Since(s.Time, now, t.cfg.Expiry) {
			t.targets.Remove(to, id)
		}
	})
	before := now - min(now, pcommon.Timestamp(t.cfg.Expiry))
	t.askers.Sweep(before)
	t.questions.Sweep(before)
}
