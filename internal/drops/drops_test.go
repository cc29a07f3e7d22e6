package drops

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

// emit is what a counter adds to a batch at a time; ok is false if that is nothing.
func emit(c *Counter, at pcommon.Timestamp) (metric pmetric.Metric, ok bool) {
	scope := pmetric.NewScopeMetrics()
	c.Append(scope, at)
	if scope.Metrics().Len() == 0 {
		return metric, false
	}
	return scope.Metrics().At(0), true
}

func TestWhatComponentsTellIsSummedUp(t *testing.T) {
	table := NewTable()
	a, b := NewCounter("service_graph"), NewCounter("service_graph")
	take := func(instance string, c *Counter, at pcommon.Timestamp) {
		metric, ok := emit(c, at)
		assert.True(t, ok)
		table.Take(instance, metric, at)
	}
	_, ok := emit(a, 10)
	assert.False(t, ok, "nothing was left out")
	a.Add("duplicate_span", 3)
	take("a", a, 20)
	take("a", a, 20)
	b.Add("duplicate_span", 1)
	b.Add("span_limit", 5)
	take("b", b, 30)
	a.Add("duplicate_span", 1)
	take("a", a, 40)
	assert.Equal(t, []Total{{"service_graph", "duplicate_span", 5}, {"service_graph", "span_limit", 5}}, table.Totals())

	again := NewCounter("service_graph")
	again.Add("duplicate_span", 2)
	take("a", again, 50)
	assert.Equal(t, uint64(7), table.Totals()[0].Count, "a process that began anew counts on top")
	take("a", a, 60)
	take("a", again, 60)
	take("a", a, 70)
	assert.Equal(t, uint64(7), table.Totals()[0].Count, "two processes without names of their own stay apart")
}

func TestForeignPoints(t *testing.T) {
	table := NewTable()
	gauge := pmetric.NewMetric()
	gauge.SetEmptyGauge().DataPoints().AppendEmpty().SetIntValue(1)
	table.Take("x", gauge, 1)
	sum := pmetric.NewMetric()
	points := sum.SetEmptySum().DataPoints()
	points.AppendEmpty().SetDoubleValue(1)
	points.AppendEmpty().SetIntValue(-1)
	for i := range 2 * tableLimit {
		point := points.AppendEmpty()
		point.SetIntValue(1)
		point.SetTimestamp(1)
		point.Attributes().PutStr(semconv.LabelReason, strconv.Itoa(i))
	}
	table.Take("x", sum, 1)
	assert.Len(t, table.Totals(), tableLimit)
}
