package observe

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// An asker's window counts queries as an edge's counts connections: those that were forwarded in Opened, those that ended in Closed,
// those of them that gave no address in Failed, those that took longer than slowAnswer in Slow, and longer than lateAnswer in Timed.

const (
	// slowAnswer is how long, in seconds, a resolver takes that is ill: of one that is well hardly any answer takes a hundredth of that.
	slowAnswer = 1.0
	// lateAnswer is how long ztunnel waits before it asks again.
	lateAnswer = 5.0
)

// Asker is what pods of an app on a node ask their ztunnel for.
type Asker struct {
	App outage.Name
	// Node is where it asks, Query the type of record. Name is the name where single lookups are told, empty for all of them.
	Node, Query, Name string
	Win               Window
	// InVain is since when all is in vain that used to succeed, 0 where it is not.
	InVain int64
	// Ill is when it was seen last to ask in vain or to wait.
	Ill int64
	// Result is the newest way in which the name was not resolved.
	Result string

	counters   map[string]*counter // by metric and result; bounded by maxSources
	slow, late counter
}

// askerKey is who asks.
type askerKey struct {
	app               outage.Name
	node, query, name string
}

// DNS is who asks for names, bounded by Limits.Edges.
type DNS struct {
	askers *expiry.Table[askerKey, *Asker]
	clock  *Clock
}

func newDNS(clock *Clock, limit int) *DNS {
	return &DNS{askers: expiry.New[askerKey, *Asker](limit, nil), clock: clock}
}

// All are all askers, those used last first.
func (d *DNS) All(visit func(*Asker)) {
	for _, a := range d.askers.All() {
		a.Win.Advance(d.clock.Now)
		visit(a)
	}
}

// take takes over points of a mesh.dns metric.
func (d *DNS) take(name string, metric pmetric.Metric) {
	if metric.Type() == pmetric.MetricTypeExponentialHistogram {
		histogram := metric.ExponentialHistogram()
		delta := histogram.AggregationTemporality() == pmetric.AggregationTemporalityDelta
		each(d.clock, histogram.DataPoints().All(), func(point pmetric.ExponentialHistogramDataPoint, t int64) {
			a := d.of(point.Attributes())
			if a == nil {
				return
			}
			zero := d.clock.fromZero(point.StartTimestamp(), t)
			a.add(t, Closed, a.counter(name).add(float64(point.Count()), point.StartTimestamp(), point.Timestamp(), delta, zero))
			a.add(t, Slow, a.slow.add(float64(above(point, slowAnswer)), point.StartTimestamp(), point.Timestamp(), delta, zero))
			a.add(t, Timed, a.late.add(float64(above(point, lateAnswer)), point.StartTimestamp(), point.Timestamp(), delta, zero))
		})
		return
	}
	list, delta := points(metric)
	each(d.clock, list.All(), func(point pmetric.NumberDataPoint, t int64) {
		a := d.of(point.Attributes())
		if a == nil || point.Flags().NoRecordedValue() {
			return
		}
		result := attr(point.Attributes(), semconv.LabelResult)
		n := a.counter(name+result).increment(point, delta, d.clock.fromZero(point.StartTimestamp(), t))
		switch name {
		case semconv.MetricDNSForwarded:
			a.add(t, Opened, n)
		case semconv.MetricDNSFailed:
			a.add(t, Failed, n)
		case semconv.MetricDNSLookups:
			a.lookup(t, result, n)
		}
	})
}

func (a *Asker) add(t int64, lane Lane, n uint64) {
	if n > 0 {
		a.Win.Add(t, lane, n)
	}
}

// lookup takes over what came of lookups of a name. What ztunnel answers by itself says nothing about the resolver.
func (a *Asker) lookup(t int64, result string, n uint64) {
	if n == 0 || result == semconv.LookupAnswered || result == semconv.LookupEmpty {
		return
	}
	a.add(t, Opened, n)
	a.add(t, Closed, n)
	if result != semconv.LookupForwarded {
		a.add(t, Failed, n)
		a.Result = result
	}
}

func (a *Asker) counter(name string) *counter {
	c, ok := a.counters[name]
	if !ok {
		c = &counter{}
		if len(a.counters) < maxSources {
			a.counters[strings.Clone(name)] = c
		}
	}
	return c
}

// of is the asker that a point is about, nil if there are too many.
func (d *DNS) of(attrs pcommon.Map) *Asker {
	key := askerKey{
		app:  outage.Name{Namespace: attr(attrs, semconv.LabelSourceNamespace), Name: attr(attrs, semconv.LabelSourceCanonicalService)},
		node: attr(attrs, semconv.LabelNode), query: attr(attrs, semconv.LabelQueryType), name: attr(attrs, semconv.LabelQuestionName),
	}
	if key.app.Name == "" {
		key.app.Name = attr(attrs, semconv.LabelSourceWorkload)
	}
	now := pcommon.Timestamp(d.clock.Now)
	if a, ok := d.askers.Use(key, now); ok {
		return a
	}
	for _, text := range []*string{&key.app.Namespace, &key.app.Name, &key.node, &key.query, &key.name} {
		*text = strings.Clone(*text)
	}
	a := &Asker{App: key.app, Node: key.node, Query: key.query, Name: key.name, counters: map[string]*counter{}}
	a.Win.reset(d.clock.slotLength(), max(d.clock.Now, d.clock.Begin))
	if !d.askers.Add(key, a, now) {
		d.clock.drops.Edges++
		return nil
	}
	return a
}

// Waits tells whether an app that used to get addresses has asked for some since a time and got none, or got some late.
func (d *DNS) Waits(app outage.Name, since int64) bool {
	waits, well, late := false, false, false
	d.All(func(a *Asker) {
		if a.App != app || a.Name != "" {
			return
		}
		w := &a.Win
		age := w.Age(since)
		if w.Normal(Closed, age) == w.Normal(Failed, age) {
			return
		}
		waits, late = waits || w.Sum(Opened, age+1) > 0, late || w.Sum(Slow, age+1) > 0
		for i := range age {
			well = well || Succeeded(w, i) > 0
		}
	})
	return late || waits && !well
}

func (d *DNS) sweep() { d.askers.Sweep(pcommon.Timestamp(max(d.clock.Now-forgetting, 0))) }

// Succeeded is how many of a window's queries gave an address, in the slot that many slots before the newest.
func Succeeded(w *Window, age int) uint64 {
	return w.At(Closed, age) - min(w.At(Failed, age), w.At(Closed, age))
}

// add is what a value adds, as increment is of a point.
func (c *counter) add(value float64, start, at pcommon.Timestamp, delta, fromZero bool) uint64 {
	if delta {
		return uint64(min(max(value, 0), mostAdded))
	}
	if !fromZero {
		c.First = cumulative.Baseline
	}
	added, _ := c.Advance(start, at, value)
	return uint64(min(added, mostAdded))
}

// above is how many values of a histogram are greater than a bound.
func above(point pmetric.ExponentialHistogramDataPoint, bound float64) (n uint64) {
	b := fromExponential(point, 1)
	for bucket := stats.LatencyBucket(bound) + 1; bucket < len(b.buckets); bucket++ {
		n += uint64(b.buckets[bucket])
	}
	return n
}
