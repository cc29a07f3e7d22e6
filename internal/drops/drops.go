// Package drops tells along with the data what components left out of it, so that whoever shows the data can say what is missing. The
// components' own telemetry tells the same, but stays with the process.
//
// Components count in a Counter, which adds a metric to what they emit; the query extension sums up what all of them tell in a Table.
package drops

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Counter counts what a component leaves out, by reason. Its methods may be called from several goroutines.
type Counter struct {
	component string

	mu     sync.Mutex
	counts map[string]uint64 // bounded by the component's reasons
	start  pcommon.Timestamp
}

// NewCounter returns a counter of a component, given by its type.
func NewCounter(component string) *Counter {
	return &Counter{component: component, counts: map[string]uint64{}}
}

// Add counts n records or other things that were left out. The reasons are the component's own, never from outside.
func (c *Counter) Add(reason string, n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[reason] += n
}

// Any tells whether anything was left out up to a data time. The first time that Any or Append is given is the counts' start.
func (c *Counter) Any(at pcommon.Timestamp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.any(at)
}

func (c *Counter) any(at pcommon.Timestamp) bool {
	if c.start == 0 {
		c.start = at
	}
	return len(c.counts) > 0
}

// Append adds the counts at a data time to a scope; nothing as long as nothing was left out.
func (c *Counter) Append(scope pmetric.ScopeMetrics, at pcommon.Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.any(at) {
		return
	}
	metric := scope.Metrics().AppendEmpty()
	metric.SetName(semconv.MetricDropped)
	metric.SetDescription("What a component left out of the data.")
	metric.SetUnit("{item}")
	sum := metric.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for _, reason := range slices.Sorted(maps.Keys(c.counts)) {
		point := sum.DataPoints().AppendEmpty()
		point.SetStartTimestamp(c.start)
		point.SetTimestamp(at)
		point.SetIntValue(int64(c.counts[reason]))
		point.Attributes().PutStr(semconv.LabelComponent, c.component)
		point.Attributes().PutStr(semconv.LabelReason, reason)
	}
}

// Total is how much a component left out for a reason.
type Total struct {
	Component string `json:"component"`
	Reason    string `json:"reason"`
	Count     uint64 `json:"count"`
}

// Sort orders totals by component and reason.
func Sort(totals []Total) {
	slices.SortFunc(totals, func(a, b Total) int {
		return cmp.Or(cmp.Compare(a.Component, b.Component), cmp.Compare(a.Reason, b.Reason))
	})
}

// tableLimit bounds the series in a Table.
const tableLimit = 4096

type name struct{ component, reason string }

// series is what one process tells. Processes of no instance's name differ by when they began to count.
type series struct {
	name
	instance string
	start    pcommon.Timestamp
}

// Table sums up what the components of all processes left out. Its methods may be called from several goroutines.
type Table struct {
	mu     sync.Mutex
	series *expiry.Table[series, cumulative.Counter[uint64]]
	totals map[name]uint64 // bounded by tableLimit
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{series: expiry.New[series, cumulative.Counter[uint64]](tableLimit, nil), totals: map[name]uint64{}}
}

// Take takes over the points of a metric that an instance of a component sent; now is the data's clock.
func (t *Table) Take(instance string, metric pmetric.Metric, now pcommon.Timestamp) {
	if metric.Type() != pmetric.MetricTypeSum {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, point := range metric.Sum().DataPoints().All() {
		if point.ValueType() != pmetric.NumberDataPointValueTypeInt || point.IntValue() < 0 {
			continue
		}
		component, _ := point.Attributes().Get(semconv.LabelComponent)
		reason, _ := point.Attributes().Get(semconv.LabelReason)
		key := series{name{component.Str(), reason.Str()}, instance, point.StartTimestamp()}
		if _, known := t.totals[key.name]; !known && len(t.totals) >= tableLimit {
			continue
		}
		counter, _ := t.series.Get(key)
		added, _ := counter.Advance(point.StartTimestamp(), point.Timestamp(), uint64(point.IntValue()))
		t.series.Put(key, counter, now)
		t.totals[key.name] += added
	}
}

// Totals returns what was left out, by component and reason.
func (t *Table) Totals() []Total {
	t.mu.Lock()
	defer t.mu.Unlock()
	totals := make([]Total, 0, len(t.totals))
	for of, n := range t.totals {
		if n > 0 {
			totals = append(totals, Total{of.component, of.reason, n})
		}
	}
	Sort(totals)
	return totals
}
